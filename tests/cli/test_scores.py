"""``featcache score``, ``compare`` and ``ensemble`` on the command line: tables, files, warnings and errors."""

import json
import re

import numpy as np
import pandas as pd
import pytest
import yaml

from featcache.evaluate.holm import holm
from featcache.evaluate.metrics import summarise
from featcache.evaluate.regression import summarise_regression
from featcache.workspace import Workspace

CLASSES = ["anger", "joy", "[red]calm[/red]"]


@pytest.fixture(autouse=True)
def _columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "250")


@pytest.fixture
def predictions(rng):
    """Make predictions: ``predictions(accuracy, speakers)``, two seeds of 96 utterances."""

    def make(rate=0.7, speakers=24, validation=False):
        target = np.array(CLASSES)[np.arange(96) % 3]
        tables = []
        for seed in (1, 2):
            prediction = np.where(rng.random(96) < rate, target, rng.choice(CLASSES, 96))
            table = pd.DataFrame(
                {
                    "seed": seed,
                    "fold": 1,
                    "utterance_id": [f"{'v' if validation else 'u'}{i:02}" for i in range(96)],
                    "speaker_id": [f"s{i // 3 % speakers:02}" for i in range(96)],
                    "target": target,
                    "prediction": prediction,
                }
            )
            tables.append(table.assign(**{f"p_{label}": 1.0 * (prediction == label) for label in CLASSES}))
        return pd.concat(tables)

    return make


@pytest.fixture
def make_run(predictions):
    def make(name, rate=0.7, speakers=24):
        folder = Workspace.at().runs("toy") / name
        folder.mkdir(parents=True)
        table = predictions(rate, speakers)
        table.to_csv(folder / "predictions.csv", index=False)
        predictions(rate, speakers, validation=True).to_csv(folder / "validation_predictions.csv", index=False)
        config = {"corpus": "toy", "features": {name: "1"}, "untrained": [], "layers": "all", "norm": "none"}
        config |= {"protocol": "split", "target": "emotion", "classes": CLASSES, "select": {}, "seeds": [1, 2]}
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        (folder / "metrics.json").write_text(json.dumps(summarise(table, CLASSES)))
        return folder

    return make


def cells(out, name):
    """Return the cells of the line that begins with a name."""
    return re.split(r"\s{2,}", next(line for line in out.splitlines() if line.startswith(name)).rstrip())


def test_score_prints_and_keeps_what_metrics_json_holds(invoke, predictions, tmp_path):
    table = predictions()
    table.to_csv(tmp_path / "p.csv", index=False)
    code, out, err = invoke(
        "score", tmp_path / "p.csv", "--classes", ",".join(CLASSES), "--out", tmp_path / "new" / "m.json"
    )
    assert (code, err) == (0, "")
    metrics = json.loads((tmp_path / "new" / "m.json").read_text())
    assert metrics == summarise(table, CLASSES)
    for name, label in (("uar", "UAR (%)"), ("wa", "WA (%)"), ("macro_f1", "Macro-F1 (%)")):
        found = metrics[name]
        expected = [f"{found['mean']:.1f} ± {found['std']:.1f}"]
        expected += [f"{low:.1f}–{high:.1f}" for low, high in (found["ci95"], found["ci95_utterances"])]
        assert cells(out, label)[1:] == [*expected, f"{found['mean_over_folds']:.1f}"]
    recall = metrics["recall"]["[red]calm[/red]"]
    assert cells(out, "[red]calm")[1:] == [f"{recall['mean']:.1f} ± {recall['std']:.1f}", "32"]
    assert "utterances: 96, speakers: 24, folds: 1, seeds: 2; chance level: UAR 33.3" in out


def test_score_takes_columns_of_any_name(invoke, predictions, tmp_path):
    names = {"target": "truth", "prediction": "guess", "utterance_id": "file", "speaker_id": "actor", "seed": "run"}
    table = predictions()
    table.rename(columns=names | {"fold": "part"}).to_csv(tmp_path / "p.csv", index=False)
    options = [
        "--target",
        "truth",
        "--prediction",
        "guess",
        "--id",
        "file",
        "--speaker",
        "actor",
        "--seed",
        "run",
        "--fold",
        "part",
    ]
    code, _, err = invoke("score", tmp_path / "p.csv", *options, "--out", tmp_path / "m.json")
    assert (code, err) == (0, "")
    assert json.loads((tmp_path / "m.json").read_text())["uar"] == summarise(table, sorted(CLASSES))["uar"]


