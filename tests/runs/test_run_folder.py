"""Run folders can be read after writing, and unfinished runs do not look finished."""

import contextlib
import csv
import math
import re
import shutil
import tempfile
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featcache.errors import StoreError
from featcache.files.checksums import CHECKSUMS
from featcache.runs import records
from featcache.runs.file_names import METRICS
from featcache.runs.identity import NUMERICS
from featcache.runs.parse import read_table
from featcache.runs.reader import RunFolder, find_run, finished_runs
from featcache.runs.writer import UnfinishedRun, write_json, write_rows, write_yaml
from tests.runs.written import RECORD, SETTINGS, begin, keep, names

# Tolerance of decimal numbers, which pandas does not read exactly.
PARSED, TINY = 1e-14, 1e-300


@given(ids=st.lists(names, min_size=1, max_size=4), label=names)
def test_ids_and_labels_come_back_as_the_texts_they_are(ids, label):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.csv"
        columns = ["seed", "fold", "utterance_id", "speaker_id", "target", "prediction"]
        write_rows(path, columns, [[123, 1, i, label, i, label] for i in ids])
        table = read_table(path)
    assert list(table.columns) == columns
    assert table["seed"].tolist() == [123] * len(ids)
    assert table["utterance_id"].tolist() == table["target"].tolist() == ids
    assert table["speaker_id"].tolist() == table["prediction"].tolist() == [label] * len(ids)


@given(st.lists(st.floats(), min_size=1))
def test_numbers_keep_all_their_digits_and_losses_may_be_nan(values):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "history.csv"
        write_rows(path, ["epoch", "train_loss"], list(enumerate(values)))
        with open(path, newline="", encoding="utf-8") as file:
            found = [float(row["train_loss"]) for row in csv.DictReader(file)]
        assert read_table(path)["train_loss"].tolist() == pytest.approx(values, rel=PARSED, abs=TINY, nan_ok=True)
    assert all(a == b or (math.isnan(a) and math.isnan(b)) for a, b in zip(found, values, strict=True))


@settings(max_examples=30)  # YAML in Python is slow
@given(st.dictionaries(names, st.recursive(names | st.integers() | st.floats(allow_nan=False), st.lists, max_leaves=4)))
def test_a_config_comes_back_as_it_was(config):
    with tempfile.TemporaryDirectory() as folder:
        write_yaml(Path(folder) / "config.yaml", config)
        write_json(Path(folder) / METRICS, {})
        assert RunFolder(folder).config == config


def test_a_config_keeps_its_order_and_its_letters(tmp_path):
    write_yaml(tmp_path / "config.yaml", {"z": 1, "a": "Ärger"})
    assert (tmp_path / "config.yaml").read_text(encoding="utf-8") == "z: 1\na: Ärger\n"


def test_metrics_may_not_hold_nan(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / METRICS, {"uar": math.nan})
    assert not list(tmp_path.iterdir())


def test_a_run_takes_its_name_when_all_is_there(tmp_path):
    path = tmp_path / "runs" / "toy" / "first"
    run = begin(path)
    assert run.folder.parent == path.with_name(".first.unfinished")
    keep(run, (1, 2))
    write_json(run.folder / METRICS, {})
    assert not path.exists()
    run.finish()
    assert sorted(file.name for file in path.iterdir()) == [CHECKSUMS, "config.yaml", "heads", METRICS]
    assert list(path.parent.iterdir()) == [path]
    assert RunFolder(path).config == SETTINGS


def test_an_older_run_goes_only_when_the_new_one_is_there(tmp_path, make_run):
    path = make_run(tmp_path / "run", metrics={"old": 1})
    (path / "extra.txt").touch()
    run = begin(path, overwrite=True)
    write_json(run.folder / METRICS, {"new": 1})
    assert RunFolder(path).metrics == {"old": 1}
    run.finish()
    assert RunFolder(path).metrics == {"new": 1}
    assert not (path / "extra.txt").exists()
    assert list(tmp_path.iterdir()) == [path]


@settings(max_examples=10)  # flushing to disk is slow
@given(pairs=st.sets(st.tuples(st.sampled_from([1, 2, 3]), st.integers(1, 12)), max_size=6))
def test_records_come_back_fold_after_fold_with_the_seeds_as_they_were_named(pairs):
    with tempfile.TemporaryDirectory() as folder:
        run = begin(Path(folder) / "run")
        keep(run, *sorted(pairs))
        again = begin(Path(folder) / "run", resume=True)
        assert again.finished() == pairs
        found = again.records()
        heads = sorted(path.name for path in (again.folder / "heads").glob("*"))
    assert [(fold, SETTINGS["seeds"].index(seed)) for seed, fold, _ in found] == sorted(
        (fold, SETTINGS["seeds"].index(seed)) for seed, fold in pairs
    )
    assert heads == sorted(f"seed-{seed}-fold-{fold}.safetensors" for seed, fold in pairs)
    for _, _, record in found:
        assert record["predictions"] == RECORD["predictions"]
        assert math.isnan(record["history"][0][2])


