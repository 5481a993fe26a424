"""Families other than wav2vec 2.0 and Whisper: the layers of Hugging Face, alone and in any batch, in any precision."""

import functools
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from featcache.audio import Signal
from featcache.errors import AudioError, ModelError
from featcache.extractors.base import SAME_IN_ANY_BATCH
from featcache.extractors.families import FAMILIES
from featcache.extractors.families.spectrogram_patches import SpectrogramTransformer
from featcache.extractors.models import load
from featcache.extractors.ssl import SSLExtractor
from featcache.settings.extractor_configs import SSLConfig
from tests.extractors.speech import assert_close

CONFORMER, W2V_BERT = "wav2vec2-conformer", "wav2vec2-bert"
AST, QWEN2_AUDIO = "audio-spectrogram-transformer", "qwen2_audio"
# Name of a tiny model and changes to its configuration.
MODELS = [
    pytest.param(CONFORMER, {}, id="conformer-rotary"),
    pytest.param(CONFORMER, {"position_embeddings_type": "relative", "max_source_positions": 60}, id="conformer-rel"),
    pytest.param(CONFORMER, {"feat_extract_norm": "layer", "conv_bias": True}, id="conformer-layer-norm"),
    pytest.param(W2V_BERT, {}, id="w2v-bert"),
    pytest.param(W2V_BERT, {"position_embeddings_type": "relative"}, id="w2v-bert-relative"),
    pytest.param(W2V_BERT, {"position_embeddings_type": "rotary"}, id="w2v-bert-rotary"),
    pytest.param(AST, {}, id="ast"),
    pytest.param(QWEN2_AUDIO, {}, id="qwen2-audio"),
    pytest.param("qwen2_audio_encoder", {}, id="qwen2-audio-encoder"),
]
FIRST_OF_EACH = [MODELS[0], MODELS[3], MODELS[6], MODELS[7]]
# Length for models without a limit, in samples: 350 frames. bfloat16 cannot count positions above 256.
UNLIMITED = 112000
# Lengths in samples: odd and even numbers of log-mel frames, the same number of frames twice, and the shortest.
LENGTHS = (16000, 16100, 2800, 9000, 23456)


@pytest.fixture(scope="module")
def signals(signal):
    return [signal(length, seed) for seed, length in enumerate(LENGTHS)]


def hugging_face_layers(name, folder, samples):
    """Return hidden_states[0] … [N-1] and last_hidden_state of one signal: (1, time, hidden_size) each."""
    if name == QWEN2_AUDIO:
        whole = transformers.Qwen2AudioForConditionalGeneration.from_pretrained(folder).eval()
        model = whole.audio_tower if hasattr(whole, "audio_tower") else whole.model.audio_tower
    else:
        model = FAMILIES[name].model_class().from_pretrained(folder).eval()
    feature_extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    inputs = feature_extractor(samples, sampling_rate=16000, return_tensors="pt")
    with torch.inference_mode():
        output = model(**inputs, output_hidden_states=True)
    return [*output.hidden_states[: len(output.hidden_states) - 1], output.last_hidden_state]


def in_frames(name, layers, num_frames):
    """Return layers of Hugging Face as featcache stores them: (layers, frames, hidden_size)."""
    if name == AST:  # The patches follow the two special tokens, all times of the first bands first.
        times = (len(layers[0][0]) - 2) // 3
        layers = [(x[:, 2 : 2 + times] + x[:, 2 + times : 2 + 2 * times] + x[:, 2 + 2 * times :]) / 3 for x in layers]
    if name.startswith("qwen2"):
        layers = [*((x[:, ::2] + x[:, 1::2]) / 2 for x in layers[:-1]), layers[-1]]
    return torch.cat(layers)[:, :num_frames].numpy()


@pytest.mark.parametrize(("name", "changes"), MODELS)
def test_layers_are_those_of_hugging_face(extractor, tiny_model, signals, name, changes):
    folder = tiny_model(name, **changes)
    own = extractor(folder)
    assert own.description.layer_names == ("0", "1", "2", "3")
    for signal in (signals[0], signals[4]):
        found = own.extract([signal])[0]
        assert_close(found, in_frames(name, hugging_face_layers(name, folder, signal.samples), found.shape[1]))
        assert found.shape[1] * own.hop(16000) == pytest.approx(len(signal.samples), abs=3200)


