"""Scores of seeds and influence of units → variance of a mean over seeds, its degrees of freedom, interval and p value.

Seeds and units (speakers or utterances) are crossed random effects, like readers and cases in studies of diagnostic
images: every seed predicts every unit. For S units, K seeds and the influence of unit i on the score of seed k:

* The variance of the units' mean influence estimates σ²(units)/S + σ²(interaction)/(S K).
* The variance of the seeds' scores estimates σ²(seeds)/K + σ²(interaction)/(S K).
* The residual variance of the influence estimates the interaction alone, which the first two both include.

The variance of the mean over seeds is the first term, plus the second minus the third if this difference is above 0.
The degrees of freedom follow Satterthwaite. Different runs share the units, but each run has its own seeds. With one
seed, only the first term exists: it is the variance of this one trained head over units.

Source: Dorfman, Berbaum & Metz 1992, Receiver operating characteristic rating analysis; Hillis 2007, A comparison of
denominator degrees of freedom methods for multiple observer ROC analysis; Satterthwaite 1946; the influence is the
infinitesimal jackknife: Jaeckel 1972, Efron 1982. ``docs/coverage.md`` shows how often intervals contain the true
value.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Scale = tuple[float, float]

SAME = 1e-9  # scores that differ by less are equal up to rounding
LEVEL = 0.95
_STEP = 1e-3  # relative change of a unit's weight; the error of the derivative is of the order of its square


@dataclass(frozen=True, kw_only=True)
class Effects:
    """Scores of the seeds of one run, and the influence of each unit on them.

    Attributes:
        scores: (…, num_seeds) float64.
        influence: (…, num_units, num_seeds) float64, derivative of each score with respect to the weight of each unit,
            at weights of 1; the sum over units is 0.
    """

    scores: Numbers
    influence: Numbers


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Estimate of a weighted sum of the mean scores of runs.

    Attributes:
        value: (…) float64, the weighted sum.
        variance: (…) float64, variance over repetitions with other units and other seeds.
        freedom: (…) float64, degrees of freedom of the variance.
    """

    value: Numbers
    variance: Numbers
    freedom: Numbers

    @property
    def quantile(self) -> Numbers:
        """Quantile of Student's t for two-sided 95 %, (…) float64."""
        from scipy import special

        quantile: Numbers = special.stdtrit(self.freedom, (1 + LEVEL) / 2)
        return quantile

    @property
    def margin(self) -> Numbers:
        """Half the width of the 95 % interval, (…) float64."""
        return self.quantile * np.sqrt(self.variance)

    @property
    def p(self) -> Numbers:
        """Two-sided p value for the hypothesis that the value is 0, (…) float64.

        It is below 0.05 if 0 is outside ``value ± margin``.
        """
        from scipy import special

        error = np.sqrt(self.variance)
        certain = np.where(np.abs(self.value) > SAME, np.inf, 0.0)  # for a variance of 0
        t = np.divide(np.abs(self.value), error, out=certain, where=error > SAME)
        p: Numbers = 2 * special.stdtr(self.freedom, -t)
        return np.minimum(p, 1.0)

    def bounds(self, scale: Scale) -> Numbers:
        """Return the 95 % interval of a bounded score, symmetric in the log odds.

        Near a bound of the scale, the interval is longer towards the middle, and it never leaves the scale. For a scale
        from −1 to 1, this is Fisher's z transform; without an upper bound, it is the logarithm.

        Args:
            scale: Lowest and highest possible score; the highest may be infinite.

        Returns:
            (…, 2) float64, in the unit of the score; NaN if the value is NaN.

        Source: delta method; Fisher 1921, On the probable error of a coefficient of correlation.
        """
        low, high = scale
        below, above = self.value - low, high - self.value
        sides = np.array([-1.0, 1.0])
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            steps = (self.margin * (1 / below + 1 / above))[..., np.newaxis] * sides
            odds = np.log(below)[..., np.newaxis] + steps
            if np.isinf(high):
                found = low + np.exp(odds)
            else:
                odds = odds - np.log(above)[..., np.newaxis]
                found = low + (high - low) / (1 + np.exp(-odds))
        exact = (np.sqrt(self.variance) <= SAME) | (below <= SAME) | (above <= SAME)
        return np.where(exact[..., np.newaxis], self.value[..., np.newaxis], found)

    def plain_bounds(self, scale: Scale) -> Numbers:
        """Return the 95 % interval value ± margin of a difference between two bounded scores: (…, 2).

        Args:
            scale: Lowest and highest possible score.
        """
        width = scale[1] - scale[0]
        return np.clip(np.stack([self.value - self.margin, self.value + self.margin], axis=-1), -width, width)