def test_score_of_dimensions(invoke, rng, tmp_path):
    target = rng.normal(size=(2, 60))
    table = pd.DataFrame({"utterance_id": range(60), "speaker_id": np.arange(60) % 20})
    for name, values in zip(("arousal", "valence"), target, strict=True):
        table = table.assign(**{f"target_{name}": values, f"prediction_{name}": values + rng.normal(size=60)})
    table.to_csv(tmp_path / "p.csv", index=False)
    code, out, err = invoke("score", tmp_path / "p.csv", "--out", tmp_path / "m.json")
    assert (code, err) == (0, "")
    metrics = json.loads((tmp_path / "m.json").read_text())
    expected = summarise_regression(table.assign(seed=0, fold=1), ["arousal", "valence"])
    assert metrics["ccc"]["mean"] == pytest.approx(expected["ccc"]["mean"])
    for name, label in (("ccc", "CCC "), ("ccc_valence", "CCC valence"), ("pearson_arousal", "Pearson arousal")):
        assert cells(out, label)[1] == f"{metrics[name]['mean']:.3f}"
    assert "Recall" not in out
    assert "chance level" not in out


@pytest.mark.parametrize(
    ("speakers", "told"),
    [
        (4, "warning: only 4 speakers: the intervals are rough"),
        (
            2,
            "warning: ONLY TWO SPEAKERS: an interval over speakers needs at least 3; intervals treat utterances as",
        ),
        (
            1,
            "warning: ONLY ONE SPEAKER: an interval over speakers needs at least 3; intervals treat utterances as",
        ),
    ],
)
def test_few_speakers_are_warned_of(invoke, predictions, tmp_path, speakers, told):
    predictions(speakers=speakers).to_csv(tmp_path / "p.csv", index=False)
    code, out, err = invoke("--quiet", "score", tmp_path / "p.csv")
    assert code == 0
    assert re.match(told, err)
    assert "95 % CI, speakers" in out
    assert (cells(out, "UAR")[2] == "-") == (speakers < 3)
    assert cells(out, "UAR")[3] != "-"
    none = " (none: at least 3 are needed)" if speakers < 3 else ""
    assert f"95 % CI: over {'speakers' if none else f'{speakers} speakers'}{none} and 2 seeds" in out


def test_compare_prints_and_keeps_every_pair(invoke, make_run, tmp_path):
    for name, rate in (("a", 0.9), ("b[red]", 0.5), ("c", 0.55)):
        make_run(name, rate)
    code, out, err = invoke("compare", "a", "b[red]", "c", "--out", tmp_path / "c.csv")
    assert (code, err) == (0, "")
    table = pd.read_csv(tmp_path / "c.csv")
    assert len(table) == 6
    assert {"first", "second", "difference", "ci95_low", "ci95_high", "p_speakers", "num_seeds_second"} <= set(table)
    first = table.iloc[0]
    assert first["difference"] == pytest.approx(first["first_mean"] - first["second_mean"])
    uar = table[table["score"] == "uar"]
    assert uar["p_speakers_holm"].tolist() == pytest.approx(holm(uar["p_speakers"].tolist()))
    wa = table[table["score"] == "wa"].iloc[0]
    assert out.splitlines()[1] == f"2  b[red]  UAR {first['second_mean']:.1f}, WA {wa['second_mean']:.1f}"
    assert cells(out, "1 − 2")[1:4] == [
        "UAR",
        f"{first['difference']:+.1f}",
        f"{first['ci95_low']:.1f}–{first['ci95_high']:.1f}",
    ]
    assert re.search(r"a scores [\d.]+ points higher in UAR than b\[red\]; significant at 5 %", out)
    assert re.search(r"in UAR than .*; not significant", out)
    assert "96 utterances; scores are means over seeds (number of seeds: 2)" in out
    assert "Holm-corrected for 3 pairs" in " ".join(out.split())


def test_compare_says_that_speakers_are_too_few(invoke, make_run):
    for name, rate in (("a", 0.9), ("b", 0.5)):
        make_run(name, rate, speakers=4)
    code, out, err = invoke("compare", "a", "b")
    assert code == 0
    assert "4 speakers are too few for a test over speakers" in out
    assert "only 4 speakers: the intervals are rough" in err
    assert "Holm" not in out


def test_compare_of_one_speaker_is_over_utterances(invoke, make_run):
    for name, rate in (("a", 0.9), ("b", 0.5)):
        make_run(name, rate, speakers=1)
    code, out, err = invoke("compare", "a", "b")
    assert code == 0
    assert err.startswith("warning: ONLY ONE SPEAKER: an interval over speakers needs at least 3")
    assert "95 % CI: confidence interval of the paired difference over 96 utterances and the seeds" in out
    assert "over utterances and the seeds); this says nothing about other speakers." in out


def test_compare_takes_what_a_pattern_finds_and_leaves_out_what_is_no_run(invoke, make_run, tmp_path):
    folders = [make_run(name) for name in "ab"]
    pipeline, file = folders[0].with_name("my-pipeline"), folders[0].with_name("results.csv")
    pipeline.mkdir()
    file.write_text("name,mean\n")
    code, out, err = invoke("compare", *sorted(folders[0].parent.iterdir()), "a", "--out", tmp_path / "new" / "c.csv")
    assert code == 0
    assert "1  a" in out
    assert "2  b" in out
    assert re.fullmatch(
        r"warning: left out: not a finished run: '.*my-pipeline', '.*results.csv'; given twice: 'a'\n", err
    )
    assert len(pd.read_csv(tmp_path / "new" / "c.csv")) == 2


