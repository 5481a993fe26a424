"""Options × head × target × features → an error about an option that they cannot use, before anything is trained."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from featcache.errors import ModelError
from featcache.heads import HeadSpec
from featcache.settings.field import non_default
from featcache.settings.fits import FitSettings
from featcache.targets.targets import PredictionTarget
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


# Option → what the option is combined with → the reason why they do not go together, or None.
Refusal = Callable[[Combination], str | None]
REFUSALS: Mapping[str, Refusal] = {
    "choose": lambda _: "there is no search to choose from; add --sweep OPTION=VALUE,VALUE",
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
            raise ModelError(f"--{name.replace('_', '-')} {value}: {reason}")
