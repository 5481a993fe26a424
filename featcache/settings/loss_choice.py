"""The options of ``featcache fit`` that choose what a training minimises: the loss, and the weights of the classes."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias

from featcache.settings.field import setting
from featcache.settings.types import Form

NO_WEIGHTS, BALANCED = "none", "balanced"
SOFT = "soft"
# Smallest and largest weight of a class: a product with a loss is still far from the limits of float32.
LIGHTEST, HEAVIEST = 1e-6, 1e6
# Name of a loss → default of its number, or None if it takes no number.
LOSSES: Mapping[str, float | None] = {
    "cross-entropy": None,
    "focal": 2.0,
    SOFT: None,
    "label-smoothing": 0.1,
    "ccc": None,
    "mse": None,
    "mae": None,
}
_FORMS = "cross-entropy, focal:2, soft, label-smoothing:0.1, ccc, mse or mae"


def read_loss(value: Any) -> str:
    """Return the name of a loss with its number: ``focal`` gives ``focal:2``.

    Raises:
        ValueError: The name is unknown, or the number is missing, needless or out of range.
    """
    name, separator, text = (part.strip() for part in str(value).partition(":"))
    if not isinstance(value, str) or name not in LOSSES:
        raise ValueError(f"expected {_FORMS}, found {value!r}")
    default = LOSSES[name]
    if default is None:
        if separator:
            raise ValueError(f"{name} takes no number, found {value!r}")
        return name
    try:
        # The digits that are recorded, so that the recorded loss can be read again.
        number = float(f"{float(text):.12g}") if separator else default
    except ValueError:
        number = math.nan
    most = 1 if name == "label-smoothing" else 100
    if not 0 <= number < most:
        raise ValueError(f"{name} takes a number of at least 0 and below {most}, found {value!r}")
    return f"{name}:{number:.12g}"


def loss_parts(loss: str) -> tuple[str, float]:
    """Return name and number of a loss, such as ``focal:2``; the number is 0 if the loss takes none."""
    name, _, number = loss.partition(":")
    return name, float(number or 0)


def read_class_weights(value: Any) -> str | dict[str, float]:
    """Return ``none``, ``balanced``, or class → weight, from ``CLASS=WEIGHT,CLASS=WEIGHT`` or a dictionary.

    Raises:
        ValueError: The value has another form, or a weight is out of range.
    """
    if isinstance(value, str) and value.strip() in (NO_WEIGHTS, BALANCED):
        return value.strip()
    pairs = list(value.items()) if isinstance(value, Mapping) else []
    if isinstance(value, str):
        pairs = [(name, weight) for name, _, weight in (pair.rpartition("=") for pair in _split_pairs(value))]
    found: dict[str, float] = {}
    for name, weight in pairs:
        key = str(name).strip()
        if not key:
            raise ValueError(f"expected balanced, none or CLASS=WEIGHT, such as anger=2,happiness=1.5, found {value!r}")
        if key in found:
            raise ValueError(f"{key} has two weights; keep one")
        found[key] = _weight(key, weight)
    if not found:
        raise ValueError(f"expected balanced, none or CLASS=WEIGHT, such as anger=2,happiness=1.5, found {value!r}")
    return dict(sorted(found.items()))


def _split_pairs(text: str) -> list[str]:
    """Return the ``CLASS=WEIGHT`` of a text; a comma belongs to a class if no weight stands before it."""
    pairs: list[str] = []
    complete = True
    for part in text.split(","):
        if complete:
            pairs.append(part)
        else:
            pairs[-1] += f",{part}"
        complete = "=" in part
    return pairs


def _weight(name: str, value: Any) -> float:
    try:
        weight = math.nan if isinstance(value, bool) else float(value)
    except (OverflowError, TypeError, ValueError):
        weight = math.nan
    if not LIGHTEST <= weight <= HEAVIEST:
        raise ValueError(f"the weight of {name} is {value!r}, expected a number from {LIGHTEST:g} to {HEAVIEST:g}")
    return weight


Loss: TypeAlias = Annotated[str, Form("NAME[:NUMBER]", read_loss)]
ClassWeights: TypeAlias = Annotated[
    str | Mapping[str, float], Form("balanced|none|CLASS=WEIGHT,CLASS=WEIGHT", read_class_weights)
]


@dataclass(frozen=True, kw_only=True)
class LossSettings:
    """Loss, and weights of the classes."""

    loss: Loss | None = setting(
        None,
        "Loss: cross-entropy, focal:2, soft (labels from the votes of annotators) or label-smoothing:0.1 for a "
        "classification; ccc (1 - CCC), mse or mae for a regression [default: cross-entropy or ccc].",
    )
    class_weights: ClassWeights = setting(
        NO_WEIGHTS,
        "Weights of the classes in the loss: none, balanced (inverse to the number of utterances in the training part "
        "of each fold), or weights by name such as anger=2,happiness=1.5; other classes have the weight 1.",
    )
