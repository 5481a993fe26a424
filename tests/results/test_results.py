"""The script of docs/results.md with commands that are only recorded: nothing is extracted or trained."""

import json

import pytest

from featcache.runs.writer import write_json
from tests.results import numbers
from tests.results import record as recording
from tests.results.commands import CHEAP, HEADS, Case, Command, ordered, present
from tests.results.page import write_page
from tests.results.record import Record, prepare


@pytest.fixture(autouse=True)
def _machine(monkeypatch):
    """Describe the machine without importing transformers, which takes longer than all tests here."""
    monkeypatch.setattr(recording, "conditions", lambda: "a CPU, torch 2")


@pytest.fixture
def folders(tmp_path):
    """Return an output folder with links to two corpora and one model."""
    for name in ("corpora/emodb-2s", "corpora/ravdess-4actors", "models/whisper-base"):
        (tmp_path / "given" / name).mkdir(parents=True)
    out = tmp_path / "out"
    cases = prepare(out, tmp_path / "given/corpora", tmp_path / "given/models")
    return out, cases


@pytest.fixture
def calls():
    return []


@pytest.fixture
def record_of(calls):
    """Return a function that opens the record of a folder; ``svm`` fails, everything else succeeds."""

    def execute(words, folder):
        calls.append(words)
        return ("svm" in words) * 1, "printed"

    return lambda out: Record(out, execute)


def test_each_command_runs_once_and_a_failed_one_again(folders, record_of, calls):
    out, cases = folders
    commands = [one for one in ordered(cases, seeds=5, max_epochs=100) if present(one, out)]
    for _ in range(2):
        record = record_of(out)
        for command in commands:
            record.run(command)
    failed = [one for one in commands if "svm" in one.words]
    assert calls == [*(one.words for one in commands), *((*one.words, "--resume") for one in failed)]
    entry = record_of(out).succeeded(commands[0])
    assert entry["output"] == "printed"
    assert entry["seconds"] >= 0
    assert entry["date"].count("-") == 2
    assert "torch" in entry["conditions"]


def test_an_interrupted_command_is_recorded_and_continued(tmp_path):
    def interrupt(words, folder):
        raise KeyboardInterrupt

    command = Command(words=("fit", "--name", "a"), corpus="c", rank=0, run="a")
    with pytest.raises(KeyboardInterrupt):
        Record(tmp_path, interrupt).run(command)
    assert json.loads((tmp_path / "record.json").read_text())[str(command)]["exit_code"] is None
    calls = []
    Record(tmp_path, lambda words, folder: (calls.append(words), (0, ""))[1]).run(command)
    assert calls == [("fit", "--name", "a", "--resume")]


def test_commands_name_relative_folders_and_each_run_once(folders):
    out, cases = folders
    commands = ordered(cases, seeds=2, max_epochs=100)
    assert len(set(map(str, commands))) == len(commands)
    assert not [word for one in commands for word in one.words if word.startswith("/")]
    fits = [one for one in commands if one.words[0] == "fit"]
    assert len({(one.corpus, one.run) for one in fits}) == len(fits)
    assert all(("--seeds 2" in str(one)) != any(f"--head {head} " in str(one) for head in CHEAP) for one in fits)
    assert {one.words[0] for one in commands[: len([one for one in commands if one.rank == 0])]} == {"extract"}
    assert (out / "corpora/emodb-2s").is_dir()
    assert not any(present(one, out) for one in commands if "models/whisper-tiny.en" in one.words)


def test_the_page_shows_what_was_run_and_what_was_not(folders, record_of, tmp_path, monkeypatch):
    out, cases = folders
    commands = ordered(cases, seeds=5, max_epochs=100)
    record = record_of(out)
    fit = next(one for one in commands if "linear" in one.words and "whisper-base" in one.words)
    record.run(fit)
    store = out / "data/cache/emodb-2s/whisper-base"
    store.mkdir(parents=True)
    (out / "figures/probe-emodb-2s-whisper-base.png").write_bytes(b"png")
    write_json(out / f"data/runs/{fit.corpus}/{fit.run}/metrics.json", {})
    score = {"uar": {"mean": 61.25, "std": 0.5, "ci95": [50, 70]}}
    monkeypatch.setattr(numbers, "RunFolder", lambda folder: type("Run", (), {"metrics": score}))
    write_page(tmp_path / "docs", out, cases, commands, record, note="Other programs ran too.")
    page = (tmp_path / "docs/results.md").read_text()
    assert f"1 of {len(commands)} commands were run." in page
    assert f"{fit}  # 0 s" in page
    assert "| linear | speaker | 61.2 ± 0.5 | 50.0–70.0 | not run |" in page
    assert "Other programs ran too." in " ".join(page.split())
    assert "(results/probe-emodb-2s-whisper-base.png)" in page
    assert (tmp_path / "docs/results/probe-emodb-2s-whisper-base.png").read_bytes() == b"png"
    assert page.count("| fusion with eGeMAPS |") == 2 * len(cases)
    assert all(str(one) in page for one in commands)
    assert str(tmp_path) not in page
    for table in page.split("\n\n"):
        widths = {line.count("|") for line in table.splitlines() if line.startswith("|")}
        assert len(widths) <= 1


def test_every_head_of_the_issue_is_fitted():
    commands = ordered([Case(corpus="emodb-2s", model="whisper-base")], seeds=5, max_epochs=100)
    fitted = {(head, norm) for one in commands for head in HEADS for norm in ("speaker", "global")
              if one.run == f"whisper-base-random-{head}-{norm}"}  # fmt: skip
    assert len(fitted) == 2 * len(HEADS)


def test_the_table_of_layers_is_that_of_the_pipeline(tmp_path):
    head = "layer,first,second,metric,first_mean,first_std,first_ci95_low,first_ci95_high,second_mean,second_std,"
    head += "second_ci95_low,second_ci95_high,difference,ci95_low,ci95_high,p,p_holm,unit,count"
    lines = [
        head,
        "0,trained,untrained,uar,60,,50,70,30,,20,40,30,10,50,0.002,0.004,speakers,10",
        "all,trained,untrained,uar,62,0.5,50,70,33,1,20,40,29,,,0.002,0.004,speakers,4",
    ]
    (tmp_path / "layers.csv").write_text("\n".join(lines), encoding="utf-8")
    assert numbers.contrast_rows(tmp_path) == [
        ["0", "60.0", "50.0–70.0", "30.0", "20.0–40.0", "+30.0", "10.0–50.0", "0.004"],
        ["all", "62.0 ± 0.5", "50.0–70.0", "33.0 ± 1.0", "20.0–40.0", "+29.0", "-", "-"],
    ]
    assert numbers.contrast_rows(tmp_path / "missing") == []
