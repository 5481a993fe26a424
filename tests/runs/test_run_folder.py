"""Run folders: what is written is read again, and nothing unfinished looks finished."""

import contextlib
import csv
import json
import math
import os
import re
import shutil
import tempfile
from itertools import count
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from featcache.errors import StoreError
from featcache.files.checksums import CHECKSUMS, recorded_checksums, wrong_files
from featcache.runs import records
from featcache.runs.file_names import METRICS, RESULTS
from featcache.runs.identity import COMPUTED, NUMERICS
from featcache.runs.parse import read_table
from featcache.runs.reader import RunFolder, find_run, finished_runs
from featcache.runs.writer import UnfinishedRun, write_json, write_rows, write_yaml
from featcache.workspace import Workspace

# What CSV, YAML and pandas like to take for something else, and whatever else people call their classes and speakers.
AWKWARD = [
    "NA",
    "nan",
    "null",
    "None",
    "",
    " ",
    "03",
    "1e5",
    "True",
    "no",
    "~",
    "-",
    "a,b",
    'a "b"',
    "'",
    "a/b",
    "#",
    "é",
]
# pandas reads decimals a little faster than exactly.
PARSED, TINY = 1e-14, 1e-300
# A lone carriage return, which Python's csv module does not quote, stands in no name; neither do control characters.
names = st.sampled_from(AWKWARD) | st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=6)


@pytest.fixture
def make_run():
    def make(path, *, config=None, metrics=None):
        path.mkdir(parents=True)
        write_yaml(path / "config.yaml", config or {"head": "dense"})
        write_json(path / METRICS, metrics or {"num_seeds": 1})
        return path

    return make


SETTINGS = {"seeds": [3, 1, 2], "norm": "speaker", COMPUTED: {"device": "cpu"}}
RECORD = {"history": [[1, 0.5, math.nan, 0.25]], "predictions": {"é/1": [0.1, 0.9]}}


def begin(path, *, resume=False, overwrite=False, **changes):
    run = UnfinishedRun(path, {**SETTINGS, **changes})
    run.begin(resume=resume, overwrite=overwrite)
    return run


def keep(run, *pairs):
    for seed, fold in pairs:
        run.keep(seed, fold, RECORD, {"weight": torch.full((2,), float(seed))})


@pytest.fixture
def workspace(tmp_path):
    return Workspace.at(tmp_path)


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
        match=r"run was interrupted after 2 trainings; go on with --resume, or start anew with --overwrite$",
    ):
        begin(tmp_path / "run")
    assert begin(tmp_path / "run", resume=True).finished() == {(1, 1), (1, 2)}
    assert begin(tmp_path / "run", overwrite=True).finished() == set()
    assert begin(tmp_path / "run").finished() == set()  # nothing was finished, so that nothing is lost


def test_records_of_a_run_that_has_its_name_are_not_taken_for_an_interrupted_one(tmp_path, monkeypatch):
    run = begin(tmp_path / "run")
    keep(run, (1, 1))
    write_json(run.folder / METRICS, {})
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)  # killed before they went
        run.finish()
    shutil.rmtree(run.path)  # by hand, later
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
    message = f"run was interrupted with other settings {told}; give this one another --name, or start anew with --ov"
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
    """The process is gone: nothing after this is done."""


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
    with pytest.raises(StoreError, match="unknown run"):
        find_run(workspace, "run")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, r"run is not a finished run: No such file or directory: config.yaml$"),
        ({"config.yaml": "head: dense"}, r"is not a finished run: No such file or directory: metrics.json$"),
        (
            {"config.yaml": "head: dense", METRICS: "{"},
            r"finished run: .*metrics.json is damaged \(.* JSON: Expecting property name",
        ),
        (
            {"config.yaml": "head: [", METRICS: "{}"},
            r"is not a finished run: .*config.yaml is damaged \(.* YAML: while parsing",
        ),
        ({"config.yaml": "!!python/object:os.system {}", METRICS: "{}"}, "could not determine a constructor"),
    ],
)
def test_a_folder_that_is_no_run_is_told_in_one_line(tmp_path, files, message):
    folder = tmp_path / "run"
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_text(content)
    with pytest.raises(StoreError, match=message) as told:
        RunFolder(folder)
    assert "\n" not in str(told.value)


