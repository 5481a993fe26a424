"""Settings of a store → whether its layers suffice to train the upper blocks of its model."""

from collections.abc import Mapping, Sequence
from typing import Any

from featcache.errors import ModelError
from featcache.settings.extractor_configs import CHUNK_OPTIONS


def check_store(
    name: str, settings: Mapping[str, Any], layer_names: Sequence[str], *, from_layer: int, pooled: bool
) -> None:
    """Refuse a store from which the upper blocks of its model cannot be trained.

    Args:
        name: Name of the store, for messages.
        settings: Settings that identify the store.
        layer_names: Names of its layers.
        from_layer: Number of the layer from which the blocks start.
        pooled: Whether the store contains only statistics.

    Raises:
        ModelError: the features are not layers of a model, are statistics or were computed in windows, or the layer is
            not in the store.
    """
    if settings.get("extractor") not in ("ssl", "text"):
        raise ModelError(
            f"{name} contains no layers of a model that can be fine-tuned; use a store of a model such as wav2vec2-base"
        )
    if pooled:
        raise ModelError(
            f"{name} contains only statistics (--pool), but fine-tuning needs frames; extract with frames into a store "
            "of another --name"
        )
    if any(option in settings for option in CHUNK_OPTIONS):
        raise ModelError(
            f"{name} was computed in windows (--chunk-seconds), but fine-tuning needs whole utterances; extract "
            "without windows into a store of another --name"
        )
    if str(from_layer) not in layer_names:
        raise ModelError(
            f"--from-layer is {from_layer}, but {name} contains the layers {', '.join(layer_names)}; extract with "
            f"--layers {from_layer}, or start from a stored layer"
        )
