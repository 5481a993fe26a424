"""The option for auxiliary targets, which heads learn beside their target."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from featcache.settings.field import setting
from featcache.settings.loss_choice import HEAVIEST
from featcache.settings.types import NONE, Form


def read_weights(value: Any) -> dict[str, float]:
    """Return label → weight, from ``LABEL:WEIGHT``, several separated by commas, a list of such texts, or a dictionary.

    ``none`` is no label at all, so that a search can compare auxiliary targets with none. A comma after a weight
    separates; other commas are part of a target of several labels, such as ``arousal,valence:0.1``.

    Raises:
        ValueError: The value has another form, a weight is not a number from 0 to 1e6, or a label is given
            twice.
    """
    expected = "expected LABEL:WEIGHT, such as gender:0.2"
    if isinstance(value, Mapping):
        pairs = [(str(label), weight) for label, weight in value.items()]
    else:
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, list | tuple):
            raise ValueError(f"{expected}, found {value!r:.80}")
        texts = [] if list(texts) == [NONE] else [one for text in texts for one in _separated(str(text))]
        pairs = [(label, weight) for label, _, weight in (text.rpartition(":") for text in texts)]
    found: dict[str, float] = {}
    for label, weight in pairs:
        try:
            number = math.nan if isinstance(weight, bool) else float(weight)
        except (OverflowError, TypeError, ValueError):
            number = math.nan
        if not label.strip() or not 0 <= number <= HEAVIEST:
            told = f"{label}:{weight:.80}" if isinstance(weight, str) else f"{label}:{weight!r:.80}"
            raise ValueError(f"{told.removeprefix(':')}: {expected}, with a weight from 0 to {HEAVIEST:g}")
        if label.strip() in found:
            raise ValueError(f"{label.strip()} is given twice; keep one")
        found[label.strip()] = number
    return found


def _separated(text: str) -> list[str]:
    parts: list[str] = []
    for part in text.split(","):
        if parts and ":" not in parts[-1]:
            parts[-1] += f",{part}"
        else:
            parts.append(part)
    return parts


LabelWeights = Annotated[Mapping[str, float], Form("LABEL:WEIGHT", read_weights, repeated=True)]


@dataclass(frozen=True, kw_only=True)
class AuxiliarySettings:
    """Auxiliary targets of a training."""

    also: LabelWeights = setting(
        help="Auxiliary target that the head learns too, with the weight of its loss, such as gender:0.2. It serves "
        "the training only: it has no scores, and is not saved. Can be repeated [default: none].",
        factory=dict,
    )
