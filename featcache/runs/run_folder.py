"""Results of a fit → run folder, and back. A run counts as finished when it stands under its own name."""

import glob
import hashlib
import io
import json
import logging
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featcache.errors import DiskError, PredictionsError, StoreError, listed, unknown_name
from featcache.evaluate.predictions import Predictions, checked, dimensions_of
from featcache.files.checksums import CHECKSUMS, write_checksums
from featcache.files.disk import writing
from featcache.files.locks import held
from featcache.files.regular import CsvRows, read_regular, remove_unfinished, replace_file, resolved, sha256_of_file
from featcache.files.values import parse_json
from featcache.runs import checked as saved
from featcache.runs.changes import changes
from featcache.runs.identity import COMPUTED, ENVIRONMENT, RELEASE, RESUMED, differences
from featcache.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

METRICS = "metrics.json"
CONFIG = "config.yaml"
LOCKS = ".locks"
HISTORY = "history.csv"
PREDICTIONS = "predictions.csv"
# What is read back as results. Reports and figures are not: whoever edits them, or adds files, changes no result.
RESULTS = (
    CONFIG,
    METRICS,
    PREDICTIONS,
    "validation_predictions.csv",
    HISTORY,
    "layer_weights.csv",
    "combinations.csv",
    "heads/*.safetensors",
)


