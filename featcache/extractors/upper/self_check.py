"""Whole model and its upper blocks → a refusal if they give different values for a short input."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from featcache.errors import ModelError
from featcache.extractors.base import noise
from featcache.extractors.families import Family
from featcache.extractors.padding import Pass
from featcache.extractors.tokens import EXAMPLE, Tokeniser
from featcache.extractors.upper.upper_blocks import UpperBlocks

TOLERANCE = 1e-4
"""Largest difference from the whole model in float32, relative to the largest value of the layer.

Rounding gives 1e-6 in usual models. Missing parts, such as positions, give 1e-2 or more.
"""
SECONDS = (1.0, 0.6)
Layers = tuple[Tensor, Tensor]


def speech_layers(family: Family, layer: int) -> list[Layers]:
    """Return a layer and the last layer of noise, computed by the whole model: (num_frames, hidden_size) each.

    Args:
        family: Model, float32, on the CPU.
        layer: Number of the layer.
    """
    family.dtype = torch.float32
    found = []
    for seconds in SECONDS:
        samples = noise(max(family.shortest, int(seconds * family.rate)), family.rate).samples
        kept = Pass()
        start = family.local if layer == 0 else None
        if start is None:
            enter = family.blocks[layer].register_forward_pre_hook(kept.keep_input("start", False), with_kwargs=True)
        else:
            enter = start.register_forward_hook(kept.keep_output("start", False))
        leave = family.last.register_forward_hook(kept.keep_output("end", False))
        with torch.no_grad():
            family.forward([family.prepare(samples)], [family.num_frames(len(samples))], _same, kept)
        enter.remove()
        leave.remove()
        found.append((kept.layers["start"][0].clone(), kept.layers["end"][0]))
        if family.input_shape is not None:  # All signals have the same length.
            break
    return found


def text_layers(module: Any, tokenise: Tokeniser) -> list[list[Tensor]]:
    """Return all layers of two texts, computed by the whole model: (num_tokens, hidden_size) each."""
    found = []
    for text in (5 * EXAMPLE, "It's 5 o'clock"):
        inputs = {name: torch.tensor([values]) for name, values in tokenise(text).inputs.items()}
        with torch.no_grad():
            outputs = module(**inputs, output_hidden_states=True)
        found.append([layer[0] for layer in (*outputs.hidden_states[:-1], outputs.last_hidden_state)])
    return found


def difference(upper: UpperBlocks, layers: Sequence[Layers]) -> float:
    """Return the maximum absolute error of the upper blocks, relative to the largest value of the layer.

    Args:
        upper: The upper blocks.
        layers: Stored layer and last layer of each input.
    """
    with torch.no_grad():
        found = upper.last_layer([start for start, _ in layers])
    return max(
        float((values - end).abs().max() / end.abs().max()) for values, (_, end) in zip(found, layers, strict=True)
    )


def check_same(upper: UpperBlocks, layers: Sequence[Layers]) -> None:
    """Refuse upper blocks that give other values than the whole model.

    Args:
        upper: The upper blocks.
        layers: Stored layer and last layer of each input.

    Raises:
        ModelError: they differ.
    """
    found = difference(upper, layers)
    if not found <= TOLERANCE:
        raise ModelError(
            f"{upper.source.model} cannot be fine-tuned from layer {upper.from_layer}: its upper blocks differ from "
            f"the whole model by {found:.1e} of the largest value, expected at most {TOLERANCE:.0e}; use another model"
        )


def _same(tensor: Tensor) -> Tensor:
    return tensor
