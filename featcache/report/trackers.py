"""Finished run → what an experiment tracker shows: scores, losses of each epoch, settings, figures."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from featcache.errors import MissingPackageError, StoreError
from featcache.files.regular import resolved, sha256_of_file
from featcache.report.part_scores import TEST, VALIDATION, part_scores
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
            scores=_scores(run),
            figures=figures,
        )

    def curves(self) -> "Iterator[tuple[str, pd.DataFrame]]":
        """Yield the name of each training, ``seed-123-fold-1``, and its rows of ``history.csv``; none for ensembles.

        If evaluations are a number of training steps apart, the column ``epoch`` has the number of steps.

        Raises:
            StoreError: the table is damaged.
        """
        path = self.run.path / HISTORY
        if not path.is_file():
            return
        import pandas as pd

        # Values that are no numbers become NaN, as losses of a training that diverged.
        history = self.run.history.apply(pd.to_numeric, errors="coerce")
        if "step" in history:
            history = history.assign(epoch=history["step"]).drop(columns="step")
        keys = history.reindex(columns=["seed", "fold", "epoch"])
        if not (keys.abs().lt(2**53) & keys.mod(1).eq(0)).all(axis=None):
            raise StoreError(f"{path}: expected whole numbers in seed, fold and epoch")
        for _, rows in history.groupby(["seed", "fold"], sort=False):
            name = training_name(int(rows["seed"].iloc[0]), int(rows["fold"].iloc[0]))
            yield name, rows.sort_values("epoch")


def _scores(run: RunFolder) -> dict[str, float]:
    found: dict[str, float] = {}
    for part in (TEST, VALIDATION):
        for name, score in part_scores(run, part).items():
            numbers = {f"{part}/{name}": score["mean"], f"{part}/{name}_std": score.get("std")}
            found |= {key: float(number) for key, number in numbers.items() if number is not None}
    return found


def missing(tracker: str, package: str) -> MissingPackageError:
    """Return the error for a tracker that is not installed."""
    return MissingPackageError(
        f"--to {tracker} needs {package}, which is not installed: pip install 'featcache[track]'"
    )
