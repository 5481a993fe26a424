"""Pipelines reuse transcripts and stores only if their settings match, and not because of the name alone."""

import os
from types import SimpleNamespace

import pytest

from featcache.extractors.models import known_models, store_model_id
from featcache.manifest import Utterance
from featcache.pipeline.schema import TranscriptSpec
from featcache.pipeline.stores import is_newer
from featcache.pipeline.transcripts import Transcripts
from featcache.transcripts.files import write_transcripts


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({}, 0),
        ({"model": "whisper-base"}, 2),
        ({"model": "somebody/whisper-tiny"}, 2),
        ({"language": "de"}, 2),
    ],
)
def test_transcripts_of_another_model_or_language_count_as_missing(tmp_path, changes, missing):
    wanted = [Utterance(utterance_id=name, path="x.wav", speaker_id="a", labels={}) for name in "uv"]
    settings = {"model_id": known_models()["whisper-tiny"]["model_id"], "language": None}
    write_transcripts(tmp_path, "heard", {"u": "yes", "v": ""}, {"settings": settings})
    spec = TranscriptSpec.model_validate({"model": "whisper-tiny", **changes})
    found = Transcripts("heard", spec, SimpleNamespace(cache=tmp_path), wanted)
    assert found.missing == missing


def test_a_folder_of_a_model_that_was_changed_since_is_looked_into(tmp_path):
    weights = tmp_path / "model" / "model.safetensors"
    weights.parent.mkdir()
    weights.touch()
    os.utime(weights, ns=(5, 5))
    folder = str(weights.parent)
    assert not is_newer(folder, 5)
    assert is_newer(folder, 4)
    assert not is_newer("wav2vec2-base", 0)
    assert not is_newer("somebody/model", 0)
    assert store_model_id(folder) == "model"
    assert store_model_id("wav2vec2-base") == known_models()["wav2vec2-base"]["model_id"]
