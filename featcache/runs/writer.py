"""Results of a fit or an ensemble → run folder, which gets its final name only when it is finished."""

import json
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from featcache.errors import StoreError, listed
from featcache.files.checksums import CHECKSUMS, write_checksums
from featcache.files.disk import writing
from featcache.files.locks import held
from featcache.files.regular import CsvRows, remove_unfinished, replace_file
from featcache.runs.changes import changes
from featcache.runs.checkpoints import CheckpointFile
from featcache.runs.file_names import CHECKPOINTS, CONFIG, RESULTS, training_name
from featcache.runs.identity import COMPUTED, ENVIRONMENT, RELEASE, RESUMED, differences, hash_of, identity
from featcache.runs.parse import read_config
from featcache.runs.records import SavedModel, TrainingRecords
from featcache.units import counted

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

log = logging.getLogger(__name__)

LOCKS = ".locks"
# Suffix of the hidden folder of an unfinished run.
UNFINISHED = ".unfinished"


def write_yaml(path: Path, content: Mapping[str, Any]) -> None:
    """Write a YAML file; keys keep their order."""
    import yaml

    replace_file(path, yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True, width=120).encode())


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file.

    Raises:
        ValueError: a number is not finite.
    """
    replace_file(path, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())


def write_rows(path: Path, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Write rows as a CSV table; numbers keep all digits."""
    with writing(path), open(path, "w", newline="", encoding="utf-8") as file:
        CsvRows(file).add([columns, *rows])


def write_table(path: Path, table: "pd.DataFrame") -> None:
    """Write a DataFrame as a CSV table, without its index."""
    replace_file(path, table.to_csv(index=False).encode())


def record_checksums(folder: Path) -> None:
    """Write the checksums of all files that contain results."""
    found = sorted(path for pattern in RESULTS for path in folder.glob(pattern))
    write_checksums(folder, [path.relative_to(folder).as_posix() for path in found])


def lock_run(path: Path, message: str) -> AbstractContextManager[None]:
    """Return a lock that prevents other processes from writing the same run folder.

    Args:
        path: The run folder.
        message: Error message if another process writes it.
    """
    # The lock files are in another folder, because they remain and the folder of a corpus contains only runs.
    return held(path.parent.parent / LOCKS / path.parent.name / f"{path.name}.lock", message)


@contextmanager
def new_run(path: Path) -> Iterator[Path]:
    """Write a complete run folder, or nothing after an error.

    Args:
        path: The run folder; an older one is replaced.

    Yields:
        A hidden folder for the files. After the block it replaces ``path``; after an error it is removed.

    Raises:
        StoreError: another process writes the same run folder, or it cannot be written.
    """
    hidden = _hidden_folder(path)
    with lock_run(path, f"{path} is being written by another process; wait for it to end"):
        shutil.rmtree(hidden, ignore_errors=True)
        try:
            with writing(path):
                hidden.mkdir(parents=True)
                yield hidden
                _put_in_place(hidden, path)
        finally:
            shutil.rmtree(hidden, ignore_errors=True)


def _hidden_folder(path: Path) -> Path:
    return path.with_name(f".{path.name}{UNFINISHED}")


def unfinished_runs(folder: Path, pattern: str = "*") -> list[Path]:
    """Return the folders that the unfinished runs in a folder will have, sorted.

    Args:
        folder: Folder of the runs of a corpus.
        pattern: Pattern of their names.
    """
    hidden = sorted(folder.glob(f".{pattern}{UNFINISHED}"))
    return [path.with_name(path.name[1:].removesuffix(UNFINISHED)) for path in hidden]


def _put_in_place(folder: Path, path: Path) -> None:
    """Record the checksums of a complete folder and rename it; an older run of that name is removed."""
    record_checksums(folder)
    old = path.with_name(f".{path.name}.old")
    with writing(path):
        shutil.rmtree(old, ignore_errors=True)
        if path.exists():
            path.rename(old)
        folder.rename(path)
        shutil.rmtree(old, ignore_errors=True)


