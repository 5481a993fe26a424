"""States of trainings → share of the work that is done, remaining time, and text for the progress bar.

Early stopping makes the number of epochs unknown. It is estimated from the trainings of the same run that have ended,
and is never larger than ``--max-epochs``.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from featcache.training.status import TrainingStatus


@dataclass(frozen=True, kw_only=True)
class RunOutlook:
    """Trainings of one run that are not finished when the fit starts.

    Attributes:
        number: Number of these trainings, begun or not.
        max_epochs: Largest number of epochs of each.
        begun: State of each that has begun.
    """

    number: int
    max_epochs: int
    begun: Sequence[TrainingStatus]

    @property
    def ended_epochs(self) -> list[float]:
        """Number of epochs of each training that has ended."""
        return [one.epochs for one in self.begun if one.ended]


@dataclass(frozen=True, kw_only=True)
class TimeLeft:
    """Estimate of the work of all trainings.

    Attributes:
        done: Share of the work that is done, in [0, 1].
        seconds: Remaining time in seconds; None if nothing is known yet.
        at_most: Whether the time is the largest possible one, because no training shows how many epochs are needed.
    """

    done: float
    seconds: float | None
    at_most: bool


def estimate(runs: Sequence[RunOutlook], *, num_earlier: int = 0, elapsed: float) -> TimeLeft:
    """Estimate the remaining time.

    An epoch of a run that has not begun is assumed to take as long as an average epoch of the other runs.

    Args:
        runs: The runs.
        num_earlier: Number of trainings that were finished before, for the share of the work.
        elapsed: Time since the first training began, in seconds.
    """
    all_ended = [epochs for run in runs for epochs in run.ended_epochs]
    average = _ratio([one for run in runs for one in run.begun]) or 1.0
    done = remaining = 0.0
    at_most = False
    for run in runs:
        expected, known = _expected_epochs(run, all_ended)
        waiting = (run.number - len(run.begun)) * expected
        running = sum(_expected_end(one, expected) - one.epochs for one in run.begun if not one.ended)
        per_epoch = _ratio(run.begun) or average
        remaining += (waiting + running) * per_epoch
        done += sum(one.epochs for one in run.begun) * per_epoch
        at_most |= not known and waiting + running > 0
    number = sum(run.number for run in runs)
    earlier = num_earlier * (done + remaining) / number if number else 1.0
    total = done + remaining + earlier
    return TimeLeft(
        done=(done + earlier) / total if total else 1.0,
        seconds=elapsed * remaining / done if done else None,
        at_most=at_most,
    )


def _ratio(trainings: Sequence[TrainingStatus]) -> float:
    """Return the seconds per epoch of trainings; 0 if there are none."""
    epochs = sum(one.epochs for one in trainings)
    return sum(one.seconds for one in trainings) / epochs if epochs else 0.0


def _expected_epochs(run: RunOutlook, all_ended: Sequence[float]) -> tuple[float, bool]:
    """Return the expected number of epochs of a training, and whether it is more than the largest possible one."""
    if run.max_epochs == 1:
        return 1.0, True
    ended = run.ended_epochs or all_ended
    return (min(float(np.mean(ended)), run.max_epochs), True) if ended else (float(run.max_epochs), False)


def _expected_end(one: TrainingStatus, expected: float) -> float:
    return min(one.most, max(expected, one.least, one.epochs))


def remaining_text(found: TimeLeft) -> str:
    """Return the remaining time as text: ``about 0:03:10 left``; empty if it is unknown or nothing is left."""
    if found.seconds is None or found.done >= 1:
        return ""
    whole = math.ceil(found.seconds)
    time = f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
    return f"{'at most' if found.at_most else 'about'} {time} left"


def detail_text(trainings: Sequence[TrainingStatus], *, num_done: int, total: int, max_epochs: int) -> str:
    """Return epochs, mean losses and the number of finished trainings as text.

    Args:
        trainings: Trainings that run; without any of them, those that ended last.
        num_done: Number of finished trainings, also from before.
        total: Number of all trainings.
        max_epochs: Largest number of epochs of a training.
    """
    told = []
    epochs = [min(int(one.epochs) + (not one.ended), one.most) for one in trainings if one.most > 1]
    if epochs:
        first, last = min(epochs), max(epochs)
        several = f"epochs {first} to {last}" if first < last else f"epoch {first}"
        told.append(f"{several} of {max_epochs}")
    if losses := losses_text(trainings):
        told.append(losses)
    return "; ".join([*told, f"{num_done} of {total} trained"])


def losses_text(trainings: Sequence[TrainingStatus]) -> str:
    """Return the mean losses of the latest epochs: ``mean loss 0.412, validation 0.655``; empty if unknown."""
    both = [(one.train_loss, one.validation_loss) for one in trainings]
    ended = [(train, validation) for train, validation in both if train is not None and validation is not None]
    if ended:
        train, validation = np.mean(ended, axis=0)
        return f"{_mean(ended)}loss {train:.3f}, validation {validation:.3f}"
    begun = [train for train, _ in both if train is not None]
    return f"{_mean(begun)}loss {np.mean(begun):.3f}" if begun else ""


def _mean(values: Sequence[object]) -> str:
    return "mean " if len(values) > 1 else ""


def runs_of(
    numbers: Mapping[int, int], max_epochs: Mapping[int, int], begun: Mapping[tuple[int, int, int], TrainingStatus]
) -> list[RunOutlook]:
    """Return the runs with the states of their trainings.

    Args:
        numbers: Run → number of trainings of this fit.
        max_epochs: Run → largest number of epochs.
        begun: Run, seed and fold → state.
    """
    return [
        RunOutlook(
            number=number,
            max_epochs=max_epochs[run],
            begun=[state for (of_run, _, _), state in begun.items() if of_run == run],
        )
        for run, number in numbers.items()
    ]
