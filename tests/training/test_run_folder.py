"""Run folders: what is written is read again, and nothing unfinished looks finished."""

import csv
import json
import math
import os
import tempfile
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from featcache.errors import StoreError
from featcache.training import run_folder
from featcache.training.run_folder import METRICS, Run, find_run, finished_runs, new_run, read_table
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
        with new_run(path) as folder:
            run_folder.write_yaml(folder / "config.yaml", config or {"head": "dense"})
            run_folder.write_json(folder / METRICS, metrics or {"num_seeds": 1})
        return path

    return make


@pytest.fixture
def workspace(tmp_path):
    return Workspace.at(tmp_path)


@given(ids=st.lists(names, min_size=1, max_size=4), label=names)
def test_ids_and_labels_come_back_as_the_texts_they_are(ids, label):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.csv"
        columns = ["seed", "fold", "utterance_id", "speaker_id", "target", "prediction"]
        run_folder.write_rows(path, columns, [[123, 1, i, label, i, label] for i in ids])
        table = read_table(path)
    assert list(table.columns) == columns
    assert table["seed"].tolist() == [123] * len(ids)
    assert table["utterance_id"].tolist() == table["target"].tolist() == ids
    assert table["speaker_id"].tolist() == table["prediction"].tolist() == [label] * len(ids)


@given(st.lists(st.floats(), min_size=1))
def test_numbers_keep_all_their_digits_and_losses_may_be_nan(values):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "history.csv"
        run_folder.write_rows(path, ["epoch", "train_loss"], list(enumerate(values)))
        with open(path, newline="", encoding="utf-8") as file:
            found = [float(row["train_loss"]) for row in csv.DictReader(file)]
        assert read_table(path)["train_loss"].tolist() == pytest.approx(values, rel=PARSED, abs=TINY, nan_ok=True)
    assert all(a == b or (math.isnan(a) and math.isnan(b)) for a, b in zip(found, values, strict=True))


@settings(max_examples=30)  # YAML in Python is slow
@given(st.dictionaries(names, st.recursive(names | st.integers() | st.floats(allow_nan=False), st.lists, max_leaves=4)))
def test_a_config_comes_back_as_it_was(config):
    with tempfile.TemporaryDirectory() as folder:
        run_folder.write_yaml(Path(folder) / "config.yaml", config)
        run_folder.write_json(Path(folder) / METRICS, {})
        assert Run(folder).config == config


def test_a_config_keeps_its_order_and_its_letters(tmp_path):
    run_folder.write_yaml(tmp_path / "config.yaml", {"z": 1, "a": "Ärger"})
    assert (tmp_path / "config.yaml").read_text(encoding="utf-8") == "z: 1\na: Ärger\n"


def test_metrics_may_not_hold_nan(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        run_folder.write_json(tmp_path / METRICS, {"uar": math.nan})
    assert not list(tmp_path.iterdir())


def test_a_run_takes_its_name_when_all_is_there(tmp_path):
    path = tmp_path / "runs" / "toy" / "first"
    with new_run(path) as folder:
        (folder / METRICS).write_text("{}")
        assert folder.parent == path.parent
        assert not path.exists()
    assert [file.name for file in path.iterdir()] == [METRICS]
    assert list(path.parent.iterdir()) == [path]


def test_an_older_run_goes_only_when_the_new_one_is_there(tmp_path, make_run):
    path = make_run(tmp_path / "run", metrics={"old": 1})
    (path / "extra.txt").touch()
    with new_run(path) as folder:
        (folder / "config.yaml").write_text("{}")
        (folder / METRICS).write_text('{"new": 1}')
        assert Run(path).metrics == {"old": 1}
    assert Run(path).metrics == {"new": 1}
    assert not (path / "extra.txt").exists()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_run_leaves_nothing_and_the_older_one_as_it_was(tmp_path, make_run, error):
    path = make_run(tmp_path / "run", metrics={"old": 1})

    def interrupted():
        with new_run(path) as folder:
            (folder / METRICS).write_text("{}")
            raise error

    with pytest.raises(error):
        interrupted()
    assert Run(path).metrics == {"old": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_run_left_is_not_seen_and_not_mixed_in(workspace, make_run):
    path = workspace.runs("toy") / "run"
    left = path.with_name(".run.unfinished")
    make_run(left)
    (left / "old.csv").touch()
    assert finished_runs(workspace) == []
    with pytest.raises(StoreError, match="unknown run"):
        find_run(workspace, "run")
    make_run(path)
    assert sorted(file.name for file in path.iterdir()) == ["config.yaml", METRICS]
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, r"run is not a finished run: No such file or directory: config.yaml$"),
        ({"config.yaml": "head: dense"}, r"is not a finished run: No such file or directory: metrics.json$"),
        ({"config.yaml": "head: dense", METRICS: "{"}, "is not a finished run: Expecting property name"),
        ({"config.yaml": "head: [", METRICS: "{}"}, "is not a finished run: while parsing"),
        ({"config.yaml": "!!python/object:os.system {}", METRICS: "{}"}, "could not determine a constructor"),
    ],
)
def test_a_folder_that_is_no_run_is_told_in_one_line(tmp_path, files, message):
    folder = tmp_path / "run"
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_text(content)
    with pytest.raises(StoreError, match=message) as told:
        Run(folder)
    assert "\n" not in str(told.value)


def test_a_run_is_named_after_its_folder(tmp_path, make_run, monkeypatch):
    make_run(tmp_path / "some run")
    monkeypatch.chdir(tmp_path / "some run")
    assert Run(".").name == "some run"


@pytest.mark.parametrize("content", [None, "", 'a,b\n"1'])
def test_a_table_that_cannot_be_read_is_told(tmp_path, make_run, content):
    run = Run(make_run(tmp_path / "run"))
    if content is not None:
        (run.path / "predictions.csv").write_text(content)
    with pytest.raises(StoreError, match=r"predictions\.csv: not readable as a table \(.+\)$"):
        run.predictions()


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
