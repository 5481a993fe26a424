"""Damaged runs of settings: a search neither uses them nor copies them, and says what to do."""

import shutil

import pytest

from featcache.errors import StoreError
from featcache.fitting.fit import fit
from tests.fitting.test_search import results_of, trials_of

SHORT = {"seeds": (1,), "max_epochs": 1, "sweep": {"learning_rate": (0.001, 0.05)}}

pytestmark = pytest.mark.usefixtures("quick_reports")


@pytest.mark.parametrize(
    "name",
    [
        *("config.yaml", "metrics.json", "predictions.csv", "validation_predictions.csv", "history.csv"),
        *("layer_weights.csv", "normalisation.safetensors", "heads/seed-1-fold-2.safetensors", "checksums.sha256"),
    ],
)
@pytest.mark.parametrize("choose", ["over-folds", "per-fold"])
def test_a_damaged_file_of_the_chosen_setting_is_never_part_of_a_result(make_cache, name, choose):
    make_cache()
    run = fit(choose=choose, **SHORT)
    whole, folds = results_of(run), run.tried["chosen_for_folds"]
    [chosen, *_] = [trial for trial, of_trial in zip(trials_of(run), folds, strict=True) if "2" in str(of_trial)]
    shutil.rmtree(run.path)
    content = (chosen.path / name).read_bytes()
    for damaged in (content[: len(content) // 2], bytes([content[0] ^ 1]) + content[1:], None):
        if damaged is None:
            if name == "checksums.sha256":  # a folder without the list comes from an earlier release
                continue
            (chosen.path / name).unlink()
        else:
            (chosen.path / name).write_bytes(damaged)
        with pytest.raises(StoreError, match="remove this folder to train the setting again") as told:
            fit(choose=choose, **SHORT)
        assert str(chosen.path) in str(told.value)
        assert "\n" not in str(told.value)
        assert not run.path.exists()
    shutil.rmtree(chosen.path)
    assert results_of(fit(choose=choose, **SHORT)) == whole


@pytest.mark.parametrize("make", [lambda path: path.write_text("x"), lambda path: path.mkdir()])
def test_something_else_in_place_of_a_setting_is_kept_and_told(make_cache, make):
    make_cache()
    run = fit(**SHORT)
    first = trials_of(run)[0].path
    shutil.rmtree(run.path)
    shutil.rmtree(first)
    make(first)
    with pytest.raises(StoreError, match=r"is not a finished run.*; remove this folder to train the setting again"):
        fit(**SHORT)
    assert first.exists()


def test_other_files_beside_the_settings_do_not_matter(make_cache):
    make_cache()
    run = fit(**SHORT)
    whole, folder = results_of(run), trials_of(run)[0].path.parent
    shutil.rmtree(run.path)
    (folder / "notes.txt").write_text("mine")
    (folder / "mine").mkdir()
    (folder / ".mine.unfinished").mkdir()
    assert results_of(fit(**SHORT)) == whole
