"""Runs that tested the same utterances → paired differences, their intervals, tests and effect sizes.

The score of a run is the mean over its seeds. Speakers are the same in both runs, and therefore paired. Seeds are not
paired: each run has its own seeds, and the numbers of seeds may differ. Intervals, gains and p values are all computed
by :mod:`featcache.evaluate.variance`, so p < 0.05 if the interval of the difference excludes 0. The only exception is
fewer than six units that differ, see :func:`~featcache.evaluate.paired.least_p`.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from featcache.errors import PredictionsError, listed, unknown_name
from featcache.evaluate.holm import holm
from featcache.evaluate.paired import Tested, least_p
from featcache.evaluate.predictions import Predictions
from featcache.evaluate.scores import find_score, label_of
from featcache.evaluate.scoring import sums_of
from featcache.evaluate.variance import SAME, Numbers

if TYPE_CHECKING:
    import pandas as pd

SIGNIFICANT = 0.05
# Scores that runs can be compared in: of classes, of several labels, and of values and each of their dimensions.
COMPARED = ("uar", "wa", "macro_f1", "micro_f1", "ccc")


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Comparison of two runs in one score.

    Attributes:
        first, second: Names of the runs.
        score: ``uar``, ``wa``, ``macro_f1`` or ``micro_f1`` (percent), ``ccc`` ([-1, 1]), or ``ccc_<dim>`` for one of
            several dimensions.
        first_mean, second_mean: Score of each run, mean over seeds.
        difference: first − second.
        ci95: 95 % interval of the difference over ``unit`` and seeds; None for fewer than three units.
        gain: Difference in percent of the second run's score; None if that score is not above 0.
        gain_ci95: 95 % interval of the gain; None also if the second run's score does not differ significantly from 0,
            because the bounds are not finite then.
        unit: ``speakers``, or ``utterances`` if speakers are unknown or fewer than three.
        count: Number of units.
        p_speakers: Two-sided p value of the difference over speakers and seeds; None if ``unit`` is ``utterances``.
        p_utterances: Two-sided p value over utterances and seeds; it is valid for these speakers only.
        least_p_speakers: Lowest p value that is possible with the speakers who differ, see :func:`least_p`; None if
            ``p_speakers`` is None.
        p_speakers_holm, p_utterances_holm: The p values with Holm's correction for all compared pairs.
        least_p_speakers_holm: Lowest possible corrected p value: ``least_p_speakers`` times the number of pairs, at
            most 1.
        effect_size: Cohen's d_z: mean divided by standard deviation of the differences of single speakers; None if
            undefined.
        speakers_better: Number of speakers with a higher score in the first run.
        speakers_worse: Number of speakers with a lower score in the first run.
        num_utterances: Number of utterances that both runs tested.
        num_seeds: Numbers of seeds of the first and the second run.
        num_pairs: Number of compared pairs of runs.
    """

    first: str
    second: str
    score: str
    first_mean: float
    second_mean: float
    difference: float
    ci95: tuple[float, float] | None
    gain: float | None
    gain_ci95: tuple[float, float] | None
    unit: str
    count: int
    p_speakers: float | None
    p_utterances: float
    least_p_speakers: float | None
    p_speakers_holm: float | None
    p_utterances_holm: float
    least_p_speakers_holm: float | None
    effect_size: float | None
    speakers_better: int
    speakers_worse: int
    num_utterances: int
    num_seeds: tuple[int, int]
    num_pairs: int


def compare(runs: Mapping[str, Predictions], *, score: str | None = None) -> list[Comparison]:
    """Compare every pair of runs: UAR and WA of classes, UAR and F1 of several labels, CCC of each dimension.

    With several pairs, p values have Holm's correction, which limits the probability of any false claim. (A false
    discovery rate would only limit the share of false claims.) With one seed, a result is valid only for that trained
    head.

    Args:
        runs: Name → predictions, at least two runs.
        score: The only score to compare; by default, all scores.

    Returns:
        One comparison per score and pair of runs; all pairs of the first score come first.

    Raises:
        PredictionsError: there are fewer than two runs, the runs did not test the same utterances with the same
            targets, or the score does not belong to the runs.

    Source: Holm 1979, A simple sequentially rejective multiple test procedure; Cohen's d_z: Lakens 2013.
    """
    if len(runs) < 2:
        raise PredictionsError("one run cannot be compared; give two or more")
    runs = _with_common_classes(runs)
    tested = {name: Tested.of(sums_of(predictions)) for name, predictions in runs.items()}
    dimensions = next(iter(runs.values())).dimensions
    of_dimensions = [f"ccc_{name}" for name in dimensions] if len(dimensions) > 1 else []
    scores = ("ccc", *of_dimensions) if dimensions else ("uar", "wa")
    if next(iter(runs.values())).labels:
        scores = ("uar", "macro_f1", "micro_f1")
    if score is not None:
        if score not in scores:
            raise PredictionsError(unknown_name("score of these runs", score, scores))
        scores = (score,)
    pairs = list(itertools.combinations(tested, 2))
    rows = [[_paired(one, pair, *(tested[name] for name in pair)) for pair in pairs] for one in scores]
    return [comparison for of_score in map(corrected, rows) for comparison in of_score]


