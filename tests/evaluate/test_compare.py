"""Paired comparisons against scipy, hand-made examples and exact enumeration; what they may and may not claim."""

import itertools
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from featcache.errors import PredictionsError
from featcache.evaluate.compare import compare, sentence
from featcache.evaluate.intervals import bootstrap
from featcache.evaluate.metrics import uar
from featcache.evaluate.permutation import holm
from featcache.evaluate.predictions import checked

CLASSES = ["anger", "joy"]
# p of 9999 random swaps, near 0.1: a standard error of 0.003; four of them
MONTE_CARLO = 0.012


def predictions(right, *, speakers=4, seeds=1):
    """Predictions of which these are right, (num_seeds, num_utterances), anger and joy in turn."""
    right = np.atleast_2d(right)
    target = np.array(CLASSES)[np.arange(right.shape[1]) % 2]
    other = np.array(CLASSES)[1 - np.arange(right.shape[1]) % 2]
    ids = [f"u{i:04}" for i in range(len(target))]
    speaker_ids = [f"s{i // 2 % speakers:02}" for i in range(len(target))]
    common = {"fold": 1, "utterance_id": ids, "speaker_id": speaker_ids, "target": target}
    tables = [
        pd.DataFrame({"seed": seed, "prediction": np.where(row, target, other), **common})
        for seed, row in enumerate(right)
    ]
    return checked(pd.concat(tables), classes=CLASSES)


def regression(rng, noise, *, seeds=2, speakers=8):
    target = np.linspace(-1, 1, 80)
    tables = [
        pd.DataFrame(
            {
                "seed": seed,
                "fold": 1,
                "utterance_id": [f"u{i:02}" for i in range(80)],
                "speaker_id": [f"s{i % speakers}" for i in range(80)],
                "target_v": target,
                "prediction_v": target + rng.normal(0, noise, 80),
            }
        )
        for seed in range(seeds)
    ]
    return checked(pd.concat(tables), dimensions=["v"])


def of(found, score):
    [row] = [row for row in found if row.score == score]
    return row


def test_the_difference_is_that_of_the_means_over_seeds(rng):
    first, second = (predictions(rng.random((seeds, 80)) < rate) for seeds, rate in ((3, 0.8), (2, 0.6)))
    found = of(compare({"a": first, "b": second}), "uar")
    means = [
        np.mean([100 * uar(rows["target"], rows["prediction"]) for _, rows in run.table.groupby("seed")])
        for run in (first, second)
    ]
    assert [found.first_mean, found.second_mean] == pytest.approx(means)
    assert found.difference == pytest.approx(means[0] - means[1])
    assert found.num_seeds == (3, 2)
    assert (found.num_utterances, found.unit, found.count, found.num_pairs) == (80, "speakers", 4, 1)


def test_the_other_way_round_everything_is_reversed(rng):
    runs = {name: predictions(rng.random((2, 80)) < rate, speakers=8) for name, rate in (("a", 0.8), ("b", 0.6))}
    for there, back in zip(compare(runs), compare(dict(reversed(runs.items()))), strict=True):
        assert back.difference == pytest.approx(-there.difference)
        assert back.ci95 == pytest.approx((-there.ci95[1], -there.ci95[0]))
        assert back.effect_size == pytest.approx(-there.effect_size)
        assert (back.speakers_better, back.speakers_worse) == (there.speakers_worse, there.speakers_better)
        assert back.p_speakers == there.p_speakers
        assert back.p_utterances == pytest.approx(there.p_utterances, abs=MONTE_CARLO)


def test_few_discordant_utterances_give_the_exact_test_of_mcnemar():
    # 9 utterances only the first gets right, 2 only the second, balanced over the classes as WA needs
    first, second = np.ones(40, dtype=bool), np.ones(40, dtype=bool)
    second[:9] = False
    first[20:22] = False
    found = of(compare({"a": predictions(first), "b": predictions(second)}), "wa")
    assert found.p_utterances == pytest.approx(stats.binomtest(2, 11, 0.5).pvalue)


def test_many_discordant_utterances_give_it_nearly(rng):
    first, second = rng.random(400) < 0.75, rng.random(400) < 0.68
    found = of(compare({"a": predictions(first), "b": predictions(second)}), "wa")
    only_first, only_second = (first & ~second).sum(), (second & ~first).sum()
    expected = stats.binomtest(only_first, only_first + only_second, 0.5).pvalue
    assert found.p_utterances == pytest.approx(expected, abs=MONTE_CARLO)


