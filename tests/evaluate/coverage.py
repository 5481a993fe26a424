"""How often 95 % intervals contain the true score: ``python -m tests.evaluate.coverage --out docs/coverage.md``.

In the simulation, each seed is a trained head that predicts 40 utterances of each speaker. Speakers, seeds, pairs of
speaker and seed, and utterances have normally distributed effects. Half of the residual variance belongs to the
utterance and is the same for all heads. The true score is the score for infinitely many speakers and seeds, computed in
closed form or by Gauss-Hermite quadrature. To compare a method with itself, the same speakers and utterances are
simulated with other seeds. All scores are simulated as sums, and estimated by the functions of featcache itself.

* UAR: there are four classes with 10 utterances each. A prediction is correct if the threshold of the class, the
  effects and the residual (variance 1) sum to more than 0. The standard deviation is 0.6 for the effect of speakers and
  0.15 for pairs of speaker and seed: if 70 % are correct on average, a third of the speakers is outside 51 to 87 %.
* CCC: targets are normally distributed; the standard deviation is 0.4 for means of speakers and 1 within speakers. A
  prediction is the sum of the target times a slope (0.6), an effect of the speaker (0.3), an effect of the pair (0.1),
  and a residual, which determines the CCC. The slope differs between seeds.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr

from featcache.evaluate.metrics import FUNCTIONS
from featcache.evaluate.paired import least_p
from featcache.evaluate.regression import scores_of_moments
from featcache.evaluate.variance import Effects, estimate, influence

SPEAKERS = (4, 10, 24, 100)
SEEDS = 5
CLASSES, PER_CLASS = 4, 10
UTTERANCES = CLASSES * PER_CLASS
HALF = 0.5**0.5  # a Python float, so float32 arrays stay float32
_AT_ONCE = 2000  # number of simulations x speakers that are computed together
_POINTS, _WEIGHTS = np.polynomial.hermite_e.hermegauss(80)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()


@dataclass(frozen=True)
class Uar:
    """Simulated classification.

    Attributes:
        mean: True UAR, mean over seeds, in %.
        std: Standard deviation of the UAR over seeds, in %.
    """

    mean: float
    std: float

    name, unit, stds = "UAR", 1.0, (0.0, 2.0, 4.0, 6.0)
    scale = (0.0, 100.0)
    of_speakers, of_pairs = 0.6, 0.15
    offsets = np.array([0.35, 0.15, -0.1, -0.4])

    def of_head(self, thresholds, effect):
        """Return the true UAR of heads with these effects of their seeds: (…)."""
        spread = np.sqrt(1 + self.of_speakers**2 + self.of_pairs**2)
        return 100 * ndtr((thresholds + np.asarray(effect)[..., np.newaxis]) / spread).mean(axis=-1)

    def solved(self):
        """Solve for the thresholds of the classes and the standard deviation of the effects of seeds."""

        def thresholds(std):
            return brentq(lambda base: _mean(self.of_head(base + self.offsets, std * _POINTS)) - self.mean, -9, 9)

        def spread(std):
            return _std(self.of_head(thresholds(std) + self.offsets, std * _POINTS))

        std = brentq(lambda std: spread(std) - self.std, 0, 4) if self.std else 0.0
        return thresholds(std) + self.offsets, std

    def simulate(self, rng, number, num_speakers, num_seeds, num_runs=1):
        """Yield for each run which predictions are correct, and the true UAR of each head.

        The shapes are (number, speakers, seeds, CLASSES, PER_CLASS) and (number, seeds).
        """
        thresholds, std = self.solved()
        speaker = self.of_speakers * _normal(rng, number, num_speakers, 1, 1, 1)
        utterance = HALF * _normal(rng, number, num_speakers, 1, CLASSES, PER_CLASS)
        for _ in range(num_runs):
            seed = std * _normal(rng, number, 1, num_seeds, 1, 1)
            pair = self.of_pairs * _normal(rng, number, num_speakers, num_seeds, 1, 1)
            rest = HALF * _normal(rng, number, num_speakers, num_seeds, CLASSES, PER_CLASS)
            rest += thresholds[:, np.newaxis].astype(np.float32) + speaker + utterance + seed + pair
            yield rest > 0, self.of_head(thresholds, seed[:, 0, :, 0, 0].astype(float))

    @staticmethod
    def sums(right):
        """Return confusion counts, (…, 16), from whether each prediction is correct, (…, CLASSES, PER_CLASS)."""
        counts = np.zeros((*right.shape[:-2], CLASSES, CLASSES))
        correct, diagonal = right.sum(axis=-1), np.arange(CLASSES)
        counts[..., diagonal, diagonal] = correct
        counts[..., diagonal, diagonal - 1] = right.shape[-1] - correct  # UAR is the same for any wrong class
        return counts.reshape(*counts.shape[:-2], CLASSES**2)

    @staticmethod
    def utterances(right):
        """Return confusion counts of single utterances: (number, speakers · utterances, seeds, 16)."""
        alone = np.zeros((*right.shape, CLASSES, CLASSES))
        rows = np.arange(CLASSES)
        for kind in rows:
            alone[..., kind, :, kind, kind] = right[..., kind, :]
            alone[..., kind, :, kind, kind - 1] = ~right[..., kind, :]
        moved = np.moveaxis(alone, 2, 4)
        return moved.reshape(len(right), -1, right.shape[2], CLASSES**2)

    @staticmethod
    def score(sums):
        counts = sums.reshape(*sums.shape[:-1], CLASSES, CLASSES)
        return 100 * FUNCTIONS["uar"](counts)[..., np.newaxis]


@dataclass(frozen=True)
class Ccc:
    """Simulated regression.

    Attributes:
        mean: True CCC, mean over seeds.
        std: Standard deviation of the CCC over seeds, in hundredths.
    """

    mean: float
    std: float

    name, unit, stds = "CCC", 0.01, (0.0, 2.0, 4.0, 6.0)
    scale = (-1.0, 1.0)
    of_means, of_speakers, of_pairs, slope = 0.4, 0.3, 0.1, 0.6

    def of_head(self, rest, effect):
        """Return the true CCC of heads whose slopes differ by ``effect`` from the mean slope."""
        slope, variance = self.slope + effect, 1 + self.of_means**2
        others = self.of_speakers**2 + self.of_pairs**2 + rest**2
        return 2 * slope * variance / (variance + slope**2 * variance + others)

    def solved(self):
        """Solve for the standard deviations of the residual and of the effects of seeds."""

        def rest(std):
            return brentq(lambda rest: _mean(self.of_head(rest, std * _POINTS)) - self.mean, 0.01, 9)

        def spread(std):
            return _std(self.of_head(rest(std), std * _POINTS))

        std = brentq(lambda std: spread(std) - self.std * self.unit, 0, 0.15) if self.std else 0.0
        return rest(std), std

    def simulate(self, rng, number, num_speakers, num_seeds, num_runs=1):
        """Yield for each run targets and predictions, and the true CCC of each head.

        The shapes are (number, speakers, seeds, utterances, 2) and (number, seeds).
        """
        rest, std = self.solved()
        target = self.of_means * _normal(rng, number, num_speakers, 1, 1)
        target = target + _normal(rng, number, num_speakers, 1, UTTERANCES)
        common = self.of_speakers * _normal(rng, number, num_speakers, 1, 1)
        common = common + rest * HALF * _normal(rng, number, num_speakers, 1, UTTERANCES)
        for _ in range(num_runs):
            seed = std * _normal(rng, number, 1, num_seeds, 1)
            found = self.of_pairs * _normal(rng, number, num_speakers, num_seeds, 1) + common
            found = found + rest * HALF * _normal(rng, number, num_speakers, num_seeds, UTTERANCES)
            found = found + (self.slope + seed) * target
            pairs = np.stack([np.broadcast_to(target, found.shape), found], axis=-1)
            yield pairs, self.of_head(rest, seed[:, 0, :, 0].astype(float))

    @staticmethod
    def sums(pairs):
        """Return moments, (…, 7), of targets and predictions, (…, utterances, 2)."""
        xx, xy, _, yy = np.moveaxis(np.einsum("...ui,...uj->...ij", pairs, pairs).reshape(*pairs.shape[:-2], 4), -1, 0)
        x, y = np.moveaxis(pairs.sum(axis=-2), -1, 0)
        number = np.full(x.shape, float(pairs.shape[-2]))
        return np.stack([number, x, y, xx, yy, xy, xx - 2 * xy + yy], axis=-1)

    @staticmethod
    def utterances(pairs):
        moved = np.moveaxis(pairs[..., np.newaxis, :], 2, 3)
        return Ccc.sums(moved.reshape(len(pairs), -1, pairs.shape[2], 1, 2))

    @staticmethod
    def score(sums):
        return scores_of_moments(sums[..., np.newaxis, :], np.zeros(1))[..., :1]


METHODS = ((Uar, 28.0), (Uar, 70.0), (Uar, 90.0), (Ccc, 0.6))


def effects(method, units):
    """Return the effects of units on scores, from simulated sums: (number, units, seeds, sums)."""
    totals = units.sum(axis=1)
    found = influence(totals, units, method.score)[..., 0]
    return Effects(scores=method.score(totals)[..., 0], influence=found)


def simulated(method, num_speakers, num_seeds, *, number, random_state=0, over_utterances=False):
    """Return two shares in %: intervals that contain the true score, and differences with p < 0.05.

    The differences are between two runs of the same method. With one seed, the true score is that of the one head.
    """
    rng = np.random.default_rng(random_state)
    num_units = num_speakers * (UTTERANCES if over_utterances else 1)
    at_once = max(1, _AT_ONCE // num_units)
    held = significant = 0
    for start in range(0, number, at_once):
        runs, truths = [], []
        for found, heads in method.simulate(rng, min(at_once, number - start), num_speakers, num_seeds, num_runs=2):
            runs.append(effects(method, (method.utterances if over_utterances else method.sums)(found)))
            truths.append(heads[:, 0] if num_seeds == 1 else method.mean)
        low, high = np.moveaxis(estimate(runs[:1], [1]).bounds(method.scale), -1, 0)
        held += ((low <= truths[0]) & (truths[0] <= high)).sum()
        significant += (np.maximum(estimate(runs, [1, -1]).p, least_p(num_units)) < 0.05).sum()
    return 100 * held / number, 100 * significant / number


def rows(number, *, speakers=SPEAKERS, seeds=SEEDS):
    """Yield the rows of a table: score, mean, speakers, seeds, std, coverage, and share of p < 0.05."""
    for kind, mean in METHODS:
        for num_speakers in speakers:
            for std in kind.stds if seeds > 1 else (4.0,):
                found = simulated(kind(mean, std), num_speakers, seeds, number=number)
                print(kind.name, mean, num_speakers, seeds, std, *found, file=sys.stderr, flush=True)
                yield [kind.name, f"{mean:g}", num_speakers, seeds, f"{std * kind.unit:g}", *found]


def table(found):
    head = ["score", "true mean", "speakers", "seeds", "std of seeds", "intervals that hold it (%)", "p < 0.05 (%)"]
    lines = [head, ["---"] * 2 + ["---:"] * 5]
    lines += [[*map(str, row[:5]), *(f"{share:.1f}" for share in row[5:])] for row in found]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def over_utterances(number):
    """Yield the rows of the table of intervals over utterances."""
    method = Uar(70.0, 2.0)
    for num_speakers in SPEAKERS:
        found = simulated(method, num_speakers, SEEDS, number=number, over_utterances=True)
        yield [method.name, f"{method.mean:g}", num_speakers, SEEDS, f"{method.std:g}", *found]


def page(number):
    """Return the text of ``docs/coverage.md``."""
    five, narrow = list(rows(number)), min(number, 200)
    promised = [row for row in five if row[2] >= 10]
    missed = [row for row in promised if not (93 <= row[5] <= 97 and row[6] <= 6)]
    told = f"{len(promised) - len(missed)} of {len(promised)} rows meet both targets"
    return PAGE.format(
        number=number,
        error=f"{100 * np.sqrt(0.95 * 0.05 / number):.1f}",
        told=told,
        five=table(five),
        one=table(rows(number, seeds=1)),
        narrow=narrow,
        utterances=table(over_utterances(narrow)),
    )


PAGE = """# How often 95 % intervals contain the true score

