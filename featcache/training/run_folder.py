"""Results of a fit → run folder, and back. A run counts as finished when it stands under its own name."""

import csv
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featcache.errors import StoreError, unknown_name
from featcache.files import replace_file
from featcache.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

METRICS = "metrics.json"


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
        import yaml

        self.path = Path(path)
        try:
            self.config: dict[str, Any] = yaml.safe_load((self.path / "config.yaml").read_text(encoding="utf-8"))
            self.metrics: dict[str, Any] = json.loads((self.path / METRICS).read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise StoreError(f"{self.path} is not a finished run: {_reason(error)}") from error

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


@contextmanager
def new_run(path: Path) -> Iterator[Path]:
    """Give a folder to fill; it takes the name ``path`` when all is there, and an older run of that name goes then."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        yield unfinished
        old = path.with_name(f".{path.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        if path.exists():
            path.rename(old)
        unfinished.rename(path)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def write_yaml(path: Path, content: Mapping[str, Any]) -> None:
    import yaml

    replace_file(path, yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True, width=120).encode())


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    replace_file(path, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())


def write_rows(path: Path, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Write a CSV table; numbers with all their digits."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(columns)
        table.writerows(rows)


def finished_runs(workspace: Workspace, corpus: str | None = None) -> list[Run]:
    """All finished runs, of one corpus or of every one, the newest last."""
    folders = workspace.runs(corpus or "*")
    found = [path.parent for path in folders.parent.glob(f"{folders.name}/*/{METRICS}") if path.parent.name[0] != "."]
    return [Run(path) for path in sorted(found, key=lambda path: (path / METRICS).stat().st_mtime_ns)]


def find_run(workspace: Workspace, name: str) -> Run:
    """A run by its folder, or by its name under ``data/runs``.

    Raises:
        StoreError: there is none, or it is not finished, or several corpora have one of that name.
    """
    if (Path(name) / METRICS).is_file():
        return Run(name)
    runs = finished_runs(workspace)
    fitting = [run for run in runs if run.name == name]
    if not fitting:
        raise StoreError(unknown_name("run", name, {run.name for run in runs}))
    if len(fitting) > 1:
        raise StoreError(
            f"several runs are called {name!r}: {', '.join(str(run.path) for run in fitting)}; give a path"
        )
    return fitting[0]


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{error.strerror}: {Path(error.filename).name}" if error.filename else str(error)
    return (str(error).splitlines() or [type(error).__name__])[0]
