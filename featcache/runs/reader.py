"""Run folder → settings, scores, tables and heads. A run folder has its final name only when the run is finished."""

import glob
import logging
import os
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from featcache.errors import PredictionsError, StoreError, unknown_name
from featcache.evaluate.predictions import Predictions, checked, dimensions_of
from featcache.files.regular import resolved
from featcache.runs.file_names import HISTORY, LAYER_WEIGHTS, METRICS, PREDICTIONS, TRIED, VALIDATION_PREDICTIONS
from featcache.runs.identity import FINAL, PUBLISHED, SWEEP
from featcache.runs.parse import read_config, read_metrics, read_table, reason_of
from featcache.runs.writer import UnfinishedRun
from featcache.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

    from featcache.runs.saved_head import SavedHead

log = logging.getLogger(__name__)


class RunFolder:
    """Results of a finished fit or ensemble.

    Tables are read when they are first used, and stay in memory: copy a table before you change it.

    Args:
        path: The run folder.

    Attributes:
        path: The run folder.
        config: Content of ``config.yaml``: the settings of the run.
        metrics: Content of ``metrics.json``: the scores on the test parts.

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

    @property
    def is_final(self) -> bool:
        """Whether it is a run of ``fit --final``, which has no test part and therefore no test scores."""
        return self.config.get(FINAL) is True

    @cached_property
    def predictions(self) -> "pd.DataFrame":
        """Predictions for the test parts: the rows of ``predictions.csv``; none if the run has no test part.

        Columns: seed, fold, utterance_id, speaker_id, and targets and predictions of all labels. Ids and labels are
        text.

        Raises:
            StoreError: the file is missing, damaged, or has changed since it was written, or the folder was published
                and has no such file; likewise for other tables.
        """
        return self._table(PREDICTIONS)

    @cached_property
    def validation_predictions(self) -> "pd.DataFrame":
        """Predictions for the validation parts: the rows of ``validation_predictions.csv``."""
        return self._table(VALIDATION_PREDICTIONS)

    @cached_property
    def layer_weights(self) -> "pd.DataFrame":
        """Learned layer weights: seed, fold, layer, weight, features; empty if no weights are learned."""
        return self._table(LAYER_WEIGHTS)

    @cached_property
    def history(self) -> "pd.DataFrame":
        """Losses of each epoch: seed, fold, epoch, train_loss, validation_loss, and the validation score."""
        return self._table(HISTORY)

    @cached_property
    def tried(self) -> "pd.DataFrame":
        """Settings that a search tried: the rows of ``sweep.csv``, with their validation scores.

        Only the chosen setting has a test score.

        Raises:
            StoreError: the run is not the result of a search, or the file is damaged.
        """
        if SWEEP not in self.config:
            raise StoreError(f"{self.path} is not the result of a search (fit --sweep)")
        return self._table(TRIED)

    def _table(self, name: str) -> "pd.DataFrame":
        if self.config.get(PUBLISHED) and not (self.path / name).exists():
            raise StoreError(
                f"{self.path} is a published folder, which has no {name}, because no utterances and speakers are "
                "published; use the run from which it was made"
            )
        return read_table(self.path / name)

    def head(self, *, seed: int, fold: int) -> "SavedHead":
        """Load a trained head together with the statistics that normalise its features.

        Args:
            seed: A seed of the run.
            fold: Number of a fold, from 1 on.

        Returns:
            The head in evaluation mode, on the CPU. It takes unnormalised features, see
            :meth:`~featcache.runs.saved_head.SavedHead.forward`.

        Raises:
            StoreError: the run has no such seed or fold, it is an ensemble, a file is damaged, or the head is code from
                outside of featcache that :func:`featcache.name_plugins` has not named.

        Example:
            >>> head = featcache.load_run("data/runs/emodb/mine").head(seed=123, fold=1)
            >>> store = featcache.open("data/cache/emodb")["wav2vec2-base"]
            >>> logits = head([[store["03a01Fa"]]], groups=["03"])  # (num_utterances, num_classes)
            >>> logits.shape == (1, len(head.outputs))
            True
        """
        from featcache.runs.heads import load_head

        if self.config.get(PUBLISHED) and self.config["norm"] == "speaker":
            log.info(
                "%s has no statistics of speakers: a new speaker needs their own, normalisation=[(mean, std)]",
                self.path,
            )
        return load_head(self.path, self.config, seed=seed, fold=fold)


def find_run(workspace: Workspace, name: str) -> RunFolder:
    """Open a run by its folder, or by its name under ``data/runs``.

    Args:
        workspace: Folder of corpora, caches and runs.
        name: The run folder, its name, or corpus/name.

    Returns:
        The run.

    Raises:
        StoreError: the run does not exist or is not finished, or several corpora have a run of that name.
    """
    if _is(Path.is_file, Path(name) / METRICS):
        return RunFolder(name)
    folders = _folders(workspace)
    fitting = [one for one in folders if _has_name(name, one)]
    if not fitting:
        if name and _is(Path.is_dir, Path(name)):
            return RunFolder(name)  # its error explains why the folder is not a finished run
        _refuse_unfinished(workspace, name)
        hint = "" if folders else "make one with 'featcache fit'"
        raise StoreError(unknown_name("run", name, {resolved(folder).name for folder in folders}, hint=hint))
    if len(fitting) > 1:
        raise StoreError(f"several runs are called {name!r}: {', '.join(map(str, fitting))}; give a path")
    return RunFolder(fitting[0])


def is_run(workspace: Workspace, name: str) -> bool:
    """Return whether a name is the path or the name of a run that :func:`find_run` finds, or refuses as unfinished."""
    if _is(Path.is_file, Path(name) / METRICS) or any(map(partial(_has_name, name), _folders(workspace))):
        return True
    try:
        _refuse_unfinished(workspace, name)
    except StoreError:
        return True
    return False


def _has_name(name: str, folder: Path) -> bool:
    return name in (resolved(folder).name, f"{folder.parent.name}/{resolved(folder).name}")


def _refuse_unfinished(workspace: Workspace, name: str) -> None:
    for corpus in sorted((workspace.home / "runs").glob("*")):
        path = corpus / name.rpartition("/")[2]
        if name in (path.name, f"{corpus.name}/{path.name}") and UnfinishedRun.is_begun(path):
            raise StoreError(f"{path} is not finished; 'featcache runs' shows the command that continues it")


def finished_runs(workspace: Workspace, corpus: str | None = None) -> list[RunFolder]:
    """Open all finished runs of one corpus or of all corpora, the newest last; log the runs that cannot be read."""
    runs = []
    for path in _folders(workspace, corpus):
        try:
            runs.append(RunFolder(path))
        except StoreError as error:
            log.warning("left out: %s", error)
    return runs


def no_test_scores(path: Path) -> str:
    """Return the message about a run without a test part."""
    return f"{path} is a run of 'fit --final': it has no test scores; fit it without --final"


def load_predictions(run: RunFolder) -> Predictions:
    """Return the checked predictions of a run for the test parts.

    Raises:
        PredictionsError: the predictions cannot be scored, or the run has no test part.
    """
    if run.is_final:
        raise PredictionsError(no_test_scores(run.path))
    try:
        if "confusion" in run.metrics:
            return checked(run.predictions, classes=tuple(run.metrics["confusion"]["classes"]))
        if "per_label" in run.metrics:
            return checked(run.predictions, labels=tuple(run.metrics["per_label"]))
        return checked(run.predictions, dimensions=dimensions_of(run.predictions))
    except PredictionsError as error:
        raise PredictionsError(f"{run.path / PREDICTIONS}: {error}") from error


def _folders(workspace: Workspace, corpus: str | None = None) -> list[Path]:
    """Return the folders of finished runs, the newest last."""
    folders = workspace.runs("*" if corpus is None else corpus)
    pattern = "*" if corpus is None else glob.escape(folders.name)
    found = [path.parent for path in folders.parent.glob(f"{pattern}/*/{METRICS}") if path.parent.name[0] != "."]
    return sorted(found, key=lambda path: (path / METRICS).stat().st_mtime_ns)


def _is(kind: Callable[[Path], bool], path: Path) -> bool:
    try:
        return kind(path)
    except OSError:  # the name is too long
        return False
