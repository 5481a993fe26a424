"""Predicting the test utterances of a run's own corpus gives the numbers of predictions.csv."""

import numpy as np
import pandas as pd
import pytest

from featcache.evaluate.scores import SCORES  # noqa: F401
from featcache.fitting.ensemble import ensemble
from featcache.heads import SOLVERS

pytestmark = pytest.mark.usefixtures("quick_reports")

# predictions.csv has six digits of probabilities and seven of values; features and heads are float32.
PREDICTED = 1e-5
# docs/explanation/exactness.md: a value between two rounded values may be rounded in the other direction; bfloat16 has
# 8 bits.
ROUNDED_STORES, FEWER_BITS = 1e-3, 0.02


def outputs_of(run):
    if run.config["task"] != "regression":
        columns = [f"p_{name}" for name in run.config.get("classes") or run.config["label_names"]]
        return columns, columns
    names = list(run.config["label_ranges"])
    return names, [f"prediction_{name}" for name in names]


def check_reproduced(run, table, tolerance=PREDICTED):
    """Compare mean and standard deviation over seeds with those of the rows of predictions.csv."""
    columns, recorded = outputs_of(run)
    grouped = run.predictions.groupby("utterance_id")[recorded]
    table = table.set_index("utterance_id")
    assert set(table.index) == set(run.predictions["utterance_id"])
    expected, std = grouped.mean().loc[table.index], grouped.std(ddof=1).loc[table.index]
    np.testing.assert_allclose(table[columns].to_numpy(), expected.to_numpy(), rtol=tolerance, atol=tolerance)
    names = [f"std_{name.removeprefix('p_')}" for name in columns]
    np.testing.assert_allclose(table[names].to_numpy(), std.to_numpy(), rtol=tolerance, atol=tolerance)
    if run.config["task"] == "classification":
        best = [run.config["classes"][i] for i in expected.to_numpy().argmax(axis=1)]
        assert list(table["prediction"]) == best
    if run.config["task"] == "multilabel":
        check_decided(run, table)


def check_decided(run, table):
    """Check that a label is predicted if the mean probability of its heads reaches their mean threshold."""
    fold_of = run.predictions.drop_duplicates("utterance_id").set_index("utterance_id")["fold"].loc[table.index]
    for i, name in enumerate(run.config["label_names"]):
        means = {
            fold: np.mean([float(run.head(seed=seed, fold=fold).thresholds[i]) for seed in run.config["seeds"]])
            for fold in set(fold_of)
        }
        margin = table[f"p_{name}"] - fold_of.map(means)
        clear = margin.abs() > PREDICTED
        assert ((margin >= 0) == table[f"prediction_{name}"])[clear].all()
        assert set(table[f"prediction_{name}"]) <= {0, 1}


RUNS = [
    {"head": "dense", "norm": "speaker"},
    {"head": "dense", "norm": "global", "max_frames": 5},
    {"head": "dense", "norm": "none", "target": "arousal,valence"},
    {"head": "dense", "norm": "speaker", "norm_by": "half", "layers": "0,2", "scalar_norm": True},
    {"head": "lstm", "norm": "global", "target": "arousal,valence", "max_frames": 7},
    {"head": "linear", "norm": "speaker"},
    {"head": "ffn", "norm": "global", "layers": "last"},
    {"head": "ffn", "norm": "speaker", "features": ["text", "ssl"]},
    {"head": "fusion", "norm": "speaker", "features": ["ssl", "egemaps"]},
    {"head": "fusion", "norm": "global", "features": ["ssl", "text"], "target": "arousal"},
    {"head": "fusion", "norm": "speaker", "features": ["ssl", "egemaps-functionals"], "pooling": "mean"},
    {"head": "svm", "norm": "speaker", "layers": "last"},
    {"head": "logistic", "norm": "global", "layers": "last"},
    {"head": "svm", "norm": "global", "features": ["egemaps-functionals"], "target": "arousal,valence"},
    {"head": "dense", "norm": "global", "features": ["text"]},
    {"head": "dense", "norm": "speaker", "features": ["chunks"], "max_frames": 0},
    {"head": "linear", "norm": "speaker", "features": ["pooled"]},
    {"head": "dense", "norm": "global", "task": "multilabel"},
]


