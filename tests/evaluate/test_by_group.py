"""Scores of groups and the largest gap between them, against scikit-learn and scipy's permutation tests."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import balanced_accuracy_score

from featcache.errors import PredictionsError
from featcache.evaluate import relabelling
from featcache.evaluate.by_group import MOST_GROUPS, score_by
from featcache.evaluate.gap import BETWEEN, WITHIN, gap_sentence
from featcache.evaluate.predictions import checked
from featcache.evaluate.regression import summarise_regression

CLASSES = ("anger", "joy", "neutral")
# Two sums of the same numbers in another order.
ROUNDING = 1e-9


def table(rng, *, speakers=8, seeds=2, rate=None):
    """Return predictions: each speaker says each class four times, twice weak and twice strong."""
    rate = rate or (lambda speaker, strong: 0.6)
    rows = [
        {
            "seed": seed,
            "fold": 1,
            "utterance_id": f"s{speaker:02}-{label}-{take}",
            "speaker_id": f"s{speaker:02}",
            "target": label,
            "prediction": label if rng.random() < rate(speaker, take % 2) else rng.choice(CLASSES),
        }
        for seed in range(1, seeds + 1)
        for speaker in range(speakers)
        for label in CLASSES
        for take in range(4)
    ]
    return pd.DataFrame(rows)


def genders(rows, women=4):
    return {i: "f" if int(i[1:3]) < women else "m" for i in rows["utterance_id"]}


def intensities(rows):
    return {i: "strong" if int(i[-1]) % 2 else "weak" for i in rows["utterance_id"]}


def uar_of(rows):
    """Return the UAR of each seed, mean over seeds, in percent."""
    of_seeds = [balanced_accuracy_score(one["target"], one["prediction"]) for _, one in rows.groupby("seed")]
    return 100 * np.mean(of_seeds)


def by_speaker(rows, group, name):
    chosen = rows[rows["utterance_id"].map(group) == name]
    return np.array([uar_of(one) for _, one in chosen.groupby("speaker_id")])


@pytest.mark.parametrize("seeds", [1, 2])
def test_groups_between_speakers_have_the_scores_of_scikit_learn_and_the_p_value_of_scipy(rng, seeds):
    rows = table(rng, seeds=seeds, rate=lambda speaker, _: 0.75 if speaker < 4 else 0.45)
    group = genders(rows)
    [found] = score_by(checked(rows), {"gender": group})
    for name in ("f", "m"):
        expected = uar_of(rows[rows["utterance_id"].map(group) == name])
        assert found.groups[name]["uar"]["mean"] == pytest.approx(expected, abs=ROUNDING)
        assert (found.groups[name]["num_speakers"], found.groups[name]["num_utterances"]) == (4, 48)
    # All speakers have the same numbers of utterances, so the UAR of a group is the mean of its speakers' UAR.
    women, men = (by_speaker(rows, group, name) for name in ("f", "m"))
    expected = stats.permutation_test(
        (women, men), lambda a, b: abs(a.mean() - b.mean()), alternative="greater", n_resamples=np.inf
    )
    gap = found.gap
    assert (gap.kind, gap.num_relabellings, gap.exact, gap.num_speakers) == (BETWEEN, 70, True, 8)
    assert gap.difference == pytest.approx(abs(women.mean() - men.mean()))
    assert gap.p == gap.p_holm == pytest.approx(expected.pvalue)
    assert gap.least_p == pytest.approx(2 / 70)
    if seeds == 1:  # the interval is that of two independent means, but for Welch's degrees of freedom
        error = np.sqrt(women.var(ddof=1) / 4 + men.var(ddof=1) / 4)
        assert np.ptp(gap.ci95) / 2 == pytest.approx(stats.t.ppf(0.975, 7) * error, rel=1e-4)


def test_groups_within_speakers_are_paired(rng):
    rows = table(rng, rate=lambda speaker, strong: 0.2 + 0.08 * speaker + 0.15 * strong)
    group = intensities(rows)
    [found] = score_by(checked(rows), {"intensity": group})
    strong, weak = (by_speaker(rows, group, name) for name in ("strong", "weak"))
    expected = stats.permutation_test(
        (strong, weak),
        lambda a, b: abs((a - b).mean()),
        permutation_type="samples",
        alternative="greater",
        n_resamples=np.inf,
    )
    gap = found.gap
    assert (gap.kind, gap.num_relabellings, gap.num_speakers) == (WITHIN, 256, 8)
    assert gap.p == pytest.approx(expected.pvalue)
    assert gap.least_p == pytest.approx(2 / 256)
    assert {gap.higher, gap.lower} == {"strong", "weak"}


def test_many_relabellings_are_drawn_and_give_the_same_p_value_within_their_error(rng, monkeypatch):
    rows = table(rng, rate=lambda speaker, _: 0.7 if speaker < 4 else 0.5)
    [exact] = score_by(checked(rows), {"gender": genders(rows)})
    monkeypatch.setattr(relabelling, "MOST", 60)  # fewer than the 70 that exist
    [drawn] = score_by(checked(rows), {"gender": genders(rows)})
    assert (drawn.gap.exact, drawn.gap.num_relabellings) == (False, 61)
    error = np.sqrt(exact.gap.p * (1 - exact.gap.p) / 60)
    assert abs(drawn.gap.p - exact.gap.p) < 4 * error + 1 / 61  # four standard errors of 60 draws
    assert drawn.gap == score_by(checked(rows), {"gender": genders(rows)})[0].gap


def test_p_values_of_random_groups_are_uniform(rng):
    groups, strata = np.array([0, 0, 0, 1, 1, 1]), [np.arange(6)]

    def p_of(values):
        def spread(labels):
            return np.abs(np.where(labels == 0, values, -values).sum(axis=1))

        return relabelling.relabelled(groups, strata, spread, 6, symmetric=2).p

    found = np.array([p_of(rng.normal(size=6)) for _ in range(200)])
    assert set(np.round(10 * found)) <= set(range(1, 11))  # 20 relabellings, in pairs with the same gap
    # Three standard deviations of a share of 0.3 in 200 repetitions.
    assert np.mean(found < 0.3 + ROUNDING) == pytest.approx(0.3, abs=3 * np.sqrt(0.3 * 0.7 / 200))


def test_three_groups_are_tested_at_once_and_several_labels_have_holms_correction(rng):
    rows = table(rng, speakers=9, rate=lambda speaker, strong: 0.1 + 0.35 * (speaker // 3) + 0.1 * strong)
    thirds = {i: "abc"[int(i[1:3]) // 3] for i in rows["utterance_id"]}
    found = score_by(checked(rows), {"third": thirds, "intensity": intensities(rows)})
    first, second = (one.gap for one in found)
    assert (first.higher, first.lower, first.num_groups) == ("c", "a", 3)
    assert first.num_relabellings == 1680  # 9! / (3! 3! 3!)
    assert first.least_p == pytest.approx(6 / 1680)
    assert first.num_groupings == second.num_groupings == 2
    low, high = sorted((first, second), key=lambda gap: gap.p)
    assert (low.p_holm, high.p_holm) == (min(1, 2 * low.p), max(high.p, min(1, 2 * low.p)))
    assert "largest gap of 3 groups" in gap_sentence("third", first)
    assert "Holm-corrected for 2 labels" in gap_sentence("third", first)


def test_groups_are_compared_on_the_classes_that_all_of_them_have(rng):
    rows = table(rng)
    group = intensities(rows)
    rows = rows[~((rows["target"] == "neutral") & (rows["utterance_id"].map(group) == "strong"))]
    [found] = score_by(checked(rows, classes=CLASSES), {"intensity": group})
    assert any("without neutral" in note and "strong lacks neutral" in note for note in found.notes)
    for name in ("strong", "weak"):
        chosen = rows[(rows["utterance_id"].map(group) == name) & (rows["target"] != "neutral")]
        recalls = [
            (one["prediction"] == one["target"]).groupby([one["seed"], one["target"]]).mean() for one in [chosen]
        ]
        assert found.groups[name]["uar"]["mean"] == pytest.approx(100 * recalls[0].mean())
    assert found.gap is not None


def test_groups_that_cannot_be_compared_are_told(rng):
    rows = table(rng)
    ids = rows["utterance_id"].unique()
    some = {i: ("x" if i < "s02" else "f" if i < "s05" else "m") for i in ids if i > "s00-anger-1"}
    [found] = score_by(checked(rows), {"gender": some})
    assert "2 of 96 utterances have no gender and are left out" in found.notes
    assert any("x has only 2 speakers: no interval over speakers, and not compared" in note for note in found.notes)
    assert found.groups["x"]["uar"]["ci95"] is None
    assert {found.gap.higher, found.gap.lower} == {"f", "m"}
    [alone] = score_by(checked(rows), {"gender": genders(rows, women=1)})
    assert alone.gap is None
    assert any(note.startswith("not tested: 1 group with at least 3") for note in alone.notes)
    [classes] = score_by(checked(rows), {"emotion": {i: i.split("-")[1] for i in ids}})
    assert classes.gap is None
    assert "not tested: the groups have fewer than two classes in common" in classes.notes
    assert any("its UAR is over the other classes" in note for note in classes.notes)
    [unknown] = score_by(checked(rows.assign(speaker_id="")), {"gender": genders(rows)})
    assert unknown.gap is None
    assert any("not all speakers are known" in note for note in unknown.notes)
    twice = genders(rows) | {"s00-anger-0": "m"}  # one speaker in two groups
    [mixed] = score_by(checked(rows), {"gender": twice})
    assert mixed.gap is None
    assert any("only 1 of 8 speakers are in several groups" in note for note in mixed.notes)


def test_too_many_groups_and_strange_ids_are_refused(rng):
    rows = table(rng)
    with pytest.raises(PredictionsError, match=f"id has 96 values .* at most {MOST_GROUPS}"):
        score_by(checked(rows), {"id": {i: i for i in rows["utterance_id"]}})
    with pytest.raises(PredictionsError, match="no utterance of the predictions has a value of gender"):
        score_by(checked(rows), {"gender": {"other": "f"}})


def test_few_speakers_cannot_be_significant(rng):
    rows = table(rng, speakers=6, rate=lambda speaker, _: 1.0 if speaker < 3 else 0.0)
    [found] = score_by(checked(rows), {"gender": genders(rows, 3)})
    assert found.gap.least_p == pytest.approx(0.1)
    assert "6 speakers are too few for a test: the lowest possible p is 0.1" in gap_sentence("gender", found.gap)


def test_dimensional_labels_have_groups_too(rng):
    rows = table(rng).drop(columns=["target", "prediction"])
    target = dict(zip(rows["utterance_id"].unique(), rng.normal(size=96), strict=True))
    rows["target_arousal"] = rows["utterance_id"].map(target)
    rows["prediction_arousal"] = rows["target_arousal"] + rng.normal(size=len(rows))
    group = genders(rows)
    [found] = score_by(checked(rows, dimensions=["arousal"]), {"gender": group})
    women = rows[rows["utterance_id"].map(group) == "f"]
    assert found.groups["f"]["ccc"] == summarise_regression(women, ["arousal"])["ccc"]
    assert found.gap.score == "ccc"
    assert 0 <= found.gap.p <= 1
    [constant] = score_by(
        checked(rows.assign(prediction_arousal=0.0, target_arousal=1.0), dimensions=["arousal"]), {"gender": group}
    )
    assert any("is undefined" in note for note in constant.notes)
