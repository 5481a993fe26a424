"""Options × head × target × features → an error about an option that they cannot use, before anything is trained."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from featcache.errors import ModelError
from featcache.heads import HEADS, HeadSpec
from featcache.settings.field import non_default
from featcache.settings.fits import FitSettings
from featcache.targets.targets import Labels, PredictionTarget
from featcache.training.store_features import StoreFeatures


@dataclass(frozen=True, kw_only=True)
class Combination:
    """What an option is combined with.

    Attributes:
        request: The settings of the fit.
        spec: Description of the head.
        target: Target of the prediction.
        features: Features of each store.
    """

    request: FitSettings
    spec: HeadSpec
    target: PredictionTarget
    features: Sequence[StoreFeatures]


Refusal = Callable[[Combination], str | None]


def _task(found: Combination) -> str | None:
    if isinstance(found.target, Labels) and not found.spec.is_network:
        return f"head {found.request.head!r} predicts one class per utterance; use a network, such as --head dense"
    return None


def _also(found: Combination) -> str | None:
    if not found.spec.is_network:
        return f"head {found.request.head!r} learns one target exactly; use a network, such as --head dense"
    if not HEADS.find(found.request.head).is_in_two_steps():
        return (
            f"head {found.request.head!r} has no methods pooled and classify, which auxiliary targets need; define "
            "them in place of forward, or use --head dense"
        )
    return None


# Option → what the option is combined with → the reason why they do not go together, or None.
REFUSALS: Mapping[str, Refusal] = {"task": _task, "also": _also}


def refuse_unusable(
    request: FitSettings, spec: HeadSpec, target: PredictionTarget, features: Sequence[StoreFeatures]
) -> None:
    """Check that every given option has an effect on this head, target and features.

    Raises:
        ModelError: an option cannot be used; the message says why.
    """
    combination = Combination(request=request, spec=spec, target=target, features=features)
    for name, value in non_default(request).items():
        reason = REFUSALS[name](combination) if name in REFUSALS else None
        if reason:
            raise ModelError(f"--{name.replace('_', '-')} {_shown(value)}: {reason}")


def _shown(value: Any) -> str:
    """Return the value of an option as it is given on the command line."""
    if isinstance(value, Mapping):
        return ",".join(f"{key}:{one:g}" if isinstance(one, float) else f"{key}={one}" for key, one in value.items())
    return str(value)
