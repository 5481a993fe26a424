"""Predictions → sums over utterances → scores of seeds and folds, and their intervals, all in the same few lines.

Every score of featcache is a function of sums over utterances: UAR, WA and F1 of confusion counts, CCC, Pearson and
RMSE of moments. Speakers and folds only choose which utterances are summed.
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
    """What the rows of a table of predictions add to the scores.

    Attributes:
        rows: (num_rows, num_sums) scipy.sparse.csr_array.
        score: (…, num_sums) float64 → (…, num_scores) float64; NaN for a score without meaning.
        names: (num_scores,) what the scores are called in ``metrics.json``.
        scales: (num_scores,) what each score lies between; the upper end may be infinite.
        seed, fold, utterance: (num_rows,) positions in the following.
        seeds: (num_seeds,), sorted.
        num_folds: How many folds there are.
        utterance_ids: (num_utterances,), sorted.
        speaker_ids: (num_utterances,), "" for unknown.
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
        """The sums of a checked table; the other arguments are the attributes."""
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
        """(num_seeds, num_sums) all folds of each seed together."""
        return self._grouped(self.seed, len(self.seeds)).toarray()  # type: ignore[no-any-return]

    def of_folds(self) -> Numbers:
        """(num_seeds, num_folds, num_sums)."""
        shape = (len(self.seeds), self.num_folds)
        groups = np.ravel_multi_index((self.seed, self.fold), shape)
        return self._grouped(groups, int(np.prod(shape))).toarray().reshape(*shape, -1)  # type: ignore[no-any-return]

    def of_utterances(self) -> Any:
        """(num_utterances, num_seeds · num_sums) scipy.sparse.csr_array."""
        shape = (len(self.utterance_ids), len(self.seeds))
        groups = np.ravel_multi_index((self.utterance, self.seed), shape)
        return self._grouped(groups, int(np.prod(shape))).reshape(shape[0], -1).tocsr()

    def of_units(self, units: Codes) -> Any:
        """(num_units, num_seeds · num_sums) scipy.sparse.csr_array.

        Args:
            units: (num_utterances,) the position of each utterance's unit, speaker or utterance.
        """
        from scipy import sparse

        members = sparse.csr_array((np.ones(len(units)), (units, np.arange(len(units)))))
        return (members @ self.of_utterances()).tocsr()

    def effects(self, units: Codes) -> list[Effects]:
        """What units do to each score.

        Args:
            units: (num_utterances,) the position of each utterance's unit, speaker or utterance.

        Returns: (num_scores,).
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
        """(num_scores,) the 95 % interval of each score's mean over seeds; None for too few units, or without meaning.

        Args:
            units: (num_utterances,) the position of each utterance's unit, speaker or utterance.
        """
        if units.max() + 1 < FEWEST:
            return [None] * len(self.names)
        found = zip(self.effects(units), self.scales, strict=True)
        return [_bounds(estimate([effects], [1]).bounds(scale)) for effects, scale in found]

    def summary(self) -> dict[str, Any]:
        """What ``metrics.json`` says of every score, and over what its intervals are."""
        units, count, unit = units_of(self.speaker_ids)
        narrow = self.intervals(np.arange(len(self.utterance_ids)))
        wide = narrow if unit == "utterances" else self.intervals(units)
        per_seed, per_fold = self.score(self.of_seeds()).T, self.score(self.of_folds()).T
        scores = {
            name: over_seeds(per_seed[i])
            | {"ci95": wide[i], "ci95_utterances": narrow[i]}
            | {"mean_over_folds": _number(mean(mean(per_fold[i].T)))}
            for i, name in enumerate(self.names)
        }
        return scores | {
            "num_seeds": len(self.seeds),
            "num_folds": self.num_folds,
            "num_utterances": len(self.utterance_ids),
            "num_speakers": len(set(self.speaker_ids) - {""}),
            # over what the intervals are; called so since they were bootstrapped
            "bootstrap": {"unit": unit, "count": count},
        }

    def _grouped(self, groups: Codes, number: int) -> Any:
        from scipy import sparse

        shape = (number, len(groups))
        return sparse.csr_array((np.ones(len(groups)), (groups, np.arange(len(groups)))), shape=shape) @ self.rows


def ratio(part: NDArray[Any], whole: NDArray[Any]) -> Numbers:
    """part / whole, NaN where whole is not above 0."""
    quotient: Numbers = np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0)
    return quotient


def mean(values: Numbers) -> Numbers:
    """Mean over the last axis of what is not NaN; NaN, without numpy's warning, where nothing is left."""
    return ratio(np.nansum(values, axis=-1), np.sum(~np.isnan(values), axis=-1))


def over_seeds(values: Numbers) -> dict[str, Any]:
    """values: (num_seeds,); where a score has no meaning in some seed, it has none over seeds."""
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
