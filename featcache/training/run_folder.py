"""Results of a fit → run folder, and back. A run counts as finished when it stands under its own name."""

import csv
import glob
import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featcache.disk import read_json, writing
from featcache.errors import StoreError, unknown_name
from featcache.files import remove_unfinished, replace_file
from featcache.locks import held
from featcache.training.saved import AGAIN, read_config, read_metrics, reason_of
from featcache.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

METRICS = "metrics.json"
CONFIG = "config.yaml"
LOCKS = ".locks"
# What stands in the configuration beside the settings: the machine's share in the numbers.
COMPUTED = "computed_with"


class Run:
    """A finished fit.

    Attributes:
        path: Its folder.
        config: The content of ``config.yaml``.
        metrics: The content of ``metrics.json``.

    Raises:
        StoreError: the folder is not a finished run.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        try:
            self.config = read_config(self.path / CONFIG)
            self.metrics = read_metrics(self.path / METRICS)
        except StoreError as error:
            raise StoreError(f"{self.path} is not a finished run: {reason_of(error)}") from error

    @property
    def name(self) -> str:
        return self.path.resolve().name

    def layer_weights(self) -> "pd.DataFrame":
        """The rows of ``layer_weights.csv``: seed, fold, layer, weight, features; none where no weights are learned."""
        return read_table(self.path / "layer_weights.csv")

    def predictions(self) -> "pd.DataFrame":
        """The rows of ``predictions.csv``; ids and labels are text."""
        return read_table(self.path / "predictions.csv")


def read_table(path: Path) -> "pd.DataFrame":
    """Read a table of a run, ids and labels as the texts that they are: speaker 03 stays 03.

    Raises:
        StoreError: the file is missing or no table.
    """
    import pandas as pd

    texts = dict.fromkeys(("utterance_id", "speaker_id", "target", "prediction", "layer", "features"), str)
    nans = {"train_loss": ["nan"], "validation_loss": ["nan"]}  # of a training that diverged
    try:
        return pd.read_csv(path, dtype=texts, keep_default_na=False, na_values=nans)
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: not readable as a table ({_reason(error)})") from error


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
        self.config = config
        self._hidden = path.with_name(f".{path.name}.unfinished")
        self.folder = self._hidden / "run"
        self._records = self._hidden / "finished"

    def locked(self) -> AbstractContextManager[None]:
        """Keep other processes from fitting the same run."""
        return locked(self.path, f"{self.path} is being fitted by another process; wait for it to end")

    def begin(self, *, resume: bool, overwrite: bool) -> None:
        """Make the folder, or go on with the one that is there.

        Raises:
            StoreError: finished trainings are there and nothing was said of them, or they are of other settings.
        """
        there = len(self.finished())
        if there and not overwrite:
            begun = read_config(self.folder / CONFIG)
            differing = differences(begun, self.config)
            computed = begun.get(COMPUTED)
            if computed != self.config[COMPUTED]:
                differing.append(f"{COMPUTED} {computed}")
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
            return
        with writing(self._hidden):
            shutil.rmtree(self._hidden, ignore_errors=True)
            self._records.mkdir(parents=True)
        write_yaml(self.folder / CONFIG, self.config)

    def keep(self, seed: int, fold: int, record: Mapping[str, Any], head: Mapping[str, Any]) -> None:
        """Write what became of one training, the weights of its head before the record that says it is finished."""
        from safetensors.torch import save

        name = f"seed-{seed}-fold-{fold}"
        replace_file(self.folder / "heads" / f"{name}.safetensors", save(dict(head)))
        replace_file(self._records / f"{name}.json", json.dumps(record).encode())

    def finished(self) -> set[tuple[int, int]]:
        """Seed and fold of each training that has come to its end and has not gone into a finished run."""
        if not self.folder.exists():
            return set()
        names = (re.fullmatch(r"seed-(\d+)-fold-(\d+)\.json", path.name) for path in self._records.glob("*.json"))
        return {(int(name[1]), int(name[2])) for name in names if name}

    def records(self) -> list[tuple[int, int, dict[str, Any]]]:
        """Seed, fold and record of each training, fold after fold, the seeds as the configuration orders them."""
        seeds = self.config["seeds"]
        order = sorted(self.finished(), key=lambda one: (one[1], seeds.index(one[0])))
        paths = [self._records / "seed-{}-fold-{}.json".format(*one) for one in order]
        return [(*one, read_json(path, dict, AGAIN)) for one, path in zip(order, paths, strict=True)]

    def leave(self) -> None:
        """Remove the folder unless trainings that have come to their end are in it."""
        if not self.finished():
            shutil.rmtree(self._hidden, ignore_errors=True)

    def finish(self) -> None:
        """Give the folder its name; an older run of that name goes then."""
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


def differences(config: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Which settings differ; how it was computed is none."""
    return sorted(key for key in {*config, *other} - {COMPUTED} if config.get(key) != other.get(key))


def write_yaml(path: Path, content: Mapping[str, Any]) -> None:
    import yaml

    replace_file(path, yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True, width=120).encode())


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    replace_file(path, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())


def write_rows(path: Path, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Write a CSV table; numbers with all their digits."""
    with writing(path), open(path, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(columns)
        table.writerows(rows)


def finished_runs(workspace: Workspace, corpus: str | None = None) -> list[Run]:
    """All finished runs, of one corpus or of every one, the newest last."""
    return [Run(path) for path in _folders(workspace, corpus)]


def _folders(workspace: Workspace, corpus: str | None = None) -> list[Path]:
    """Of runs, the newest last."""
    folders = workspace.runs("*" if corpus is None else corpus)
    pattern = "*" if corpus is None else glob.escape(folders.name)
    found = [path.parent for path in folders.parent.glob(f"{pattern}/*/{METRICS}") if path.parent.name[0] != "."]
    return sorted(found, key=lambda path: (path / METRICS).stat().st_mtime_ns)


def find_run(workspace: Workspace, name: str) -> Run:
    """A run by its folder, or by its name under ``data/runs``.

    Raises:
        StoreError: there is none, or it is not finished, or several corpora have one of that name.
    """
    if _is_file(Path(name) / METRICS):
        return Run(name)
    folders = _folders(workspace)
    fitting = [folder for folder in folders if folder.resolve().name == name]
    if not fitting:
        raise StoreError(unknown_name("run", name, {folder.resolve().name for folder in folders}))
    if len(fitting) > 1:
        raise StoreError(f"several runs are called {name!r}: {', '.join(map(str, fitting))}; give a path")
    return Run(fitting[0])


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long
        return False


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{error.strerror}: {Path(error.filename).name}" if error.filename else str(error)
    return (str(error).splitlines() or [type(error).__name__])[0]
