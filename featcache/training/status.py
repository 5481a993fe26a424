"""Training → its state while it runs, for progress bars, and the time that it takes."""

from dataclasses import dataclass
from time import perf_counter
from types import TracebackType


@dataclass(frozen=True, kw_only=True)
class TrainingStatus:
    """State of a training that runs or has ended.

    Attributes:
        epochs: Number of epochs so far; the current one counts in part.
        least: Smallest number of epochs at which the training can end.
        most: Largest number of epochs.
        train_loss: Mean training loss of the last epoch; in the first epoch, the mean so far; None if unknown.
        validation_loss: Validation loss of the last epoch; None if unknown.
        seconds: Time that the training has taken, without waiting for a thread.
        ended: Whether the training has ended.
    """

    epochs: float
    least: int
    most: int
    train_loss: float | None
    validation_loss: float | None
    seconds: float
    ended: bool


class Stopwatch:
    """Time that the steps of a training take; steps are ``with`` blocks. Another thread may read it.

    Args:
        seconds: Time of earlier steps.
    """

    def __init__(self, seconds: float = 0.0) -> None:
        self._total = seconds
        self._since: float | None = None

    @property
    def seconds(self) -> float:
        """Sum over all steps, in seconds, with the current one so far."""
        since = self._since
        return self._total + (0.0 if since is None else perf_counter() - since)

    def __enter__(self) -> None:
        self._since = perf_counter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._total, self._since = self.seconds, None
