"""Options × head × target × features → an error about an option that they cannot use, before anything is trained."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from featcache.errors import ModelError, listed, unknown_name
from featcache.heads import HEADS, HeadSpec, without_steps
from featcache.settings.field import non_default
from featcache.settings.fits import TRAINING_STEPS, FitSettings
from featcache.settings.loss_choice import loss_parts
from featcache.settings.searches import value_text
from featcache.targets.losses import LOSSES_OF
from featcache.targets.targets import CLASSIFICATION, Classes, PredictionTarget
from featcache.training.store_features import StoreFeatures


@dataclass(frozen=True, kw_only=True)
class Combination:
    """Settings, head, target and features of a fit.

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


# Option → what the option is combined with → the reason why they do not go together, or None.
Refusal = Callable[[Combination], str | None]


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


def _solved(one: Combination) -> str | None:
    """Return why an option of the training steps cannot be used with a head that a solver fits."""
    return without_steps(one.request.head)


def _not_classes(one: Combination) -> str | None:
    if one.target.settings()["task"] == CLASSIFICATION:
        return None
    return f"{one.target.name} has no classes; use --sampler shuffled"


def _other_score(one: Combination) -> str | None:
    if one.request.stop_on == one.target.score:
        return None
    return f"the validation score of {one.target.name} is {one.target.score}; use loss or {one.target.score}"


def _not_in_two_steps(one: Combination) -> str | None:
    if HEADS.find(one.request.head).is_in_two_steps():
        return None
    return f"head {one.request.head!r} does not pool before its last layers (methods pooled and classify)"


def _without_epsilon(one: Combination) -> str | None:
    return "sgd has no epsilon; use --optimizer adam or adamw" if one.request.optimizer == "sgd" else None


def _pooled(one: Combination) -> str | None:
    pooling = one.features[0].pooling
    if pooling is None:
        return None
    return f"the features are pooled before training ({pooling}); use a head that is trained on all frames"


def _without_time(one: Combination) -> str | None:
    """Return why frames of the features cannot be cut or masked."""
    names = ", ".join(item.store.name for item in one.features)
    if not any(item.store.has_frames for item in one.features):
        return f"{names} has one vector per utterance, and no frames"
    if len(one.features) > 1 and all(math.isnan(item.frame_shift) for item in one.features):
        return f"{names}: no store has frames in time"
    return None


def _longer_than_all(one: Combination) -> str | None:
    """Return why a crop changes no utterance."""
    item = next(item for item in one.features if item.store.has_frames)
    longest = int(item.store.num_frames(item.store.utterance_ids).max())
    used = longest if item.max_frames is None else min(longest, item.max_frames)
    if one.request.crop < used:
        return None
    return f"at most {used} frames of each utterance are used, so nothing is cropped; expected a smaller number"


def _any_of(*refusals: Refusal) -> Refusal:
    """Return a refusal with the first reason that applies."""
    return lambda one: next(filter(None, (refusal(one) for refusal in refusals)), None)


def _also(found: Combination) -> str | None:
    if not found.spec.is_network:
        return f"head {found.request.head!r} learns one target exactly; use a network, such as --head dense"
    if not HEADS.find(found.request.head).is_in_two_steps():
        return (
            f"head {found.request.head!r} has no methods pooled and classify, which auxiliary targets need; define "
            "them in place of forward, or use --head dense"
        )
    return None


REFUSALS: Mapping[str, Refusal] = {
    **dict.fromkeys(TRAINING_STEPS, _solved),
    "sampler": _any_of(_solved, _not_classes),
    "stop_on": _any_of(_solved, _other_score),
    "mixup": _any_of(_solved, _not_in_two_steps),
    "mask_time": _any_of(_solved, _pooled, _without_time),
    "mask_dims": _any_of(_solved, _pooled),
    "crop": _any_of(_solved, _pooled, _without_time, _longer_than_all),
    "epsilon": _any_of(_solved, _without_epsilon),
    "loss": _of_loss,
    "class_weights": _of_class_weights,
    "choose": lambda _: "there is no search to choose from; add --sweep OPTION=VALUE,VALUE",
    "also": _also,
    "train_fraction": lambda one: "--final trains on all speakers; remove one of both" if one.request.final else None,
    "fold": lambda one: "--final uses the first fold; remove one of both" if one.request.final else None,
    "test_view": lambda one: "--final has no test part; omit one of them" if one.request.final else None,
}


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
            raise ModelError(f"--{name.replace('_', '-')} {value_text(name, value)}: {reason}")
