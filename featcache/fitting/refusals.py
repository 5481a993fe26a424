"""Options × head × target × features → an error about an option that they cannot use, before anything is trained."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from featcache.errors import ModelError, listed, unknown_name
from featcache.heads import HeadSpec
from featcache.settings.field import non_default
from featcache.settings.fits import FitSettings
from featcache.settings.loss_choice import loss_parts
from featcache.targets.losses import LOSSES_OF
from featcache.targets.targets import Classes, PredictionTarget
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


def _of_loss(combination: Combination) -> str | None:
    name, _ = loss_parts(str(combination.request.loss))
    task = combination.target.settings()["task"]
    known = LOSSES_OF.get(task, ())
    if not combination.spec.is_network:
        return f"head {combination.request.head!r} has a loss of its own; remove the option"
    if name not in known:
        use = f"expected {listed(known, at_most=9)}" if known else "remove the option"
        return f"this loss cannot train a {task}; {use}"
    return None


def _of_class_weights(combination: Combination) -> str | None:
    if not isinstance(combination.target, Classes):
        return f"weights of classes need a classification; {combination.target.name!r} is none"
    weights = combination.request.class_weights
    named = weights if isinstance(weights, Mapping) else {}
    unknown = [name for name in named if name not in combination.target.classes]
    return unknown_name("class", unknown[0], combination.target.classes) if unknown else None


# Option → what the option is combined with → the reason why they do not go together, or None.
Refusal = Callable[[Combination], str | None]
REFUSALS: Mapping[str, Refusal] = {"loss": _of_loss, "class_weights": _of_class_weights}


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


def _shown(value: object) -> str:
    """Return the value of an option as on the command line: ``anger=2,joy=1.5`` for a dictionary."""
    if isinstance(value, Mapping):
        return ",".join(f"{name}={one:g}" if isinstance(one, float) else f"{name}={one}" for name, one in value.items())
    return str(value)
