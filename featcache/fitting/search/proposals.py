"""Search space → settings to train next: every combination, or settings that Optuna draws."""

import warnings
from collections.abc import Sequence
from typing import Any, Protocol

from featcache.errors import MissingPackageError
from featcache.fitting.search.space import SearchSpace, Setting, drawn_number
from featcache.settings.searches import PER_FOLD, Range

# Number of settings that are drawn and trained together. It does not depend on the machine, because later settings
# depend on the scores of earlier batches.
BATCH = 10


class Proposals(Protocol):
    """Source of settings."""

    def next(self) -> list[Setting]:
        """Return the settings to train next; empty at the end."""

    def tell(self, scores: Sequence[float | None]) -> None:
        """Receive the validation scores of the last settings; None for one without a score."""


class Grid:
    """Every combination, at once."""

    def __init__(self, space: SearchSpace) -> None:
        self._left = space.grid()

    def next(self) -> list[Setting]:
        """Return all settings; empty the second time."""
        found, self._left = self._left, []
        return found

    def tell(self, scores: Sequence[float | None]) -> None:
        """Ignore the scores."""


class Drawn:
    """Settings that Optuna draws, the same ones in every call with equal scores.

    If one setting is chosen over all folds, the sampler is TPE, which draws where earlier scores were high. Otherwise
    the settings are drawn at random: a score over all folds would tell a fold about utterances that it tests.

    Args:
        space: Values to draw from.
        number: Number of settings.
        choose: ``over-folds`` or ``per-fold``.
        seed: Seed of the sampler.

    Raises:
        MissingPackageError: Optuna is not installed.
    """

    def __init__(self, space: SearchSpace, number: int, *, choose: str, seed: int) -> None:
        optuna = _optuna()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # before Optuna 5, constant_liar is experimental
            samplers = optuna.samplers
            sampler: Any = (
                samplers.RandomSampler(seed=seed)
                if choose == PER_FOLD
                else samplers.TPESampler(seed=seed, constant_liar=True)
            )
        self._study = optuna.create_study(direction="maximize", sampler=sampler)
        self._options = space.options
        self._left = number
        self._asked: list[Any] = []

    def next(self) -> list[Setting]:
        """Draw the next settings, at most ten."""
        number = min(BATCH, self._left)
        self._left -= number
        space = {name: _distribution(values) for name, values in self._options.items()}
        self._asked = [self._study.ask(space) for _ in range(number)]
        return [{name: self._value(name, trial) for name in space} for trial in self._asked]

    def _value(self, name: str, trial: Any) -> Any:
        values, drawn = self._options[name], trial.params[name]
        return drawn_number(drawn, values) if isinstance(values, Range) else values[drawn]

    def tell(self, scores: Sequence[float | None]) -> None:
        """Receive the validation scores of the last settings."""
        failed = _optuna().trial.TrialState.FAIL
        for trial, score in zip(self._asked, scores, strict=True):
            if score is None:
                self._study.tell(trial, state=failed)
            else:
                self._study.tell(trial, score)


def _distribution(values: tuple[Any, ...] | Range) -> Any:
    kinds = _optuna().distributions
    if not isinstance(values, Range):
        return kinds.CategoricalDistribution(range(len(values)))
    if values.whole:
        return kinds.IntDistribution(int(values.low), int(values.high), log=values.log)
    return kinds.FloatDistribution(values.low, values.high, log=values.log)


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise MissingPackageError(
            "--trials needs optuna, which is not installed: pip install 'featcache[search]'"
        ) from None
    return optuna
