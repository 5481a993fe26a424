"""``config.yaml`` of a fine-tuned run → the first layer of each of its models, and the layers that heads use."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featcache.files.values import damaged
from featcache.runs.file_names import CONFIG
from featcache.runs.identity import FROM_LAYER, TUNED_LAYERS
from featcache.runs.parse import REFIT


@dataclass(frozen=True, kw_only=True)
class TunedInput:
    """Blocks of the model of one store, which are trained.

    Attributes:
        store: Name of the feature store.
        from_layer: Stored layer that is the input of the first trained block.
        layers: Names of the layers of the fine-tuned model that the head uses.
    """

    store: str
    from_layer: int
    layers: tuple[str, ...]


def read_tuned_inputs(folder: Path, config: Mapping[str, Any]) -> tuple[TunedInput, ...]:
    """Return the fine-tuned models of a run, one item per store; empty for a run on frozen features.

    Args:
        folder: The run folder, for messages.
        config: The content of its ``config.yaml``.

    Raises:
        StoreError: the configuration is damaged.
    """
    if FROM_LAYER not in config and TUNED_LAYERS not in config:
        return ()
    stores, numbers, layers = list(config["features"]), config.get(FROM_LAYER, ()), config.get(TUNED_LAYERS, {})
    known = isinstance(numbers, list) and len(numbers) == len(stores) and all(type(one) is int for one in numbers)
    named = isinstance(layers, Mapping) and list(layers) == stores
    if not known or not named or not all(map(_are_layers, layers.values(), numbers)):
        expected = "expected the first layer of each store, and the layers of each model that the head uses"
        raise damaged(folder / CONFIG, f"{FROM_LAYER} and {TUNED_LAYERS}: {expected}", REFIT)
    return tuple(
        TunedInput(store=store, from_layer=number, layers=tuple(layers[store]))
        for store, number in zip(stores, numbers, strict=True)
    )


def _are_layers(names: Any, first: int) -> bool:
    """Return whether these are the names of layers that blocks compute from a stored one, or of this one."""
    texts = isinstance(names, list) and bool(names) and all(isinstance(one, str) and one.isdecimal() for one in names)
    return texts and all(0 <= first <= int(one) for one in names)