def sentence(comparison: Comparison) -> str:
    """Return the result of a comparison as a sentence."""
    found = comparison
    score, _ = find_score(found.score)
    unit, digits = " points" if score.unit else "", score.digits
    name = label_of(found.score)
    if found.difference == 0:
        return f"{found.first} and {found.second} have the same {name}."
    better, worse = (found.first, found.second) if found.difference > 0 else (found.second, found.first)
    size = f"{better} scores {abs(found.difference):.{digits}f}{unit} higher in {name} than {worse}"
    return f"{size}{_judged(found)}.{_of_one_seed(found)}"


def sentences(comparisons: Sequence[Comparison], most: int = 6) -> list[str]:
    """Return the results of comparisons as sentences.

    Args:
        comparisons: Comparisons of one score.
        most: Maximum number of pairs; with more pairs, only significant differences get a sentence, and a last
            sentence counts the other pairs.
    """
    if len(comparisons) <= most:
        return [sentence(comparison) for comparison in comparisons]
    few = too_few(comparisons[0])
    if few:
        return [f"{few}."]
    judged = [(p_of(found), found) for found in comparisons]
    clear = sorted((pair for pair in judged if pair[0] < SIGNIFICANT), key=lambda pair: pair[0])[:most]
    left = len(comparisons) - len(clear)
    return [*(sentence(found) for _, found in clear), f"The table shows the other {left} of {len(comparisons)} pairs."]


def p_of(found: Comparison) -> float:
    """Return the corrected p value of a comparison: over speakers, or over utterances if there is none."""
    return found.p_utterances_holm if found.p_speakers_holm is None else found.p_speakers_holm


def too_few(found: Comparison) -> str:
    """Return part of a sentence if the speakers are too few for any significant difference, else an empty text."""
    least = min(1.0, least_p(found.count) * found.num_pairs)
    if found.p_speakers_holm is None or least < SIGNIFICANT:
        return ""
    pairs = f" in {found.num_pairs} pairs" if found.num_pairs > 1 else ""
    return (
        f"{found.count} speakers are too few for a test over speakers: no difference{pairs} can reach "
        f"p < {SIGNIFICANT} (the lowest possible p is {least:.3g})"
    )


def _judged(found: Comparison) -> str:
    """Return the end of the sentence about a difference: whether it is significant."""
    if few := too_few(found):
        return f", but {few}"
    if found.p_speakers_holm is not None:
        p, over, others = found.p_speakers_holm, f"over {found.count} speakers", ""
    else:
        p, over, others = found.p_utterances_holm, "over utterances", "; this says nothing about other speakers"
    over += "" if 1 in found.num_seeds else " and the seeds"
    over += f", Holm-corrected for {found.num_pairs} pairs" if found.num_pairs > 1 else ""
    if p >= SIGNIFICANT:
        return f"; not significant (p = {p:.2g} {over}), which does not show that they are equally good"
    return f"; significant at {100 * SIGNIFICANT:g} % (p = {p:.2g} {over}){others}"


def _of_one_seed(found: Comparison) -> str:
    names = [name for name, number in zip((found.first, found.second), found.num_seeds, strict=True) if number == 1]
    heads = "this one trained head" if len(names) == 1 else "these trained heads"
    return f" With one seed of {' and '.join(names)}, this is valid only for {heads}." if names else ""


