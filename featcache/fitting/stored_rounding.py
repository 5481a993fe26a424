"""Stored layer k × pretrained blocks → their deviation from the stored last layer, for the report."""

from collections.abc import Sequence

import torch
from torch import Tensor

from featcache.cache.reader import FeatureStore
from featcache.extractors.upper import UpperBlocks
from featcache.extractors.upper.self_check import difference
from featcache.training.store_features import StoreFeatures
from featcache.units import counted

FLOAT32 = "float32"
# Number of utterances that are compared, spread over the store.
NUM_COMPARED = 4

NOTE = (
    "{store} contains {rounding}, so that layer {layer} is not exact. The last layer that the pretrained blocks "
    "compute from it differs from the stored one by up to {found:.1e} of the largest value ({number}). The stored last "
    "layer is rounded, too."
)
NOT_MEASURED = (
    "{store} contains {rounding}, so that layer {layer} is not exact. The effect on the outputs of the blocks was not "
    "measured, because the store does not have the last layer."
)


def rounding_notes(features: Sequence[StoreFeatures], blocks: Sequence[UpperBlocks]) -> list[str]:
    """Return a note for each store that does not contain float32 values that were computed in float32.

    The comparison needs no audio: both ends are in the store.

    Args:
        features: Features of each store: layer k.
        blocks: The pretrained blocks above it, on the CPU.
    """
    notes = []
    for item, upper in zip(features, blocks, strict=True):
        rounding = _rounding(item.store)
        if not rounding:
            continue
        told = {"store": item.store.name, "rounding": rounding, "layer": upper.from_layer}
        last = str(upper.num_blocks)
        if last not in item.store.layer_names:
            notes.append(NOT_MEASURED.format(**told))
            continue
        ids = item.store.utterance_ids
        chosen = ids[:: max(1, len(ids) // NUM_COMPARED)][:NUM_COMPARED]
        layers = [
            (_layer(item, i, item.layers[0]), _layer(item, i, item.store.layer_names.index(last))) for i in chosen
        ]
        notes.append(NOTE.format(**told, found=difference(upper, layers), number=counted(len(chosen), "utterance")))
    return notes


def _rounding(store: FeatureStore) -> str:
    """Return how the features of a store were rounded; empty if they were not."""
    precision = store.metadata.get("precision", FLOAT32)
    kinds = [] if store.identity.storage_dtype == FLOAT32 else [f"{store.identity.storage_dtype} values"]
    kinds += [] if precision == FLOAT32 else [f"layers that were computed in {precision}"]
    return ", and ".join(kinds)


def _layer(features: StoreFeatures, utterance_id: str, layer: int) -> Tensor:
    """Return (num_frames, hidden_size) float32, with the frames of the padding if the blocks need them."""
    padded = features.padded_frames is not None
    return torch.from_numpy(features.store.view(utterance_id, [layer], with_padding=padded)[0]).float()
