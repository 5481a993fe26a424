"""CCC, Pearson correlation and RMSE against scipy, scikit-learn and examples by hand, and undefined scores."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import root_mean_squared_error

from featcache.errors import PredictionsError
from featcache.evaluate.regression import summarise_regression

# Rounding of float64 moments of values up to 1e3; a correlation of almost constant values loses digits.
ROUNDING = 1e-6

values = st.floats(-1000, 1000).map(lambda value: round(value, 3))
pairs = st.lists(st.tuples(values, values), min_size=2, max_size=20)


def table(target, prediction, *, seed=0, fold=1, name="v"):
    ids = [f"u{i:03}" for i in range(len(target))]
    columns = {f"target_{name}": target, f"prediction_{name}": prediction}
    return pd.DataFrame({"seed": seed, "fold": fold, "utterance_id": ids, "speaker_id": "", **columns})


def plain_ccc(target, prediction):
    """Compute CCC by the definition of Lin 1989."""
    x, y = np.asarray(target, float), np.asarray(prediction, float)
    return 2 * np.mean((x - x.mean()) * (y - y.mean())) / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)


@pytest.fixture
def predictions(rng):
    """Make predictions of three seeds, two folds, six speakers, and two dimensions with different scales."""
    tables = []
    ids = [f"u{i:02}" for i in range(60)]
    targets = {"arousal": rng.normal(3, 1, 60), "valence": rng.normal(-200, 30, 60)}
    for seed in (5, 1, 3):
        noise = {name: target + rng.normal(0, target.std(), 60) for name, target in targets.items()}
        columns = {f"target_{name}": target for name, target in targets.items()}
        columns |= {f"prediction_{name}": prediction for name, prediction in noise.items()}
        speakers = [f"s{i % 6}" for i in range(60)]
        common = {"seed": seed, "fold": np.arange(60) % 6 // 3, "utterance_id": ids, "speaker_id": speakers}
        tables.append(pd.DataFrame(common | columns))
    return pd.concat(tables, ignore_index=True)


@given(pairs)
def test_scores_equal_scipy_and_scikit_learn(rows):
    target, prediction = np.transpose(rows)
    found = summarise_regression(table(target, prediction), ["v"])
    assert found["rmse"]["mean"] == pytest.approx(root_mean_squared_error(target, prediction), abs=ROUNDING)
    if np.ptp(target) == np.ptp(prediction) == 0:
        assert found["pearson"]["mean"] is None
        assert found["ccc"]["mean"] is None
        return
    assert found["ccc"]["mean"] == pytest.approx(plain_ccc(target, prediction), abs=ROUNDING)
    assert -1 <= found["ccc"]["mean"] <= 1
    if np.ptp(target) > 0.01 and np.ptp(prediction) > 0.01:
        assert found["pearson"]["mean"] == pytest.approx(stats.pearsonr(target, prediction).statistic, abs=ROUNDING)


def test_a_hand_made_example():
    # The means are 2 and 3, the variances 2/3 and 8/3, the covariance 4/3: CCC = (8/3) / (10/3 + 1) = 8/13.
    found = summarise_regression(table([1, 2, 3], [1, 3, 5]), ["v"])
    assert found["ccc"]["mean"] == pytest.approx(8 / 13)
    assert found["pearson"]["mean"] == pytest.approx(1)
    assert found["rmse"]["mean"] == pytest.approx(np.sqrt(5 / 3))


@pytest.mark.parametrize("offset", [0, 1e6])
def test_values_far_from_zero_lose_no_digits(rng, offset):
    target = rng.normal(size=50)
    prediction = target + rng.normal(size=50)
    found = summarise_regression(table(target + offset, prediction + offset), ["v"])
    assert found["ccc"]["mean"] == pytest.approx(plain_ccc(target, prediction), abs=1e-8)  # 1e6 uses six of 16 digits


def test_dimensions_are_scored_alone_and_averaged(predictions):
    found = summarise_regression(predictions, ["arousal", "valence"])
    first = predictions[predictions["seed"] == 1]
    for name in ("arousal", "valence"):
        assert found[f"ccc_{name}"]["per_seed"][0] == pytest.approx(
            plain_ccc(first[f"target_{name}"], first[f"prediction_{name}"])
        )
    for score in ("ccc", "rmse", "pearson"):
        of_dimensions = [found[f"{score}_{name}"]["per_seed"] for name in ("arousal", "valence")]
        assert found[score]["per_seed"] == pytest.approx(np.mean(of_dimensions, axis=0))
        assert found[score]["std"] == pytest.approx(np.std(found[score]["per_seed"], ddof=1))
        low, high = found[score]["ci95"]
        assert low < found[score]["mean"] < high
    assert found["dimensions"] == ["arousal", "valence"]
    assert (found["num_seeds"], found["num_folds"], found["num_utterances"], found["num_speakers"]) == (3, 2, 60, 6)
    assert found["bootstrap"] == {"unit": "speakers", "count": 6}


def test_mean_over_folds_equals_a_plain_loop(predictions):
    expected = np.mean(
        [
            plain_ccc(rows["target_arousal"], rows["prediction_arousal"])
            for _, rows in predictions.groupby(["seed", "fold"])
        ]
    )
    assert summarise_regression(predictions, ["arousal"])["ccc"]["mean_over_folds"] == pytest.approx(expected)


def test_intervals_over_utterances_equal_scipy(predictions):
    one = predictions[predictions["seed"] == 1]
    expected = stats.bootstrap(
        (one["target_arousal"].to_numpy(), one["prediction_arousal"].to_numpy()),
        plain_ccc,
        paired=True,
        vectorized=False,
        method="percentile",
        n_resamples=2000,
        random_state=np.random.default_rng(0),
    ).confidence_interval
    found = summarise_regression(one, ["arousal"])["ccc"]["ci95_utterances"]
    # The bounds of a bootstrap with 2000 resamples vary by 6 % of the half-width; for 60 utterances, t is 2 % wider.
    np.testing.assert_allclose(found, expected, atol=0.2 * (expected.high - expected.low) / 2)


def test_a_summary_survives_json_even_without_scores(predictions):
    constant = predictions.assign(target_arousal=0.1, prediction_arousal=0.1)
    found = summarise_regression(constant, ["arousal", "valence"])
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["ccc_arousal"]["mean"] is None
    assert found["ccc_arousal"]["ci95"] is None
    assert found["ccc_arousal"]["mean_over_folds"] is None
    assert found["ccc"]["mean"] is None
    assert found["ccc_valence"]["mean"] is not None
    assert found["rmse_arousal"]["mean"] == 0


def test_a_missing_dimension_is_told(predictions):
    with pytest.raises(PredictionsError, match="no column 'target_dominance', 'prediction_dominance'; there are: seed"):
        summarise_regression(predictions, ["dominance"])
