"""``featcache score --by`` and the reliability diagram on the command line."""

import json

import numpy as np
import pandas as pd
import pytest
import yaml

from featcache.evaluate.metrics import summarise
from featcache.manifest import Manifest, Utterance
from featcache.report.reliability import reliability_diagram
from featcache.workspace import Workspace

CLASSES = ["anger", "joy"]


@pytest.fixture(autouse=True)
def _columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture
def table(rng):
    rows = []
    for seed in (1, 2):
        for i in range(64):
            target = CLASSES[i % 2]
            sure = rng.uniform(0.3, 1)
            rows.append([seed, 1, f"u{i:02}", f"s{i // 8}", target, sure if target == "anger" else 1 - sure])
    found = pd.DataFrame(rows, columns=["seed", "fold", "utterance_id", "speaker_id", "target", "p_anger"])
    found["p_joy"] = 1 - found["p_anger"]
    found["prediction"] = np.where(found["p_anger"] > 0.5, "anger", "joy")
    return found


def gender_of(utterance_id):
    return "female" if int(utterance_id[1:]) < 32 else "male"


def intensity_of(utterance_id):
    return "strong" if int(utterance_id[1:]) % 4 < 2 else "weak"


@pytest.fixture
def run_folder(table):
    workspace = Workspace.at()
    folder = workspace.runs("toy") / "mine"
    folder.mkdir(parents=True)
    table.to_csv(folder / "predictions.csv", index=False)
    config = {"corpus": "toy", "head": "svm", "features": {"ssl": "1"}, "classes": ["joy", "anger"]}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "metrics.json").write_text(json.dumps(summarise(table, CLASSES)))
    ids = table["utterance_id"].unique()
    Manifest(
        [
            Utterance(
                utterance_id=i,
                path=f"{i}.wav",
                speaker_id=f"s{int(i[1:]) // 8}",
                labels={"emotion": CLASSES[int(i[1:]) % 2], "gender": gender_of(i), "intensity": intensity_of(i)},
            )
            for i in ids
        ]
    ).write(workspace.cache("toy") / "manifest.csv")
    return folder


@pytest.mark.parametrize("given", ["", "predictions.csv"])
def test_a_run_is_scored_by_the_labels_of_its_cache(invoke, run_folder, table, tmp_path, given):
    options = ("--by", "gender,intensity", "--out", tmp_path / "m.json")
    code, out, err = invoke("-q", "score", run_folder / given, *options)
    assert code == 0
    assert err == "warning: only 8 speakers: the intervals are rough\n"
    assert max(map(len, out.splitlines())) <= 80
    saved = json.loads((tmp_path / "m.json").read_text())
    women = table[table["utterance_id"].map(gender_of) == "female"]
    expected = summarise(women, saved["confusion"]["classes"])
    assert saved["by"]["gender"]["groups"]["female"] == expected
    line = next(line for line in out.splitlines() if line.startswith("female"))
    assert line.split()[:5] == ["female", "4", "32", f"{expected['uar']['mean']:.1f}", "±"]
    gaps = [saved["by"][name]["gap"] for name in ("gender", "intensity")]
    assert [gap["kind"] for gap in gaps] == ["between speakers", "within speakers"]
    assert [gap["num_groupings"] for gap in gaps] == [2, 2]
    told = " ".join(out.split())
    assert "points higher in UAR than" in told
    assert "Holm-corrected for 2 labels" in told
    assert "permutation test over speakers" in told
    assert "pseudo-probabilities, not calibrated" in told
    assert saved["calibration"]["pseudo_probabilities"] is True
    assert saved["confusion"]["classes"] == (["joy", "anger"] if given == "" else CLASSES)


def test_a_run_is_scored_by_its_name(invoke, run_folder):
    of_folder = invoke("-q", "score", run_folder)
    assert of_folder[0] == 0
    assert invoke("-q", "score", run_folder.name) == of_folder
    assert invoke("-q", "score", f"toy/{run_folder.name}") == of_folder
    code, _, err = invoke("score", "another")
    assert (code, err.startswith("error: no run 'another'")) == (1, True)
    code, _, err = invoke("score", "another.csv")
    assert (code, "another.csv: not readable as a table" in err) == (1, True)


