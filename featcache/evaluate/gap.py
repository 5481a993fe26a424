"""Predictions × groups of utterances → the largest gap between groups, its interval and its test over speakers."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from featcache.evaluate.compare import SIGNIFICANT
from featcache.evaluate.intervals import FEWEST, units_of
from featcache.evaluate.predictions import Predictions
from featcache.evaluate.relabelling import relabelled
from featcache.evaluate.scores import find_score, label_of
from featcache.evaluate.scoring import sums_of
from featcache.evaluate.sums import Codes, Sums
from featcache.evaluate.variance import Effects, Numbers, estimate

BETWEEN, WITHIN = "between speakers", "within speakers"


@dataclass(frozen=True, kw_only=True)
class Gap:
    """The largest gap between two groups in the main score, UAR or CCC.

    Attributes:
        score: Name of the score.
        higher, lower: Groups with the highest and the lowest score.
        difference: Their difference, mean over seeds.
        ci95: 95 % interval of this difference over speakers and seeds. The pair was chosen by its difference, so with
            more than two groups the interval is too optimistic.
        kind: ``between speakers`` if every speaker belongs to one group, otherwise ``within speakers``.
        num_groups: Number of compared groups.
        num_speakers: Number of speakers whose groups are exchanged in the test.
        p: Two-sided p value of the permutation test, see :mod:`featcache.evaluate.relabelling`.
        least_p: Lowest p value that is possible with these speakers.
        p_holm: ``p`` with Holm's correction for all groupings that were tested.
        num_groupings: Number of these groupings.
        num_relabellings: Number of relabellings in the test.
        exact: Whether these are all relabellings that exist.
    """

    score: str
    higher: str
    lower: str
    difference: float
    ci95: tuple[float, float] | None
    kind: str
    num_groups: int
    num_speakers: int
    p: float
    least_p: float
    p_holm: float
    num_groupings: int = 1
    num_relabellings: int
    exact: bool


def largest_gap(predictions: Predictions, names: Sequence[str], group_of: Callable[[str], int]) -> Gap | str:
    """Compare groups of utterances.

    Args:
        predictions: Checked predictions of the utterances in the groups. All speakers are known.
        names: Names of the groups, at least two.
        group_of: Function utterance id → position of its group.

    Returns:
        The gap, or the reason why there is no test.
    """
    sums = sums_of(predictions)
    group = np.array([group_of(utterance_id) for utterance_id in sums.utterance_ids])
    units, num_speakers, _ = units_of(sums.speaker_ids)
    codes, block = np.unique(units * len(names) + group, return_inverse=True)
    speaker_of, group_of_block = codes // len(names), codes % len(names)
    of_speaker, of_group = np.bincount(speaker_of), np.bincount(group_of_block, minlength=len(names))
    if of_group.min() < FEWEST:
        return f"not tested: {names[int(of_group.argmin())]} has fewer than {FEWEST} speakers with these classes"
    kind = WITHIN if (of_speaker > 1).any() else BETWEEN
    paired = np.flatnonzero(of_speaker > 1)
    if kind == WITHIN and len(paired) < FEWEST:
        return f"not tested: only {len(paired)} of {num_speakers} speakers are in several groups"
    grouped = _by_group(sums, group, names)
    scores = grouped.score(grouped.of_seeds()).mean(axis=0)
    if np.isnan(scores).any():
        missing = ", ".join(name for name, score in zip(names, scores, strict=True) if np.isnan(score))
        return f"not tested: the {label_of(sums.names[0])} of {missing} is undefined, because its values are constant"
    high, low = int(scores.argmax()), int(scores.argmin())
    strata = [np.flatnonzero(speaker_of == one) for one in paired] if kind == WITHIN else [np.arange(len(codes))]
    found = relabelled(
        group_of_block,
        strata,
        _spread(sums, sums.of_units(block).toarray(), len(names)),
        len(names) * max(len(codes), sums.rows.shape[1] * len(sums.seeds)),
        symmetric=_num_symmetric(kind, group_of_block, of_speaker, len(names)),
    )
    return Gap(
        score=sums.names[0],
        higher=names[high],
        lower=names[low],
        difference=float(scores[high] - scores[low]),
        ci95=_interval(grouped, units, high, low, group_of_block if kind == BETWEEN else None),
        kind=kind,
        num_groups=len(names),
        num_speakers=len(paired) if kind == WITHIN else num_speakers,
        p=found.p,
        p_holm=found.p,
        least_p=found.least_p,
        num_relabellings=found.number,
        exact=found.exact,
    )


def _by_group(sums: Sums, group: Codes, names: Sequence[str]) -> Sums:
    """Return sums with a part for each group, whose scores are the main score of each group."""
    from scipy import sparse

    rows, width = sums.rows.tocsr(), sums.rows.shape[1]
    shift = np.repeat(group[sums.utterance] * width, np.diff(rows.indptr))
    shape = (rows.shape[0], width * len(names))

    def score(values: Numbers) -> Numbers:
        return sums.score(values.reshape(*values.shape[:-1], len(names), width))[..., 0]

    return replace(
        sums,
        rows=sparse.csr_array((rows.data, rows.indices + shift, rows.indptr), shape=shape),
        score=score,
        names=tuple(names),
        scales=(sums.scales[0],) * len(names),
    )


def _spread(sums: Sums, blocks: Numbers, num_groups: int) -> Callable[[Codes], Numbers]:
    """Return the function from groups of blocks to the largest gap."""

    def spread(labels: Codes) -> Numbers:
        members = (labels[:, np.newaxis] == np.arange(num_groups)[:, np.newaxis]).astype(float)
        summed = (members @ blocks).reshape(len(labels), num_groups, len(sums.seeds), -1)
        scores = sums.score(summed)[..., 0].mean(axis=-1)
        gap: Numbers = scores.max(axis=1) - scores.min(axis=1)
        return gap

    return spread


def _num_symmetric(kind: str, groups: Codes, of_speaker: Codes, num_groups: int) -> int:
    """Return how many relabellings only exchange the names of whole groups."""
    if kind == BETWEEN:
        equal = Counter(np.bincount(groups).tolist()).values()
        return math.prod(map(math.factorial, equal))
    return math.factorial(num_groups) if (of_speaker == num_groups).all() else 1


def _interval(
    grouped: Sums, units: Codes, high: int, low: int, group_of_speaker: Codes | None
) -> tuple[float, float] | None:
    """Return the 95 % interval of a difference between two groups.

    Args:
        grouped: Sums with a part for each group.
        units: (num_utterances,) position of each utterance's speaker.
        high, low: Positions of the two groups.
        group_of_speaker: (num_speakers,) group of each speaker; None if speakers are in several groups.
    """
    effects = grouped.effects(units)
    influence = effects[high].influence - effects[low].influence
    if group_of_speaker is not None:
        # The variance of independent groups is the sum of their variances, each with its own number of speakers.
        sizes, number = np.bincount(group_of_speaker), len(group_of_speaker)
        factor = sizes / (sizes - 1) * (number - 1) / number
        influence = influence * np.sqrt(factor[group_of_speaker])[:, np.newaxis]
    difference = Effects(scores=effects[high].scores - effects[low].scores, influence=influence)
    bounds = estimate([difference], [1]).plain_bounds(grouped.scales[0])
    return None if np.isnan(bounds).any() else (float(bounds[0]), float(bounds[1]))


def gap_sentence(grouping: str, gap: Gap) -> str:
    """Return a gap as a sentence.

    Args:
        grouping: Name of the label that makes the groups.
        gap: The gap.
    """
    score, _ = find_score(gap.score)
    unit, digits = " points" if score.unit else "", score.digits
    if round(gap.difference, digits + 6) == 0:
        return f"{grouping}: all groups have the same {score.label}."
    bounds = "" if gap.ci95 is None else f" (95 % CI {gap.ci95[0]:.{digits}f} to {gap.ci95[1]:.{digits}f})"
    size = f"{gap.higher} scores {gap.difference:.{digits}f}{unit} higher in {score.label} than {gap.lower}{bounds}"
    largest = f", the largest gap of {gap.num_groups} groups" if gap.num_groups > 2 else ""
    return f"{grouping}: {size}{largest}; {_judged(gap)}."


def _judged(gap: Gap) -> str:
    over = f"over {gap.num_speakers} speakers, {gap.kind}"
    holm = f", Holm-corrected for {gap.num_groupings} labels" if gap.num_groupings > 1 else ""
    least = min(1.0, gap.least_p * gap.num_groupings)
    if least >= SIGNIFICANT:
        return f"{gap.num_speakers} speakers are too few for a test: the lowest possible p is {least:.2g}"
    p = "p < 0.001" if gap.p_holm < 0.001 else f"p = {gap.p_holm:.2g}"
    if gap.p_holm < SIGNIFICANT:
        return f"significant at {100 * SIGNIFICANT:g} % ({p} {over}{holm})"
    return f"not significant ({p} {over}{holm}), which does not show that they are equal"
