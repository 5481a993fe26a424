"""Runs that tested the same utterances → paired differences, their intervals, tests and size.

Seeds enter averaged: the score of a run is the mean over its seeds, and in the tests an utterance counts with the mean
of its sums over the seeds (of its confusion counts, or moments), so that runs may have different numbers of seeds.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featcache.errors import PredictionsError, listed, unknown_name
from featcache.evaluate.intervals import bootstrap
from featcache.evaluate.permutation import SAME, holm, swap_test
from featcache.evaluate.predictions import Predictions
from featcache.evaluate.score import sums_of
from featcache.evaluate.sums import Numbers, Sums, ratio

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
        ci95: The 95 % interval of the difference, from the paired bootstrap over ``unit``; None without meaning.
        gain: The difference in percent of the second run's score; None where that is not above 0.
        gain_ci95: Its 95 % interval, from the same draws.
        unit, count: What was drawn, and how many of them there are.
        p_speakers: Two-sided p of swapping the runs in whole speakers; None where the speakers cannot be told apart.
        p_utterances: The same for single utterances: it speaks of these speakers only.
        least_p_speakers: The lowest p that so many speakers can reach; None as for ``p_speakers``.
        p_speakers_holm, p_utterances_holm: The same p, corrected by Holm for the pairs that were compared.
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
    effect_size: float | None
    speakers_better: int
    speakers_worse: int
    num_utterances: int
    num_seeds: tuple[int, int]
    num_pairs: int


def compare(runs: Mapping[str, Predictions], *, score: str | None = None) -> list[Comparison]:
    """Compare every pair of runs: UAR and WA of classifications, CCC of regressions and of each of their dimensions.

    The p values come from permutation tests (scipy.stats.permutation_test): under the hypothesis that both runs are
    equally good, swapping their predictions in any speaker (or utterance) gives a difference that is as likely. With
    several pairs they are corrected by Holm, which bounds the chance of any false claim; a false discovery rate would
    only bound the share of false ones among the claims.

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
    sums = {name: sums_of(predictions) for name, predictions in runs.items()}
    dimensions = next(iter(runs.values())).dimensions
    of_dimensions = [f"ccc_{name}" for name in dimensions] if len(dimensions) > 1 else []
    scores = ("ccc", *of_dimensions) if dimensions else ("uar", "wa")
    if score is not None:
        if score not in scores:
            raise PredictionsError(unknown_name("score of these runs", score, scores))
        scores = (score,)
    pairs = list(itertools.combinations(sums, 2))
    rows = [[_paired(one, pair, *(sums[name] for name in pair)) for pair in pairs] for one in scores]
    return [Comparison(**row) for of_score in map(_corrected, rows) for row in of_score]


def sentence(comparison: Comparison) -> str:
    """What a comparison means, in plain words."""
    found = comparison
    unit, digits = ("", 3) if found.score.startswith("ccc") else (" points", 1)
    name = score_name(found.score)
    tested = found.p_speakers_holm is not None
    p = found.p_speakers_holm if found.p_speakers_holm is not None else found.p_utterances_holm
    over = f"over {found.count} speakers" if tested else "over utterances only"
    if found.difference == 0:
        return f"{found.first} and {found.second} have the same {name}."
    better, worse = (found.first, found.second) if found.difference > 0 else (found.second, found.first)
    size = f"{better} scores {abs(found.difference):.{digits}f}{unit} higher in {name} than {worse}"
    if found.least_p_speakers is not None and found.least_p_speakers >= SIGNIFICANT:
        return (
            f"{size}, but {found.count} speakers are too few to show it for others: no difference between these runs "
            f"could reach p < {SIGNIFICANT} over speakers (the lowest possible is {found.least_p_speakers:.3g})."
        )
    if p >= SIGNIFICANT:
        return f"{size}; this may be chance (p = {p:.2g} {over}), which does not show that they are equally good."
    others = "" if tested else "; of other speakers it says nothing"
    return f"{size}; chance alone would seldom give such a difference (p = {p:.2g} {over}){others}."


