"""Run folders that are missing, damaged or made by somebody else give one line, and no wrong result."""

import itertools
import json
import os
import re

import pytest
import yaml

from featcache.errors import StoreError
from featcache.files.checksums import CHECKSUMS, recorded_checksums, wrong_files
from featcache.fitting.convergence import convergence_notes
from featcache.runs.costs import NAMES
from featcache.runs.file_names import METRICS, RESULTS
from featcache.runs.parse import read_table
from featcache.runs.reader import RunFolder, find_run, finished_runs
from featcache.runs.writer import write_json, write_rows
from tests.runs.written import begin, keep

RUN = "head: dense\nseeds: [1]\nfolds: [{}]\n"


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
            r"is not a finished run: .*config.yaml is damaged \(line 1: not YAML: expected the node content",
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
    assert find_run(workspace, "other/twice").path == workspace.runs("other") / "twice"
    with pytest.raises(StoreError, match=r"several runs are called 'twice': .*toy/twice, .*other/twice; give a path$"):
        find_run(workspace, "twice")
    with pytest.raises(StoreError, match="no run 'frist'; did you mean 'first'"):
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
    """Make a finished run with a few rows in each table."""
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


@pytest.mark.parametrize("name", [*READ_BACK, CHECKSUMS])
def test_no_link_out_of_the_folder_is_followed(sealed, tmp_path, name):
    outside = (sealed / name).rename(tmp_path / "outside")
    (sealed / name).symlink_to(outside)
    with pytest.raises(StoreError, match=r"is a link to a file outside of the run folder.*copy the file here") as told:
        READ_BACK.get(name, READ_BACK[METRICS])(sealed)
    assert name in str(told.value)


def test_few_lines_of_yaml_do_not_become_more_than_fits_in_memory(sealed):
    names = "abcdefgh"
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [f"{name}: &{name} [{', '.join([f'*{last}'] * 9)}]" for last, name in itertools.pairwise(names)]
    (sealed / "config.yaml").write_text("\n".join([*lines, "select: {emotion: *h}"]))
    (sealed / CHECKSUMS).unlink()
    with pytest.raises(StoreError, match="more than 100000 values") as told:
        RunFolder(sealed)
    assert "\n" not in str(told.value)


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
        ({"config.yaml": "a: 1", METRICS: '{"calibration": 5}'}, "metrics.json is damaged .*calibration"),
        (
            {"config.yaml": "a: 1", METRICS: '{"calibration": {"ece": 5}}'},
            "metrics.json, calibration, is damaged .*ece",
        ),
        (
            {"config.yaml": "a: 1", METRICS: '{"calibration": {"ece": {"mean": "x"}}}'},
            "metrics.json, calibration.ece, is damaged .*mean",
        ),
        ({"config.yaml": "[" * 1_500, METRICS: "{}"}, "is not a finished run: "),
        ({"config.yaml": b"\xff\xfe", METRICS: "{}"}, "config.yaml is damaged .not UTF-8: "),
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


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-1", "1e400", "1" + 400 * "0", '"12"', "true", "null"])
def test_a_cost_that_is_no_cost_is_told_in_one_line(tmp_path, make_run, value):
    path = make_run(tmp_path / "run") / METRICS
    original = json.loads(path.read_text())
    for name in NAMES:
        path.write_text(json.dumps(original | {name: 0}).replace(f'"{name}": 0', f'"{name}": {value}'))
        with pytest.raises(StoreError, match=rf"metrics\.json is damaged \({name}: expected a number") as told:
            RunFolder(path.parent)
        assert len(str(told.value)) < 500


def test_a_score_with_hundreds_of_digits_is_told_in_one_line(tmp_path, make_run):
    path = make_run(tmp_path / "run") / METRICS
    metrics = json.loads(path.read_text())
    metrics["uar"] = {**metrics.get("uar", {}), "mean": 10**400}
    path.write_text(json.dumps(metrics))
    with pytest.raises(StoreError, match=r"metrics\.json is damaged \(expected numbers up to 1e\+18\)"):
        RunFolder(path.parent)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("history.csv", "seed,fold\n1,1\n", "history.csv is damaged (validation_loss: expected a column of numbers)"),
        ("history.csv", "seed,fold,validation_loss\n1,1,low\n", "history.csv is damaged (validation_loss: expected"),
        ("config.yaml", RUN + "training: {patience: 3}\n", "max_epochs missing"),
        (
            "config.yaml",
            RUN + "training: {patience: 3, max_epochs: x}\n",
            "max_epochs: ",
        ),
    ],
)
def test_convergence_of_a_run_of_anybody_is_told_or_refused_in_one_line(tmp_path, make_run, file, content, message):
    folder = make_run(tmp_path / "run")
    (folder / "history.csv").write_text("seed,fold,validation_loss\n1,1,0.5\n")
    (folder / "config.yaml").write_text(
        "head: dense\nseeds: [1]\nfolds: [{}]\ntraining: {max_epochs: 1, patience: 1}\n"
    )
    [note] = convergence_notes(RunFolder(folder))
    assert note.startswith("1 of 1 trainings")
    (folder / file).write_text(content)
    with pytest.raises(StoreError, match=re.escape(message)):
        convergence_notes(RunFolder(folder))


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