def test_a_training_counts_when_its_record_is_there_and_its_head_comes_before(tmp_path, monkeypatch):
    run = begin(tmp_path / "run")
    written = []
    monkeypatch.setattr(records, "replace_file", lambda path, content: written.append(path.name))
    keep(run, (1, 2))
    assert written == ["seed-1-fold-2.safetensors", "seed-1-fold-2.json"]
    assert run.finished() == set()


def test_what_was_interrupted_is_gone_on_with_or_begun_anew_only_when_asked(tmp_path):
    keep(begin(tmp_path / "run"), (1, 1), (1, 2))
    with pytest.raises(
        StoreError,
        match=r"run was interrupted after 2 trainings; continue with --resume, or start again with --overwrite$",
    ):
        begin(tmp_path / "run")
    assert begin(tmp_path / "run", resume=True).finished() == {(1, 1), (1, 2)}
    assert begin(tmp_path / "run", overwrite=True).finished() == set()
    assert begin(tmp_path / "run").finished() == set()  # no training was finished, so nothing is lost


def test_records_of_a_run_that_has_its_name_are_not_taken_for_an_interrupted_one(tmp_path, monkeypatch):
    run = begin(tmp_path / "run")
    keep(run, (1, 1))
    write_json(run.folder / METRICS, {})
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)  # killed before the records were removed
        run.finish()
    shutil.rmtree(run.path)  # later, by the user
    assert begin(tmp_path / "run").finished() == set()


def test_what_a_kill_left_half_written_does_not_go_into_the_run(tmp_path):
    run = begin(tmp_path / "run")
    keep(run, (1, 1))
    for folder in (run.folder, run.folder / "heads"):
        (folder / ".something.0123.tmp").touch()
    again = begin(tmp_path / "run", resume=True)
    write_json(again.folder / METRICS, {})
    again.finish()
    assert not list(again.path.rglob("*.tmp"))


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"norm": "none"}, "(norm differ)"),
        ({"norm": "none", "seeds": [1]}, "(norm, seeds differ)"),
        ({NUMERICS: 2}, "(numerics_version differ)"),
    ],
)
def test_what_was_interrupted_with_other_settings_is_not_mixed_in(tmp_path, resume, changes, told):
    run = begin(tmp_path / "run")
    keep(run, (1, 1))
    message = f"run was interrupted with other settings {told}; use another --name, or start again with --overwrite"
    with pytest.raises(StoreError, match=re.escape(message)):
        begin(tmp_path / "run", resume=resume, **changes)
    assert run.finished() == {(1, 1)}
    begin(tmp_path / "run", overwrite=True, **changes)
    assert run.finished() == set()


def test_who_leaves_keeps_trainings_that_are_finished(tmp_path):
    run = begin(tmp_path / "run")
    run.leave()
    assert list(tmp_path.iterdir()) == []
    run = begin(tmp_path / "run")
    keep(run, (1, 1))
    run.leave()
    assert run.finished() == {(1, 1)}


def test_two_processes_do_not_fit_the_same_run(tmp_path):
    one, other = (UnfinishedRun(tmp_path / "run", SETTINGS) for _ in range(2))
    with one.locked():
        with (
            pytest.raises(StoreError, match=r"run is being fitted by another process; wait for it to end$"),
            other.locked(),
        ):
            pass
        with UnfinishedRun(tmp_path / "another", SETTINGS).locked():
            pass
    with other.locked():
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_whoever_fails_lets_go_of_the_run(tmp_path, error):
    one, other = (UnfinishedRun(tmp_path / "run", SETTINGS) for _ in range(2))
    with pytest.raises(error), one.locked():
        raise error
    assert list(tmp_path.iterdir()) == []
    with other.locked():
        pass
    assert list(tmp_path.iterdir()) == []


class Killed(BaseException):
    """Exception that stands for a killed process."""


@pytest.mark.parametrize("older", [False, True])
@pytest.mark.parametrize("step", range(5))
def test_trainings_are_not_lost_wherever_finishing_is_killed(tmp_path, make_run, monkeypatch, older, step):
    path = tmp_path / "run"
    if older:
        make_run(path, metrics={"old": 1})
    run = begin(path, overwrite=True)
    keep(run, (1, 1), (2, 1))
    write_json(run.folder / METRICS, {"new": 1})
    steps = count()

    def until_killed(real):
        def call(*given, **options):
            if next(steps) == step:
                raise Killed
            return real(*given, **options)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", until_killed(shutil.rmtree))
        patch.setattr(Path, "rename", until_killed(Path.rename))
        with contextlib.suppress(Killed):
            run.finish()
    if path.exists() and RunFolder(path).metrics == {"new": 1}:
        assert sorted(file.name for file in path.iterdir()) == [CHECKSUMS, "config.yaml", "heads", METRICS]
        return
    assert not path.exists() or RunFolder(path).metrics == {"old": 1}
    again = begin(path, resume=True)
    assert again.finished() == {(1, 1), (2, 1)}
    again.finish()
    assert RunFolder(path).metrics == {"new": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_run_left_is_not_seen(workspace, make_run):
    path = workspace.runs("toy") / "run"
    make_run(path.with_name(".run.unfinished"))
    assert finished_runs(workspace) == []
    with pytest.raises(StoreError, match="no run 'run'; available: none"):
        find_run(workspace, "run")
