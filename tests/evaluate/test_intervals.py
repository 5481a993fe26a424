"""Bootstrap intervals against scipy, a plain loop and simulation, and what they must tell apart."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse, stats

from featcache.evaluate.intervals import COVERAGE, ENOUGH_SPEAKERS, bootstrap, caution, expanded_tail
from tests.evaluate.coverage import NUMBERS, coverage

# As a share of the interval's half-width, 1.96 σ: each end, a 2.5 % point of 2000 draws, scatters by
# sqrt(.025 · .975 / 2000) / φ(1.96) = 0.06 σ, so the ends of two independent bootstraps
# differ by 4 %; five times that.
MONTE_CARLO = 0.2
ROUNDING = 1e-12  # the same few numbers in another order


def ratio(sums):
    return (sums[:, 0] / sums[:, 1])[:, np.newaxis]


def rights(right):
    """What utterances that are right (1) or wrong (0) add to the number of right ones and of all."""
    return np.stack([right, np.ones(len(right))], axis=1).astype(float)


def half_width(bounds):
    return (bounds[1] - bounds[0]) / 2


@pytest.fixture
def eight_speakers(rng):
    """Whether each of 300 utterances is right, and who says it: speakers differ."""
    speakers = rng.choice(list("abcdefgh"), 300)
    rate = dict(zip("abcdefgh", np.linspace(0.3, 0.9, 8), strict=True))
    return (rng.random(300) < [rate[speaker] for speaker in speakers]).astype(float), speakers


def test_speakers_equal_scipy(eight_speakers):
    right, speakers = eight_speakers
    of_speakers = np.array([[right[speakers == s].sum(), (speakers == s).sum()] for s in "abcdefgh"])

    def share(chosen, axis):
        summed = of_speakers[chosen].sum(axis=-2)
        return summed[..., 0] / summed[..., 1]

    tail = stats.norm.cdf(np.sqrt(8 / 7) * stats.t(7).ppf(0.025))
    expected = stats.bootstrap(
        (np.arange(8),),
        share,
        axis=-1,
        vectorized=True,
        n_resamples=20000,
        confidence_level=1 - 2 * tail,
        method="percentile",
        random_state=np.random.default_rng(1),
    ).confidence_interval
    intervals = bootstrap(rights(right), ratio, speaker_ids=speakers)
    np.testing.assert_allclose(intervals.bounds[0], expected, atol=MONTE_CARLO * half_width(expected))
    assert (intervals.unit, intervals.count) == ("speakers", 8)


def test_speakers_equal_a_plain_loop(eight_speakers):
    right, speakers = eight_speakers
    rng = np.random.default_rng(5)
    scores = []
    for _ in range(2000):
        chosen = rng.choice(list("abcdefgh"), 8)
        scores.append(np.concatenate([right[speakers == speaker] for speaker in chosen]).mean())
    expected = np.quantile(scores, [expanded_tail(8), 1 - expanded_tail(8)])
    bounds = bootstrap(rights(right), ratio, speaker_ids=speakers).bounds[0]
    np.testing.assert_allclose(bounds, expected, atol=MONTE_CARLO * half_width(expected))


@pytest.mark.parametrize("speakers", [None, [""] * 200, ["only"] * 200, ["known"] * 150 + [""] * 50])
def test_utterances_are_drawn_when_speakers_cannot_be(rng, speakers):
    right = (rng.random(200) < 0.7).astype(float)
    intervals = bootstrap(rights(right), ratio, speaker_ids=speakers)
    expected = stats.bootstrap((right,), np.mean, method="percentile", random_state=rng).confidence_interval
    np.testing.assert_allclose(intervals.bounds[0], expected, atol=MONTE_CARLO * half_width(expected))
    assert (intervals.unit, intervals.count) == ("utterances", 200)


def test_a_sparse_array_gives_the_same_as_a_dense_one(eight_speakers):
    right, speakers = eight_speakers
    dense, compressed = (
        bootstrap(sums, ratio, speaker_ids=speakers).bounds for sums in (rights(right), sparse.csr_array(rights(right)))
    )
    np.testing.assert_allclose(dense, compressed, rtol=ROUNDING)


def test_parallel_sentences_do_not_widen_the_interval(rng):
    # Every speaker reads the same sentences in the same order, half of them hard: speakers do not differ, and so the
    # interval is narrower than over utterances, by the scatter between hard and easy sentences.
    hard = np.tile(np.arange(40) % 2, 20)
    speakers = np.repeat([f"s{i}" for i in range(20)], 40)
    right = (rng.random(800) < np.where(hard, 0.2, 0.95)).astype(float)
    narrow = half_width(bootstrap(rights(right), ratio, speaker_ids=speakers).bounds[0])
    wide = half_width(bootstrap(rights(right), ratio).bounds[0])
    # theory: variances of .104 within sentences against .244 of all, a ratio of 0.65, which scatters by 0.1
    assert narrow / wide == pytest.approx(0.65, abs=3 * 0.1)


def test_errors_of_few_speakers_widen_the_interval():
    speakers = np.repeat([f"s{i}" for i in range(10)], 20)
    clustered = (speakers < "s7").astype(float)  # three speakers always wrong, the others never
    spread = np.tile(np.arange(20) < 14, 10).astype(float)  # the same 30 % wrong, evenly over speakers
    wide, none = (bootstrap(rights(right), ratio, speaker_ids=speakers).bounds[0] for right in (clustered, spread))
    # binomial quantiles of 10 draws with 70 %, which resamples reach to one speaker
    expected = stats.binom(10, 0.7).ppf([expanded_tail(10), 1 - expanded_tail(10)]) / 10
    np.testing.assert_allclose(wide, expected, atol=0.1 + ROUNDING)
    np.testing.assert_allclose(none, 0.7, rtol=ROUNDING)
    over_utterances = bootstrap(rights(clustered), ratio).bounds[0]
    assert half_width(wide) > 4 * half_width(over_utterances)  # theory: sqrt(200 / 10) = 4.5, and wider tails


def test_draws_are_repeatable_and_leave_the_global_state_alone():
    right, speakers = np.arange(30) % 3 > 0, [f"s{i % 7}" for i in range(30)]
    np.random.seed(11)
    before = np.random.get_state()
    first = bootstrap(rights(right), ratio, speaker_ids=speakers).bounds
    np.random.seed(12)
    np.testing.assert_array_equal(bootstrap(rights(right), ratio, speaker_ids=speakers).bounds, first)
    utterances = [bootstrap(rights(right), ratio, random_state=seed, num_resamples=50).bounds for seed in (0, 1)]
    assert not np.array_equal(*utterances)
    np.random.seed(11)
    assert all(np.array_equal(a, b) for a, b in zip(before, np.random.get_state(), strict=True))


def test_resamples_without_a_score_are_left_out():
    # the score is defined where utterance 0 is drawn, and is then 1
    sums = np.eye(4)[:, :1]

    def defined(totals):
        return np.where(totals > 0, 1.0, np.nan)

    assert bootstrap(sums, defined).bounds.tolist() == [[1.0, 1.0]]
    never = bootstrap(np.zeros((4, 1)), defined).bounds
    assert np.isnan(never).all()


@given(st.integers(2, 500))
def test_tails_are_students_and_shrink_for_few(count):
    tail = expanded_tail(count)
    assert 0 <= tail < 0.025
    assert expanded_tail(count + 1) >= tail
    # for normal scores of variance (n - 1) / n, the interval is that of Student's t
    width = -stats.norm.ppf(tail) * np.sqrt((count - 1) / count) if tail > 1e-300 else np.inf
    assert width == np.inf or width == pytest.approx(stats.t(count - 1).ppf(0.975), rel=1e-6)


def test_the_table_is_of_the_simulated_numbers_and_grows():
    assert tuple(COVERAGE) == NUMBERS
    of_speakers = [speakers for speakers, _ in COVERAGE.values()]
    assert of_speakers == sorted(of_speakers)


@pytest.mark.slow
def test_intervals_over_speakers_hold_what_they_promise():
    # 95 % of 600 simulations scatter by 0.9 %
    of_speakers, of_utterances = coverage(ENOUGH_SPEAKERS, 1.0, num_simulations=600, num_resamples=500)
    assert 93 <= of_speakers <= 97
    assert of_utterances < 70
    few, _ = coverage(2, 1.0, num_simulations=300, num_resamples=100)
    assert few == pytest.approx(COVERAGE[2][0], abs=3 * 2.9)  # three standard errors of 300 simulations


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("speakers", ENOUGH_SPEAKERS, ENOUGH_SPEAKERS), None),
        (("speakers", 4, 4), rf"few speakers: in simulations, .* over 4 speakers .* {COVERAGE[4][0]:.0f} %"),
        (("speakers", 2, 2), rf"ONLY TWO SPEAKERS: .* {COVERAGE[2][0]:.0f} % of cases; they describe these"),
        (("utterances", 60, 1), "there is one speaker, so the intervals are over utterances"),
        (("utterances", 60, 0), "the speakers are not all known, so the intervals are over utterances"),
    ],
)
def test_what_a_reader_is_warned_of(arguments, told):
    found = caution(*arguments)
    if told is None:
        assert found is None
    else:
        assert re.match(told, found)


def test_between_the_simulated_numbers_the_coverage_is_between():
    shares = [int(caution("speakers", n, n).split(" in ")[-1].split(" %")[0]) for n in (4, 6, 10)]
    assert shares == sorted(shares)
    assert shares[0] < shares[1] < shares[2]
