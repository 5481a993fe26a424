"""Run folders, finished or not → one entry each: settings that differ, validation and test score, date, progress."""

import logging
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from featcache.errors import PredictionsError, StoreError
from featcache.evaluate.scores import digits_of, name_of_main_score
from featcache.files.regular import resolved
from featcache.report.part_scores import TEST, VALIDATION, part_scores
from featcache.report.tables import mean_and_std
from featcache.runs.file_names import CONFIG, METRICS
from featcache.runs.identity import FROM_LAYER
from featcache.runs.parse import read_config
from featcache.runs.reader import RunFolder, finished_runs
from featcache.runs.varied import distinguishing, settings_text, with_defaults
from featcache.runs.writer import UnfinishedRun, unfinished_runs
from featcache.units import counted
from featcache.workspace import Workspace

log = logging.getLogger(__name__)

FIT, ENSEMBLE, FINAL, PUBLISHED = "fit", "ensemble", "final fit", "published"


@dataclass(frozen=True, kw_only=True)
class ListedRun:
    """A run in the list.

    Attributes:
        name: Name of the folder.
        corpus: Name of the corpus.
        path: The run folder; for an unfinished run, the folder that it will have.
        kind: ``fit``, ``ensemble``, ``final fit`` or ``published``.
        settings: Settings as text, by name.
        metric: Name of the score: ``uar``, in percent, or ``ccc``; empty if there is none.
        validation: ``mean`` and ``std`` over seeds of the validation score; None if the run does not record it.
        test: The same for the test score.
        date: When the run was finished, or last written, in ISO 8601 with the time zone.
        finished: Whether the run is finished.
        trainings: Number of finished trainings and of all trainings of an unfinished run; None for a finished one.
        command: Command that continues an unfinished run; empty for a finished one.
    """

    name: str
    corpus: str
    path: Path
    kind: str
    settings: Mapping[str, str]
    metric: str
    validation: Mapping[str, float | None] | None
    test: Mapping[str, float | None] | None
    date: str
    finished: bool
    trainings: tuple[int, int] | None = None
    command: str = ""

    @property
    def state(self) -> str:
        """Kind of a finished run, or progress of an unfinished one."""
        return (
            self.kind if self.trainings is None else f"{self.trainings[0]} of {counted(self.trainings[1], 'training')}"
        )

    def score(self, part: str) -> str:
        """Return the printed score of a part, ``validation`` or ``test``: ``67.2 ± 0.7``."""
        found = self.validation if part == "validation" else self.test
        return "-" if found is None else mean_and_std(found["mean"], found["std"], digits_of(self.metric))

    def to_json(self) -> dict[str, Any]:
        """Return the entry as plain JSON values."""
        return {**asdict(self), "path": str(self.path)}


def listed_runs(workspace: Workspace, corpus: str | None = None) -> list[ListedRun]:
    """Return the runs of one corpus or of all corpora, the newest last.

    Args:
        workspace: Folder of corpora, caches and runs.
        corpus: Name of the corpus, or None.
    """
    found = list(filter(None, map(_finished, finished_runs(workspace, corpus))))
    there = {resolved(one.path) for one in found}
    folders = [workspace.runs(corpus)] if corpus is not None else sorted((workspace.home / "runs").glob("*"))
    for folder in folders:
        for path in unfinished_runs(folder):
            one = _unfinished(path)
            if one is not None and resolved(one.path) not in there:
                found.append(one)
    return sorted(found, key=lambda one: one.date)


def varied_settings(runs: Sequence[ListedRun]) -> list[str]:
    """Return the names of the settings in which runs differ, without those that others determine."""
    fits = [one for one in runs if one.kind != ENSEMBLE]
    names = list(dict.fromkeys(name for one in fits for name in one.settings))
    return distinguishing(
        [one.settings if one.kind == ENSEMBLE else with_defaults(one.settings, names) for one in runs]
    )


def common_settings(runs: Sequence[ListedRun], names: Sequence[str]) -> dict[str, str]:
    """Return those of the named settings that have one value in all runs."""
    values = {name: {one.settings.get(name) for one in runs} for name in names}
    return {name: str(next(iter(found))) for name, found in values.items() if len(found) == 1 and None not in found}


def _finished(run: RunFolder) -> ListedRun | None:
    try:
        test, validation = (part_scores(run, part) for part in (TEST, VALIDATION))
        kind = _kind(run.config)
    except (PredictionsError, StoreError) as error:
        log.warning("left out: %s", error)
        return None
    metric = name_of_main_score({**test, **validation}) or ""
    return ListedRun(
        name=run.name,
        corpus=str(run.config.get("corpus", "")),
        path=run.path,
        kind=kind,
        settings=settings_text(run.config),
        metric=metric,
        validation=_mean_and_std(validation, metric),
        test=_mean_and_std(test, metric),
        date=_date(run.path / METRICS),
        finished=True,
    )


def _kind(config: Mapping[str, Any]) -> str:
    if config.get("published"):
        return PUBLISHED
    if config.get("final"):
        return FINAL
    return ENSEMBLE if "members" in config else FIT


def _mean_and_std(scores: Mapping[str, Any], metric: str) -> dict[str, float | None] | None:
    return {name: scores[metric].get(name) for name in ("mean", "std")} if metric in scores else None


def _unfinished(path: Path) -> ListedRun | None:
    """Return the entry of an unfinished fit; None if none of its files can be read, or it has no finished training."""
    folder = UnfinishedRun.folder_of(path)
    try:
        config = read_config(folder)
        total = len(config["seeds"]) * len(config["folds"])
    except StoreError:
        return None
    done = len(UnfinishedRun(path, {}).finished())
    command = "finetune" if FROM_LAYER in config else "fit"
    words = ["featcache", command, "--config", str(folder / CONFIG), "--name", path.name, "--resume"]
    return ListedRun(
        name=path.name,
        corpus=path.parent.name,
        path=path,
        kind=FINAL if config.get("final") else FIT,
        settings=settings_text(config),
        metric="",
        validation=None,
        test=None,
        date=_date(folder / CONFIG),
        finished=False,
        trainings=(done, total),
        command=shlex.join(words),
    )


def _date(path: Path) -> str:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC).astimezone().isoformat(timespec="seconds")
