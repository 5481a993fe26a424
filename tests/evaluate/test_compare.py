"""Paired comparisons against scipy and examples computed by hand, and the sentences about them."""

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from featcache.errors import PredictionsError
from featcache.evaluate.compare import compare, sentence, sentences
from featcache.evaluate.holm import holm
from featcache.evaluate.metrics import uar
from featcache.evaluate.paired import least_p
from featcache.evaluate.predictions import checked

CLASSES = ["anger", "joy"]


def predictions(right, *, speakers=4, seeds=1):
    """Make predictions; ``right`` is (num_seeds, num_utterances), and targets alternate between anger and joy."""
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
        assert back.p_speakers == pytest.approx(there.p_speakers)
        assert back.p_utterances == pytest.approx(there.p_utterances)


def test_utterances_of_one_seed_give_nearly_the_test_of_mcnemar(rng):
    first, second = rng.random(400) < 0.75, rng.random(400) < 0.68
    found = of(compare({"a": predictions(first), "b": predictions(second)}), "wa")
    only_first, only_second = (first & ~second).sum(), (second & ~first).sum()
    # McNemar's asymptotic test takes the variance under the null hypothesis, featcache around the difference, and
    # Student's t has heavier tails. Therefore, the p values differ slightly.
    expected = stats.chi2.sf((only_first - only_second) ** 2 / (only_first + only_second), 1)
    assert found.p_utterances == pytest.approx(expected, rel=0.1)


def test_speakers_of_one_seed_give_the_paired_t_test(rng):
    first, second = (predictions(rng.random(240) < rate, speakers=12) for rate in (0.75, 0.6))
    found = of(compare({"a": first, "b": second}), "wa")
    own = [
        (run.table["target"] == run.table["prediction"]).groupby(run.table["speaker_id"]).mean()
        for run in (first, second)
    ]
    test = stats.ttest_rel(*(100 * scores for scores in own))
    assert found.p_speakers == pytest.approx(test.pvalue)
    assert found.ci95 == pytest.approx(tuple(test.confidence_interval()))


def test_seeds_that_scatter_hide_a_difference_that_one_seed_each_would_show(rng):
    # Seeds differ by 10 points, but the methods do not. Over speakers alone, every pair of heads would seem to differ.
    rates = np.array([[0.5, 0.6, 0.7, 0.8, 0.9], [0.9, 0.6, 0.5, 0.8, 0.6]])
    runs = [predictions(rng.random((5, 2000)) < row[:, np.newaxis], speakers=50) for row in rates]
    found = of(compare(dict(zip("ab", runs, strict=True))), "uar")
    assert found.p_speakers > 0.3
    assert found.ci95[0] < -5 < 5 < found.ci95[1]
    heads = [
        checked(run.table[run.table["seed"] == seed], classes=CLASSES) for run, seed in ((runs[0], 4), (runs[1], 2))
    ]
    alone = of(compare(dict(zip("ab", heads, strict=True))), "uar")
    assert alone.p_speakers < 1e-6
    assert sentence(alone).endswith(" With one seed of a and b, this is valid only for these trained heads.")


def test_p_is_below_the_level_where_the_interval_leaves_out_0(rng):
    told = []
    for seeds in (1, 2, 5):
        for rate in (0.6, 0.66, 0.72, 0.9):
            first, second = (predictions(rng.random((seeds, 240)) < share, speakers=8) for share in (rate, 0.6))
            [found] = compare({"a": first, "b": second}, score="wa")
            assert (found.p_speakers < 0.05) == (not found.ci95[0] <= 0 <= found.ci95[1])
            assert (found.p_speakers < 0.05) == (not found.gain_ci95[0] <= 0 <= found.gain_ci95[1])
            told.append(found.p_speakers < 0.05)
    assert {True, False} == set(told)


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("number", [0, 1, 2, 3])
def test_few_utterances_that_differ_show_nothing(rng, seeds, number):
    # The utterances that differ are from different speakers (step 2) or from the same speaker (step 16).
    for step in (2, 16):
        first = np.tile(rng.random(160) < 0.7, (seeds, 1))
        second = first.copy()
        second[:, 0 : number * step : step] ^= True
        for found in compare({"a": predictions(first, speakers=8), "b": predictions(second, speakers=8)}):
            assert found.p_utterances >= least_p(number)
            assert found.least_p_speakers == least_p(number if step == 2 else min(number, 1))
            assert found.p_speakers >= found.least_p_speakers
            assert found.ci95[0] <= 0 <= found.ci95[1]
            if number < 2:
                assert found.p_utterances == found.p_speakers == found.least_p_speakers == 1
            assert "; significant" not in sentence(found)


