"""Models that cannot be loaded give a message of one line that says what to do."""

import os
import pickle
import shutil
from pathlib import Path

import pytest
import transformers

from featcache.errors import ModelError
from featcache.extractors import DESCRIPTORS, create_extractor, store_name
from featcache.extractors.models import is_local, load, short_name
from tests.extractors.folders import edit_config, edit_weights, refused


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    """Return an empty cache folder of the hub's client, to which a test can add models."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(
        "transformers.utils.hub.TRANSFORMERS_CACHE", str(tmp_path / "hub"), raising=False
    )  # in transformers 4
    return tmp_path / "hub"


@pytest.mark.parametrize(
    ("model", "nearest"),
    [("wav2vec2-bsae", "wav2vec2-base"), ("hubert-huge", "hubert-large"), ("wavlm", "wavlm-base")],
)
def test_unknown_name(model, nearest):
    refused(
        rf"^no model '{model}'; did you mean '{nearest}'.*\? "
        r"\(a folder or a Hugging Face id like 'facebook/wav2vec2-base' works too\)$",
        model,
    )


def test_a_name_like_no_other_is_answered_with_all():
    refused(r"^no model 'qqqq'; available: .*wav2vec2-base, .*whisper-tiny", "qqqq")


@pytest.mark.parametrize("weights", ["pretrained", "random"])
def test_hub_id_without_network(weights):
    refused(
        r"^model 'nobody/no-such-model' is not on this machine and could not be downloaded from .* hub \([^;]+\); run "
        r"'featcache fetch nobody/no-such-model --out FOLDER' where there is a network and copy FOLDER into .* here$",
        "nobody/no-such-model",
        weights=weights,
    )


def test_short_name_without_network(tiny_entry):
    refused(
        r"^model 'tiny' is not on this machine and could not be downloaded from the Hugging Face hub "
        r"\(HF_HUB_OFFLINE is set\); run 'featcache fetch tiny --out FOLDER' where there is a network and copy FOLDER "
        r"into .*models here, or use --weights random \(untrained\)$",
        "tiny",
    )


def test_a_folder_without_a_model(tmp_path):
    refused(rf"^model folder '{tmp_path}/nothing' does not exist; expected a folder", tmp_path / "nothing")


class Trap:
    """Object that creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("weights", ["pretrained", "random"])
def test_pickles_are_never_opened(folder, tmp_path, weights):
    sprung = tmp_path / "sprung"
    for name in ("pytorch_model.bin", "pytorch_model.pt", "training_args.bin"):
        (folder / name).write_bytes(pickle.dumps(Trap(sprung)))
    assert load(str(folder), weights=weights)  # The folder also contains safetensors.
    (folder / "model.safetensors").unlink()
    if weights == "random":
        assert load(str(folder), weights=weights)
    else:
        (folder / "training_args.bin").unlink()
        refused(
            rf"^{folder} contains pickled weights \(pytorch_model\.bin\), which are never loaded; 'featcache fetch "
            rf"{folder} --convert' converts them in a separate process$",
            folder,
        )
    assert not sprung.exists()
    pickle.loads(pickle.dumps(Trap(sprung)))
    assert sprung.exists()  # Unpickling does create the file.


def test_code_of_a_folder_is_never_run(folder, tmp_path):
    sprung = tmp_path / "sprung"
    (folder / "own.py").write_text(f"open({str(sprung)!r}, 'w')\nclass Config: pass\nclass Model: pass\n")
    edit_config(folder, auto_map={"AutoConfig": "own.Config", "AutoModel": "own.Model"})
    assert load(str(folder))
    assert not sprung.exists()


def test_text_models_are_refused(tmp_path):
    config = transformers.BertConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, vocab_size=8
    )
    transformers.BertModel(config).save_pretrained(tmp_path)
    for weights in ("pretrained", "random"):
        refused(
            rf"^{tmp_path} is a 'bert' model, expected a speech model of one of: wav2vec2, hubert, wavlm, unispeech, "
            r"unispeech-sat, data2vec-audio, whisper, .*, qwen2_audio_encoder, emotion2vec; "
            r"use text models with --text$",
            tmp_path,
            weights=weights,
        )


def test_missing_weights_are_not_made_up(folder):
    edit_weights(folder, lambda weights: weights.pop("encoder.layers.1.attention.k_proj.weight"))
    refused(
        rf"^{folder}: 1 parameter of its wav2vec2 architecture is missing or of another shape or type in its weights "
        r"\(first: encoder\.layers\.1\.attention\.k_proj\.weight\) and would be random; check that this is the right",
        folder,
    )


