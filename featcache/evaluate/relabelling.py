"""Sums of speakers in groups → p value of the largest gap between groups, by exchanging the groups of speakers.

If the groups make no difference, the names of the groups can be exchanged: between speakers, if every speaker belongs
to one group (gender), or between the parts of one speaker, if speakers belong to several groups (intensity; with two
groups, this is the paired test that flips signs). The statistic is the largest gap between any two groups, so the p
value also accounts for the choice of the pair.

Source: Fisher 1935, The design of experiments; Phipson & Smyth 2010, Permutation p-values should never be zero.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice, product

import numpy as np

from featcache.evaluate.sums import Codes
from featcache.evaluate.variance import SAME, Numbers

# With more possible relabellings than this, as many are drawn at random, always the same ones.
MOST = 9_999
_NUMBERS_AT_ONCE = 2_000_000  # 16 MB


@dataclass(frozen=True, kw_only=True)
class Relabelled:
    """Result of a permutation test.

    Attributes:
        p: Share of the relabellings whose largest gap is at least the observed one; the observed labels count as one.
        least_p: Lowest p value that is possible with these speakers.
        number: Number of relabellings, the observed one included.
        exact: Whether these are all that exist; otherwise they are drawn at random.
    """

    p: float
    least_p: float
    number: int
    exact: bool


def relabelled(
    groups: Codes, strata: Sequence[Codes], spread: Callable[[Codes], Numbers], width: int, *, symmetric: int
) -> Relabelled:
    """Compute the p value of an observed spread between groups.

    Args:
        groups: (num_blocks,) position of each block's group; a block is what one speaker contributes to one group.
        strata: Positions of blocks that may exchange their groups; other blocks keep theirs.
        spread: Function (num_relabellings, num_blocks) groups → (num_relabellings,) largest gap; NaN if undefined,
            which counts as a large gap.
        width: Number of values that ``spread`` needs for each relabelling, to limit the memory.
        symmetric: Number of relabellings that only exchange the names of whole groups, and so never change the spread.

    Returns:
        The p value, and how it was computed.
    """
    possible = math.prod(_num_arrangements(groups[one]) for one in strata)
    observed = float(spread(groups[np.newaxis])[0])
    exact = possible <= MOST + 1
    rows = _all(groups, strata) if exact else chain([groups], _drawn(groups, strata))
    at_once = max(1, _NUMBERS_AT_ONCE // width)
    number = larger = 0
    while part := list(islice(rows, at_once)):
        number += len(part)
        larger += int((~(spread(np.stack(part)) < observed - SAME)).sum())
    least = symmetric / possible if exact else max(symmetric / possible, 1 / number)
    return Relabelled(p=larger / number, least_p=min(1.0, least), number=number, exact=exact)


def _num_arrangements(labels: Codes) -> int:
    counts = Counter(labels.tolist()).values()
    return math.factorial(len(labels)) // math.prod(map(math.factorial, counts))


def _all(groups: Codes, strata: Sequence[Codes]) -> Iterator[Codes]:
    """Yield every relabelling once."""
    of_strata = (list(_arrangements(Counter(groups[one].tolist()))) for one in strata)
    for chosen in product(*of_strata):
        labels = groups.copy()
        for one, arranged in zip(strata, chosen, strict=True):
            labels[one] = arranged
        yield labels


def _arrangements(left: Counter[int]) -> Iterator[tuple[int, ...]]:
    """Yield the different orders of labels, given how often each occurs."""
    if not left.total():
        yield ()
    for label in sorted(left):
        if left[label]:
            rest = left.copy()
            rest[label] -= 1
            for others in _arrangements(rest):
                yield label, *others


def _drawn(groups: Codes, strata: Sequence[Codes]) -> Iterator[Codes]:
    rng = np.random.default_rng(0)
    for _ in range(MOST):
        labels = groups.copy()
        for one in strata:
            labels[one] = rng.permutation(groups[one])
        yield labels
