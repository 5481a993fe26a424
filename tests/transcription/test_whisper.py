"""Whisper's text equals that of transformers' own generation, also if a checkpoint requests sampling."""

import json
import pickle
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import numpy as np
import pytest
import transformers
from safetensors.numpy import load_file, save_file

from featcache.audio import Signal
from featcache.errors import AudioError, ModelError
from featcache.extraction.long import StoppedError
from featcache.extractors.models import quiet_transformers
from featcache.transcription.whisper import Transcriber


def signal(samples):
    return Signal(samples=samples, sampling_rate=16000)


def hear(folder, samples, **options):
    with quiet_transformers():
        return Transcriber(str(folder), **options).transcribe(signal(samples))


def hear_with_transformers(folder, samples, **options):
    """Transcribe samples as in Hugging Face's example."""
    with quiet_transformers():
        model = transformers.WhisperForConditionalGeneration.from_pretrained(folder)
        processor = transformers.WhisperProcessor.from_pretrained(folder)
        whole = {"truncation": False, "padding": "longest"} if options.get("return_timestamps") else {}
        inputs = processor(samples, sampling_rate=16000, return_tensors="pt", **whole)
        tokens = model.generate(inputs.input_features, **options)
        return processor.batch_decode(tokens, skip_special_tokens=True)[0].strip()


@pytest.mark.parametrize("language", [None, "en", "de"])
def test_the_words_are_those_of_transformers(tiny_whisper, tone, language):
    heard = [hear(tiny_whisper(), tone(number), language=language) for number in range(4)]
    assert heard == [
        hear_with_transformers(tiny_whisper(), tone(number), task="transcribe", language=language)
        for number in range(4)
    ]
    assert len(set(heard)) == 4


def test_the_words_of_an_english_model_are_those_of_transformers(tiny_whisper, tone):
    folder = tiny_whisper(english_only=True)
    heard = hear(folder, tone(0))
    assert heard == hear_with_transformers(folder, tone(0)) != ""
    assert hear(folder, tone(0), language="en") == heard
    assert hear(folder, tone(0), language="English") == heard


def test_a_language_is_found_for_each_signal(tiny_whisper, tone):
    texts = {
        language: [hear(tiny_whisper(), tone(n), language=language) for n in range(6)] for language in ("en", "de")
    }
    found = [hear(tiny_whisper(), tone(n)) for n in range(6)]
    assert texts["en"] != texts["de"]
    assert all(text in pair for text, *pair in zip(found, texts["en"], texts["de"], strict=True))


@pytest.mark.parametrize("extra", [1, 160, 16000, 50000])
def test_long_audio_is_done_as_transformers_does_it(tiny_whisper, rng, extra):
    samples = rng.normal(0, 0.1, 32000 + extra).astype(np.float32)
    heard = hear(tiny_whisper(), samples)
    assert heard == hear_with_transformers(tiny_whisper(), samples, task="transcribe", return_timestamps=True)
    assert re.fullmatch("[a-z ]+", heard)  # The text contains no timestamps.


def test_long_audio_is_heard_to_its_end(tiny_whisper, rng):
    samples = rng.normal(0, 0.1, 5 * 16000).astype(np.float32)
    transcriber = Transcriber(str(tiny_whisper()), language="en")
    windows = []
    transcriber._model.model.encoder.register_forward_pre_hook(
        lambda _, args, options: windows.append((args[0] if args else options["input_features"])[0].numpy()),
        with_kwargs=True,
    )
    with quiet_transformers():
        heard = transcriber.transcribe(signal(samples))
    features = transformers.WhisperFeatureExtractor(chunk_length=5)(samples, sampling_rate=16000)["input_features"][0]
    assert len(windows) >= 3
    np.testing.assert_array_equal(windows[0], features[:, :200])
    # The last window contains the rest of the signal, and zeros.
    left = int(np.flatnonzero(windows[-1].any(axis=0))[-1]) + 1
    np.testing.assert_array_equal(windows[-1][:, :left], features[:, -left:])
    assert len(heard) > len(hear(tiny_whisper(), samples[: 2 * 16000], language="en"))


