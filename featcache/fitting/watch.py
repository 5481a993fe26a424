"""Trainings of this process and of others → the state of a fit, as the progress bar shows it.

Each other process writes its state to a small file in the folder of the unfinished run, where it also writes its heads.
"""

import json
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from time import monotonic

from featcache.files.regular import read_regular
from featcache.fitting.remaining import detail_text, estimate, remaining_text, runs_of
from featcache.fitting.resolve import ResolvedFit
from featcache.terminal.repeated import repeated
from featcache.terminal.watched import TaskState
from featcache.training.batches import FeatureWindows
from featcache.training.status import TrainingStatus
from featcache.training.trainable import Trainable
from featcache.units import counted

# Time between two writings of the state of another process, and between two readings of it.
SHARE_SECONDS = 1.0
# Largest share of the work that is shown before the end: after the last epoch, predictions and models are written.
MOST_BEFORE_END = 0.99
READING = "Reading features"

# Position of the run, seed, fold.
Key = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class ProcessState:
    """State of the trainings of one process.

    Attributes:
        step: Current step before and between trainings.
        num_read: Number of utterances that are in memory.
        num_wanted: Number of utterances to read into memory; 0 if none are read now.
        trainings: Run, seed and fold of each training that has begun, with its state.
    """

    step: str = ""
    num_read: int = 0
    num_wanted: int = 0
    trainings: dict[Key, TrainingStatus] = field(default_factory=dict)

    def text(self) -> str:
        """Return the state as JSON."""
        trainings = [[*key, asdict(status)] for key, status in self.trainings.items()]
        return json.dumps([self.step, self.num_read, self.num_wanted, trainings])

    @classmethod
    def parse(cls, text: bytes) -> "ProcessState":
        """Return the state that was written by another process.

        Raises:
            ValueError: the text is not such a state.
            TypeError: likewise.
        """
        step, num_read, num_wanted, trainings = json.loads(text)
        states = {(run, seed, fold): TrainingStatus(**status) for run, seed, fold, status in trainings}
        numbers = [num_read, num_wanted]
        numbers += [n for one in states.values() for n in (one.epochs, one.least, one.most, one.seconds)]
        losses = [loss for one in states.values() for loss in (one.train_loss, one.validation_loss)]
        known = all(isinstance(loss, int | float | None) for loss in losses)  # infinite in a training that diverges
        if not (known and isinstance(step, str) and all(map(math.isfinite, numbers))):
            raise ValueError("not a state")
        return cls(step=step, num_read=num_read, num_wanted=num_wanted, trainings=states)


class Recorder:
    """State of the trainings of this process. One thread changes it, and another one may read it at any time."""

    def __init__(self) -> None:
        self.step = ""
        self._reading: FeatureWindows | None = None
        self._active: dict[Key, Trainable] = {}
        self._ended: dict[Key, TrainingStatus] = {}

    def reads(self, source: FeatureWindows | None) -> None:
        """Set the features that are being read; None if none are read now."""
        self._reading = source

    def begins(self, key: Key, training: Trainable) -> None:
        """Add a training that runs from now on."""
        self._active[key] = training

    def ends(self, key: Key) -> None:
        """Keep the final state of a training, but not its head."""
        self._ended[key] = self._active[key].status()
        del self._active[key]

    def state(self) -> ProcessState:
        """Return the current state. Trainings that wait for a thread have not begun; they end when they are written."""
        reading, active = self._reading, list(self._active.items())
        running = ((key, training.status()) for key, training in active)
        states = {key: replace(status, ended=False) for key, status in running if status.seconds}
        return ProcessState(
            step=self.step,
            num_read=reading.num_read if reading else 0,
            num_wanted=reading.num_wanted if reading else 0,
            trainings=states | dict(list(self._ended.items())),
        )

    @contextmanager
    def shared(self, path: Path) -> Iterator[None]:
        """Write the state to a file from time to time, for the process that started the fit."""

        def write() -> None:
            temporary = path.with_suffix(f".{os.getpid()}.tmp")
            # Nothing depends on the file. Its folder is missing if the fit has ended.
            with suppress(OSError):
                temporary.write_text(self.state().text(), encoding="utf-8")
                os.replace(temporary, path)

        try:
            with repeated(write, SHARE_SECONDS):
                yield
        finally:
            write()


