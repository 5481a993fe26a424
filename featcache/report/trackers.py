"""Finished run → what an experiment tracker shows: scores, losses of each epoch, settings, figures."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featcache.errors import MissingPackageError
from featcache.files.regular import resolved, sha256_of_file
from featcache.runs.file_names import CONFIG, HISTORY, METRICS, training_name
from featcache.runs.identity import hash_of
from featcache.runs.reader import RunFolder
from featcache.runs.varied import settings_text

if TYPE_CHECKING:
    import pandas as pd

TRACKERS = ("tensorboard", "mlflow")
ADDED, REPLACED, PRESENT = "added", "replaced", "already there"


@dataclass(frozen=True, kw_only=True)
class TrackedRun:
    """A finished run, as trackers show it.

    Attributes:
        name: Corpus and name of the folder: ``emodb/mine``.
        checksum: Checksum of the results that are written.
        time: When the run was finished, in seconds since 1970.
        settings: Settings as text, by name.
        scores: Name → number: ``test/uar``, ``test/uar_std``, ``validation/uar``, …
        figures: PNG files.
    """

    run: RunFolder
    name: str
    checksum: str
    time: float
    settings: Mapping[str, str]
    scores: Mapping[str, float]
    figures: tuple[Path, ...]

    @classmethod
    def of(cls, run: RunFolder) -> "TrackedRun":
        """Read a finished run."""
        figures = tuple(sorted(path for path in run.path.glob("*.png") if path.is_file() and not path.is_symlink()))
        files = [path for name in (CONFIG, METRICS, HISTORY) if (path := run.path / name).is_file()]
        return cls(
            run=run,
            name=f"{resolved(run.path).parent.name}/{run.name}",
            checksum=hash_of([[path.name, sha256_of_file(path)] for path in (*files, *figures)]),
            time=(run.path / METRICS).stat().st_mtime,
            settings=settings_text(run.config),
            scores={
                **_scores("test", run.metrics),
                **_scores("validation", run.metrics.get("validation") or {}),
            },
            figures=figures,
        )

    def curves(self) -> "Iterator[tuple[str, pd.DataFrame]]":
        """Yield the name of each training, ``seed-123-fold-1``, and its rows of ``history.csv``; none for ensembles."""
        if (self.run.path / HISTORY).is_file():
            for (seed, fold), rows in self.run.history.groupby(["seed", "fold"], sort=False):
                yield training_name(int(seed), int(fold)), rows.sort_values("epoch")


def _scores(part: str, metrics: Mapping[str, Any]) -> dict[str, float]:
    found = {}
    for name, score in metrics.items():
        if isinstance(score, Mapping) and "per_seed" in score and score.get("mean") is not None:
            found[f"{part}/{name}"] = float(score["mean"])
            if score.get("std") is not None:
                found[f"{part}/{name}_std"] = float(score["std"])
    return found


def missing(tracker: str, package: str) -> MissingPackageError:
    """Return the error for a tracker that is not installed."""
    return MissingPackageError(
        f"--to {tracker} needs {package}, which is not installed: pip install 'featcache[track]'"
    )