@pytest.mark.parametrize("samples", [np.zeros(1), np.zeros(16000), np.full(100, 0.1)], ids=["one", "silence", "click"])
def test_short_and_silent_audio_is_no_fault(tiny_whisper, samples):
    assert isinstance(hear(tiny_whisper(), samples.astype(np.float32)), str)


def test_nothing_heard_is_an_empty_text(tiny_whisper, tone):
    # Every token except the end token is suppressed.
    assert hear(tiny_whisper(suppress_tokens=list(range(183))), tone(0)) == ""


@pytest.mark.parametrize("seconds", [1.0, 5.0])
def test_nothing_is_sampled_whatever_the_checkpoint_says(tiny_whisper, tone, seconds):
    eager = tiny_whisper(
        do_sample=True,
        temperature=0.7,
        num_beams=2,
        logprob_threshold=-0.1,
        compression_ratio_threshold=0.1,
        no_speech_threshold=0.0,
        condition_on_prev_tokens=True,
    )
    assert hear(eager, tone(3, seconds)) == hear(tiny_whisper(), tone(3, seconds)) != ""


def test_a_model_that_says_timestamps_unasked_is_asked_once(tiny_whisper, tone):
    folder = tiny_whisper(says_timestamps=True, suppress_tokens=None)
    for number in range(4):
        assert len(hear(folder, tone(number)).replace(" ", "")) <= 2 * 12  # 12 tokens of two letters


def test_threads_do_not_disturb_each_other(tiny_whisper, tone):
    transcriber = Transcriber(str(tiny_whisper()))
    signals = [signal(tone(number, 3.0 if number % 3 == 0 else 1.0)) for number in range(12)]
    with quiet_transformers(), ThreadPoolExecutor(4) as pool:
        together = list(pool.map(transcriber.transcribe, signals))
        assert together == [transcriber.transcribe(one) for one in signals]


def test_long_audio_is_given_up_when_told_to_stop(tiny_whisper, tone):
    transcriber = Transcriber(str(tiny_whisper()))
    stopping = Event()
    with quiet_transformers():
        heard = transcriber.transcribe(signal(tone(0, 5.0)), stopping)
        assert heard == transcriber.transcribe(signal(tone(0, 5.0)))
        stopping.set()
        with pytest.raises(StoppedError):
            transcriber.transcribe(signal(tone(0, 5.0)), stopping)
        assert transcriber.transcribe(signal(tone(0)), stopping)  # A signal with a single window is finished.


def test_long_audio_needs_a_model_that_knows_timestamps(tiny_whisper, tone, tmp_path):
    folder = shutil.copytree(tiny_whisper(), tmp_path / "model")
    path = folder / "generation_config.json"
    config = json.loads(path.read_text())
    del config["no_timestamps_token_id"]
    path.write_text(json.dumps(config))
    with pytest.raises(AudioError, match=r"5\.0 s are longer than one window of Whisper \(2 s\), and .* has no no"):
        hear(folder, tone(0, 5.0))
    assert hear(folder, tone(0))


# Languages.


def test_a_language_has_a_code_and_a_name(tiny_whisper):
    codes = {
        Transcriber(str(tiny_whisper()), language=language).settings["language"]
        for language in ("de", "DE", "German", "german", "<|de|>")
    }
    assert codes == {"de"}


def test_an_unknown_language_is_refused(tiny_whisper):
    with pytest.raises(ModelError, match="--language: no language 'gerrman'; did you mean 'german'"):
        Transcriber(str(tiny_whisper()), language="gerrman")
    with pytest.raises(ModelError, match="no language 'fr'"):  # Whisper supports it, but this model does not.
        Transcriber(str(tiny_whisper()), language="fr")


def test_an_english_model_refuses_other_languages(tiny_whisper):
    with pytest.raises(ModelError, match=r"--language de: .*tiny-whisper supports only English; leave it out"):
        Transcriber(str(tiny_whisper(english_only=True)), language="de")


def test_a_checkpoint_made_for_a_language_keeps_to_it(tiny_whisper, tone):
    german = tiny_whisper(language="german", task="transcribe")
    assert Transcriber(str(german)).settings["language"] == "de"
    assert hear(german, tone(1)) == hear(tiny_whisper(), tone(1), language="de")


# Identity.


