"""The lists of models, one model in full, and the command that fetches models."""

import json
import re

import pytest

from featcache.errors import ModelError
from featcache.extractors.models import known_models, known_text_models
from featcache.pipeline.stores import model_dimensions
from tests.fetching.conftest import SOURCE, files, hub, pickled  # noqa: F401


def rows(out):
    return dict(re.split(r"\s{2,}", line, maxsplit=1) for line in out.splitlines() if line.strip())


def test_the_list_fits_80_columns_with_whole_names(invoke_well, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setitem(known_models(), "wav2vec2-with-a-name-of-forty-three-letters", known_models()["wav2vec2-base"])
    lines = invoke_well("models").splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].split() == ["Model", "Layers", "Per", "hour", "ASR", "Here"]
    assert {*known_models(), *known_text_models()} <= {line.split()[0] for line in lines if line.strip()}


def test_one_model_in_full(invoke_well):
    shown = rows(invoke_well("models", "wavlm_large"))
    assert shown["name"] == "wavlm-large"
    assert shown["Hugging Face id"] == "microsoft/wavlm-large"
    assert shown["name in s3prl"] == "wavlm_large"
    assert (shown["family"], shown["layers"], shown["hidden size"]) == ("wavlm", "25", "1024")
    assert shown["parameters"].startswith("315.5 million (1.3 GB")
    assert shown["cache per hour"].startswith("9.2 GB")
    assert shown["here"] == "no"
    assert shown["get it"] == "featcache fetch wavlm_large"
    assert shown["offline"].startswith("featcache fetch wavlm_large --out FOLDER on another machine")


def test_weights_that_are_always_pickled_are_converted_on_each_way(invoke_well):
    shown = rows(invoke_well("models", "emotion2vec-base"))
    assert shown["get it"] == "featcache fetch emotion2vec-base --convert"
    assert shown["offline"].startswith(f"{shown['get it']} --out FOLDER")


def test_text_models_folders_and_unknown_ids(invoke_well, tiny_model):
    assert rows(invoke_well("models", "bert-base"))["cache per 1000 tokens"].startswith("20.0 MB")
    folder = tiny_model("wavlm")
    shown = rows(invoke_well("models", folder))
    assert (shown["layers"], shown["here"]) == ("4", folder)
    assert "layers" not in rows(invoke_well("models", "nobody/model"))


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "wav2vec2", "num_hidden_layers": "12"},
        {"model_type": "wav2vec2", "hidden_size": [1, 2]},
        {"model_type": "audio-spectrogram-transformer", "num_hidden_layers": None},
        {"model_type": "qwen2_audio", "audio_config": "x"},
    ],
)
def test_sizes_of_the_wrong_type_are_told_in_one_line(invoke, tmp_path, config):
    (tmp_path / "config.json").write_text(json.dumps(config))
    code, _, error = invoke("models", tmp_path)
    assert code == 1
    (name,) = config.keys() - {"model_type"}
    assert error.startswith(f"error: {tmp_path}: cannot be loaded (config.json has {name!r}")
    assert error.count("\n") == 1
    with pytest.raises(ModelError, match=r"config\.json has"):
        model_dimensions(str(tmp_path))


@pytest.mark.parametrize(("name", "message"), [("egemaps", "is not a model"), ("wavlm-larg", "did you mean")])
def test_other_names_are_refused(invoke, name, message):
    code, _, error = invoke("models", name)
    assert code == 1
    assert message in error


def test_fetch_prints_the_size_the_licence_and_the_folder(invoke_well, hub, files, capsys, tmp_path):  # noqa: F811
    hub.add(SOURCE, "main", files, license="mit")
    out = invoke_well("fetch", SOURCE, "--out", tmp_path / "out")
    assert out == f"{tmp_path / 'out'}\n"
    shown = rows(invoke_well("models", tmp_path / "out"))
    assert shown["licence"] == "mit"


def test_fetch_names_what_failed_and_exits_with_3(invoke, hub, files, pickled):  # noqa: F811
    hub.add(SOURCE, "main", files, license="mit")
    hub.add("microsoft/wavlm-base", "main", pickled)
    code, out, error = invoke("fetch", "wavlm-base", "wavlm-base-plus", "whisper-tiny")
    assert code == 3
    assert len(out.splitlines()) == 1
    assert "wavlm-base-plus: licence mit" in error
    assert "weights as a pickle only (pytorch_model.bin)" in error
    assert error.splitlines()[-1] == "not fetched: wavlm-base, whisper-tiny"
    code, _, error = invoke("fetch", "wavlm-base")
    assert code == 1
    assert "add --convert" in error
