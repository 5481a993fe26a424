"""Sums of two runs over the same units → the difference of their scores, its interval and p value."""

from dataclasses import dataclass

import numpy as np

from featcache.evaluate.intervals import FEWEST, units_of
from featcache.evaluate.sums import Codes, Sums
from featcache.evaluate.variance import SAME, Effects, Numbers, estimate, ratio_bounds


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Difference between two runs over speakers or utterances.

    Attributes:
        bounds: 95 % interval of the difference; None for fewer than three units.
        gain_bounds: 95 % interval of the difference in percent of the second score; None also if the bounds are not
            finite.
        p: Two-sided p value.
        least_p: Lowest p value that is possible with the units that differ.
        count: Number of units.
    """

    bounds: tuple[float, float] | None
    gain_bounds: tuple[float, float] | None
    p: float
    least_p: float
    count: int


@dataclass(frozen=True, kw_only=True)
class Units:
    """Sums of a run, grouped by speakers or utterances.

    Attributes:
        sums: Sums of the run.
        averaged: (num_units, num_sums) sums of each unit, mean over seeds.
        effects: (num_scores,) effects of the units on each score.
    """

    sums: Sums
    averaged: Numbers
    effects: list[Effects]

    @classmethod
    def of(cls, sums: Sums, units: Codes) -> "Units":
        """Group a run by units.

        Args:
            sums: Sums of the run.
            units: (num_utterances,) position of each utterance's unit.
        """
        of_units = sums.of_units(units)
        averaged = sum(of_units[:, columns] for columns in _columns_of_seeds(sums)) / len(sums.seeds)
        return cls(sums=sums, averaged=averaged.toarray(), effects=sums.effects(units))

    def difference(self, other: "Units", position: int) -> Difference:
        """Return how much better this run scores than another run with the same units.

        Args:
            other: The other run.
            position: Position of the score.
        """
        differing = int((np.abs(self.averaged - other.averaged) > SAME).any(axis=1).sum())
        count, least = len(self.averaged), least_p(differing)
        if count < FEWEST or differing == 0:
            # Equal predictions do not come from independent seeds, and leave no uncertainty.
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
        """Return the differences between the scores of single units: (num_units,), without units that have no score.

        Args:
            other: The other run.
            position: Position of the score.
        """
        one, two = (units.sums.score(units.averaged)[..., position] for units in (self, other))
        return (one - two)[~np.isnan(one - two)]


@dataclass(frozen=True, kw_only=True)
class Tested:
    """Sums of a run, grouped by utterances and by speakers.

    Attributes:
        sums: Sums of the run.
        utterances: The run over utterances.
        speakers: The run over speakers; None if a speaker is unknown or there are fewer than three.
    """

    sums: Sums
    utterances: Units
    speakers: Units | None

    @classmethod
    def of(cls, sums: Sums) -> "Tested":
        """Group a run by utterances and by speakers."""
        units, count, unit = units_of(sums.speaker_ids)
        return cls(
            sums=sums,
            utterances=Units.of(sums, np.arange(len(sums.utterance_ids))),
            speakers=Units.of(sums, units) if unit == "speakers" and count >= FEWEST else None,
        )


def least_p(count: int) -> float:
    """Return the lowest p value that is possible with this number of units, for any distribution of differences.

    If two runs are equally good, both signs of a unit's difference are equally likely, so all n units have the same
    sign with a probability of 2 / 2ⁿ. No smaller p value is reported. Student's t alone would give smaller ones for few
    units, because it assumes normal differences. With one unit or none, the result is 1.
    """
    return min(1.0, 2.0 ** (1 - count))


def _columns_of_seeds(sums: Sums) -> list[slice]:
    """Return the columns of each seed in the sums of units."""
    width = sums.rows.shape[1]
    return [slice(seed * width, (seed + 1) * width) for seed in range(len(sums.seeds))]