def test_settings_are_the_same_twice_and_plain_json(tiny_whisper):
    one, two = Transcriber(str(tiny_whisper())), Transcriber(str(tiny_whisper()))
    assert one.settings == two.settings == json.loads(json.dumps(one.settings))
    assert one.settings["model_id"] == "tiny-whisper"
    versions = {"featcache_version", "torch_version", "transformers_version"}
    assert one.provenance.keys() == {"revision", "weights_revision", "num_parameters", *versions}


@pytest.mark.parametrize(
    "changes", [{"seed": 1}, {"max_length": 5}, {"english_only": True}, {"repetition_penalty": 2.0}]
)
def test_whatever_changes_text_changes_the_settings(tiny_whisper, changes):
    assert Transcriber(str(tiny_whisper(**changes))).settings != Transcriber(str(tiny_whisper())).settings


def test_another_vocabulary_changes_the_settings(tiny_whisper, tmp_path):
    folder = shutil.copytree(tiny_whisper(), tmp_path / "tiny-whisper")
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["xa"], vocabulary["xe"] = vocabulary["xe"], vocabulary["xa"]
    path.write_text(json.dumps(tokenizer))
    changed, original = (Transcriber(str(where)).settings for where in (folder, tiny_whisper()))
    assert {name for name in original if changed[name] != original[name]} == {"vocabulary_sha256"}


# Models that cannot transcribe.


def refused(message, model, **options):
    with pytest.raises(ModelError, match=message) as caught:
        Transcriber(str(model), **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("model", "found"), [("hubert-base", "a 'hubert' model"), ("facebook/hubert-base-ls960", "a 'hubert' model")]
)
def test_another_kind_of_model_is_refused_without_being_fetched(model, found):
    refused(
        rf"{model} is {found}, expected a Whisper model: whisper-tiny, .*, or a Hugging Face id or folder of one", model
    )


def test_descriptors_and_folders_of_other_models_are_refused(tiny_model):
    refused("egemaps is a feature extractor, expected a Whisper model: whisper-tiny", "egemaps")
    refused("is a 'wavlm' model, expected a Whisper model: whisper-tiny", tiny_model("wavlm"))


def test_names_that_are_not_known_or_not_here(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    refused("no model 'whisper-tinny'; did you mean 'whisper-tiny'", "whisper-tinny")
    with pytest.raises(ModelError, match="'whisper-tiny' is not on this machine and could not be downloaded") as caught:
        Transcriber("whisper-tiny")
    assert "'featcache fetch whisper-tiny --out FOLDER'" in str(caught.value)
    assert "random" not in str(caught.value)  # An untrained model cannot transcribe.


def test_a_folder_without_a_tokenizer_is_refused(tiny_whisper, tiny_model, tmp_path):
    folder = shutil.copytree(tiny_whisper(), tmp_path / "model")
    for name in ("tokenizer.json", "vocab.json"):
        (folder / name).unlink(missing_ok=True)
    for model in (folder, tiny_model("whisper")):
        refused(r"has no tokenizer, expected tokenizer\.json or vocab\.json; copy it from the checkpoint", model)


def test_a_tokenizer_that_contradicts_itself(tiny_whisper, tmp_path):
    folder = shutil.copytree(tiny_whisper(), tmp_path / "model")
    path = folder / "tokenizer.json"
    path.write_text(path.read_text().replace('"xu"', '"XU"'))
    refused("model: cannot be loaded", folder)


def test_a_tokenizer_that_counts_differently_is_refused(tiny_whisper, tmp_path):
    folder = shutil.copytree(tiny_whisper(), tmp_path / "model")
    path = folder / "generation_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "decoder_start_token_id": 0}))
    refused(r": its tokenizer belongs to another model, because '<\|startoftranscript\|>' is not its token 0", folder)


def test_incomplete_weights_are_refused(tiny_whisper, tmp_path):
    folder = shutil.copytree(tiny_whisper(), tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    del weights["model.decoder.layers.0.fc1.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    refused(r"1 parameter of its whisper architecture is missing .* \(first: model\.decoder\.layers\.0\.fc1", folder)


def test_pickles_are_never_loaded(tiny_whisper, tmp_path):
    folder = shutil.copytree(tiny_whisper(), tmp_path / "model")
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({}))
    refused(r"contains pickled weights \(pytorch_model\.bin\), which are never loaded; .*--convert", folder)
