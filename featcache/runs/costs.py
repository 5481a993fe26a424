"""Costs of a run, in ``metrics.json`` beside the scores: parameters, sizes on disk, time, trainings to repeat."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

# Keys whose values differ between two fits of the same run.
TIMES = ("seconds", "seconds_per_training")


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Costs of a run. A value is None, and is not written, if it is unknown: for example in runs of earlier releases.

    Attributes:
        head_parameters: Number of trained parameters of one head, with its layer weights.
        model_parameters: Number of parameters of the models that made the features, summed over the stores.
        all_parameters: Number of parameters of the models and one head together, whether they are trained or not.
        published_parameters: Number of these parameters that a paper reports; only in the tables of pipelines.
        store_bytes: Size on disk of the feature stores in bytes, summed.
        seconds: Time of all trainings in seconds: the sum of the time that each of them took.
        seconds_per_training: The mean of these times.
        not_converged: Number of trainings that have not converged.
    """

    head_parameters: int | None = None
    model_parameters: int | None = None
    all_parameters: int | None = None
    published_parameters: int | None = None
    store_bytes: int | None = None
    seconds: float | None = None
    seconds_per_training: float | None = None
    not_converged: int | None = None

    @classmethod
    def of(cls, metrics: Mapping[str, Any]) -> "Costs":
        """Return the costs in the content of ``metrics.json``."""
        return cls(**{name: metrics[name] for name in NAMES if name in metrics})

    def entries(self) -> dict[str, int | float]:
        """Return the entries of ``metrics.json``."""
        return {name: value for name, value in asdict(self).items() if value is not None}


NAMES = tuple(field.name for field in fields(Costs))