def test_compare_tells_that_runs_were_trained_on_other_utterances(invoke, make_run):
    for name in "ab":
        folder = make_run(name)
    assert "differ in" not in invoke("compare", "a", "b")[1]
    config = yaml.safe_load((folder / "config.yaml").read_text())
    (folder / "config.yaml").write_text(yaml.safe_dump(config | {"protocol": "loso"}))
    code, out, _ = invoke("compare", "a", "b")
    assert code == 0
    assert "The runs differ in protocol: a split, b loso. They were tested on the same utterances but trained on" in out
    assert "differ in select" not in out


def test_one_seed_is_told_of(invoke, make_run, predictions, tmp_path):
    for name, rate in (("a", 0.9), ("b", 0.5)):
        folder = make_run(name, rate)
        one = pd.read_csv(folder / "predictions.csv").query("seed == 1")
        one.to_csv(folder / "predictions.csv", index=False)
    _, out, _ = invoke("compare", "a", "b")
    assert "With one seed, intervals and tests are valid for the heads of this seed" in " ".join(out.split())
    assert "With one seed of a and b, this is valid only for these trained heads." in out
    _, out, _ = invoke("score", folder / "predictions.csv")
    assert "95 % CI: over 24 speakers. With one seed, intervals and tests are valid for the heads of this seed" in out


def test_ensemble_prints_what_was_chosen_and_labels_the_best_on_test(invoke, make_run):
    for name in ("a", "b", "c", "d[red]"):
        make_run(name)
    code, out, err = invoke("ensemble", "a", "b", "c", "d[red]", "--size", "2,3", "--vote", "soft", "--name", "vote")
    assert (code, err) == (0, "")
    folder = Workspace.at().runs("toy") / "vote"
    table = pd.read_csv(folder / "combinations.csv")
    assert len(table) == 6 + 4
    metrics = json.loads((folder / "metrics.json").read_text())
    assert (
        f"selected by validation UAR: test UAR {metrics['uar']['mean']:.1f} ± {metrics['uar']['std']:.1f}, 95 % CI"
        in out
    )
    best = table["test_uar"].max()
    assert f"highest test UAR: {best:.1f} (" in out
    assert out.startswith("1  a\n2  b\n3  c\n4  d[red]\n")
    numbers = " + ".join(str("abcd".index(name[0]) + 1) for name in table["members"][0].split(" + "))
    assert cells(out, numbers)[1:4] == ["soft", f"{table['validation_uar'][0]:.1f}", f"{table['test_uar'][0]:.1f}"]
    assert out.endswith(f"\n{folder}\n")


def test_many_combinations_are_cut_on_the_terminal(invoke, make_run):
    for name in "abcde":
        make_run(name)
    _, out, _ = invoke("ensemble", *"abcde")
    assert "… and 12 more in combinations.csv" in out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ["score", "nowhere.csv"],
            r"nowhere.csv: not readable as a table \(No such file or directory\); expected a CSV",
        ),
        (["compare", "a"], "one run cannot be compared; name two or more different runs"),
        (["compare", "a", "a"], r"one run cannot be compared; name two or more different runs \(given twice: 'a'\)"),
        (["compare", "a", "{runs}/a"], "one run cannot be compared; name two or more different runs"),
        (["compare", "{runs}", "a"], r"one run cannot be compared; .* \(not a finished run: '.*toy'\)"),
        (["compare", "{runs}"], r"no finished run to compare; name two or more different runs \(not a"),
        (["compare", "a", "b", "--out", "t.tex"], r"--out t.tex: this command writes .csv files only; name one that"),
        (["score", "nowhere.csv", "--out", "t.csv"], r"--out t.csv: this command writes .json files only"),
        (["compare", "a", "x"], "no run 'x'"),
        (["ensemble", "a"], "one run cannot vote; expected two or more"),
        (["ensemble", "a", "b", "--vote", "loud"], "no vote 'loud'; available: hard, soft"),
    ],
)
def test_a_mistake_is_told_in_one_line(invoke, make_run, arguments, told):
    for name in "ab":
        make_run(name)
    runs = Workspace.at().runs("toy")
    code, out, err = invoke(*(argument.replace("{runs}", str(runs)) for argument in arguments))
    assert (code, out) == (1, "")
    assert re.fullmatch(f"error: {told}.*\n", err)


@pytest.mark.parametrize(
    "arguments",
    [["score"], ["compare"], ["ensemble"], ["ensemble", "a", "--size", "two"], ["score", "p.csv", "--task", "ranking"]],
)
def test_wrong_usage_ends_with_2(invoke, arguments):
    assert invoke(*arguments)[0] == 2


def test_runs_of_one_name_are_told_apart(invoke, make_run, tmp_path):
    moved = make_run("same", 0.9).rename(tmp_path / "same")
    other = make_run("same", 0.5)
    code, out, _ = invoke("compare", moved, other)
    assert code == 0
    assert f"{tmp_path.name}/same scores " in out
