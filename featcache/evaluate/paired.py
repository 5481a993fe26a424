"""Sums of two runs over the same units → the difference of their scores, its interval and p value."""

from dataclasses import dataclass

import numpy as np

from featcache.evaluate.intervals import FEWEST, units_of
from featcache.evaluate.sums import Codes, Sums
from featcache.evaluate.variance import SAME, Effects, Numbers, estimate, ratio_bounds


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A difference of two runs over some units.

    Attributes:
        bounds: Its 95 % interval; None for fewer than three units.
        gain_bounds: That of the difference in percent of the second score; None also where it has no finite bounds.
        p: Two-sided p value.
        least_p: The lowest that the units that differ can show.
        count: How many units there are.
    """

    bounds: tuple[float, float] | None
    gain_bounds: tuple[float, float] | None
    p: float
    least_p: float
    count: int


@dataclass(frozen=True, kw_only=True)
class Units:
    """A run seen over speakers or utterances.

    Attributes:
        sums: The run.
        averaged: (num_units, num_sums) the sums of each unit, averaged over the seeds.
        effects: (num_scores,) what the units do to each score.
    """

    sums: Sums
    averaged: Numbers
    effects: list[Effects]

    @classmethod
    def of(cls, sums: Sums, units: Codes) -> "Units":
        """The run over these units, (num_utterances,) the position of each utterance's unit."""
        of_units = sums.of_units(units)
        averaged = sum(of_units[:, columns] for columns in _columns_of_seeds(sums)) / len(sums.seeds)
        return cls(sums=sums, averaged=averaged.toarray(), effects=sums.effects(units))

    def difference(self, other: "Units", position: int) -> Difference:
        """How much better this run scores than another one of the same units, in the score at this position."""
        differing = int((np.abs(self.averaged - other.averaged) > SAME).any(axis=1).sum())
        count, least = len(self.averaged), least_p(differing)
        if count < FEWEST or differing == 0:
            # the same predictions do not come from seeds of their own, and leave nothing to chance
            same = (0.0, 0.0) if differing == 0 and count >= FEWEST else None
            return Difference(bounds=same, gain_bounds=same, p=1.0, least_p=least, count=count)
        effects = [units.effects[position] for units in (self, other)]
        found = estimate(effects, (1, -1))
        low, high = found.plain_bounds(self.sums.scales[position])
        gain_low, gain_high = 100 * (ratio_bounds(effects) - 1)
        return Difference(
            bounds=(float(low), float(high)),
            gain_bounds=None if np.isnan(gain_low) else (float(gain_low), float(gain_high)),
            p=max(float(found.p), least),
            least_p=least,
            count=count,
        )

    def own_differences(self, other: "Units", position: int) -> Numbers:
        """(num_units_with_a_score,) the differences of the units' own scores."""
        one, two = (units.sums.score(units.averaged)[..., position] for units in (self, other))
        return (one - two)[~np.isnan(one - two)]


@dataclass(frozen=True, kw_only=True)
class Tested:
    """A run, seen over utterances and, where at least three are known, over speakers."""

    sums: Sums
    utterances: Units
    speakers: Units | None

    @classmethod
    def of(cls, sums: Sums) -> "Tested":
        units, count, unit = units_of(sums.speaker_ids)
        return cls(
            sums=sums,
            utterances=Units.of(sums, np.arange(len(sums.utterance_ids))),
            speakers=Units.of(sums, units) if unit == "speakers" and count >= FEWEST else None,
        )


def least_p(count: int) -> float:
    """Return the lowest p that so many units can show, whatever the distribution of their differences.

    If two runs are equally good, each unit's difference is as likely to have the other sign, so that the signs of n
    units agree with a probability of 2 / 2ⁿ. No smaller p is reported: Student's t alone would claim more from a few
    units, by the assumption that their differences are normal. One unit, or none, shows nothing.
    """
    return min(1.0, 2.0 ** (1 - count))


def _columns_of_seeds(sums: Sums) -> list[slice]:
    """The columns that each seed has in the sums of units."""
    width = sums.rows.shape[1]
    return [slice(seed * width, (seed + 1) * width) for seed in range(len(sums.seeds))]