def test_a_run_is_named_after_its_folder(tmp_path, make_run, monkeypatch):
    make_run(tmp_path / "some run")
    monkeypatch.chdir(tmp_path / "some run")
    assert RunFolder(".").name == "some run"


@pytest.mark.parametrize("content", [None, "", 'a,b\n"1'])
def test_a_table_that_cannot_be_read_is_told(tmp_path, make_run, content):
    run = RunFolder(make_run(tmp_path / "run"))
    if content is not None:
        (run.path / "predictions.csv").write_text(content)
    with pytest.raises(StoreError, match=r"predictions\.csv: not readable as a table \(.+\)$"):
        _ = run.predictions


def test_runs_are_found_by_path_and_by_name(workspace, make_run):
    first = make_run(workspace.runs("toy") / "first")
    make_run(workspace.runs("toy") / "twice")
    make_run(workspace.runs("other") / "twice")
    assert find_run(workspace, "first").path == first
    assert find_run(workspace, str(first)).path == first
    with pytest.raises(StoreError, match=r"several runs are called 'twice': .*toy/twice, .*other/twice; give a path$"):
        find_run(workspace, "twice")
    with pytest.raises(StoreError, match="unknown run 'frist'; nearest: first"):
        find_run(workspace, "frist")


def test_finished_runs_come_newest_last(workspace, make_run):
    names = ["b", "a", "c"]
    for age, name in enumerate(names):
        path = make_run(workspace.runs("toy" if name != "c" else "other") / name)
        os.utime(path / METRICS, (age, age))
    assert [run.name for run in finished_runs(workspace)] == names
    assert [run.name for run in finished_runs(workspace, "toy")] == ["b", "a"]
    assert finished_runs(workspace, "none") == []


def test_files_are_what_any_program_reads(tmp_path, make_run):
    path = make_run(tmp_path / "run", config={"seeds": [1, 2]}, metrics={"uar": {"mean": 50.0}})
    assert yaml.safe_load((path / "config.yaml").read_text()) == {"seeds": [1, 2]}
    assert json.loads((path / METRICS).read_text()) == {"uar": {"mean": 50.0}}


READ_BACK = {
    "config.yaml": lambda path: RunFolder(path).config,
    METRICS: lambda path: RunFolder(path).metrics,
    "predictions.csv": lambda path: RunFolder(path).predictions,
    "validation_predictions.csv": lambda path: read_table(path / "validation_predictions.csv"),
    "history.csv": lambda path: RunFolder(path).history,
    "layer_weights.csv": lambda path: RunFolder(path).layer_weights,
}


@pytest.fixture
def sealed(tmp_path):
    """A finished run with a few lines of everything."""
    run = begin(tmp_path / "run")
    keep(run, (1, 1))
    for name in READ_BACK.keys() - {"config.yaml", METRICS}:
        write_rows(run.folder / name, ["seed", "layer"], [[1, 20], [2, 31]])
    write_json(run.folder / METRICS, {"uar": {"mean": 51.5}})
    (run.folder / "report.html").write_text("<p>51.5</p>")
    run.finish()
    return run.path


@pytest.mark.parametrize("name", READ_BACK)
def test_a_changed_digit_is_never_reported_as_the_result(sealed, name):
    read = READ_BACK[name]
    expected = read(sealed)
    content = (sealed / name).read_bytes()
    for place, digit in enumerate(content):
        if chr(digit).isdigit():
            changed = bytearray(content)
            changed[place] = ord("9") if digit != ord("9") else ord("0")
            (sealed / name).write_bytes(changed)
            with pytest.raises(StoreError, match=f"{name} has changed since it was written: its checksum") as told:
                read(sealed)
            assert "\n" not in str(told.value)
    (sealed / name).write_bytes(content)
    assert str(read(sealed)) == str(expected)