class RunFolder:
    """A finished fit.

    Attributes:
        path: Its folder.
        config: The content of ``config.yaml``.
        metrics: The content of ``metrics.json``.

    Raises:
        StoreError: the folder is not a finished run, or what it holds has changed since it was written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        try:
            self.config = read_config(self.path)
            self.metrics = saved.read_metrics(self.path / METRICS)
        except StoreError as error:
            raise StoreError(f"{self.path} is not a finished run: {saved.reason_of(error)}") from error

    @property
    def name(self) -> str:
        return resolved(self.path).name

    def layer_weights(self) -> "pd.DataFrame":
        """The rows of ``layer_weights.csv``: seed, fold, layer, weight, features; none where no weights are learned."""
        return read_table(self.path / "layer_weights.csv")

    def history(self) -> "pd.DataFrame":
        """The rows of ``history.csv``: seed, fold, epoch, train_loss, validation_loss, and the validation score."""
        return read_table(self.path / HISTORY)

    def predictions(self) -> "pd.DataFrame":
        """The rows of ``predictions.csv``; ids and labels are text."""
        return read_table(self.path / PREDICTIONS)


def read_config(folder: Path) -> dict[str, Any]:
    """Read the configuration of a run, finished or not.

    Raises:
        StoreError: there is none, or it is not as it was written.
    """
    return saved.read_config(folder / CONFIG)


def read_table(path: Path) -> "pd.DataFrame":
    """Read a table of a run, ids and labels as the texts that they are: speaker 03 stays 03.

    Raises:
        StoreError: the file is missing, no table, or not as it was written.
    """
    import pandas as pd

    texts = dict.fromkeys(("utterance_id", "speaker_id", "target", "prediction", "layer", "features"), str)
    nans = {"train_loss": ["nan"], "validation_loss": ["nan"]}  # of a training that diverged
    try:
        content = io.BytesIO(saved.read_checked(path))
        return pd.read_csv(content, dtype=texts, keep_default_na=False, na_values=nans)
    except DiskError as error:
        raise StoreError(f"{path}: not readable as a table ({saved.reason_of(error)})") from error
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: not readable as a table ({_reason(error)})") from error


def record_checksums(folder: Path) -> None:
    """Write down the checksums of what is read back, when all of it is there."""
    found = sorted(path for pattern in RESULTS for path in folder.glob(pattern))
    write_checksums(folder, [path.relative_to(folder).as_posix() for path in found])


class UnfinishedRun:
    """A run on its way: a folder inside a hidden one, which takes the run's name when all is there.

    Beside it lie the records of the trainings that are finished. They go when the run has its name, so that none is
    lost wherever a process is killed.

    Attributes:
        path: Where it will be.
        folder: Where it is until then.
        config: What is being run.
    """

    def __init__(self, path: Path, config: Mapping[str, Any]) -> None:
        self.path = path
        self.config = dict(config)
        self.folder = self.folder_of(path)
        self._hidden = self.folder.parent
        self._records = self._hidden / "finished"

    @staticmethod
    def folder_of(path: Path) -> Path:
        """Where a run is until it is finished."""
        return path.with_name(f".{path.name}.unfinished") / "run"

    @classmethod
    def is_begun(cls, path: Path) -> bool:
        """Whether an interrupted run is there."""
        return cls.folder_of(path).exists()

    def locked(self) -> AbstractContextManager[None]:
        """Keep other processes from fitting the same run."""
        return locked(self.path, f"{self.path} is being fitted by another process; wait for it to end")

    def begin(self, *, resume: bool, overwrite: bool) -> None:
        """Make the folder, or go on with the one that is there.

        Raises:
            StoreError: finished trainings are there and nothing was said of them, or they are of other settings.
        """
        there = len(self.finished())
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
                    f"{self.path} was interrupted after {there} trainings; go on with --resume, "
                    "or start anew with --overwrite"
                )
            for folder in (self._records, self.folder, self.folder / "heads"):
                remove_unfinished(folder)
            self._go_on(begun)
            return
        with writing(self._hidden):
            shutil.rmtree(self._hidden, ignore_errors=True)
            self._records.mkdir(parents=True)
        write_yaml(self.folder / CONFIG, self.config)

    def begun(self) -> dict[str, Any]:
        """The configuration of what was interrupted; empty unless trainings are there that have come to their end."""
        return read_config(self.folder) if self.finished() else {}

    def _go_on(self, begun: Mapping[str, Any]) -> None:
        """Take over what was begun: whatever has changed meanwhile is told and recorded."""
        changed = changes(begun, self.config)
        if changed:
            log.warning("%s goes on under other conditions than it began: %s", self.path, ", ".join(changed))
        resumed = dict.fromkeys([*(begun.get(RESUMED) or []), *changed])
        self.config |= {key: begun[key] for key in (RELEASE, COMPUTED, ENVIRONMENT) if key in begun}
        if resumed:
            self.config[RESUMED] = list(resumed)
        (self.folder / CHECKSUMS).unlink(missing_ok=True)  # of a process that was killed before the run had its name
        write_yaml(self.folder / CONFIG, self.config)
        damaged = [one for one in sorted(self.finished()) if self._read(*one) is None]
        if damaged:
            log.warning("%s: %s are damaged and trained again", self.path, listed(_name(*one) for one in damaged))
        for one in damaged:
            self._record_path(*one).unlink()

    def keep(self, seed: int, fold: int, record: Mapping[str, Any], head: Mapping[str, Any]) -> None:
        """Write what became of one training, the weights of its head before the record that says it is finished."""
        from safetensors.torch import save

        weights = save(dict(head))
        # what is read back when the run is resumed, perhaps on another day, is to be what was written
        content = {"sha256": _sha256(record), "head_sha256": hashlib.sha256(weights).hexdigest(), "record": record}
        replace_file(self._head_path(seed, fold), weights)
        replace_file(self._record_path(seed, fold), json.dumps(content).encode())

    def finished(self) -> set[tuple[int, int]]:
        """Seed and fold of each training that has come to its end and has not gone into a finished run."""
        if not self.folder.exists():
            return set()
        names = (re.fullmatch(r"seed-(\d+)-fold-(\d+)\.json", path.name) for path in self._records.glob("*.json"))
        return {(int(name[1]), int(name[2])) for name in names if name}

    def records(self) -> list[tuple[int, int, dict[str, Any]]]:
        """Seed, fold and record of each training, fold after fold, the seeds as the configuration orders them.

        Raises:
            StoreError: a record, or the head that belongs to it, is not as it was written.
        """
        seeds = self.config["seeds"]
        found = []
        for seed, fold in sorted(self.finished(), key=lambda one: (one[1], seeds.index(one[0]))):
            record = self._read(seed, fold)
            if record is None:
                raise StoreError(f"{self._record_path(seed, fold)} or its head is damaged; --resume trains it again")
            found.append((seed, fold, record))
        return found

    def _read(self, seed: int, fold: int) -> dict[str, Any] | None:
        """The record of a training; None where it, or its head, is not as it was written."""
        try:
            path = self._record_path(seed, fold)
            content: dict[str, Any] = parse_json(read_regular(path), dict, path, saved.AGAIN)
            head = sha256_of_file(self._head_path(seed, fold))
        except (OSError, StoreError):
            return None
        if "history" in content:  # of an earlier release, without checksums
            return content
        record, told = content.get("record"), (content.get("sha256"), content.get("head_sha256"))
        return record if isinstance(record, dict) and told == (_sha256(record), head) else None

    def _record_path(self, seed: int, fold: int) -> Path:
        return self._records / f"{_name(seed, fold)}.json"

    def _head_path(self, seed: int, fold: int) -> Path:
        return self.folder / "heads" / f"{_name(seed, fold)}.safetensors"

    def leave(self) -> None:
        """Remove the folder unless trainings that have come to their end are in it."""
        if not self.finished():
            shutil.rmtree(self._hidden, ignore_errors=True)

    def finish(self) -> None:
        """Record the checksums and give the folder its name; an older run of that name goes then."""
        record_checksums(self.folder)
        old = self.path.with_name(f".{self.path.name}.old")
        with writing(self.path):
            shutil.rmtree(old, ignore_errors=True)
            if self.path.exists():
                self.path.rename(old)
            self.folder.rename(self.path)
            shutil.rmtree(self._hidden)
            shutil.rmtree(old, ignore_errors=True)


def locked(path: Path, taken: str) -> AbstractContextManager[None]:
    """Keep other processes from making the same folder of a run.

    Args:
        path: The folder.
        taken: What to say when another process is doing so.
    """
    # apart, because they stay: beside a corpus's runs there is nothing but runs
    return held(path.parent.parent / LOCKS / path.parent.name / f"{path.name}.lock", taken)


def _name(seed: int, fold: int) -> str:
    return f"seed-{seed}-fold-{fold}"


def _sha256(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record).encode()).hexdigest()


def write_yaml(path: Path, content: Mapping[str, Any]) -> None:
    import yaml

    replace_file(path, yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True, width=120).encode())


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    replace_file(path, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())


def write_rows(path: Path, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Write a CSV table; numbers with all their digits."""
    with writing(path), open(path, "w", newline="", encoding="utf-8") as file:
        CsvRows(file).add([columns, *rows])


