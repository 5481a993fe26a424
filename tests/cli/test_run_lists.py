"""``featcache runs``, ``featcache table`` and patterns of runs on the command line."""

import json
import os
import shlex

import pytest

import featcache
from featcache.runs.writer import UnfinishedRun, write_yaml
from featcache.workspace import Workspace
from tests.report.written_runs import write_run


@pytest.fixture
def home():
    """Return the folder of the runs of a corpus."""
    return Workspace.at().runs("toy")


def call(monkeypatch, capsys, *words):
    from featcache.cli import app

    monkeypatch.setattr("sys.argv", ["featcache", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        app.main()
    return ended.value.code or 0, *capsys.readouterr()


def dated(run, seconds):
    os.utime(run.path / "metrics.json", (seconds, seconds))
    return run


def test_runs_lists_what_differs_and_the_newest_last(home, monkeypatch, capsys):
    dated(write_run(home / "new", head="lstm", norm="global", validation=81.25), 3e9)
    dated(write_run(home / "old", training={"learning_rate": 1e-3}), 1e9)
    code, out, err = call(monkeypatch, capsys, "runs")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "all 2 runs: corpus toy, features ssl, layers all, protocol loso, target emotion,"
    header, _, old, new = lines[4:8]
    assert header.split() == ["Run", "head", "norm", "Validation", "Test", "Date"]  # they determine the learning rate
    assert old.split()[:3] == ["old", "dense", "none"]
    assert new.split()[:6] == ["new", "lstm", "global", "81.2", "±", "1.5"]
    assert max(map(len, lines)) <= 80
    assert "A dash: the run has no such score" in " ".join(lines)
    [first, second] = json.loads(call(monkeypatch, capsys, "runs", "toy", "--json")[1])
    assert (first["name"], second["name"]) == ("old", "new")
    assert second["validation"] == {"mean": 81.25, "std": 1.5}
    assert first["validation"] is None
    assert first["settings"]["training.learning_rate"] == "0.001"


def test_ensembles_final_fits_and_published_runs_are_called_so(home, monkeypatch, capsys):
    kinds = {"vote": {"members": ["a"]}, "last": {"final": True}, "shared": {"published": True}, "plain": {}}
    for name, changes in kinds.items():
        write_run(home / name, **changes)
    found = {one["name"]: one["kind"] for one in json.loads(call(monkeypatch, capsys, "runs", "--json")[1])}
    assert found == {"vote": "ensemble", "last": "final fit", "shared": "published", "plain": "fit"}


def test_names_that_are_too_long_for_the_terminal_follow_the_table(home, monkeypatch, capsys):
    names = [f"{'wav2vec2-base+egemaps_' * 3}{head}" for head in ("dense", "lstm")]
    for name in names:
        write_run(home / name, head=name[-5:].strip("_"), protocol=name[-3:])
    lines = call(monkeypatch, capsys, "runs")[1].splitlines()
    assert [line for line in lines if line.endswith(tuple(names))] == [f"{i}  {names[i - 1]}" for i in (1, 2)]
    assert max(len(line) for line in lines if not line.endswith(tuple(names))) <= 80


def test_no_runs_are_an_error_that_says_what_to_do(home, monkeypatch, capsys):
    write_run(home / "a")
    code, _, err = call(monkeypatch, capsys, "runs", "tyo")
    assert code == 1
    assert err.startswith("error: no runs under ")
    assert err.rstrip().endswith("make one with 'featcache fit'; did you mean 'toy'?")


def test_an_unfinished_run_is_listed_with_the_command_that_continues_it(make_cache, quick_reports, monkeypatch, capsys):
    make_cache()
    with monkeypatch.context() as broken:

        def interrupt(run):
            run._records._record(1, 1).unlink()
            raise KeyboardInterrupt

        broken.setattr(UnfinishedRun, "finish", interrupt)
        with pytest.raises(KeyboardInterrupt):
            featcache.fit(head="linear", seeds=(1,), max_epochs=1, name="mine")
    code, out, _ = call(monkeypatch, capsys, "runs")
    assert code == 0
    assert "mine is not finished (3 of 4 trainings); continue it with:" in out
    [one] = json.loads(call(monkeypatch, capsys, "runs", "--json")[1])
    assert (one["finished"], one["trainings"], one["test"]) == (False, [3, 4], None)
    code, _, err = call(monkeypatch, capsys, "table", "mine")
    assert code == 1
    assert "toy/mine is not finished; 'featcache runs' shows the command that continues it" in err
    assert call(monkeypatch, capsys, *shlex.split(one["command"])[1:])[0] == 0
    [one] = json.loads(call(monkeypatch, capsys, "runs", "--json")[1])
    assert one["finished"]
    assert one["command"] == ""


def test_foreign_files_beside_runs_are_left_out(home, monkeypatch, capsys):
    write_run(home / "good")
    write_yaml(home / "bad" / "config.yaml", {"head": "\x1b[31m"})
    (home / "bad" / "metrics.json").write_text("[]")
    hidden = UnfinishedRun.folder_of(home / "begun")
    hidden.mkdir(parents=True)
    (hidden / "config.yaml").write_text("seeds: 5\nfolds: {}\n")
    write_run(home / "forged", head="\x1b[2J", published="\x1b")
    code, out, err = call(monkeypatch, capsys, "runs")
    assert code == 0
    assert "\x1b" not in out + err
    assert "bad" in err
    assert "begun" not in out


def test_table_takes_patterns_and_folders_and_writes_files(home, monkeypatch, capsys, tmp_path):
    for name, head in (("a", "dense"), ("b", "lstm")):
        write_run(home / name, head=head)
    (home / "a-pipeline").mkdir()
    code, out, _ = call(monkeypatch, capsys, "table", "toy/?", "--rows", "head")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()[2:4]] == ["dense", "lstm"]
    assert max(map(len, out.splitlines())) <= 80
    code, out, err = call(monkeypatch, capsys, "table", *home.iterdir(), "--rows", "head", "--format", "markdown")
    assert out.startswith("| head | UAR (%) |\n| --- | ---: |\n")
    assert "left out: not a finished run: " in err
    for suffix, begin in ((".tex", "% in the preamble"), (".csv", "head,run"), (".md", "| head"), (".txt", "head ")):
        path = tmp_path / "tables" / f"table{suffix}"
        assert call(monkeypatch, capsys, "table", "a", "b", "--rows", "head", "--out", path)[0] == 0
        assert path.read_text(encoding="utf-8").startswith(begin)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("table toy/x*", 1, "no finished run under {home} matches 'toy/x*'; see 'featcache runs'"),
        ("table c", 1, "no run 'c'; available: a, b"),
        ("table a b --reference c", 1, "no run 'c'; available: a, b"),
        ("table a --reference b", 1, "--reference b: it is not among the runs of the table; give it as RUN too"),
        ("table a --format tex", 2, "--format takes text, markdown, latex or csv, got 'tex'"),
        ("table a --part training", 2, "--part takes test or validation, got 'training'"),
        ("table a --format latex --out x.md", 1, "--out x.md: its suffix is of another format than --format latex; "),
        ("track a --to wandb", 2, "--to takes tensorboard or mlflow, got 'wandb'"),
        ("track a --to mlflow --out x", 2, "--out: only TensorBoard has a folder; use --uri for MLflow"),
        ("--figure-width wide layers", 2, "--figure-width takes single or double, got 'wide'"),
    ],
)
def test_mistakes_are_told_in_one_line(home, monkeypatch, capsys, words, code, message):
    for name in "ab":
        write_run(home / name)
    found, _, err = call(monkeypatch, capsys, *words.split())
    assert found == code
    assert f"error: {message.format(home=home.parent)}" in err.splitlines()[-1]


def test_the_width_of_figures_holds_for_one_command(home, monkeypatch, capsys):
    write_run(home / "a")
    assert call(monkeypatch, capsys, "--figure-width", "double", "runs")[0] == 0
    assert "FEATCACHE_FIGURE_WIDTH" not in os.environ


def test_settings_that_fit_are_shown_beside_those_that_do_not(home, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    for name, head in (("one", "lstm"), ("two", "dense")):
        write_run(home / name, head=head, features={"a" * 70 + name: "1"})
    code, out, _ = call(monkeypatch, capsys, "runs")
    header = next(line for line in out.splitlines() if line.startswith("Run "))
    assert (code, header.split()[:3]) == (0, ["Run", "head", "Validation"])
    assert "(not shown, for lack of space: features)" in out