def test_speakers_equal_the_enumeration_of_all_swaps(rng):
    first, second = (predictions(rng.random((2, 120)) < rate, speakers=6) for rate in (0.75, 0.65))
    found = of(compare({"a": first, "b": second}), "uar")
    speakers = sorted(first.table["speaker_id"].unique())
    observed, at_least = found.difference, 0
    for swapped in itertools.product([False, True], repeat=6):
        moved = {speaker for speaker, swap in zip(speakers, swapped, strict=True) if swap}
        tables = []
        for mine, other in ((first.table, second.table), (second.table, first.table)):
            tables.append(pd.concat([mine[~mine["speaker_id"].isin(moved)], other[other["speaker_id"].isin(moved)]]))
        means = [
            np.mean([100 * uar(rows["target"], rows["prediction"]) for _, rows in table.groupby("seed")])
            for table in tables
        ]
        at_least += abs(means[0] - means[1]) >= abs(observed) - 1e-9
    assert found.p_speakers == pytest.approx(at_least / 64)
    assert found.least_p_speakers == 2 / 64


def test_the_interval_is_the_paired_one(rng):
    # both runs are right on nearly the same utterances: unpaired intervals would be several times as wide
    first = rng.random(400) < 0.7
    second = first.copy()
    second[:20] = False
    runs = {"a": predictions(first, speakers=20), "b": predictions(second, speakers=20)}
    found = of(compare(runs), "wa")
    differences = (first.astype(float) - second)[:, np.newaxis]
    sums = 100 * np.hstack([differences, np.full((400, 1), 0.01)])
    expected = bootstrap(
        sums, lambda totals: totals[:, :1] / totals[:, 1:], speaker_ids=runs["a"].table["speaker_id"].tolist()
    )
    assert found.ci95 == pytest.approx(tuple(expected.bounds[0]))
    assert found.ci95[1] - found.ci95[0] < 10


def test_speakers_are_counted_by_their_own_scores():
    # speaker 0 and 1 better in the first, 2 worse, 3 alike; 10 utterances of each
    first, second = np.ones(40, dtype=bool), np.ones(40, dtype=bool)
    speaker = np.arange(40) // 2 % 4
    second[speaker == 0] = False
    second[np.flatnonzero(speaker == 1)[:2]] = False
    first[np.flatnonzero(speaker == 2)[:4]] = False
    found = of(compare({"a": predictions(first), "b": predictions(second)}), "wa")
    assert (found.speakers_better, found.speakers_worse) == (2, 1)
    differences = np.array([100, 20, -40, 0])
    assert found.effect_size == pytest.approx(differences.mean() / differences.std(ddof=1))
    assert found.least_p_speakers == 2 / 8  # swapping the fourth changes nothing


def test_equal_runs_do_not_differ(rng):
    run = predictions(rng.random((2, 40)) < 0.7)
    for found in compare({"a": run, "b": run}):
        assert found.difference == 0
        assert found.ci95 == (0, 0)
        assert found.p_speakers == found.p_utterances == 1
        assert found.effect_size is None
        assert sentence(found) == f"a and b have the same {found.score.upper()}."


def test_unknown_speakers_leave_the_utterances(rng):
    runs = {}
    for name, rate in (("a", 0.9), ("b", 0.4)):
        run = predictions(rng.random(80) < rate)
        runs[name] = checked(run.table.assign(speaker_id=""), classes=CLASSES)
    found = of(compare(runs), "uar")
    assert (found.unit, found.count) == ("utterances", 80)
    assert found.p_speakers is found.p_speakers_holm is found.least_p_speakers is found.effect_size is None
    assert found.p_utterances < 0.01
    assert sentence(found).endswith("over utterances only); of other speakers it says nothing.")


