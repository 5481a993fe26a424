"""The options of ``featcache fit`` for training steps: optimiser, schedule, selection, sampling and augmentation."""

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias

from featcache.settings.field import setting
from featcache.settings.types import NONE, Form

Optimizer = Literal["adam", "adamw", "sgd"]
Schedule = Literal["constant", "linear", "cosine", "plateau"]
Criterion = Literal["loss", "uar", "ccc"]
Sampler = Literal["shuffled", "balanced"]
# Weight decay of AdamW by default, as in torch.
ADAMW_DECAY = 0.01
# Upper limits, so that a wrong number is refused before training and not by a lack of memory.
MOST_MASKS, LARGEST_STD = 100, 100


def read_masks(value: Any) -> str | None:
    """Return the number and the largest width of masks as ``2x10``; None for ``none``, or if one of them is 0.

    Raises:
        ValueError: The value has another form, or there are too many masks.
    """
    if value == NONE:
        return None
    numbers = re.fullmatch(r"\s*(\d{1,9})\s*[x×]\s*(\d{1,9})\s*", value) if isinstance(value, str) else None
    if numbers is None or int(numbers[1]) > MOST_MASKS:
        raise ValueError(f"expected COUNTxWIDTH with at most {MOST_MASKS} masks, such as 2x10, found {value!r:.80}")
    count, width = int(numbers[1]), int(numbers[2])
    return f"{count}x{width}" if count and width else None


def mask_numbers(masks: str) -> tuple[int, int]:
    """Return the number and the largest width of masks such as ``2x10``."""
    count, _, width = masks.partition("x")
    return int(count), int(width)


def read_warmup(value: Any) -> float:
    """Return a number of steps, or a share of all steps below 1.

    Raises:
        ValueError: The value is no number, negative, or a number above 1 that is not whole.
    """
    try:
        number = float(value)
        if isinstance(value, bool) or not 0 <= number < 1e9 or (number > 1 and number % 1):
            raise ValueError
    except (TypeError, ValueError):
        raise ValueError(
            f"expected a number of steps such as 100, or a share of all steps below 1 such as 0.1, found {value!r:.80}"
        ) from None
    return number


Masks: TypeAlias = Annotated[str, Form("COUNTxWIDTH", read_masks)]
Warmup: TypeAlias = Annotated[float, Form("STEPS or SHARE", read_warmup)]


@dataclass(frozen=True, kw_only=True)
class AugmentationSettings:
    """Random changes of the features of training batches; validation and test parts are never changed."""

    mixup: float = setting(
        0.0,
        "Parameter alpha of mixup: mix the pooled vectors and the targets of two utterances with a share drawn from "
        "Beta(alpha, alpha) for each batch; 0 for no mixup.",
        minimum=0,
        maximum=100,
    )
    mask_time: Masks | None = setting(
        None,
        "Time masks in training, such as 2x10: 2 masks of up to 10 frames in each utterance, where all features are 0, "
        "the mean [default: none].",
    )
    mask_dims: Masks | None = setting(
        None,
        "Masks over dimensions in training, such as 2x40: 2 masks of up to 40 neighbouring dimensions in each "
        "utterance, which are 0, the mean [default: none].",
    )
    feature_noise: float = setting(
        0.0,
        "Standard deviation of Gaussian noise that is added to the normalised features in training; 0 for no noise.",
        minimum=0,
        maximum=LARGEST_STD,
    )
    crop: int = setting(
        0,
        "Number of frames of a random crop of each utterance in training, out of the first --max-frames; validation "
        "and test use all of them. 0 for no crop.",
        minimum=0,
    )


@dataclass(frozen=True, kw_only=True)
class LoopSettings(AugmentationSettings):
    """Optimiser, learning-rate schedule, selection of the best weights, and order of the training utterances."""

    optimizer: Optimizer = setting("adam", "Optimiser: adam, adamw, or sgd with momentum 0.9.")
    weight_decay: float | None = setting(
        None,
        "Weight decay of all weights: decoupled for adamw, an L2 penalty for adam and sgd [default: 0.01 for adamw, 0 "
        "for others].",
        minimum=0,
        maximum=1,
    )
    schedule: Schedule = setting(
        "constant",
        "Learning-rate schedule: constant, linear or cosine (to 0 at --max-epochs), or plateau (halved whenever half "
        "of --patience has passed without improvement).",
    )
    warmup: Warmup = setting(
        0.0,
        "Number of training steps over which the learning rate rises linearly, or their share of all steps until "
        "--max-epochs, such as 0.1; 0 for no warmup.",
    )
    stop_on: Criterion = setting(
        "loss",
        "Validation criterion of early stopping and of the best weights: the lowest loss, the highest uar "
        "(classification) or the highest ccc (regression).",
    )
    evaluate_every: int | None = setting(
        None,
        "Number of training steps between two evaluations of the validation part; --patience then counts evaluations "
        "[default: one evaluation per epoch].",
        minimum=1,
    )
    sampler: Sampler = setting(
        "shuffled",
        "Training utterances of an epoch: each one once (shuffled), or each class equally often (balanced).",
    )
