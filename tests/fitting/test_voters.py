"""Ensembles of prediction tables from any source, alone and with runs."""

import json

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy.stats import mode
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from featcache.cli.listing import print_runs
from featcache.cli.scores import print_ensemble
from featcache.errors import FeatcacheError, PredictionsError
from featcache.evaluate.metrics import summarise
from featcache.fitting.ensemble import ensemble
from featcache.runs.reader import RunFolder
from featcache.runs.validation import validation_scores
from featcache.workspace import Workspace

CLASSES = ["anger", "fear", "joy"]

pytestmark = pytest.mark.usefixtures("quick_reports")


def rows(rng, skill=1.0, *, seeds=(0,), prefix="u"):
    """Make predictions of 30 utterances of five speakers, each in one of two folds, with probabilities."""
    tables = []
    for seed in seeds:
        number = np.arange(30)
        logits = rng.normal(size=(30, 3)) + skill * np.eye(3)[number % 3]
        p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        tables.append(
            pd.DataFrame(
                {
                    "seed": seed,
                    "fold": number % 2 + 1,
                    "utterance_id": [f"{prefix}{i:02}" for i in number],
                    "speaker_id": [f"s{i % 5}" for i in number],
                    "target": np.array(CLASSES)[number % 3],
                    "prediction": np.array(CLASSES)[p.argmax(axis=1)],
                    **{f"p_{label}": p[:, i] for i, label in enumerate(CLASSES)},
                }
            )
        )
    return pd.concat(tables, ignore_index=True)


BARE = ["utterance_id", "target", "prediction"]


@pytest.fixture
def make_table(rng, tmp_path):
    """Return ``make_table(name)``: a table of another program; by default without seeds, folds and probabilities."""

    def make(name, *, columns=BARE, change=lambda table: table, validation=False, seeds=(0,)):
        path = tmp_path / f"{name}.csv"
        change(rows(rng, seeds=seeds))[columns].sample(frac=1, random_state=1).to_csv(path, index=False)
        if validation:
            rows(rng, seeds=seeds, prefix="v")[columns].to_csv(tmp_path / f"validation_{name}.csv", index=False)
        return str(path)

    return make


@pytest.fixture
def make_run(rng):
    """Return ``make_run(name)``: a run with two seeds."""

    def make(name, **changes):
        folder = Workspace.at().runs("toy") / name
        folder.mkdir(parents=True)
        test = rows(rng, seeds=(1, 2))
        test.to_csv(folder / "predictions.csv", index=False)
        rows(rng, seeds=(1, 2), prefix="v").to_csv(folder / "validation_predictions.csv", index=False)
        config = {"corpus": "toy", "features": {name: "1234"}, "untrained": [], "layers": "all", "head": "dense"}
        config |= {"norm": "speaker", "protocol": "loso", "target": "emotion", "select": {}, "classes": CLASSES}
        (folder / "config.yaml").write_text(yaml.safe_dump({**config, "seeds": [1, 2], **changes}))
        (folder / "metrics.json").write_text(json.dumps(summarise(test, CLASSES)))
        return name

    return make


def test_three_tables_of_labels_vote_as_their_mode(make_table, capsys):
    paths = [make_table(name) for name in "abc"]
    run = ensemble(runs=paths)
    tables = [pd.read_csv(path).set_index("utterance_id").sort_index() for path in paths]
    codes = np.array([[CLASSES.index(label) for label in table["prediction"]] for table in tables])
    expected = np.array(CLASSES)[mode(codes).mode]  # the smallest of several modes: the class that is listed first
    found = run.predictions.set_index("utterance_id").sort_index()
    assert found["prediction"].tolist() == expected.tolist()
    target = tables[0]["target"]
    assert run.metrics["uar"]["mean"] == pytest.approx(100 * balanced_accuracy_score(target, expected))
    assert run.metrics["wa"]["mean"] == pytest.approx(100 * accuracy_score(target, expected))
    assert run.path.parent == Workspace.at().runs("predictions")
    assert (run.config["members"], run.config["vote"], run.config["tables"]) == (
        ["a.csv", "b.csv", "c.csv"],
        "hard",
        run.config["members"],
    )
    assert "chosen_on" not in run.config
    assert validation_scores(run) == {}
    print_ensemble(run)
    print_runs([run])
    out = capsys.readouterr().out
    assert "all candidates vote, so no combination was chosen" in out
    assert "hard vote of a.csv, b.csv, c.csv; ties go to the class that is listed first" in out
    assert "Validation" not in out
    report = (run.path / "report.html").read_text(encoding="utf-8")
    assert "predictions from another source, whose training data are unknown" in report


def test_a_table_with_one_seed_votes_in_every_seed_and_fold_of_a_run(make_table, make_run):
    run = RunFolder(Workspace.at().runs("toy") / make_run("mine"))
    paths = [make_table(name) for name in "ab"]
    vote = ensemble(runs=["mine", *paths], votes=["hard"], corpus="toy")
    assert vote.path.parent == run.path.parent
    found = vote.predictions
    keys = ["seed", "fold", "utterance_id", "speaker_id", "target"]
    expected = run.predictions.sort_values(keys[:3]).reset_index(drop=True)
    pd.testing.assert_frame_equal(found[keys], expected[keys])
    given = [pd.read_csv(path).set_index("utterance_id")["prediction"] for path in paths]
    for row, own in zip(found.itertuples(), expected.itertuples(), strict=True):
        said = [own.prediction, *(table[row.utterance_id] for table in given)]
        first = [getattr(own, f"p_{label}") for label in CLASSES]  # only the run has probabilities
        wanted = max(range(3), key=lambda c: (said.count(CLASSES[c]), first[c], -c))
        assert row.prediction == CLASSES[wanted]
    assert vote.config["without_probabilities"] == ["a.csv", "b.csv"]
    assert (vote.config["norm"], vote.config["protocol"]) == ("mixed", "loso")
    assert "summed over the members that have probabilities" in (vote.path / "report.html").read_text(encoding="utf-8")


