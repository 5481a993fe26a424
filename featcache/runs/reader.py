"""Run folder → its settings, scores, tables and heads. A run is finished when a folder has its name."""

import glob
import logging
import os
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from featcache.errors import PredictionsError, StoreError, unknown_name
from featcache.evaluate.predictions import Predictions, checked, dimensions_of
from featcache.files.regular import resolved
from featcache.runs.file_names import HISTORY, LAYER_WEIGHTS, METRICS, PREDICTIONS, VALIDATION_PREDICTIONS
from featcache.runs.parse import read_config, read_metrics, read_table, reason_of
from featcache.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

    from featcache.runs.saved_head import SavedHead

log = logging.getLogger(__name__)


class RunFolder:
    """A finished fit or ensemble.

    Tables are read when they are first used, and kept: copy one before you change it.

    Args:
        path: The run folder.

    Attributes:
        path: The run folder.
        config: The content of ``config.yaml``.
        metrics: The content of ``metrics.json``.

    Raises:
        StoreError: the folder is not a finished run, or a file has changed since it was written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        try:
            self.config = read_config(self.path)
            self.metrics = read_metrics(self.path / METRICS)
        except StoreError as error:
            raise StoreError(f"{self.path} is not a finished run: {reason_of(error)}") from error

    @property
    def name(self) -> str:
        """Name of the folder."""
        return resolved(self.path).name

    @cached_property
    def predictions(self) -> "pd.DataFrame":
        """The rows of ``predictions.csv``; ids and labels are text."""
        return read_table(self.path / PREDICTIONS)

    @cached_property
    def validation_predictions(self) -> "pd.DataFrame":
        """The rows of ``validation_predictions.csv``; ids and labels are text."""
        return read_table(self.path / VALIDATION_PREDICTIONS)

    @cached_property
    def layer_weights(self) -> "pd.DataFrame":
        """The rows of ``layer_weights.csv``: seed, fold, layer, weight, features; none if no weights are learned."""
        return read_table(self.path / LAYER_WEIGHTS)

    @cached_property
    def history(self) -> "pd.DataFrame":
        """The rows of ``history.csv``: seed, fold, epoch, train_loss, validation_loss, and the validation score."""
        return read_table(self.path / HISTORY)

    def head(self, *, seed: int, fold: int) -> "SavedHead":
        """Load a trained head with the statistics that normalise its features.

        Args:
            seed: A seed of the run.
            fold: The number of a fold, from 1 on.

        Returns:
            The head in evaluation mode, on the CPU.

        Raises:
            StoreError: no such seed or fold, an ensemble, which has no head of its own, or a damaged file.

        Example:
            >>> head = featcache.load_run("data/runs/emodb/mine").head(seed=123, fold=1)
            >>> store = featcache.open("data/cache/emodb")["wav2vec2-base"]
            >>> logits = head([[store["03a01Fa"]]], groups=["03"])  # (num_utterances, num_classes)
            >>> logits.shape == (1, len(head.outputs))
            True
        """
        from featcache.runs.heads import load_head

        return load_head(self.path, self.config, seed=seed, fold=fold)


def load_run(path: str | os.PathLike[str], *, home: str | os.PathLike[str] | None = None) -> RunFolder:
    """Open a finished run.

    Args:
        path: Its folder, or its name under ``data/runs``, such as ``mine`` or ``emodb/mine``.
        home: Where everything lives; by default ``$FEATCACHE_HOME``, or ``data``.

    Returns:
        The run: ``config``, ``metrics``, ``predictions``, ``layer_weights``, ``history`` and ``head(seed, fold)``.

    Raises:
        StoreError: there is none, it is not finished, or several corpora have one of that name.

    Example:
        >>> run = featcache.load_run("data/runs/emodb/mine")
        >>> list(run.predictions.columns[:5])
        ['seed', 'fold', 'utterance_id', 'speaker_id', 'target']
    """
    return find_run(Workspace.at(home), os.fspath(path))


def find_run(workspace: Workspace, name: str) -> RunFolder:
    """Open a run by its folder, or by its name under ``data/runs``.

    Args:
        workspace: Where names are looked up.
        name: The folder, the name, or corpus/name.

    Raises:
        StoreError: there is none, it is not finished, or several corpora have one of that name.
    """
    if _is(Path.is_file, Path(name) / METRICS):
        return RunFolder(name)
    folders = _folders(workspace)
    fitting = [one for one in folders if name in (resolved(one).name, f"{one.parent.name}/{resolved(one).name}")]
    if not fitting:
        if name and _is(Path.is_dir, Path(name)):
            return RunFolder(name)  # its error says why the folder is no finished run
        raise StoreError(unknown_name("run", name, {resolved(folder).name for folder in folders}))
    if len(fitting) > 1:
        raise StoreError(f"several runs are called {name!r}: {', '.join(map(str, fitting))}; give a path")
    return RunFolder(fitting[0])


def finished_runs(workspace: Workspace, corpus: str | None = None) -> list[RunFolder]:
    """Open all finished runs of one corpus or of every one, the newest last; those that cannot be read are reported."""
    runs = []
    for path in _folders(workspace, corpus):
        try:
            runs.append(RunFolder(path))
        except StoreError as error:
            log.warning("left out: %s", error)
    return runs


def load_predictions(run: RunFolder) -> Predictions:
    """Return the test predictions of a run, checked.

    Raises:
        PredictionsError: they cannot be scored.
    """
    try:
        if "confusion" in run.metrics:
            return checked(run.predictions, classes=tuple(run.metrics["confusion"]["classes"]))
        return checked(run.predictions, dimensions=dimensions_of(run.predictions))
    except PredictionsError as error:
        raise PredictionsError(f"{run.path / PREDICTIONS}: {error}") from error


def _folders(workspace: Workspace, corpus: str | None = None) -> list[Path]:
    """The folders of finished runs, the newest last."""
    folders = workspace.runs("*" if corpus is None else corpus)
    pattern = "*" if corpus is None else glob.escape(folders.name)
    found = [path.parent for path in folders.parent.glob(f"{pattern}/*/{METRICS}") if path.parent.name[0] != "."]
    return sorted(found, key=lambda path: (path / METRICS).stat().st_mtime_ns)


def _is(kind: Callable[[Path], bool], path: Path) -> bool:
    try:
        return kind(path)
    except OSError:  # a name that is too long
        return False