def one_fit(options):
    return {"features": ["ssl"], **options, **({"seeds": 1} if options["head"] in SOLVERS else {})}


@pytest.mark.parametrize("options", RUNS, ids=lambda options: "-".join(map(str, options.values())))
def test_test_utterances_get_the_numbers_of_predictions_csv(place, options):
    run = place.fit(**one_fit(options))
    found = place.predict(run)
    assert not found.failures
    check_reproduced(run, found.table)


@pytest.mark.parametrize("store", ["half", "bytes"])
def test_rounded_stores_give_the_documented_tolerance(place, store):
    run = place.fit(head="dense", norm="speaker", features=[store])
    check_reproduced(run, place.predict(run).table, ROUNDED_STORES)


@pytest.mark.parametrize("memory", ["bfloat16", "int8", "float16"])
def test_so_do_fits_in_fewer_bits(place, memory):
    run = place.fit(head="dense", norm="global", features=["ssl"], memory=memory, name=f"in-{memory}")
    assert run.config["computed_with"]["working_copy"] == memory
    check_reproduced(run, place.predict(run).table, FEWER_BITS)


@pytest.mark.parametrize("norm", ["speaker", "global"])
def test_features_in_the_cache_of_the_corpus_are_read_and_not_extracted(place, norm, monkeypatch):
    from featcache.prediction import predictor as of_predictor

    monkeypatch.delattr(of_predictor, "TemporaryFeatures")  # fails if anything is extracted
    run = place.fit(head="fusion", norm=norm, features=["ssl", "text"])
    found = place.predict(run, place.request(corpus="toy", cache=place.cache))
    check_reproduced(run, found.table)


def test_small_parts_give_the_same_numbers_and_leave_nothing(place, monkeypatch, tmp_path):
    from featcache.prediction import predictor as of_predictor

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    run = place.fit(head="dense", norm="global", features=["ssl"], max_frames=5)
    whole = place.predict(run).table
    monkeypatch.setattr(of_predictor, "PART_UTTERANCES", 5)
    pd.testing.assert_frame_equal(place.predict(run, workers=3).table, whole)
    assert list(tmp_path.iterdir()) == []


def fit_three(place):
    heads = ({"head": "dense"}, {"head": "linear"}, {"head": "dense", "layers": "last"})
    return [place.fit(norm="global", features=["ssl"], max_frames=5, **options) for options in heads]


@pytest.mark.parametrize("vote", ["soft", "hard"])
def test_ensembles_vote_as_in_their_predictions(place, vote):
    names = [run.name for run in fit_three(place)]
    combined = ensemble(runs=names, sizes=[3], votes=[vote], name=f"three-{vote}", home=place.workspace.home)
    table = place.predict(combined).table.set_index("utterance_id")
    columns = [f"p_{name}" for name in combined.metrics["confusion"]["classes"]]
    expected = combined.predictions.groupby("utterance_id")[columns].mean().loc[table.index]
    np.testing.assert_allclose(table[columns], expected, atol=PREDICTED)


def test_the_vote_of_one_head_each_is_the_recorded_prediction(place):
    """With a single seed, each utterance has one vote, so that its class is that of predictions.csv, ties included."""
    heads = ({"head": "dense"}, {"head": "linear"})
    runs = [place.fit(norm="global", features=["ssl"], max_frames=5, seeds=(3,), **options) for options in heads]
    names = [run.name for run in runs]
    combined = ensemble(runs=names, sizes=[2], votes=["hard"], name="two", home=place.workspace.home)
    table = place.predict(combined).table.set_index("utterance_id")
    recorded = combined.predictions.set_index("utterance_id")["prediction"]
    assert dict(table["prediction"]) == dict(recorded)