def test_the_mask_embedding_and_whispers_decoder_may_be_missing(folder, tiny_model, tmp_path):
    edit_weights(folder, lambda weights: weights.pop("masked_spec_embed"))
    assert load(str(folder))
    whisper = shutil.copytree(tiny_model("whisper"), tmp_path / "whisper")

    def drop_decoder(weights):
        for name in [name for name in weights if name.startswith("decoder.")]:
            del weights[name]

    edit_weights(whisper, drop_decoder)
    assert load(str(whisper)).weights_sha256 == load(tiny_model("whisper")).weights_sha256


def test_weights_of_another_size_are_refused(folder):
    edit_config(folder, intermediate_size=48)
    refused(
        rf"^{folder}: 9 parameters of its wav2vec2 architecture are missing or of another shape or type in its weights "
        r"\(first: encoder\.layers\.0\.",
        folder,
    )


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("config.json", "{}", "Unrecognized model .*"),
        ("config.json", "{", ".*not a valid JSON file"),
        ("config.json", '{"model_type": "brand-new"}', ".*`brand-new`.*"),
        ("preprocessor_config.json", "{", ".*not a valid JSON file"),
        ("model.safetensors", "", ".*"),
        ("model.safetensors", "no weights at all", ".*"),
    ],
)
def test_spoilt_files(folder, name, content, reason):
    (folder / name).write_text(content)
    refused(rf"^{folder}: cannot be loaded \({reason}\)$", folder)


@pytest.mark.parametrize("name", ["model.safetensors", "preprocessor_config.json"])
def test_missing_files(folder, name):
    (folder / name).unlink()
    refused(rf"^{folder}: cannot be loaded \(.*{name}.*\)$", folder)


def test_truncated_weights(folder):
    os.truncate(folder / "model.safetensors", (folder / "model.safetensors").stat().st_size - 1)
    refused(rf"^{folder}: cannot be loaded \(.*incomplete.*\)$", folder)


def test_short_names(folder, monkeypatch):
    assert short_name("wav2vec2-base") == short_name("facebook/wav2vec2-base") == "wav2vec2-base"
    assert short_name("facebook/hubert-base-ls960") == "hubert-base"
    assert short_name("nobody/their-model") == "nobody--their-model"
    assert short_name(str(folder)) == short_name(f"{folder}/") == "my-model"
    monkeypatch.chdir(folder)
    assert short_name(".") == "my-model"


@pytest.mark.parametrize("name", ["egemaps", "egemaps-functionals", "spectrogram", "wavlm-large"])
def test_stores_are_named_like_what_fills_them(name):
    assert store_name(name) == name
    assert "/" not in store_name(f"nobody/{name}")


def test_local_is_what_needs_no_network(folder, hub_cache, tiny_entry):
    assert is_local(str(folder))
    assert not is_local("tiny")
    assert not is_local("nobody/tiny-model")
    fetch(folder, hub_cache, commit="0" * 40)
    assert is_local("tiny")
    assert is_local("nobody/tiny-model")
    assert not is_local("wav2vec2-base")


def fetch(folder, hub_cache, *, commit):
    """Copy a model into the cache of the hub's client, as if it had been downloaded."""
    repository = hub_cache / "models--nobody--tiny-model"
    shutil.copytree(folder, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)


def test_a_fetched_model_tells_its_commit(folder, hub_cache, tiny_entry):
    commit = "a" * 40
    fetch(folder, hub_cache, commit=commit)
    for revision in (None, "main", commit):
        loaded = load("tiny", revision=revision)
        assert loaded.model_id == "nobody/tiny-model"
        assert loaded.revision == commit
        assert loaded.weights_sha256 == load(str(folder)).weights_sha256
    refused(r"^model 'tiny' is not on this machine", "tiny", revision="v2")


def test_options_that_do_not_apply(tiny_model):
    with pytest.raises(ModelError, match=r"^--do-normalize, --layers does not apply to 'egemaps'$"):
        create_extractor("egemaps", layers="all", do_normalize=True, n_fft=None)
    for name in DESCRIPTORS:
        with pytest.raises(ModelError, match=rf"^--num-blocks does not apply to '{name}'$"):
            create_extractor(name, num_blocks=12)
    with pytest.raises(ModelError, match=r"^--weights does not apply to 'spectrogram'$"):
        create_extractor("spectrogram", weights="random")
    with pytest.raises(ModelError, match=r"^--n-fft does not apply to '.+'$"):
        create_extractor(tiny_model("wav2vec2"), n_fft=512)


def test_create_extractor_passes_options_on(tiny_model):
    assert create_extractor("egemaps").description.hidden_size == 25
    assert create_extractor("egemaps-functionals").description.hidden_size == 88
    assert create_extractor("spectrogram", n_fft=1024).description.hidden_size == 513
    assert create_extractor(tiny_model("wav2vec2"), layers="1-2").description.layer_names == ("1", "2")
