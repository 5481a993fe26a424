"""The labels of the test part change no choice of a fine-tuning: not its end, its best epoch, or its weights."""

import shutil
from dataclasses import replace

import pytest

from featcache.manifest import Manifest
from featcache.runs.file_names import HEADS, MODELS
from featcache.workspace import Workspace

OTHER = {"anger": "joy", "joy": "anger"}


def results(run, table):
    """Return the columns of a table that do not come from test labels."""
    return getattr(run, table).drop(columns=["target"], errors="ignore").reset_index(drop=True)


def weights(run):
    """Return the content of all files of models and heads."""
    files = [file for part in (MODELS, HEADS) for file in (run.path / part).rglob("*") if file.is_file()]
    return {file.relative_to(run.path): file.read_bytes() for file in files}


@pytest.mark.parametrize("stop_on", ["loss", "uar"])
def test_other_labels_of_the_tested_speaker_change_no_choice(place, tmp_path, stop_on):
    home = tmp_path / "home"
    shutil.copytree(place.workspace.home, home, ignore=shutil.ignore_patterns("runs"))
    table = Workspace.at(home).cache("toy") / "manifest.csv"
    options = {"blocks_learning_rate": 1e-2, "max_epochs": 6, "patience": 2, "stop_on": stop_on, "fold": 1}
    before = place.finetune(home=home, name="before", layers="all", **options)
    [tested] = before.predictions["speaker_id"].unique()
    Manifest(
        [
            replace(one, labels={**one.labels, "emotion": OTHER[one.labels["emotion"]]})
            if one.speaker_id == tested
            else one
            for one in Manifest.read(table)
        ]
    ).write(table)
    after = place.finetune(home=home, name="after", layers="all", **options)
    assert after.predictions["target"].tolist() == [OTHER[target] for target in before.predictions["target"]]
    assert after.metrics["uar"]["mean"] == pytest.approx(100 - before.metrics["uar"]["mean"])
    for name in ("history", "validation_predictions", "predictions", "layer_weights"):
        assert results(after, name).equals(results(before, name))
    assert after.metrics["validation"] == before.metrics["validation"]
    assert weights(after) == weights(before)
    # Without a choice, the property would be empty.
    assert 1 < len(before.history) < options["max_epochs"]
    assert before.metrics["not_converged"] == 0
