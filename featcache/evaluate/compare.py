"""Runs that tested the same utterances → paired differences, their intervals, tests and size.

The score of a run is the mean over its seeds. Speakers are the same in both runs and so paired, seeds are not: each run
has its own, and their numbers may differ. Intervals, gains and p values are all of :mod:`featcache.evaluate.variance`,
so that p < 0.05 where the interval of the difference leaves out 0. The exception are fewer than six units that differ,
see :func:`~featcache.evaluate.paired.least_p`.
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


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One score of two runs.

    Attributes:
        first, second: The names of the runs.
        score: ``uar`` or ``wa`` (percent), ``ccc`` ([-1, 1]), or the ``ccc_<dim>`` of one of several dimensions.
        first_mean, second_mean: The score of each, mean over seeds.
        difference: first − second.
        ci95: The 95 % interval of the difference over ``unit`` and seeds; None for fewer than three.
        gain: The difference in percent of the second run's score; None where that is not above 0.
        gain_ci95: Its 95 % interval; None also where the second run's score cannot be told from 0 (no finite bounds).
        unit, count: Over what the interval is, and how many of them there are: utterances where speakers are unknown
            or fewer than three.
        p_speakers: Two-sided p of the difference over speakers and seeds; None where ``unit`` is utterances.
        p_utterances: The same over utterances and seeds: it speaks of these speakers only.
        least_p_speakers: The lowest p that the speakers who differ can show, see :func:`least_p`; None as for
            ``p_speakers``.
        p_speakers_holm, p_utterances_holm: The same p, corrected by Holm for the pairs that were compared.
        least_p_speakers_holm: The lowest corrected p: ``least_p_speakers`` times the number of pairs, at most 1.
        effect_size: Cohen's d_z: mean over standard deviation of the speakers' own differences; None where undefined.
        speakers_better: In how many speakers the first run scores higher.
        speakers_worse: In how many speakers it scores lower.
        num_utterances: How many utterances both tested.
        num_seeds: Of the first and the second run.
        num_pairs: How many pairs of runs were compared.
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
    """Compare every pair of runs: UAR and WA of classifications, CCC of regressions and of each of their dimensions.

    With several pairs p values are corrected by Holm, which bounds the chance of any false claim; a false discovery
    rate would only bound the share of false ones among the claims. With one seed a result holds for that one trained
    head.

    Args:
        runs: Name → predictions, at least two.
        score: Compare this one alone.

    Raises:
        PredictionsError: fewer than two runs, runs that did not test the same utterances with the same targets, or
            another score than theirs.

    Source: Holm 1979, A simple sequentially rejective multiple test procedure; Cohen's d_z: Lakens 2013.
    """
    if len(runs) < 2:
        raise PredictionsError("one run cannot be compared; give two or more")
    runs = _with_common_classes(runs)
    tested = {name: Tested.of(sums_of(predictions)) for name, predictions in runs.items()}
    dimensions = next(iter(runs.values())).dimensions
    of_dimensions = [f"ccc_{name}" for name in dimensions] if len(dimensions) > 1 else []
    scores = ("ccc", *of_dimensions) if dimensions else ("uar", "wa")
    if score is not None:
        if score not in scores:
            raise PredictionsError(unknown_name("score of these runs", score, scores))
        scores = (score,)
    pairs = list(itertools.combinations(tested, 2))
    rows = [[_paired(one, pair, *(tested[name] for name in pair)) for pair in pairs] for one in scores]
    return [comparison for of_score in map(_corrected, rows) for comparison in of_score]


def sentence(comparison: Comparison) -> str:
    """What a comparison means, in plain words."""
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
    """Return what comparisons of one score mean, in at most ``most`` sentences and one about the other pairs."""
    if len(comparisons) <= most:
        return [sentence(comparison) for comparison in comparisons]
    few = _too_few(comparisons[0])
    if few:
        return [f"{few.replace('show it', 'show a difference')}."]
    judged = [(p_of(found), found) for found in comparisons]
    clear = sorted((pair for pair in judged if pair[0] < SIGNIFICANT), key=lambda pair: pair[0])[:most]
    left = len(comparisons) - len(clear)
    return [*(sentence(found) for _, found in clear), f"The table shows the other {left} of {len(comparisons)} pairs."]


def p_of(found: Comparison) -> float:
    """Return the corrected p value that a comparison is judged by: over speakers, else over utterances."""
    return found.p_utterances_holm if found.p_speakers_holm is None else found.p_speakers_holm


def _too_few(found: Comparison) -> str:
    """Say that no difference could be significant over speakers, as the rest of a sentence; empty if one could."""
    least = min(1.0, least_p(found.count) * found.num_pairs)
    if found.p_speakers_holm is None or least < SIGNIFICANT:
        return ""
    pairs = f" in {found.num_pairs} pairs" if found.num_pairs > 1 else ""
    return (
        f"{found.count} speakers are too few to show it for others: no difference{pairs} could reach "
        f"p < {SIGNIFICANT} over speakers (the lowest possible is {least:.3g})"
    )


def _judged(found: Comparison) -> str:
    """What can be said of the difference, as the rest of a sentence."""
    if few := _too_few(found):
        return f", but {few}"
    if found.p_speakers_holm is not None:
        p, over, others = found.p_speakers_holm, f"over {found.count} speakers", ""
    else:
        p, over, others = found.p_utterances_holm, "over utterances only", "; of other speakers it says nothing"
    over += "" if 1 in found.num_seeds else " and the seeds"
    if p >= SIGNIFICANT:
        return f"; this may be chance (p = {p:.2g} {over}), which does not show that they are equally good"
    return f"; chance alone would seldom give such a difference (p = {p:.2g} {over}){others}"


def _of_one_seed(found: Comparison) -> str:
    names = [name for name, number in zip((found.first, found.second), found.num_seeds, strict=True) if number == 1]
    heads = "this one trained head" if len(names) == 1 else "these trained heads"
    return f" With one seed of {' and '.join(names)}, this holds for {heads} only." if names else ""


def _with_common_classes(runs: Mapping[str, Predictions]) -> dict[str, Predictions]:
    """The runs with the classes of all, once it is clear that they tested the same."""
    (first_name, first), *others = runs.items()
    expected = _tested(first)
    for name, predictions in others:
        if predictions.dimensions != first.dimensions:
            kinds = [", ".join(run.dimensions) or "classes" for run in (predictions, first)]
            raise PredictionsError(f"{name} predicts {kinds[0]}, {first_name} {kinds[1]}; compare runs of one task")
        found = _tested(predictions)
        alone = sorted(set(found.index) ^ set(expected.index))
        if alone:
            raise PredictionsError(
                f"{name} tested {len(found)} utterances and {first_name} {len(expected)}, not the same ones: only one "
                f"has {listed(alone)}; compare runs of one corpus, selection and protocol"
            )
        for column in expected:
            differing = found.index[(found[column] != expected[column]).to_numpy()]
            if len(differing):
                utterance_id = differing[0]
                raise PredictionsError(
                    f"{name} and {first_name} have different values of {column} for {listed(differing)} "
                    f"({found[column].loc[utterance_id]!r} and {expected[column].loc[utterance_id]!r}); compare runs "
                    "of one target"
                )
    classes = tuple(dict.fromkeys(label for run in runs.values() for label in run.classes))
    return {
        name: Predictions(table=run.table, classes=classes, dimensions=run.dimensions) for name, run in runs.items()
    }


def _tested(predictions: Predictions) -> "pd.DataFrame":
    targets = [f"target_{name}" for name in predictions.dimensions] or ["target"]
    columns = ["utterance_id", "speaker_id", *targets]
    return predictions.table[columns].drop_duplicates("utterance_id").set_index("utterance_id").sort_index()


def _paired(score: str, names: tuple[str, str], first: Tested, second: Tested) -> Comparison:
    """Compare one score of two runs, as if they were the only pair."""
    position = first.sums.names.index(score)
    means = [float(run.sums.score(run.sums.of_seeds()).mean(axis=0)[position]) for run in (first, second)]
    if np.isnan(means).any():
        raise PredictionsError(
            f"{names[0]} or {names[1]} has no {label_of(score)}: its values do not vary in some seed"
        )
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


def _corrected(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Correct the comparisons of one score by Holm for the number of pairs."""
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