def test_labels_come_from_a_file_and_from_columns_of_the_table(invoke, table, tmp_path):
    table["intensity"] = table["utterance_id"].map(intensity_of)
    table.to_csv(tmp_path / "p.csv", index=False)
    ids = table["utterance_id"].unique()
    labels = pd.DataFrame({"utterance_id": [*ids[1:], "another"], "gender": [*map(gender_of, ids[1:]), "x"]})
    labels.to_csv(tmp_path / "labels.tsv", index=False, sep="\t")
    options = ("--by", "gender,intensity", "--labels", tmp_path / "labels.tsv")
    code, out, err = invoke("score", tmp_path / "p.csv", *options)
    assert code == 0
    assert "warning: gender: 1 of 64 utterances have no gender and are left out" in err
    assert "strong" in out
    assert "\nmale" in out
    assert "calibration: ECE" in out
    assert "not calibrated" not in out


def test_what_cannot_be_grouped_is_told_in_one_line(invoke, table, tmp_path, run_folder):
    path = tmp_path / "p.csv"
    table.assign(loud=table["seed"], room="").to_csv(path, index=False)
    (tmp_path / "other.csv").write_text("utterance_id,gender\nx,f\n")
    (tmp_path / "twice.csv").write_text("utterance_id,gender\nu00,f\nu00,m\n")
    (tmp_path / "none.csv").write_text("file,gender\nu00,f\n")
    (tmp_path / "empty.csv").write_text("utterance_id,gender\n")
    (tmp_path / "nothing.csv").write_text("")
    cases = {
        ("--by", "loud"): "utterance 'u00' has several values, expected one for all seeds and folds",
        ("--by", "room"): "--by room: no such column or label; there are: fold, speaker_id, target, loud, room",
        ("--by", "g", "--labels", tmp_path / "other.csv"): "none of the utterances of the predictions; it has 'x'",
        ("--by", "g", "--labels", tmp_path / "twice.csv"): "utterance 'u00' occurs twice; keep one row",
        ("--by", "g", "--labels", tmp_path / "none.csv"): "no column utterance_id; there are: file, gender",
        (
            "--by",
            "g",
            "--labels",
            tmp_path / "empty.csv",
        ): "no rows below the header; expected a row",
        ("--by", "g", "--labels", tmp_path / "nothing.csv"): "no column utterance_id; there are: none",
        ("--by", "target,"): "--by has an empty name; expected labels separated by commas",
        ("--by", ""): "--by has an empty name",
        ("--by", "utterance_id"): "utterance_id has 64 values such as 'u00', expected at most 50 groups",
        ("--labels", tmp_path / "other.csv"): "it is only read for --by",
    }
    for options, told in cases.items():
        code, out, err = invoke("-q", "score", path, *options)
        assert (code, out) == (1, "")
        assert told in err
        assert err.splitlines()[-1].startswith("error: ")
    code, _, err = invoke("-q", "score", run_folder, "--by", "gendr")
    assert code == 1
    assert "did you mean 'gender'?" in err


def test_a_reliability_diagram_needs_probabilities(invoke, table, tmp_path):
    path = tmp_path / "p.csv"
    table.to_csv(path, index=False)
    code, out, _ = invoke("score", path, "--figure", tmp_path / "figures" / "r")
    assert code == 0
    assert (tmp_path / "figures" / "r.png").read_bytes().startswith(b"\x89PNG")
    assert {one.suffix for one in (tmp_path / "figures").iterdir()} == {".png", ".svg", ".pdf"}
    assert "r.png .svg .pdf" in " ".join(out.split())
    code, out, _ = invoke("score", path, "--figure", tmp_path / "again" / "r.PNG")
    assert code == 0
    assert f"{tmp_path / 'again' / 'r'}.png .svg .pdf" in " ".join(out.split())
    assert {one.name for one in (tmp_path / "again").iterdir()} == {"r.png", "r.svg", "r.pdf"}
    table.drop(columns="p_joy").to_csv(path, index=False)
    code, _, err = invoke("-q", "score", path)
    assert (code, "no calibration: there is no column 'p_joy'" in err) == (0, True)
    code, _, err = invoke("-q", "score", path, "--figure", tmp_path / "r")
    assert (code, "there is no calibration to draw" in err) == (1, True)


def test_the_dots_of_a_reliability_diagram_are_whole_at_its_borders(table):
    """A bin with wrong or completely confident predictions only has its dot on the border of the panel."""
    sure = table.assign(p_anger=1.0, p_joy=0.0, prediction="anger")
    upper = reliability_diagram(summarise(sure, CLASSES)["calibration"]).axes[0]
    [dots] = [line for line in upper.lines if line.get_marker() == "o"]
    assert (list(dots.get_xdata()), dots.get_clip_on()) == ([100], False)