def _with_common_classes(runs: Mapping[str, Predictions]) -> dict[str, Predictions]:
    """Check that all runs tested the same utterances, and return the runs with the classes of all runs."""
    (first_name, first), *others = runs.items()
    expected = _tested(first)
    for name, predictions in others:
        if (predictions.dimensions, predictions.labels) != (first.dimensions, first.labels):
            kinds = [", ".join((*run.dimensions, *run.labels)) or "classes" for run in (predictions, first)]
            raise PredictionsError(
                f"{name} predicts {kinds[0]}, but {first_name} predicts {kinds[1]}; compare runs of the same task"
            )
        found = _tested(predictions)
        alone = sorted(set(found.index) ^ set(expected.index))
        if alone:
            raise PredictionsError(
                f"{name} tested {len(found)} utterances and {first_name} {len(expected)}, but not the same: only one "
                f"run has {listed(alone)}; compare runs of the same corpus, selection and protocol"
            )
        for column in expected:
            differing = found.index[(found[column] != expected[column]).to_numpy()]
            if len(differing):
                utterance_id = differing[0]
                raise PredictionsError(
                    f"{name} and {first_name} have different values of {column} for {listed(differing)} "
                    f"({found[column].loc[utterance_id]!r} and {expected[column].loc[utterance_id]!r}); compare runs "
                    "of the same target"
                )
    classes = tuple(dict.fromkeys(label for run in runs.values() for label in run.classes))
    return {
        name: Predictions(table=run.table, classes=classes, dimensions=run.dimensions, labels=run.labels)
        for name, run in runs.items()
    }


def _tested(predictions: Predictions) -> "pd.DataFrame":
    columns = ["utterance_id", "speaker_id", *predictions.targets]
    return predictions.table[columns].drop_duplicates("utterance_id").set_index("utterance_id").sort_index()


def _paired(score: str, names: tuple[str, str], first: Tested, second: Tested) -> Comparison:
    """Compare one score of two runs, without correction for other pairs."""
    position = first.sums.names.index(score)
    means = [float(run.sums.score(run.sums.of_seeds()).mean(axis=0)[position]) for run in (first, second)]
    if np.isnan(means).any():
        raise PredictionsError(f"{names[0]} or {names[1]} has no {label_of(score)}: its values are constant in a seed")
    over_utterances = first.utterances.difference(second.utterances, position)
    over_speakers, own = None, np.zeros(0)
    if first.speakers is not None and second.speakers is not None:
        over_speakers = first.speakers.difference(second.speakers, position)
        own = first.speakers.own_differences(second.speakers, position)
    over = over_speakers or over_utterances
    p_speakers = over_speakers.p if over_speakers else None
    least_p_speakers = over_speakers.least_p if over_speakers else None
    return Comparison(
        first=names[0],
        second=names[1],
        score=score,
        first_mean=means[0],
        second_mean=means[1],
        difference=means[0] - means[1],
        ci95=over.bounds,
        gain=100 * (means[0] - means[1]) / means[1] if means[1] > 0 else None,
        gain_ci95=over.gain_bounds if means[1] > 0 else None,
        unit="speakers" if over_speakers else "utterances",
        count=over.count,
        p_speakers=p_speakers,
        p_utterances=over_utterances.p,
        least_p_speakers=least_p_speakers,
        p_speakers_holm=p_speakers,
        p_utterances_holm=over_utterances.p,
        least_p_speakers_holm=least_p_speakers,
        effect_size=_effect_size(own),
        speakers_better=int((own > SAME).sum()),
        speakers_worse=int((own < -SAME).sum()),
        num_utterances=len(first.sums.utterance_ids),
        num_seeds=(len(first.sums.seeds), len(second.sums.seeds)),
        num_pairs=1,
    )


def _effect_size(differences: Numbers) -> float | None:
    spread = differences.std(ddof=1) if len(differences) > 1 else 0.0
    return float(differences.mean() / spread) if spread > SAME else None


def corrected(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Apply Holm's correction to the comparisons of one score, for example of each layer of two models.

    Args:
        comparisons: Comparisons, each without correction or with its own; all of them count as pairs.
    """
    number = len(comparisons)
    of_speakers = [one.p_speakers for one in comparisons if one.p_speakers is not None]
    speakers: Sequence[float | None] = holm(of_speakers) if len(of_speakers) == number else [None] * number
    utterances = holm([one.p_utterances for one in comparisons])
    return [
        replace(
            one,
            p_speakers_holm=p_speakers,
            p_utterances_holm=p_utterances,
            least_p_speakers_holm=None if one.least_p_speakers is None else min(1.0, one.least_p_speakers * number),
            num_pairs=number,
        )
        for one, p_speakers, p_utterances in zip(comparisons, speakers, utterances, strict=True)
    ]