def score_name(score: str) -> str:
    """``UAR``, or ``CCC arousal``."""
    kind, _, dimension = score.partition("_")
    return f"{kind.upper()} {dimension}".rstrip()


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


def _paired(score: str, names: tuple[str, str], first: Sums, second: Sums) -> dict[str, Any]:
    """The fields of a comparison but for Holm's."""
    from scipy import sparse

    position = first.names.index(score)
    utterances = [sums.of_utterances() for sums in (first, second)]
    width = utterances[0].shape[1]

    def difference_and_gain(both: Numbers) -> Numbers:
        one, other = (
            sums.over_seeds(part)[..., position]
            for sums, part in ((first, both[..., :width]), (second, both[..., width:]))
        )
        return np.stack([one - other, 100 * ratio(one - other, other)], axis=-1)

    intervals = bootstrap(sparse.hstack(utterances, format="csr"), difference_and_gain, speaker_ids=first.speaker_ids)
    means = [float(sums.score(sums.of_seeds()).mean(axis=0)[position]) for sums in (first, second)]
    if np.isnan(means).any():
        raise PredictionsError(
            f"{names[0]} or {names[1]} has no {score_name(score)}: its values do not vary in some seed"
        )

    # (num_utterances, num_sums), averaged over the seeds
    averaged = [
        table.toarray().reshape(table.shape[0], len(sums.seeds), -1).mean(axis=1)
        for table, sums in zip(utterances, (first, second), strict=True)
    ]

    def one_score(sums: Numbers) -> Numbers:
        return first.score(sums)[..., position]

    by_speaker = intervals.unit == "speakers"
    speakers = np.unique(first.speaker_ids, return_inverse=True)[1]
    of_speakers = [_summed(values, speakers) for values in averaged]
    own = one_score(of_speakers[0]) - one_score(of_speakers[1])
    own = own[~np.isnan(own)]
    p_speakers, least = swap_test(of_speakers[0], of_speakers[1], one_score) if by_speaker else (None, None)
    bounds = [None if np.isnan(low) else (float(low), float(high)) for low, high in intervals.bounds]
    return {
        "first": names[0],
        "second": names[1],
        "score": score,
        "first_mean": means[0],
        "second_mean": means[1],
        "difference": means[0] - means[1],
        "ci95": bounds[0],
        "gain": 100 * (means[0] - means[1]) / means[1] if means[1] > 0 else None,
        "gain_ci95": bounds[1] if means[1] > 0 else None,
        "unit": intervals.unit,
        "count": intervals.count,
        "p_speakers": p_speakers,
        "p_utterances": swap_test(averaged[0], averaged[1], one_score)[0],
        "least_p_speakers": least,
        "effect_size": _effect_size(own) if by_speaker else None,
        "speakers_better": int((own > SAME).sum()) if by_speaker else 0,
        "speakers_worse": int((own < -SAME).sum()) if by_speaker else 0,
        "num_utterances": len(first.utterance_ids),
        "num_seeds": (len(first.seeds), len(second.seeds)),
    }


def _summed(values: Numbers, groups: NDArray[np.intp]) -> Numbers:
    sums = np.zeros((groups.max() + 1, values.shape[1]))
    np.add.at(sums, groups, values)
    return sums


def _effect_size(differences: Numbers) -> float | None:
    spread = differences.std(ddof=1) if len(differences) > 1 else 0.0
    return float(differences.mean() / spread) if spread > SAME else None


def _corrected(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of one score with Holm's corrections added."""
    of_speakers = [row["p_speakers"] for row in rows]
    known = None not in of_speakers
    corrected = {
        "p_speakers_holm": holm(of_speakers) if known else [None] * len(rows),
        "p_utterances_holm": holm([row["p_utterances"] for row in rows]),
    }
    return [
        row | {name: values[i] for name, values in corrected.items()} | {"num_pairs": len(rows)}
        for i, row in enumerate(rows)
    ]