def finished_runs(workspace: Workspace, corpus: str | None = None) -> list[RunFolder]:
    """All finished runs, of one corpus or of every one, the newest last; those that cannot be read are told."""
    runs = []
    for path in _folders(workspace, corpus):
        try:
            runs.append(RunFolder(path))
        except StoreError as error:
            log.warning("left out: %s", error)
    return runs


def find_run(workspace: Workspace, name: str) -> RunFolder:
    """A run by its folder, or by its name under ``data/runs``.

    Raises:
        StoreError: there is none, or it is not finished, or several corpora have one of that name.
    """
    if _is_file(Path(name) / METRICS):
        return RunFolder(name)
    folders = _folders(workspace)
    fitting = [folder for folder in folders if resolved(folder).name == name]
    if not fitting:
        raise StoreError(unknown_name("run", name, {resolved(folder).name for folder in folders}))
    if len(fitting) > 1:
        raise StoreError(f"several runs are called {name!r}: {', '.join(map(str, fitting))}; give a path")
    return RunFolder(fitting[0])


def _folders(workspace: Workspace, corpus: str | None = None) -> list[Path]:
    """The folders of finished runs, the newest last."""
    folders = workspace.runs("*" if corpus is None else corpus)
    pattern = "*" if corpus is None else glob.escape(folders.name)
    found = [path.parent for path in folders.parent.glob(f"{pattern}/*/{METRICS}") if path.parent.name[0] != "."]
    return sorted(found, key=lambda path: (path / METRICS).stat().st_mtime_ns)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long
        return False


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{error.strerror}: {Path(error.filename).name}" if error.filename else str(error)
    return (str(error).splitlines() or [type(error).__name__])[0]


def load_predictions(run: RunFolder) -> Predictions:
    """The test predictions of a run.

    Raises:
        PredictionsError: they cannot be scored.
    """
    table = run.predictions()
    try:
        if "confusion" in run.metrics:
            return checked(table, classes=tuple(run.metrics["confusion"]["classes"]))
        return checked(table, dimensions=dimensions_of(table))
    except PredictionsError as error:
        raise PredictionsError(f"{run.path / 'predictions.csv'}: {error}") from error
