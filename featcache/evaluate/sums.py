"""Predictions → sums over utterances → scores of seeds, folds and resamples, all in the same few lines.

Every score of featcache is a function of sums over utterances: UAR, WA and F1 of confusion counts, CCC, Pearson and
RMSE of moments. Speakers, folds and resamples only choose which utterances are summed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featcache.evaluate.intervals import bootstrap

if TYPE_CHECKING:
    import pandas as pd

Numbers = NDArray[np.float64]
Codes = NDArray[np.intp]


@dataclass(frozen=True, kw_only=True)
class Sums:
    """What the rows of a table of predictions add to the scores.

    Attributes:
        rows: (num_rows, num_sums) scipy.sparse.csr_array.
        score: (…, num_sums) float64 → (…, num_scores) float64; NaN for a score without meaning.
        names: (num_scores,) what the scores are called in ``metrics.json``.
        seed, fold, utterance: (num_rows,) positions in the following.
        seeds: (num_seeds,), sorted.
        num_folds: How many folds there are.
        utterance_ids: (num_utterances,), sorted.
        speaker_ids: (num_utterances,), "" for unknown.
    """

    rows: Any
    score: Callable[[Numbers], Numbers]
    names: tuple[str, ...]
    seed: Codes
    fold: Codes
    utterance: Codes
    seeds: list[Any]
    num_folds: int
    utterance_ids: list[str]
    speaker_ids: list[str]

    @classmethod
    def of(
        cls, table: "pd.DataFrame", rows: Any, score: Callable[[Numbers], Numbers], names: tuple[str, ...]
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

    def over_seeds(self, sums: Numbers) -> Numbers:
        """(…, num_seeds · num_sums) → (…, num_scores), the mean of the scores of the seeds."""
        of_seeds: Numbers = self.score(sums.reshape(*sums.shape[:-1], len(self.seeds), -1))
        averaged: Numbers = of_seeds.mean(axis=-2)
        return averaged

    def summary(self) -> dict[str, Any]:
        """What ``metrics.json`` says of every score, and what was counted and drawn for it."""
        utterances = self.of_utterances()
        wide = bootstrap(utterances, self.over_seeds, speaker_ids=self.speaker_ids)
        narrow = wide if wide.unit == "utterances" else bootstrap(utterances, self.over_seeds)
        per_seed, per_fold = self.score(self.of_seeds()).T, self.score(self.of_folds()).T
        scores = {
            name: over_seeds(per_seed[i])
            | {"ci95": _bounds(wide.bounds[i]), "ci95_utterances": _bounds(narrow.bounds[i])}
            | {"mean_over_folds": _number(mean(mean(per_fold[i].T)))}
            for i, name in enumerate(self.names)
        }
        return scores | {
            "num_seeds": len(self.seeds),
            "num_folds": self.num_folds,
            "num_utterances": len(self.utterance_ids),
            "num_speakers": len(set(self.speaker_ids) - {""}),
            "bootstrap": {"unit": wide.unit, "count": wide.count},
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
