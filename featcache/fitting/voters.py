"""Names of runs and tables of predictions → the candidates of an ensemble."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from featcache.errors import PredictionsError, StoreError
from featcache.evaluate.aligned import aligned
from featcache.evaluate.predictions import read_predictions
from featcache.files.regular import resolved, sha256_of_file
from featcache.runs.file_names import PREDICTIONS, VALIDATION_PREDICTIONS
from featcache.runs.identity import hash_of
from featcache.runs.reader import RunFolder, find_run, no_test_scores
from featcache.targets.targets import MULTILABEL
from featcache.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

TABLES = (".csv", ".tsv")
VALIDATION = "validation_"
# Columns of probabilities: p_<class>.
PROBABILITY = "p_"


@dataclass(frozen=True)
class Voter:
    """A candidate of an ensemble: a run, or a table of predictions from any source.

    Attributes:
        path: The run folder, or the table.
        run: The run; None for a table.
    """

    path: Path
    run: RunFolder | None = None

    @property
    def name(self) -> str:
        """Name of the run, or of the file."""
        return self.run.name if self.run else self.path.name

    @property
    def paths(self) -> tuple[Path, Path]:
        """Files of the predictions for validation and test parts; the first one may not exist."""
        if self.run:
            return self.path / VALIDATION_PREDICTIONS, self.path / PREDICTIONS
        return self.path.with_name(f"{VALIDATION}{self.path.name}"), self.path

    @cached_property
    def test(self) -> "pd.DataFrame":
        """Predictions for the test parts."""
        return self.run.predictions if self.run else _read_classes(self.path)

    @cached_property
    def validation(self) -> "pd.DataFrame":
        """Predictions for the validation parts."""
        return self.run.validation_predictions if self.run else _read_classes(self.paths[0])

    @property
    def has_validation(self) -> bool:
        """Whether there are predictions for the validation parts, by which it can be chosen."""
        return self.paths[0].is_file()

    @property
    def has_probabilities(self) -> bool:
        """Whether all its predictions have probabilities of the classes, which a soft vote needs."""
        tables = [self.test, *([self.validation] if self.has_validation else [])]
        return all(any(str(column).startswith(PROBABILITY) for column in table.columns) for table in tables)

    def sha256(self) -> str:
        """Return the checksum of the predictions, for validation and test parts.

        Raises:
            StoreError: a file of a fit is missing.
        """
        for path in self.paths if self.run and "members" not in self.run.config else self.paths[1:]:
            if not path.is_file():
                raise StoreError(f"{self.path} has no {path.name}, so it cannot vote; fit it again with --overwrite")
        return hash_of([sha256_of_file(path) if path.is_file() else "" for path in self.paths])


def find_voters(workspace: Workspace, names: Sequence[str]) -> list[Voter]:
    """Return the candidates of an ensemble.

    Args:
        workspace: Folder of corpora, caches and runs.
        names: Names or folders of runs, and paths of tables.

    Raises:
        FeatcacheError: a run or table does not exist, is a regression or has no test part; or one is given twice.
    """
    voters = [_find(workspace, name) for name in names]
    for voter in voters:
        if voter.run and voter.run.is_final:
            raise PredictionsError(no_test_scores(voter.path))
        if voter.run and voter.run.config.get("task") == MULTILABEL:
            raise PredictionsError(f"{voter.path} predicts several labels; only runs that predict one class can vote")
        if voter.run and "confusion" not in voter.run.metrics:
            raise PredictionsError(f"{voter.path} is a regression; only runs that predict classes can vote")
    places = [resolved(voter.path) for voter in voters]
    if len(set(places)) < len(places):
        raise PredictionsError("a run is given twice; each run has one vote")
    return voters


def _find(workspace: Workspace, name: str) -> Voter:
    path = Path(name)
    try:
        if path.is_file():
            return Voter(path)
    except OSError:  # the name is too long
        pass
    if path.suffix.lower() in TABLES:
        raise PredictionsError(f"{name}: no such file; expected a run, or a table of predictions")
    run = find_run(workspace, name)
    return Voter(run.path, run)


def _read_classes(path: Path) -> "pd.DataFrame":
    """Return the checked rows of a table of classes; its probabilities become numbers."""
    import pandas as pd

    found = read_predictions(path, options=False)
    if found.labels:
        raise PredictionsError(f"{path} predicts several labels; only predictions of one class can vote")
    if found.dimensions:
        raise PredictionsError(f"{path} is a regression; only predictions of classes can vote")
    columns = [column for column in found.table.columns if str(column).startswith(PROBABILITY)]
    return found.table.assign(**{column: pd.to_numeric(found.table[column], errors="coerce") for column in columns})


def labels_of(voters: Sequence[Voter]) -> list[str]:
    """Return a different label for each candidate: its name, or its path if two have the same name."""
    names = [voter.name for voter in voters]
    return names if len(set(names)) == len(names) else [str(voter.path) for voter in voters]


def classes_of(voters: Sequence[Voter]) -> list[str]:
    """Return all classes, in the order of the runs; for tables alone, the labels that they contain, sorted."""
    for voter in voters:
        if voter.run:
            classes: list[str] = voter.run.metrics["confusion"]["classes"]
            return classes
    return sorted({label for voter in voters for column in ("target", "prediction") for label in voter.test[column]})


def tables_of(voters: Sequence[Voter], *, validation: bool = False) -> "dict[str, pd.DataFrame]":
    """Return label → predictions of each candidate; tables have the seeds, folds and speakers of the first run.

    For tables alone, these are the ones of the table with most rows; a table with known speakers takes precedence.

    Args:
        voters: The candidates.
        validation: Whether to return the predictions for the validation parts.
    """
    tables = (voter.validation if validation else voter.test for voter in voters)
    found = dict(zip(labels_of(voters), tables, strict=True))
    runs = [label for label, voter in zip(found, voters, strict=True) if voter.run]
    lead = runs[0] if runs else max(found, key=lambda label: _completeness(found[label]))
    return {
        label: table if label in (lead, *runs) else aligned(label, table, lead, found[lead])
        for label, table in found.items()
    }


def _completeness(table: "pd.DataFrame") -> tuple[bool, int]:
    return bool((table["speaker_id"] != "").all()), len(table)
