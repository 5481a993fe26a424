"""Predictions → sums over utterances → scores of seeds and folds, and their intervals.

Every score is a function of sums over utterances: UAR, WA and F1 are functions of confusion counts; CCC, Pearson
correlation and RMSE are functions of moments. Seeds, folds and speakers only determine which utterances are summed, so
they share the same code.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featcache.evaluate.intervals import FEWEST, units_of
from featcache.evaluate.variance import Effects, Numbers, Scale, estimate, influence

if TYPE_CHECKING:
    import pandas as pd

Codes = NDArray[np.intp]

_NUMBERS_AT_ONCE = 4_000_000  # 32 MB


@dataclass(frozen=True, kw_only=True)
class Sums:
    """Contributions of the rows of a prediction table to the scores.

    Attributes:
        rows: (num_rows, num_sums) scipy.sparse.csr_array, the summands of each row.
        score: Function (…, num_sums) float64 → (…, num_scores) float64; NaN for an undefined score.
        names: (num_scores,) keys of the scores in ``metrics.json``.
        scales: (num_scores,) lowest and highest possible value of each score; the highest may be infinite.
        seed, fold, utterance: (num_rows,) positions of each row's seed, fold and utterance in the sorted lists.
        seeds: (num_seeds,) seeds, sorted.
        num_folds: Number of folds.
        utterance_ids: (num_utterances,) ids, sorted.
        speaker_ids: (num_utterances,) speaker of each utterance, "" for unknown.
    """

    rows: Any
    score: Callable[[Numbers], Numbers]
    names: tuple[str, ...]
    scales: tuple[Scale, ...]
    seed: Codes
    fold: Codes
    utterance: Codes
    seeds: list[Any]
    num_folds: int
    utterance_ids: list[str]
    speaker_ids: list[str]

    @classmethod
    def of(
        cls,
        table: "pd.DataFrame",
        rows: Any,
        score: Callable[[Numbers], Numbers],
        names: tuple[str, ...],
        scales: tuple[Scale, ...],
    ) -> "Sums":
        """Make the sums of a checked table of predictions.

        Args:
            table: The table, with the columns of ``Predictions``.
            rows, score, names, scales: The attributes of the same names.
        """
        seed, seeds = _factorised(table["seed"])
        fold, folds = _factorised(table["fold"])
        utterance, utterance_ids = _factorised(table["utterance_id"])
        speakers = table.drop_duplicates("utterance_id").set_index("utterance_id")["speaker_id"]
        return cls(
            rows=rows,
            score=score,
            names=names,
            scales=scales,
            seed=seed,
            fold=fold,
            utterance=utterance,
            seeds=seeds,
            num_folds=len(folds),
            utterance_ids=utterance_ids,
            speaker_ids=speakers.loc[utterance_ids].tolist(),
        )

    def of_seeds(self) -> Numbers:
        """Return the sums of each seed over all its folds: (num_seeds, num_sums)."""
        return self._grouped(self.seed, len(self.seeds)).toarray()  # type: ignore[no-any-return]

    def of_folds(self) -> Numbers:
        """Return the sums of each seed and fold: (num_seeds, num_folds, num_sums)."""
        shape = (len(self.seeds), self.num_folds)
        groups = np.ravel_multi_index((self.seed, self.fold), shape)
        return self._grouped(groups, int(np.prod(shape))).toarray().reshape(*shape, -1)  # type: ignore[no-any-return]

    def of_utterances(self) -> Any:
        """Return the sums of each utterance: (num_utterances, num_seeds · num_sums) scipy.sparse.csr_array."""
        shape = (len(self.utterance_ids), len(self.seeds))
        groups = np.ravel_multi_index((self.utterance, self.seed), shape)
        return self._grouped(groups, int(np.prod(shape))).reshape(shape[0], -1).tocsr()

    def of_units(self, units: Codes) -> Any:
        """Return the sums of each unit: (num_units, num_seeds · num_sums) scipy.sparse.csr_array.

        Args:
            units: (num_utterances,) position of each utterance's unit (speaker or utterance).
        """
        from scipy import sparse

        members = sparse.csr_array((np.ones(len(units)), (units, np.arange(len(units)))))
        return (members @ self.of_utterances()).tocsr()

    def effects(self, units: Codes) -> list[Effects]:
        """Return the effects of units on each score: (num_scores,).

        Args:
            units: (num_utterances,) position of each utterance's unit (speaker or utterance).
        """
        of_units, totals = self.of_units(units), self.of_seeds()
        shape = (-1, *totals.shape)
        at_once = max(1, _NUMBERS_AT_ONCE // totals.size)
        parts = [
            influence(totals, of_units[start : start + at_once].toarray().reshape(shape), self.score)
            for start in range(0, of_units.shape[0], at_once)
        ]
        found, scores = np.concatenate(parts), self.score(totals)
        return [Effects(scores=scores[:, i], influence=found[..., i]) for i in range(len(self.names))]

    def intervals(self, units: Codes) -> list[list[float] | None]:
        """Return the 95 % interval of each score's mean over seeds: (num_scores,).

        An interval is None if there are too few units or the score is undefined.

        Args:
            units: (num_utterances,) position of each utterance's unit (speaker or utterance).
        """
        if units.max() + 1 < FEWEST:
            return [None] * len(self.names)
        found = zip(self.effects(units), self.scales, strict=True)
        return [_bounds(estimate([effects], [1]).bounds(scale)) for effects, scale in found]

    def scores(self) -> dict[str, dict[str, Any]]:
        """Return mean, standard deviation and values per seed of each score."""
        return {
            name: over_seeds(values) for name, values in zip(self.names, self.score(self.of_seeds()).T, strict=True)
        }

    def summary(self) -> dict[str, Any]:
        """Return all scores for ``metrics.json``, and the unit of their intervals."""
        units, count, unit = units_of(self.speaker_ids)
        narrow = self.intervals(np.arange(len(self.utterance_ids)))
        wide = narrow if unit == "utterances" else self.intervals(units)
        per_fold = self.score(self.of_folds()).T
        scores = {
            name: score
            | {"ci95": wide[i], "ci95_utterances": narrow[i]}
            | {"mean_over_folds": _number(mean(mean(per_fold[i].T)))}
            for i, (name, score) in enumerate(self.scores().items())
        }
        return scores | {
            "num_seeds": len(self.seeds),
            "num_folds": self.num_folds,
            "num_utterances": len(self.utterance_ids),
            "num_speakers": len(set(self.speaker_ids) - {""}),
            # The unit of the intervals. The key is from early releases, which computed intervals by bootstrapping.
            "bootstrap": {"unit": unit, "count": count},
        }

    def _grouped(self, groups: Codes, number: int) -> Any:
        from scipy import sparse

        shape = (number, len(groups))
        return sparse.csr_array((np.ones(len(groups)), (groups, np.arange(len(groups)))), shape=shape) @ self.rows


def ratio(part: NDArray[Any], whole: NDArray[Any]) -> Numbers:
    """Return part / whole; NaN where whole is not above 0."""
    quotient: Numbers = np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0)
    return quotient


def mean(values: Numbers) -> Numbers:
    """Return the mean over the last axis, ignoring NaN; NaN, without numpy's warning, if all values are NaN."""
    return ratio(np.nansum(values, axis=-1), np.sum(~np.isnan(values), axis=-1))


def over_seeds(values: Numbers) -> dict[str, Any]:
    """Return mean and standard deviation over seeds; None if the score is undefined (NaN) in any seed.

    Args:
        values: (num_seeds,) score of each seed.
    """
    per_seed = [_number(value) for value in values]
    if np.isnan(values).any():
        return {"mean": None, "std": None, "per_seed": per_seed}
    std = float(values.std(ddof=1)) if len(values) > 1 else None
    return {"mean": float(values.mean()), "std": std, "per_seed": per_seed}


def _factorised(values: "pd.Series[Any]") -> tuple[Codes, list[Any]]:
    import pandas as pd

    codes, found = pd.factorize(values, sort=True)
    return codes, found.tolist()


def _bounds(values: Numbers) -> list[float] | None:
    return None if np.isnan(values).any() else values.tolist()


def _number(value: Any) -> float | None:
    return None if np.isnan(value) else float(value)