class UnfinishedRun:
    """Unfinished fit: a folder inside a hidden folder, which is renamed to the run folder when it is complete.

    The records of finished trainings are next to that folder. They are removed only after the renaming, so that none is
    lost if a process is killed. Checkpoints of trainings that run are there, too.

    Args:
        path: The future run folder.
        config: Content of ``config.yaml``.

    Attributes:
        path: The future run folder.
        folder: The current folder.
        config: Content of ``config.yaml``.
    """

    def __init__(self, path: Path, config: Mapping[str, Any]) -> None:
        self.path = path
        self.config = dict(config)
        self.folder = self.folder_of(path)
        self._hidden = self.folder.parent
        self._finished = self._hidden / "finished"
        self._checkpoints = self._hidden / CHECKPOINTS
        self._records = TrainingRecords(self._finished, self.folder)

    @staticmethod
    def folder_of(path: Path) -> Path:
        """Return the folder of an unfinished run."""
        return _hidden_folder(path) / "run"

    @classmethod
    def is_begun(cls, path: Path) -> bool:
        """Check whether an interrupted run of this folder exists."""
        return cls.folder_of(path).exists()

    def locked(self) -> AbstractContextManager[None]:
        """Return a lock that prevents other processes from fitting the same run."""
        return lock_run(self.path, f"{self.path} is being fitted by another process; wait for it to end")

    def begin(self, *, resume: bool, overwrite: bool) -> None:
        """Make the folder, or continue with the interrupted run.

        Args:
            resume: Whether to continue an interrupted run.
            overwrite: Whether to remove an interrupted run.

        Raises:
            StoreError: finished trainings or checkpoints exist but neither option is given, or they have other
                settings.
        """
        number = len(self.finished())
        begun = {} if overwrite else self.begun()
        if begun:
            differing = differences(begun, self.config)
            if differing:
                raise StoreError(
                    f"{self.path} was interrupted with other settings ({', '.join(differing)} differ); "
                    "use another --name, or start again with --overwrite"
                )
            if not resume:
                when = f"after {counted(number, 'training')}" if number else "during its first training"
                raise StoreError(
                    f"{self.path} was interrupted {when}; continue with --resume, or start again with --overwrite"
                )
            self._continue(begun)
            return
        with writing(self._hidden):
            shutil.rmtree(self._hidden, ignore_errors=True)
            self._finished.mkdir(parents=True)
        write_yaml(self.folder / CONFIG, self.config)

    def begun(self) -> dict[str, Any]:
        """Return the configuration of an interrupted run; empty if nothing of its trainings is kept."""
        return read_config(self.folder) if self.finished() or self.has_checkpoints() else {}

    def has_checkpoints(self) -> bool:
        """Check whether a training that is not finished has a checkpoint."""
        return self.folder.exists() and any(self._checkpoints.glob("*.safetensors"))

    def checkpoint(self, seed: int, fold: int) -> CheckpointFile:
        """Return the file for the state of a training that runs."""
        name = training_name(seed, fold)
        return CheckpointFile(self._checkpoints / f"{name}.safetensors", f"{hash_of(identity(self.config))} {name}")

    def _continue(self, begun: Mapping[str, Any]) -> None:
        """Continue an interrupted run; record and report the conditions that have changed."""
        changed = changes(begun, self.config)
        if changed:
            log.warning("%s continues under other conditions than it began: %s", self.path, ", ".join(changed))
        resumed = dict.fromkeys([*(begun.get(RESUMED) or []), *changed])
        self.config |= {key: begun[key] for key in (RELEASE, COMPUTED, ENVIRONMENT) if key in begun}
        if resumed:
            self.config[RESUMED] = list(resumed)
        (self.folder / CHECKSUMS).unlink(missing_ok=True)  # from a process that was killed before the renaming
        write_yaml(self.folder / CONFIG, self.config)
        remove_unfinished(self._checkpoints)
        damaged = self._records.remove_damaged()
        if damaged:
            log.warning("%s: trainings %s are damaged and are repeated", self.path, listed(damaged))

    def folder_of_states(self) -> Path:
        """Return an empty folder where other processes write the states of their trainings."""
        folder = self._hidden / "states"
        with writing(folder):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(exist_ok=True)  # processes of a fit that was killed may still write here
        return folder

    def keep(
        self,
        seed: int,
        fold: int,
        record: Mapping[str, Any],
        head: Mapping[str, "Tensor"],
        models: Mapping[str, SavedModel] = MappingProxyType({}),
    ) -> None:
        """Write one finished training, see :meth:`TrainingRecords.keep`, and remove its checkpoint."""
        self._records.keep(seed, fold, record, head, models)
        self.checkpoint(seed, fold).remove()

    def finished(self) -> set[tuple[int, int]]:
        """Return seed and fold of each finished training; empty after the run is finished."""
        return self._records.finished()

    def records(self) -> list[tuple[int, int, dict[str, Any]]]:
        """Return seed, fold and record of each finished training, see :meth:`TrainingRecords.read_all`."""
        return self._records.read_all(self.config["seeds"])

    def leave(self) -> None:
        """Remove the folder, unless it contains finished trainings or checkpoints."""
        if not self.finished() and not self.has_checkpoints():
            shutil.rmtree(self._hidden, ignore_errors=True)

    def finish(self) -> None:
        """Record the checksums and rename the folder to the run folder; an older run folder is removed."""
        _put_in_place(self.folder, self.path)
        with writing(self.path):
            shutil.rmtree(self._hidden)