def test_a_single_class_a_single_fold_and_constant_predictions_are_compared(rng):
    constant = np.arange(80) % 2 == 0
    for found in compare({"a": predictions(constant, speakers=8), "b": predictions(~constant, speakers=8)}):
        assert found.difference == 0
        assert found.p_speakers == 1
    table = predictions(rng.random((2, 80)) < 0.7, speakers=8).table
    one = [checked(part.assign(target="anger"), classes=CLASSES) for part in (table, table.assign(prediction="anger"))]
    for found in compare(dict(zip("ab", one, strict=True))):
        assert found.second_mean == 100
        assert found.ci95[0] < found.difference < 0


def test_other_and_uneven_seeds_are_seeds_of_their_own(rng):
    right = rng.random((3, 240)) < 0.7
    first, second = predictions(right, speakers=8), predictions(rng.random((2, 240)) < 0.6, speakers=8)
    renamed = checked(second.table.assign(seed=second.table["seed"] + 100), classes=CLASSES)
    expected = compare({"a": first, "b": second})
    assert compare({"a": first, "b": renamed}) == expected
    assert expected[0].num_seeds == (3, 2)


@pytest.mark.parametrize("speakers", [1, 2])
def test_below_three_speakers_the_utterances_are_left(rng, speakers):
    runs = {name: predictions(rng.random((2, 80)) < rate, speakers=speakers) for name, rate in (("a", 0.9), ("b", 0.4))}
    found = of(compare(runs), "uar")
    assert (found.unit, found.count) == ("utterances", 80)
    assert found.p_speakers is found.least_p_speakers is found.effect_size is None
    assert sentence(found).endswith("over utterances and the seeds); this says nothing about other speakers.")


def test_the_lowest_p_is_corrected_for_the_pairs(rng):
    runs = {
        name: predictions(rng.random((2, 240)) < rate, speakers=6)
        for name, rate in zip("abc", (0.9, 0.5, 0.4), strict=True)
    }
    for found in compare(runs):
        assert found.least_p_speakers == 2 / 64
        assert found.least_p_speakers_holm == 6 / 64
    told = sentence(of(compare(runs, score="uar")[:1], "uar"))
    assert "6 speakers are too few for a test over speakers: no difference in 3 pairs can reach p < 0.05" in told
    assert told.endswith("(the lowest possible p is 0.0938).")
    assert "; significant at 5 %" in sentence(compare({name: runs[name] for name in "ab"}, score="uar")[0])


def test_too_few_speakers_are_counted_among_all_not_among_those_who_differ():
    # 3 of 10 speakers differ. The number of speakers suffices, but the difference is too small.
    first = np.ones(200, dtype=bool)
    second = first.copy()
    second[[0, 2, 4]] = False
    found = of(compare({"a": predictions(first, speakers=10), "b": predictions(second, speakers=10)}), "uar")
    assert found.least_p_speakers == 0.25
    assert "too few" not in sentence(found)
    assert "; not significant (p = " in sentence(found)


def test_the_interval_is_the_paired_one(rng):
    # Both runs are right on nearly the same utterances, so unpaired intervals would be several times wider.
    first = rng.random(400) < 0.7
    second = first.copy()
    second[:20] = False
    found = of(compare({"a": predictions(first, speakers=20), "b": predictions(second, speakers=20)}), "wa")
    assert found.ci95[1] - found.ci95[0] < 10


def test_speakers_are_counted_by_their_own_scores():
    # Speakers 0 and 1 are better in the first run, speaker 2 is worse, speaker 3 is equal; each has 10 utterances.
    first, second = np.ones(40, dtype=bool), np.ones(40, dtype=bool)
    speaker = np.arange(40) // 2 % 4
    second[speaker == 0] = False
    second[np.flatnonzero(speaker == 1)[:2]] = False
    first[np.flatnonzero(speaker == 2)[:4]] = False
    found = of(compare({"a": predictions(first), "b": predictions(second)}), "wa")
    assert (found.speakers_better, found.speakers_worse) == (2, 1)
    differences = np.array([100, 20, -40, 0])
    assert found.effect_size == pytest.approx(differences.mean() / differences.std(ddof=1))
    assert found.least_p_speakers == 2 / 8  # the fourth speaker does not differ


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
    assert "over utterances); this says nothing about other speakers. With one seed of a and b" in sentence(found)


