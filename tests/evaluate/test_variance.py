"""Variance components against textbook tests, plain loops and simulations."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats

from featcache.evaluate.variance import Effects, estimate, influence, ratio_bounds

ROUNDING = 1e-9
DERIVATIVE = 1e-6  # a central difference with steps of 1e-3


def effects(values):
    """Return the effects of units if the score is the mean of their values, (num_units, num_seeds)."""
    values = np.asarray(values, float)
    return Effects(scores=values.mean(axis=0), influence=(values - values.mean(axis=0)) / len(values))


def test_influence_is_the_derivative_of_the_score(rng):
    # The score is a ratio of sums, so the influence of unit i is (x_i - r y_i) / sum of y.
    units = rng.uniform(1, 5, (7, 3, 2))
    totals = units.sum(axis=0)
    found = influence(totals, units, lambda sums: (sums[..., 0] / sums[..., 1])[..., np.newaxis])[..., 0]
    ratio = totals[:, 0] / totals[:, 1]
    np.testing.assert_allclose(found, (units[..., 0] - ratio * units[..., 1]) / totals[:, 1], atol=DERIVATIVE)
    np.testing.assert_allclose(found.sum(axis=0), 0, atol=DERIVATIVE)


def test_one_seed_is_the_t_interval_over_units(rng):
    values = rng.normal(50, 10, (12, 1))
    found = estimate([effects(values)], [1])
    low, high = stats.t.interval(0.95, 11, loc=values.mean(), scale=stats.sem(values[:, 0]))
    np.testing.assert_allclose(found.plain_bounds((0, 100)), [low, high], rtol=ROUNDING)


def test_a_difference_of_one_seed_each_is_the_paired_t_test(rng):
    first, second = rng.normal(50, 10, (2, 12, 1))
    found = estimate([effects(first), effects(second)], [1, -1])
    assert found.p == pytest.approx(stats.ttest_rel(first[:, 0], second[:, 0]).pvalue)


def test_without_spread_over_units_it_is_the_test_of_welch(rng):
    first, second = rng.normal(50, 1, 5), rng.normal(52, 3, 4)
    runs = [effects(np.tile(scores, (9, 1))) for scores in (first, second)]
    found = estimate(runs, [1, -1])
    expected = stats.ttest_ind(first, second, equal_var=False)
    assert found.p == pytest.approx(expected.pvalue)
    assert found.freedom == pytest.approx(expected.df)


def test_the_parts_are_the_mean_squares_of_a_two_way_analysis_of_variance(rng):
    num_units, num_seeds = 6, 4
    values = rng.normal(size=(num_units, num_seeds)) + 3 * rng.normal(size=(num_units, 1)) + rng.normal(size=num_seeds)
    grand = values.mean()
    units = num_seeds * sum((row.mean() - grand) ** 2 for row in values) / (num_units - 1)
    seeds = num_units * sum((column.mean() - grand) ** 2 for column in values.T) / (num_seeds - 1)
    left = sum(
        (values[i, k] - values[i].mean() - values[:, k].mean() + grand) ** 2
        for i in range(num_units)
        for k in range(num_seeds)
    ) / ((num_units - 1) * (num_seeds - 1))
    assert seeds > left
    found = estimate([effects(values)], [1])
    assert found.variance == pytest.approx((units + seeds - left) / (num_units * num_seeds))
    parts = units**2 / 5 + seeds**2 / 3 + left**2 / 15
    assert found.freedom == pytest.approx((units + seeds - left) ** 2 / parts)


def test_the_variance_is_that_of_other_units_and_other_seeds(rng):
    # 4000 means of 12 units and 5 seeds. The sample variance of 4000 normal values has a std of 2 %, and the mean of
    # the estimates has a smaller one.
    number, num_units, num_seeds = 4000, 12, 5
    values = 2 * rng.normal(size=(number, num_units, 1)) + rng.normal(size=(number, 1, num_seeds))
    values = values + 1.5 * rng.normal(size=(number, num_units, num_seeds))
    scores = values.mean(axis=1)
    runs = Effects(scores=scores, influence=(values - scores[:, np.newaxis]) / num_units)
    found = estimate([runs], [1])
    expected = 4 / num_units + 1 / num_seeds + 2.25 / (num_units * num_seeds)
    assert found.value.var() == pytest.approx(expected, rel=0.08)
    assert found.variance.mean() == pytest.approx(expected, rel=0.05)


tables = st.integers(3, 8).flatmap(
    lambda units: st.lists(
        st.lists(st.integers(0, 6), min_size=units, max_size=units).map(np.array), min_size=1, max_size=4
    ).map(lambda columns: np.stack(columns, axis=1).astype(float))
)


@given(tables, st.integers(0, 2**32 - 1))
def test_p_is_below_the_level_where_the_interval_leaves_out_0(values, seed):
    other = np.random.default_rng(seed).normal(3, 2, (len(values), 3))
    found = estimate([effects(values), effects(other)], [1, -1])
    low, high = found.plain_bounds((-100, 100))
    assert (found.p < 0.05) == (not low <= 0 <= high)
    gain = ratio_bounds([effects(values), effects(other)])
    if not np.isnan(gain).any():
        assert (found.p < 0.05) == (not gain[0] <= 1 + ROUNDING or not gain[1] >= 1 - ROUNDING)
    assert found.freedom >= min(len(values), values.shape[1], 3) - 1 or values.shape[1] == 1


@given(tables)
def test_bounds_stay_on_the_scale_and_hold_the_value(values):
    found = estimate([effects(values)], [1])
    for scale in ((0.0, 6.0), (-1.0, 6.0), (0.0, np.inf)):
        low, high = found.bounds(scale)
        assert scale[0] <= low <= found.value + ROUNDING
        assert found.value - ROUNDING <= high <= scale[1]


def test_bounds_between_minus_1_and_1_are_those_of_fishers_z(rng):
    found = estimate([effects(rng.uniform(0.2, 0.9, (9, 4)))], [1])
    width = found.margin / (1 - found.value**2)
    expected = np.tanh(np.arctanh(found.value) + width * np.array([-1, 1]))
    np.testing.assert_allclose(found.bounds((-1, 1)), expected, rtol=ROUNDING)


def test_bounds_of_what_has_no_upper_end_are_of_the_logarithm(rng):
    found = estimate([effects(rng.uniform(0.2, 0.9, (9, 4)))], [1])
    factor = np.exp(found.margin / found.value)
    np.testing.assert_allclose(found.bounds((0, np.inf)), [found.value / factor, found.value * factor], rtol=ROUNDING)


def test_no_spread_is_no_interval_around():
    found = estimate([effects(np.full((5, 3), 100.0))], [1])
    assert found.bounds((0, 100)).tolist() == [100, 100]
    same = estimate([effects(np.ones((5, 1))), effects(np.ones((5, 1)))], [1, -1])
    assert (same.p, same.plain_bounds((0, 1)).tolist()) == (1, [0, 0])


def test_the_ratio_is_bounded_where_the_difference_from_it_is_just_significant(rng):
    first, second = effects(rng.normal(8, 2, (10, 5))), effects(rng.normal(5, 2, (10, 4)))
    quantile = estimate([first, second], [1, -1]).quantile

    def beyond(ratio):
        found = estimate([first, second], [1, -ratio])
        return abs(found.value) - quantile * np.sqrt(found.variance)

    value = first.scores.mean() / second.scores.mean()
    expected = [optimize.brentq(beyond, 0.1, value), optimize.brentq(beyond, value, 10)]
    np.testing.assert_allclose(ratio_bounds([first, second]), expected, rtol=1e-6)


def test_a_ratio_to_what_may_be_0_has_no_bounds(rng):
    first, second = effects(rng.normal(8, 2, (10, 5))), effects(rng.normal(0.1, 2, (10, 5)))
    assert np.isnan(ratio_bounds([first, second])).all()


def test_little_more_spread_of_seeds_than_chance_does_not_blow_up_the_interval():
    # The variance over seeds is only slightly larger than the variance from units, so the difference is tiny.
    rng = np.random.default_rng(3)
    for _ in range(200):
        found = estimate([effects(rng.normal(size=(10, 3)))] * 2, [1, -1])
        assert found.freedom >= 2