`python -m tests.evaluate.coverage --out docs/coverage.md` writes this page. There are {number} simulations per row, so
a share of 95 % has a standard error of {error} %. [tests/evaluate/coverage.py](../tests/evaluate/coverage.py) describes
the simulation. [featcache/evaluate/variance.py](../featcache/evaluate/variance.py) describes how intervals and p values
are computed, and cites the sources. The last column compares a method with itself, trained with other seeds: it shows
how often the difference is significant. With fewer than six speakers, no p value can be below 0.05.

## Five seeds

With at least ten speakers, the targets are 93 to 97 % of intervals, and at most 6 % of tests: {told}.

{five}
## One seed

An interval is valid for the one trained head: the true score is the score of this head. Two trainings of the same
method have different true scores then, because of their seeds. The last column shows how often this difference is
detected. This is not an error of the test. It is the reason why one seed says nothing about a method.

{one}
## Intervals over utterances, for comparison

These intervals treat utterances of the same speaker as independent, as is often done. There are {narrow} simulations
per row. The comparison of a method with itself uses the same speakers, so its false positives stay near 5 %. However,
the test is valid for these speakers only.

{utterances}"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=2000)
    parser.add_argument("--quick", action="store_true", help="Use only 200 simulations per row.")
    parser.add_argument("--out", type=Path, help="Output file [default: print the page].")
    given = parser.parse_args()
    text = page(200 if given.quick else given.simulations)
    if given.out:
        given.out.write_text(text, encoding="utf-8")
    else:
        print(text, end="")


def _normal(rng, *shape):
    return rng.standard_normal(shape, dtype=np.float32)


def _mean(values):
    return _WEIGHTS @ values


def _std(values):
    return np.sqrt(max(0.0, _WEIGHTS @ values**2 - (_WEIGHTS @ values) ** 2))


if __name__ == "__main__":
    main()
