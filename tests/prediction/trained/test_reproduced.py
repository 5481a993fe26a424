"""Predicting the test utterances of a run's own corpus gives the numbers of predictions.csv."""

import numpy as np
import pytest

from featcache.evaluate.scores import SCORES  # noqa: F401
from featcache.fitting.ensemble import ensemble

pytestmark = pytest.mark.usefixtures("quick_reports")

# predictions.csv has six digits of probabilities and seven of values; features and heads are float32.
PREDICTED = 1e-5


def outputs_of(run):
    if run.config["task"] == "classification":
        return [f"p_{name}" for name in run.config["classes"]], [f"p_{name}" for name in run.config["classes"]]
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
    {"head": "svm", "norm": "global", "features": ["egemaps-functionals"], "target": "arousal,valence"},
    {"head": "dense", "norm": "global", "features": ["text"]},
    {"head": "dense", "norm": "speaker", "features": ["chunks"], "max_frames": 0},
    {"head": "linear", "norm": "speaker", "features": ["pooled"]},
]


def one_fit(options):
    return {"features": ["ssl"], **options, **({"seeds": 1} if options["head"] == "svm" else {})}


@pytest.mark.parametrize("options", RUNS, ids=lambda options: "-".join(map(str, options.values())))
def test_test_utterances_get_the_numbers_of_predictions_csv(place, options):
    run = place.fit(**one_fit(options))
    found = place.predict(run)
    assert not found.failures
    check_reproduced(run, found.table)