def test_all_that_is_read_back_has_a_checksum_and_nothing_else(sealed):
    recorded = set(recorded_checksums(sealed))
    assert recorded == {*READ_BACK, "heads/seed-1-fold-1.safetensors"}
    assert READ_BACK.keys() < set(RESULTS)
    (sealed / "heads" / "seed-1-fold-1.safetensors").write_bytes(b"other")
    assert list(wrong_files(sealed)) == ["heads/seed-1-fold-1.safetensors"]


def test_whoever_edits_a_report_or_adds_a_file_changes_no_result(sealed):
    before = RunFolder(sealed).metrics
    (sealed / "report.html").write_text("<p>mine</p>")
    (sealed / "figure.png").write_bytes(b"mine")
    (sealed / "notes.csv").write_text("mine")
    assert RunFolder(sealed).metrics == before
    assert len(RunFolder(sealed).predictions) == 2


def test_runs_without_checksums_open_as_ever(sealed):
    (sealed / CHECKSUMS).unlink()
    (sealed / METRICS).write_text('{"uar": {"mean": 60.0}}')
    assert RunFolder(sealed).metrics == {"uar": {"mean": 60.0}}


def test_a_damaged_list_of_checksums_is_told(sealed):
    (sealed / CHECKSUMS).write_bytes((sealed / CHECKSUMS).read_bytes()[:-5])
    with pytest.raises(StoreError, match=rf"{CHECKSUMS} is damaged; restore it, train the run again, or remove it$"):
        RunFolder(sealed)


def test_a_damaged_run_hides_no_other(workspace, sealed, make_run, caplog):
    good = make_run(workspace.runs("toy") / "good")
    sealed.rename(workspace.runs("toy") / "bad")
    (workspace.runs("toy") / "bad" / METRICS).write_text("{}")
    assert find_run(workspace, "good").path == good
    assert [run.name for run in finished_runs(workspace)] == ["good"]
    assert "left out: " in caplog.text
    with pytest.raises(StoreError, match=r"bad.metrics.json has changed since it was written"):
        find_run(workspace, "bad")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"config.yaml": "[1, 2]", METRICS: "{}"}, "config.yaml is damaged .expected .*, found a list"),
        ({"config.yaml": "a: 1", METRICS: "[]"}, "metrics.json is damaged .expected .*, found a list"),
        ({"config.yaml": "a: 1", METRICS: "[" * 200_000}, "metrics.json is damaged .values nested too deeply"),
        ({"config.yaml": "[" * 1_500, METRICS: "{}"}, "is not a finished run: "),
        ({"config.yaml": b"\xff\xfe", METRICS: "{}"}, "config.yaml is damaged .expected an object, found nothing"),
    ],
)
def test_other_content_than_a_runs_is_told_in_one_line(tmp_path, files, message):
    folder = tmp_path / "run"
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(StoreError, match=message) as told:
        RunFolder(folder)
    assert "\n" not in str(told.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("name", ["config.yaml", METRICS])
def test_a_pipe_is_not_waited_for(sealed, name):
    (sealed / name).unlink()
    os.mkfifo(sealed / name)
    with pytest.raises(StoreError, match=f"expected a regular file, found a named pipe: {name}"):
        RunFolder(sealed)


@pytest.mark.parametrize("content", [b"[]", b"1", b'{"record": 1}', b"[" * 100_000, b"\xff", b""])
def test_a_record_that_is_none_is_trained_again(tmp_path, content, caplog):
    keep(begin(tmp_path / "run"), (1, 1), (1, 2))
    (record,) = (tmp_path / ".run.unfinished/finished").glob("seed-1-fold-2.json")
    record.write_bytes(content)
    assert begin(tmp_path / "run", resume=True).finished() == {(1, 1)}
    assert "seed-1-fold-2" in caplog.text


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_a_pipe_in_place_of_a_record_is_not_waited_for(tmp_path):
    keep(begin(tmp_path / "run"), (1, 1), (1, 2))
    (record,) = (tmp_path / ".run.unfinished/finished").glob("seed-1-fold-2.json")
    record.unlink()
    os.mkfifo(record)
    assert begin(tmp_path / "run", resume=True).finished() == {(1, 1)}