def influence(totals: Numbers, units: Numbers, score: Callable[[Numbers], Numbers]) -> Numbers:
    """Return the derivative of scores with respect to the weight of each unit.

    The weight of one unit is slightly increased and decreased, and the weights of all other units stay. Therefore, no
    class of a small table is lost, unlike in methods that leave out or resample whole units.

    Args:
        totals: (…, num_seeds, num_sums) sums over all units.
        units: (…, num_units, num_seeds, num_sums) sums of each unit.
        score: Function (…, num_sums) → (…, num_scores).

    Returns:
        (…, num_units, num_seeds, num_scores) float64.
    """
    around = totals[..., np.newaxis, :, :]
    return (score(around + _STEP * units) - score(around - _STEP * units)) / (2 * _STEP)


def estimate(runs: Sequence[Effects], weights: Sequence[float]) -> Estimate:
    """Estimate a weighted sum of the mean scores of runs; weights of 1 and −1 give a difference.

    Args:
        runs: Effects of the same units, at least two units, on each run; the numbers of seeds may differ.
        weights: (num_runs,) weights of the runs.
    """
    num_units = runs[0].influence.shape[-2]
    value = np.tensordot(weights, np.stack([run.scores.mean(axis=-1) for run in runs]), axes=1)
    of_units = np.tensordot(weights, np.stack([run.influence.mean(axis=-1) for run in runs]), axes=1)
    variance = num_units / (num_units - 1) * (of_units**2).sum(axis=-1)
    inverse = variance**2 / (num_units - 1)
    least = np.full(np.shape(variance), num_units - 1.0)
    for weight, run in zip(weights, runs, strict=True):
        of_seeds, part = _of_training(run)
        variance = variance + weight**2 * of_seeds
        inverse = inverse + weight**4 * part
        least = np.where(of_seeds > 0, np.minimum(least, run.scores.shape[-1] - 1), least)
    freedom = np.divide(variance**2, inverse, out=least.copy(), where=inverse > 0)
    # A difference of variances can have fewer degrees of freedom than each of them; a sum of variances cannot.
    return Estimate(value=value, variance=variance, freedom=np.maximum(freedom, least))


def ratio_bounds(runs: Sequence[Effects]) -> Numbers:
    """Return the 95 % interval of the ratio of the first run's mean score to the second run's.

    It contains 1 if the interval of the difference contains 0, because both use the same t quantile.

    Args:
        runs: Effects of the same units on the first and the second run.

    Returns:
        (…, 2) float64; NaN if the second score does not differ significantly from 0, because the ratio is unbounded.

    Source: Fieller 1954, Some problems in interval estimation.
    """
    first, second, difference = (estimate(runs, weights) for weights in ((1, 0), (0, 1), (1, -1)))
    squared = difference.quantile**2
    shared = (first.variance + second.variance - difference.variance) / 2
    a = second.value**2 - squared * second.variance
    b = first.value * second.value - squared * shared
    c = first.value**2 - squared * first.variance
    bounded = (a > 0) & (second.value > 0)
    root = np.sqrt(np.maximum(b**2 - a * c, 0))
    roots = np.stack([b - root, b + root], axis=-1)
    return np.where(bounded[..., np.newaxis], roots / np.where(bounded, a, 1.0)[..., np.newaxis], np.nan)


def _of_training(run: Effects) -> tuple[Numbers, Numbers]:
    """Return the variance added by seeds, and its term in the denominator of Satterthwaite's formula."""
    num_units, num_seeds = run.influence.shape[-2:]
    none = np.zeros(run.scores.shape[:-1])
    if num_seeds == 1:
        return none, none
    seeds = run.scores.var(axis=-1, ddof=1) / num_seeds
    left = run.influence - run.influence.mean(axis=-1, keepdims=True)
    scaled = num_units / (num_units - 1) / (num_seeds * (num_seeds - 1))
    interaction = scaled * (left**2).sum(axis=(-2, -1))
    added = np.maximum(seeds - interaction, 0)
    inverse = seeds**2 / (num_seeds - 1) + interaction**2 / ((num_units - 1) * (num_seeds - 1))
    return added, np.where(added > 0, inverse, 0)
