"""Bootstrap intervals against a plain loop, the package's own loop, and what they must tell apart."""

import numpy as np
import pandas as pd
import pytest
from confidence_intervals import evaluate_with_conf_int

from featcache.evaluate.intervals import bootstrap
from featcache.evaluate.metrics import summarise, uar

# As a share of the interval's half-width, 1.96 σ: each end, a 2.5 % point of 1000 draws, scatters by
# sqrt(.025 · .975 / 1000) / φ(1.96) = 0.085 σ, so the ends of two independent bootstraps
# differ by 6 %; five times that.
MONTE_CARLO = 0.3


def share_of(right):
    """The score of a resample when each utterance is right (1) or wrong (0)."""
    return lambda times_drawn: np.array([times_drawn @ right / times_drawn.sum()])


def half_width(bounds):
    return (bounds[1] - bounds[0]) / 2


def plain_bootstrap(right, speakers, num_resamples=1000):
    """Speakers, then utterances of each drawn speaker, by the textbook."""
    rng = np.random.default_rng(5)
    of_speaker = [right[speakers == speaker] for speaker in np.unique(speakers)]
    scores = []
    for _ in range(num_resamples):
        chosen = rng.integers(0, len(of_speaker), len(of_speaker))
        # a speaker drawn twice brings the same resample twice
        resampled = {i: rng.choice(of_speaker[i], len(of_speaker[i])) for i in set(chosen.tolist())}
        scores.append(np.concatenate([resampled[i] for i in chosen.tolist()]).mean())
    return np.percentile(scores, [2.5, 97.5])


def test_speakers_equal_a_plain_loop():
    rng = np.random.default_rng(0)
    speakers = rng.choice(["a", "b", "c", "d", "e", "f", "g", "h"], 300)
    rate = dict(zip("abcdefgh", np.linspace(0.3, 0.9, 8), strict=True))
    right = (rng.random(300) < [rate[speaker] for speaker in speakers]).astype(float)
    intervals = bootstrap(share_of(right), speakers)
    expected = plain_bootstrap(right, speakers)
    np.testing.assert_allclose(intervals.bounds[0], expected, atol=MONTE_CARLO * half_width(expected))
    assert (intervals.unit, intervals.count) == ("speakers", 8)


def test_parallel_sentences_do_not_widen_the_interval():
    # Every speaker reads the same sentences in the same order, half of them hard. Draws that are not independent
    # between speakers would draw a hard sentence for all speakers together.
    rng = np.random.default_rng(0)
    hard = np.tile(np.arange(40) % 2, 20)
    speakers = np.repeat([f"s{i}" for i in range(20)], 40)
    right = (rng.random(800) < np.where(hard, 0.2, 0.95)).astype(float)
    bounds = bootstrap(share_of(right), speakers).bounds[0]
    expected = plain_bootstrap(right, speakers)
    np.testing.assert_allclose(bounds, expected, atol=MONTE_CARLO * half_width(expected))


@pytest.mark.parametrize("speakers", [[""] * 200, ["only"] * 200, ["known"] * 150 + [""] * 50])
def test_utterances_are_drawn_when_speakers_cannot_be(speakers):
    rng = np.random.default_rng(0)
    right = (rng.random(200) < 0.7).astype(float)
    intervals = bootstrap(share_of(right), speakers)
    _, expected = evaluate_with_conf_int(right, np.mean)
    np.testing.assert_allclose(intervals.bounds[0], expected, atol=MONTE_CARLO * half_width(expected))
    assert (intervals.unit, intervals.count) == ("utterances", 200)


def test_errors_of_few_speakers_widen_the_interval():
    speakers = np.repeat([f"s{i}" for i in range(10)], 20)
    clustered = (speakers < "s7").astype(float)  # three speakers always wrong, the others never
    spread = np.tile(np.arange(20) < 14, 10).astype(float)  # the same 30 % wrong, evenly over speakers
    wide, narrow = (bootstrap(share_of(right), speakers).bounds[0] for right in (clustered, spread))
    for bounds in (wide, narrow):
        assert bounds[0] <= 0.7 <= bounds[1]
    # theory: a standard error of sqrt(.21 / 10) against sqrt(1.9 · .21 / 200), 1.9 because a speaker drawn twice brings
    # the same utterances twice; a ratio of 3.2
    assert half_width(wide) > 2.5 * half_width(narrow)


def test_draws_are_repeatable_and_leave_the_global_state_alone():
    right, speakers = np.arange(30) % 3 > 0, [f"s{i % 5}" for i in range(30)]
    np.random.seed(11)
    before = np.random.get_state()
    first = bootstrap(share_of(right), speakers).bounds
    np.random.seed(12)
    np.testing.assert_array_equal(bootstrap(share_of(right), speakers).bounds, first)
    assert not np.array_equal(bootstrap(share_of(right), speakers, random_state=1).bounds, first)
    np.random.seed(11)
    assert all(np.array_equal(a, b) for a, b in zip(before, np.random.get_state(), strict=True))


def test_a_class_missing_from_a_resample_is_left_out():
    # joy stands only with speaker b: the resamples of speaker a alone have anger only
    predictions = pd.DataFrame(
        {
            "seed": 0,
            "fold": 0,
            "utterance_id": ["1", "2", "3", "4"],
            "speaker_id": ["a", "a", "b", "b"],
            "target": ["anger", "anger", "joy", "joy"],
            "prediction": ["anger", "anger", "anger", "anger"],
        }
    )
    assert summarise(predictions, ["anger", "joy"])["uar"]["ci95"] == [0.0, 100.0]


def test_interval_of_the_score_averaged_over_seeds():
    rng = np.random.default_rng(2)
    target = rng.choice(["anger", "joy", "sadness"], 90)
    speakers = [f"s{i % 6}" for i in range(90)]
    seeds = [np.where(rng.random(90) < 0.7, target, "joy") for _ in range(3)]
    common = {"fold": 0, "utterance_id": [f"u{i:02}" for i in range(90)], "speaker_id": speakers, "target": target}
    tables = [pd.DataFrame({"seed": seed, "prediction": prediction, **common}) for seed, prediction in enumerate(seeds)]
    summary = summarise(pd.concat(tables), ["anger", "joy", "sadness"])

    def score(times_drawn):
        rows = np.repeat(np.arange(90), times_drawn)
        return np.array([np.mean([100 * uar(target[rows], prediction[rows]) for prediction in seeds])])

    intervals = bootstrap(score, speakers)
    assert summary["uar"]["ci95"] == pytest.approx(intervals.bounds[0])
    assert summary["bootstrap"] == {"unit": "speakers", "count": 6}
    for name in ("uar", "wa", "macro_f1"):
        low, high = summary[name]["ci95"]
        assert low < summary[name]["mean"] < high