class FitWatch:
    """State of all trainings of a fit, in this process and in others.

    Args:
        setups: The resolved requests.
        num_finished: Number of trainings of each run that were finished before.
        folder: Folder of the files of other processes; None if there are none.

    Attributes:
        recorder: State of the trainings of this process.
        all_ended: Whether all trainings have ended, also those that another process has finished.
    """

    def __init__(self, setups: Sequence[ResolvedFit], num_finished: Sequence[int], folder: Path | None) -> None:
        self.recorder = Recorder()
        self.all_ended = False
        totals = [len(setup.folds) * len(setup.config["seeds"]) for setup in setups]
        self._title = _title(setups, sum(totals))
        self._total = sum(totals)
        self._num_earlier = sum(num_finished)
        self._numbers = {run: total - num_finished[run] for run, total in enumerate(totals)}
        self._max_epochs = {
            run: setup.training.max_epochs if setup.spec.is_network else 1 for run, setup in enumerate(setups)
        }
        self._folder = folder
        self._others: list[ProcessState] = []
        self._looked = float("-inf")
        self._began: float | None = None

    def end(self) -> None:
        """Tell that all trainings have ended, and only the results are missing."""
        self.all_ended = True
        self.recorder.step = "writing the results"

    def look(self) -> TaskState:
        """Return the current state of the fit."""
        states = [self.recorder.state(), *self._other_states()]
        trainings = {key: status for state in states for key, status in state.trainings.items()}
        if not trainings:
            return self._preparation(states)
        now = monotonic()
        self._began = self._began or now - max(status.seconds for status in trainings.values())
        runs = runs_of(self._numbers, self._max_epochs, trainings)
        found = estimate(runs, num_earlier=self._num_earlier, elapsed=now - self._began)
        active = [status for status in trainings.values() if not status.ended]
        told = detail_text(
            active or list(trainings.values()),
            num_done=self._total if self.all_ended else self._num_earlier + len(trainings) - len(active),
            total=self._total,
            max_epochs=max(self._max_epochs.values()),
        )
        steps = [] if active else _steps(states)
        done, remaining = (1.0, "") if self.all_ended else (min(found.done, MOST_BEFORE_END), remaining_text(found))
        return TaskState(title=self._title, done=done, remaining=remaining, detail="; ".join([told, *steps]))

    def _preparation(self, states: Sequence[ProcessState]) -> TaskState:
        """Return the state before the first training begins."""
        wanted = sum(state.num_wanted for state in states)
        if not wanted:
            done = float(self.all_ended)
            return TaskState(title=self._title, done=done, remaining="", detail="; ".join(_steps(states)))
        read = sum(state.num_read for state in states)
        return TaskState(title=READING, done=read / wanted, remaining="", detail=f"{read} of {wanted} utterances")

    def _other_states(self) -> list[ProcessState]:
        if self._folder is not None and monotonic() - self._looked >= SHARE_SECONDS:
            self._looked = monotonic()
            self._others = list(_read_all(self._folder))
        return self._others


def state_file(folder: Path, fold: int) -> Path:
    """Return the file to which the process that trains a fold writes its state."""
    return folder / f"fold-{fold}.json"


def _read_all(folder: Path) -> Iterator[ProcessState]:
    for path in sorted(folder.glob("fold-*.json")):
        with suppress(OSError, ValueError, TypeError):  # removed, or not complete: the next look will find it
            yield ProcessState.parse(read_regular(path))


def _steps(states: Sequence[ProcessState]) -> list[str]:
    """Return the steps of all processes, each once; features that are being read are counted."""
    wanted, read = sum(state.num_wanted for state in states), sum(state.num_read for state in states)
    if wanted:
        return [f"reading features: {read} of {wanted} utterances"]
    return list(dict.fromkeys(state.step for state in states if state.step))


def _title(setups: Sequence[ResolvedFit], total: int) -> str:
    """Return the title of the progress bar."""
    number = f"{len(setups)} runs"
    if len(setups) == 1:
        number = f"{counted(len(setups[0].folds), 'fold')} × {counted(len(setups[0].config['seeds']), 'seed')}"
    return f"Training {counted(total, 'head')} ({number})"
