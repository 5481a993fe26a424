"""Origin of the weights of a model, plain data."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class ModelSource:
    """Origin of the weights of a model, from which it can be loaded again.

    Attributes:
        model: Short name, Hugging Face id, or folder.
        text: Whether it is a text model.
        weights: ``pretrained`` or ``random``.
        revision: Branch, tag or commit on the Hugging Face hub.
        num_blocks: Number of transformer blocks that were kept; None for all.
        do_normalize: Whether waveforms are normalised; None for the model's own setting.
        weights_sha256: SHA-256 of the parameters.
    """

    model: str
    text: bool
    weights: Literal["pretrained", "random"]
    revision: str | None
    num_blocks: int | None
    do_normalize: bool | None
    weights_sha256: str