def test_regressions_are_compared_by_ccc(rng):
    runs = {"a": regression(rng, 0.3), "b": regression(rng, 0.8, seeds=3)}
    [found] = compare(runs)
    assert found.score == "ccc"
    assert 0 < found.ci95[0] < found.difference < found.ci95[1] < 1
    assert found.speakers_better == 8
    assert found.p_speakers == found.least_p_speakers == 2 / 256
    told = sentence(found)
    assert "higher in CCC than b; significant at 5 % (p = 0.0078 over 8 speakers and the seeds)." in told


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
        ((0.9, 0.5), 10, r"^a scores [\d.]+ points higher in UAR than b; significant at 5 % \(p = "),
        ((0.5, 0.9), 10, "^b scores .* higher in UAR than a; significant at 5 %"),
        ((0.71, 0.7), 10, r"; not significant \(p = [\d.]+ over 10 speakers and the seeds\), which does not show"),
        ((0.9, 0.5), 4, r", but 4 speakers are too few .* can reach p < 0.05 \(the lowest possible p is 0.125\)\.$"),
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
            "b tested 39 utterances and a 40, but not the same: only one run has 'u0003'; compare runs of the same cor",
        ),
        (
            lambda t: t.replace({"utterance_id": {"u0003": "x"}}),
            "b tested 40 utterances and a 40, but not the same: only one run has 'u0003', 'x'",
        ),
        (
            lambda t: t.assign(target=t["target"].where(t["utterance_id"] != "u0001", "anger")),
            r"b and a have different values of target for 'u0001' \('anger' and 'joy'\); compare runs of the same tar",
        ),
        (lambda t: t.assign(speaker_id="x"), "b and a have different values of speaker_id for 'u0000', "),
    ],
)
def test_runs_that_did_not_test_the_same_are_refused(change, message):
    run = predictions(np.ones(40))
    with pytest.raises(PredictionsError, match=message):
        compare({"a": run, "b": changed(run, change)})


def test_runs_of_other_tasks_are_refused(rng):
    with pytest.raises(PredictionsError, match="b predicts v, but a predicts classes; compare runs of the same task"):
        compare({"a": predictions(np.ones(40)), "b": regression(rng, 1)})
    with pytest.raises(PredictionsError, match="one run cannot be compared; give two or more"):
        compare({"a": predictions(np.ones(40))})


def test_a_run_without_a_score_is_refused(rng):
    run = regression(rng, 1)
    flat = checked(run.table.assign(target_v=1.0, prediction_v=1.0), dimensions=["v"])
    with pytest.raises(PredictionsError, match="a or b has no CCC: its values are constant in a seed"):
        compare({"a": flat, "b": flat})


def test_classes_of_one_run_alone_do_not_matter(rng):
    runs = [predictions(rng.random(80) < 0.7) for _ in range(2)]
    more = checked(runs[1].table, classes=["fear", *reversed(CLASSES)])
    assert compare({"a": runs[0], "b": more}) == compare({"a": runs[0], "b": runs[1]})


def test_many_pairs_have_few_sentences(rng):
    rates = dict(zip("abcdef", (0.95, 0.9, 0.6, 0.55, 0.5, 0.2), strict=True))
    few, many = (
        {name: predictions(rng.random((2, 240)) < rate, speakers=count) for name, rate in rates.items()}
        for count in (6, 60)
    )
    [told] = sentences(compare(few, score="uar"))
    assert told.startswith("6 speakers are too few for a test over speakers: no difference in 15 pairs can reach")
    found = compare(many, score="uar")
    *clear, rest = sentences(found)
    assert 0 < len(clear) <= 6
    assert all("; significant at 5 %" in one and "Holm-corrected for 15 pairs" in one for one in clear)
    assert rest == f"The table shows the other {15 - len(clear)} of 15 pairs."
    assert sentences(found[:6]) == [sentence(one) for one in found[:6]]