def test_tables_with_validation_predictions_can_be_chosen(make_table, make_run):
    columns = [*BARE, *(f"p_{label}" for label in CLASSES)]
    make_run("mine")
    paths = [make_table(name, columns=columns, validation=True) for name in "abc"]
    vote = ensemble(runs=["mine", *paths])
    combinations = pd.read_csv(vote.path / "combinations.csv")
    assert len(combinations) == 4 * 2  # three of four candidates, hard and soft
    assert combinations["validation_uar"].round(9).is_monotonic_decreasing
    assert vote.metrics["validation"]["uar"]["mean"] == pytest.approx(combinations["validation_uar"][0])
    assert ensemble(runs=["mine", *paths]).path == vote.path
    (path,) = (path for path in paths if path.endswith("b.csv"))
    table = pd.read_csv(path)
    table.assign(prediction=table["prediction"][::-1].to_numpy()).to_csv(path, index=False)
    assert ensemble(runs=["mine", *paths]).path != vote.path


def test_soft_votes_are_means_of_probabilities_of_all_sources(make_table, make_run):
    columns = [*BARE, "seed", "fold", "speaker_id", *(f"p_{label}" for label in CLASSES)]
    run = RunFolder(Workspace.at().runs("toy") / make_run("mine"))
    path = make_table("a", columns=columns, seeds=(2, 1))
    vote = ensemble(runs=[path, "mine"], votes=["soft"])
    keys = ["seed", "utterance_id"]
    names = [f"p_{label}" for label in CLASSES]
    tables = [table.set_index(keys)[names].sort_index() for table in (run.predictions, pd.read_csv(path))]
    found = vote.predictions.set_index(keys)[names].sort_index()
    # Sums are rounded to nine digits, and files keep all digits.
    np.testing.assert_allclose(found, (tables[0] + tables[1]) / 2, atol=1e-8)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"votes": ["soft"]}, r"a\.csv has no probabilities p_CLASS, so it cannot vote softly; use --vote hard"),
        ({"sizes": [2]}, r"a\.csv has no validation predictions, so no combination can be chosen; use --size 3 and a"),
        ({"runs": ["mine", "other"], "votes": ["hard", "soft"]}, None),
        ({"runs": ["mine", "missing.csv"]}, r"missing\.csv: no such file; expected a run, or a table of predictions"),
        ({"corpus": "../x"}, "corpus name '../x': .*; choose another with --corpus"),
    ],
)
def test_what_a_table_lacks_is_told_in_one_line(make_table, make_run, options, told):
    for name in ("mine", "other"):
        make_run(name)
    runs = ["mine", make_table("a"), make_table("b")]
    if told is None:
        assert ensemble(**{"runs": runs, **options}).config["vote"] in ("hard", "soft")
        return
    with pytest.raises(FeatcacheError, match=told) as error:
        ensemble(**{"runs": runs, **options})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "columns", "told"),
    [
        (
            lambda t: t[t["utterance_id"] != "u03"],
            BARE,
            r"b\.csv and mine have different utterances: .* has 'u03'; only",
        ),
        (lambda t: t.assign(target="joy"), BARE, r"b\.csv and mine have different targets for 'u00', 'u04'"),
        (lambda t: t.assign(prediction="rage"), BARE, r"b\.csv.*(unknown prediction 'rage'|share no class)"),
        (
            lambda t: t.drop(columns="target"),
            BARE[::2],
            r"b\.csv: no column 'target'; there are: utterance_id, prediction$",
        ),
        (lambda t: t, [*BARE, "p_joy"], r"b\.csv has no probabilities 'p_anger', 'p_fear'; add them, or remove"),
        (
            lambda t: t.assign(p_anger="x"),
            [*BARE, "p_anger", "p_fear", "p_joy"],
            r"b\.csv has probabilities .* not finite",
        ),
        (
            lambda t: pd.concat([t, t.assign(seed=7)]),
            [*BARE, "seed"],
            r"b\.csv and mine have different seeds: 0, 7 and 1, 2;",
        ),
        (
            lambda t: pd.concat([t, t.assign(fold=t["fold"] + 1)]),
            [*BARE, "fold"],
            r"different folds, and b\.csv predicts ",
        ),
        (
            lambda t: t.assign(target_x=1.0, prediction_x=1.0),
            ["utterance_id", "target_x", "prediction_x"],
            r"b\.csv is a regression; only predictions of classes can vote",
        ),
    ],
)
def test_tables_that_do_not_match_are_told_in_one_line(make_table, make_run, change, columns, told):
    make_run("mine")
    path = make_table("b", change=change, columns=columns)
    with pytest.raises(PredictionsError, match=told) as error:
        ensemble(runs=["mine", path], votes=["hard"])
    assert "\n" not in str(error.value)