@pytest.mark.parametrize(("name", "changes"), MODELS)
def test_batched_equals_alone(extractor, tiny_model, signals, name, changes):
    own = extractor(tiny_model(name, **changes))
    alone = [own.extract([signal])[0] for signal in signals]
    for order in ([0, 1, 2, 3, 4], [4, 2], [2, 4, 3, 1, 0], [0, 1]):
        for position, features in zip(order, own.extract([signals[i] for i in order]), strict=True):
            assert_close(features, alone[position])


@functools.cache
def half(folder, precision):
    return SSLExtractor(SSLConfig(model=folder, layers="0,last", num_blocks=1, precision=precision))


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize(("name", "changes"), [*FIRST_OF_EACH, MODELS[1]])
def test_half_precision_at_the_longest_input(tiny_model, speech_like, name, changes, precision):
    """Long utterances are the same in any batch, and near float32."""
    folder = tiny_model(name, **({"conv_dim": [4] * 7} if name == CONFORMER else {}), **changes)
    own, exact = half(folder, precision), half(folder, "float32")
    longest = own._family.longest or UNLIMITED
    chosen = [
        Signal(samples=speech_like(length, seed=length), sampling_rate=16000) for length in (longest, longest // 3)
    ]
    for found, signal in zip(own.extract(chosen), chosen, strict=True):
        alone, expected = own.extract([signal])[0], exact.extract([signal])[0]
        assert np.isfinite(found).all()
        scale = np.abs(alone).max(axis=(1, 2))
        assert (np.abs(found - alone).max(axis=(1, 2)) <= SAME_IN_ANY_BATCH[precision] * scale).all()
        lost = np.square(found - expected).mean(axis=(1, 2)) / np.square(expected).mean(axis=(1, 2))
        assert (lost <= 0.01).all()  # See LOST in test_half_precision.py.


@pytest.mark.parametrize(("name", "changes"), MODELS)
def test_frames_and_shortest_signals(extractor, tiny_model, signal, name, changes):
    own = extractor(tiny_model(name, **changes))
    family = own._family
    for length in (family.shortest, family.shortest + 1, 7 * family.hop, 7 * family.hop + 1):
        assert own.extract([signal(length)])[0].shape == (4, own.num_frames(length, 16000), 32)
    with pytest.raises(AudioError, match="too short for a single frame"):
        own.extract([signal(family.shortest - 1 if not name.startswith("qwen2") else 0)])
    assert own.num_frames(family.shortest, 16000) == 1


def test_positions_remember_nothing(extractor, tiny_model, signals):
    """Position embeddings of transformers store the table of the last length, where other threads would find it."""
    own = extractor(tiny_model(CONFORMER))
    positions = own._model.encoder.embed_positions
    before = dict(vars(positions._original))
    own.extract(signals[:2])
    assert positions._original.cached_rotary_positional_embedding is None
    assert vars(positions._original).keys() == before.keys()


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize(("name", "changes"), MODELS[:2])
def test_positions_are_exact_in_half_precision(tiny_model, name, changes, precision):
    """Above 256, bfloat16 has no odd numbers; positions that are counted in it differ by more than one rounding."""
    folder = tiny_model(name, conv_dim=[4] * 7, **changes)
    states = torch.zeros(1, 3000, 32)
    expected = half(folder, "float32")._model.encoder.embed_positions(states)
    found = half(folder, precision)._model.encoder.embed_positions(states.to(getattr(torch, precision)))
    assert torch.equal(found, expected.to(getattr(torch, precision)))


@pytest.mark.parametrize(("name", "longest", "said"), [(AST, 32399, "2.025 s"), (QWEN2_AUDIO, 32000, "2 s")])
def test_the_longest_signal(extractor, tiny_model, signal, name, longest, said):
    own = extractor(tiny_model(name))
    assert own.extract([signal(longest)])[0].shape[1] == own.num_frames(longest, 16000)
    with pytest.raises(AudioError, match=rf"^2\.0 s are too long for .*, which processes at most {said}; use windows"):
        own.extract([signal(longest + 1)])
    with pytest.raises(ModelError, match=rf"^--chunk-seconds is 3, but .* processes at most {said[:-2]}"):
        SSLExtractor(SSLConfig(model=tiny_model(name), chunk_seconds=3.0))


@pytest.mark.parametrize(("name", "changes"), FIRST_OF_EACH)
def test_options(extractor, tiny_model, signals, name, changes):
    folder = tiny_model(name, **changes)
    whole = extractor(folder).extract(signals[:1])[0]
    np.testing.assert_array_equal(extractor(folder, layers="0,2").extract(signals[:1])[0], whole[[0, 2]])
    pruned = extractor(folder, num_blocks=2)
    assert pruned.description.layer_names == ("0", "1", "2")
    np.testing.assert_array_equal(pruned.extract(signals[:1])[0][:2], whole[:2])
    random = extractor(folder, weights="random")
    assert random.description.settings["weights_sha256"] != extractor(folder).description.settings["weights_sha256"]
    assert random.description.provenance["num_parameters"] == extractor(folder).description.provenance["num_parameters"]
    assert extractor(folder, chunk_seconds=1.5, overlap_seconds=0.5).description.chunks.seconds == 1.5
    assert extractor(folder, max_seconds=1.0).description.max_seconds == 1.0
    with pytest.raises(ModelError, match=r"^no layer 'input' among 0, 1, 2, 3; expected"):
        extractor(folder, layers="input")


@pytest.mark.parametrize(("name", "title"), [(W2V_BERT, "w2v-BERT"), (AST, "AST"), (QWEN2_AUDIO, "Qwen2-Audio")])
def test_do_normalize_applies_to_waveforms_only(extractor, tiny_model, name, title):
    assert extractor(tiny_model(name)).description.settings["do_normalize"] is None
    message = rf"^--do-normalize does not apply to {title}, whose input is log-mel spectrograms$"
    with pytest.raises(ModelError, match=message):
        extractor(tiny_model(name), do_normalize=True)


def test_what_distinguishes_models_is_in_the_settings(extractor, tiny_model):
    settings = extractor(tiny_model(AST)).description.settings
    assert settings["preprocessor"] == {"do_normalize": True, "mean": -4.2677393, "std": 4.5689974}
    assert settings["architecture"]["time_stride"] == 10
    one, other = (extractor(tiny_model(CONFORMER, position_embeddings_type=kind)) for kind in ("rotary", "relative"))
    assert one.description.settings["architecture"] != other.description.settings["architecture"]
    assert extractor(tiny_model(AST)).description.frame_shift == 0.1
    assert extractor(tiny_model(QWEN2_AUDIO)).description.frame_shift == 0.04
    assert extractor(tiny_model(W2V_BERT)).description.frame_shift == 0.02


def test_the_hash_of_weights_does_not_depend_on_the_version_of_transformers(tiny_model):
    """transformers 4 has the parameters of AST under other names, which it also writes into files."""
    folder = tiny_model(AST)
    names = {SpectrogramTransformer.lasting_name(name) for name in load(folder).module.state_dict()}
    kinds = {"attention.q_proj", "attention.o_proj", "mlp.fc1", "mlp.fc2", "layernorm_before"}
    assert {f"layers.2.{kind}.{part}" for kind in kinds for part in ("weight", "bias")} <= names
    assert not any(name.startswith("encoder.") for name in names)


def test_the_page_on_models_lists_every_family():
    page = (Path(__file__).parents[2] / "docs" / "reference" / "models.md").read_text(encoding="utf-8")
    for model_type, family in FAMILIES.items():
        assert f"`{model_type}`" in page
        assert f"| {family.title} (" in page


def test_a_class_that_transformers_does_not_have_is_one_line(tiny_model, monkeypatch):
    folder = tiny_model(W2V_BERT)
    monkeypatch.setattr(FAMILIES[W2V_BERT], "class_name", "Wav2Vec2BertOfTheFuture")
    for options in ({}, {"weights": "random"}):
        with pytest.raises(
            ModelError,
            match=rf"^transformers {transformers.__version__} has no Wav2Vec2BertOfTheFuture, which w2v-BERT needs; "
            r"install transformers 4\.48 or another version that has it$",
        ):
            SSLExtractor(SSLConfig(model=folder, **options))