def test_regressions_are_compared_by_ccc(rng):
    runs = {"a": regression(rng, 0.3), "b": regression(rng, 0.8, seeds=3)}
    [found] = compare(runs)
    assert found.score == "ccc"
    assert 0 < found.ci95[0] < found.difference < found.ci95[1] < 1
    assert found.speakers_better == 8
    assert found.p_speakers == found.least_p_speakers == 2 / 256
    assert "higher in CCC than b; chance alone would seldom give such a difference (p = 0.0078 over 8" in sentence(
        found
    )


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_the_step_down_procedure(p_values):
    corrected = holm(p_values)
    assert all(p <= c <= 1 for p, c in zip(p_values, corrected, strict=True))
    for level in (0.01, 0.05, 0.2):
        rejected = set()
        for step, i in enumerate(np.argsort(p_values, kind="stable")):
            if p_values[i] * (len(p_values) - step) > level:
                break
            rejected.add(int(i))
        assert {i for i, c in enumerate(corrected) if c <= level} == rejected


def test_all_pairs_are_compared_and_corrected_within_a_score(rng):
    runs = {
        name: predictions(rng.random((2, 80)) < rate, speakers=8)
        for name, rate in zip("abc", (0.9, 0.8, 0.6), strict=True)
    }
    found = compare(runs)
    assert [(row.first, row.second, row.score) for row in found] == [
        *((*pair, "uar") for pair in ("ab", "ac", "bc")),
        *((*pair, "wa") for pair in ("ab", "ac", "bc")),
    ]
    for score in ("uar", "wa"):
        rows = [row for row in found if row.score == score]
        assert [row.p_speakers_holm for row in rows] == holm([row.p_speakers for row in rows])
        assert [row.p_utterances_holm for row in rows] == holm([row.p_utterances for row in rows])
        assert {row.num_pairs for row in rows} == {3}


@pytest.mark.parametrize(
    ("rates", "speakers", "told"),
    [
        ((0.9, 0.5), 10, r"^a scores [\d.]+ points higher in UAR than b; chance alone would seldom give"),
        ((0.5, 0.9), 10, "^b scores .* higher in UAR than a; chance alone would seldom"),
        ((0.71, 0.7), 10, r"; this may be chance \(p = [\d.]+ over 10 speakers\), which does not show"),
        ((0.9, 0.5), 4, r", but 4 speakers are too few .* could reach p < 0.05 .* \(the lowest possible is 0.125\)\.$"),
    ],
)
def test_what_it_means_is_told_in_words(rng, rates, speakers, told):
    runs = {
        name: predictions(rng.random((3, 200)) < rate, speakers=speakers)
        for name, rate in zip("ab", rates, strict=True)
    }
    assert re.search(told, sentence(of(compare(runs), "uar")))


def changed(run, change):
    return checked(change(run.table), classes=CLASSES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: t[t["utterance_id"] != "u0003"],
            "b tested 39 utterances and a 40, not the same ones: only one has 'u0003'; compare runs of one corpus",
        ),
        (
            lambda t: t.replace({"utterance_id": {"u0003": "x"}}),
            "b tested 40 utterances and a 40, not the same ones: only one has 'u0003', 'x'",
        ),
        (
            lambda t: t.assign(target=t["target"].where(t["utterance_id"] != "u0001", "anger")),
            r"b and a have different values of target for 'u0001' \('anger' and 'joy'\); compare runs of one target",
        ),
        (lambda t: t.assign(speaker_id="x"), "b and a have different values of speaker_id for 'u0000', "),
    ],
)
def test_runs_that_did_not_test_the_same_are_refused(change, message):
    run = predictions(np.ones(40))
    with pytest.raises(PredictionsError, match=message):
        compare({"a": run, "b": changed(run, change)})


def test_runs_of_other_tasks_are_refused(rng):
    with pytest.raises(PredictionsError, match="b predicts v, a classes; compare runs of one task"):
        compare({"a": predictions(np.ones(40)), "b": regression(rng, 1)})
    with pytest.raises(PredictionsError, match="one run cannot be compared; give two or more"):
        compare({"a": predictions(np.ones(40))})


def test_a_run_without_a_score_is_refused(rng):
    run = regression(rng, 1)
    flat = checked(run.table.assign(target_v=1.0, prediction_v=1.0), dimensions=["v"])
    with pytest.raises(PredictionsError, match="a or b has no CCC: its values do not vary in some seed"):
        compare({"a": flat, "b": flat})


def test_classes_of_one_run_alone_do_not_matter(rng):
    runs = [predictions(rng.random(80) < 0.7) for _ in range(2)]
    more = checked(runs[1].table, classes=["fear", *reversed(CLASSES)])
    assert compare({"a": runs[0], "b": more}) == compare({"a": runs[0], "b": runs[1]})
