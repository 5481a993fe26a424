"""Results → a run folder, which has its name only when it is finished. Fits and ensembles are written here."""

import json
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featcache.errors import StoreError, listed
from featcache.files.checksums import CHECKSUMS, write_checksums
from featcache.files.disk import writing
from featcache.files.locks import held
from featcache.files.regular import CsvRows, replace_file
from featcache.runs.changes import changes
from featcache.runs.file_names import CONFIG, RESULTS
from featcache.runs.identity import COMPUTED, ENVIRONMENT, RELEASE, RESUMED, differences
from featcache.runs.parse import read_config
from featcache.runs.records import TrainingRecords

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

log = logging.getLogger(__name__)

LOCKS = ".locks"


def write_yaml(path: Path, content: Mapping[str, Any]) -> None:
    """Write a YAML file; names keep their order."""
    import yaml

    replace_file(path, yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True, width=120).encode())


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file.

    Raises:
        ValueError: a number is not finite.
    """
    replace_file(path, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())


def write_rows(path: Path, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Write rows as a CSV table; numbers keep all their digits."""
    with writing(path), open(path, "w", newline="", encoding="utf-8") as file:
        CsvRows(file).add([columns, *rows])


def write_table(path: Path, table: "pd.DataFrame") -> None:
    """Write a DataFrame as a CSV table, without its index."""
    replace_file(path, table.to_csv(index=False).encode())


def record_checksums(folder: Path) -> None:
    """Write the checksums of all files that are read back as results."""
    found = sorted(path for pattern in RESULTS for path in folder.glob(pattern))
    write_checksums(folder, [path.relative_to(folder).as_posix() for path in found])


def lock_run(path: Path, message: str) -> AbstractContextManager[None]:
    """Keep other processes from writing the same run folder.

    Args:
        path: The run folder.
        message: Error message if another process writes it.
    """
    # apart from the runs, because the lock files stay: a corpus's folder of runs holds nothing but runs
    return held(path.parent.parent / LOCKS / path.parent.name / f"{path.name}.lock", message)


@contextmanager
def new_run(path: Path) -> Iterator[Path]:
    """Write a run folder in one go: all of it appears, or nothing.

    Args:
        path: The run folder; an older one is replaced.

    Yields:
        A hidden folder to write into. After the block it takes the place of ``path``; after an error it is removed.

    Raises:
        StoreError: another process writes the same run folder, or it cannot be written.
    """
    hidden = _hidden_folder(path)
    with lock_run(path, f"{path} is being made by another process; wait for it to end"):
        shutil.rmtree(hidden, ignore_errors=True)
        try:
            with writing(path):
                hidden.mkdir(parents=True)
                yield hidden
                _put_in_place(hidden, path)
        finally:
            shutil.rmtree(hidden, ignore_errors=True)


def _hidden_folder(path: Path) -> Path:
    return path.with_name(f".{path.name}.unfinished")


def _put_in_place(folder: Path, path: Path) -> None:
    """Record the checksums of a complete folder and give it its name; an older run of that name is removed."""
    record_checksums(folder)
    old = path.with_name(f".{path.name}.old")
    with writing(path):
        shutil.rmtree(old, ignore_errors=True)
        if path.exists():
            path.rename(old)
        folder.rename(path)
        shutil.rmtree(old, ignore_errors=True)


class UnfinishedRun:
    """A fit that is not finished: a folder inside a hidden one, renamed to the run folder when it is complete.

    The records of finished trainings lie beside that folder. They are removed only after the renaming, so that none is
    lost wherever a process is killed.

    Args:
        path: The run folder that it will be.
        config: The content of ``config.yaml``.

    Attributes:
        path: The run folder that it will be.
        folder: The folder until then.
        config: The content of ``config.yaml``.
    """

    def __init__(self, path: Path, config: Mapping[str, Any]) -> None:
        self.path = path
        self.config = dict(config)
        self.folder = self.folder_of(path)
        self._hidden = self.folder.parent
        self._finished = self._hidden / "finished"
        self._records = TrainingRecords(self._finished, self.folder)

    @staticmethod
    def folder_of(path: Path) -> Path:
        """Return the folder of a run until it is finished."""
        return _hidden_folder(path) / "run"

    @classmethod
    def is_begun(cls, path: Path) -> bool:
        """Check whether an interrupted run exists."""
        return cls.folder_of(path).exists()

    def locked(self) -> AbstractContextManager[None]:
        """Keep other processes from fitting the same run."""
        return lock_run(self.path, f"{self.path} is being fitted by another process; wait for it to end")

    def begin(self, *, resume: bool, overwrite: bool) -> None:
        """Make the folder, or continue with the interrupted run that exists.

        Args:
            resume: Continue.
            overwrite: Remove the interrupted run.

        Raises:
            StoreError: finished trainings exist and neither was asked for, or they have other settings.
        """
        number = len(self.finished())
        begun = {} if overwrite else self.begun()
        if begun:
            differing = differences(begun, self.config)
            if differing:
                raise StoreError(
                    f"{self.path} was interrupted with other settings ({', '.join(differing)} differ); "
                    "give this one another --name, or start anew with --overwrite"
                )
            if not resume:
                raise StoreError(
                    f"{self.path} was interrupted after {number} trainings; go on with --resume, "
                    "or start anew with --overwrite"
                )
            self._continue(begun)
            return
        with writing(self._hidden):
            shutil.rmtree(self._hidden, ignore_errors=True)
            self._finished.mkdir(parents=True)
        write_yaml(self.folder / CONFIG, self.config)

    def begun(self) -> dict[str, Any]:
        """Return the configuration of an interrupted run; empty if no training of it is finished."""
        return read_config(self.folder) if self.finished() else {}

    def _continue(self, begun: Mapping[str, Any]) -> None:
        """Take over an interrupted run; record and report the conditions that have changed."""
        changed = changes(begun, self.config)
        if changed:
            log.warning("%s goes on under other conditions than it began: %s", self.path, ", ".join(changed))
        resumed = dict.fromkeys([*(begun.get(RESUMED) or []), *changed])
        self.config |= {key: begun[key] for key in (RELEASE, COMPUTED, ENVIRONMENT) if key in begun}
        if resumed:
            self.config[RESUMED] = list(resumed)
        (self.folder / CHECKSUMS).unlink(missing_ok=True)  # of a process that was killed before the run had its name
        write_yaml(self.folder / CONFIG, self.config)
        damaged = self._records.remove_damaged()
        if damaged:
            log.warning("%s: %s are damaged and trained again", self.path, listed(damaged))

    def keep(self, seed: int, fold: int, record: Mapping[str, Any], head: Mapping[str, "Tensor"]) -> None:
        """Write one finished training, see :meth:`TrainingRecords.keep`."""
        self._records.keep(seed, fold, record, head)

    def finished(self) -> set[tuple[int, int]]:
        """Return seed and fold of each finished training that is not part of a finished run."""
        return self._records.finished()

    def records(self) -> list[tuple[int, int, dict[str, Any]]]:
        """Return seed, fold and record of each finished training, see :meth:`TrainingRecords.read_all`."""
        return self._records.read_all(self.config["seeds"])

    def leave(self) -> None:
        """Remove the folder, unless it holds finished trainings."""
        if not self.finished():
            shutil.rmtree(self._hidden, ignore_errors=True)

    def finish(self) -> None:
        """Record the checksums and rename the folder to the run folder; an older run of that name is removed."""
        _put_in_place(self.folder, self.path)
        with writing(self.path):
            shutil.rmtree(self._hidden)
