"""Upper blocks × rank → low-rank adapters (LoRA) in the linear layers of the blocks, with PEFT."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from featcache.errors import MissingPackageError, ModelError, listed
from featcache.extractors.stored_start import UpperEncoder

ATTENTION, ALL = "attention", "all"
# Name that PEFT gives to the adapter.
_NAME = "default"


@dataclass(frozen=True, kw_only=True)
class AdapterOptions:
    """Options of low-rank adapters.

    Attributes:
        rank: Rank of the product of two matrices that is added to the weights of a layer.
        alpha: Factor of the product, divided by the rank; None for the rank, so that the factor is 1.
        dropout: Probability of dropout of the input of the adapters.
        modules: ``attention`` for the projections of the attention, ``all`` for all linear layers of the blocks, or
            their names, such as ``q_proj,v_proj``.

    Source: Hu et al. 2022, LoRA: Low-Rank Adaptation of Large Language Models.
    """

    rank: int
    alpha: float | None = None
    dropout: float = 0.0
    modules: str = ATTENTION


def check_peft() -> None:
    """Check that PEFT can be imported.

    Raises:
        MissingPackageError: it is not installed.
    """
    try:
        import peft  # noqa: F401
    except ImportError:
        raise MissingPackageError("--lora needs peft, which is not installed: pip install 'featcache[lora]'") from None


def add_adapters(encoder: UpperEncoder, options: AdapterOptions, *, hidden_size: int, model: str) -> list[str]:
    """Add adapters to linear layers of the blocks, which change nothing yet; all other parameters are frozen.

    Args:
        encoder: Part of a model above a stored layer, in evaluation mode.
        options: Options of the adapters.
        hidden_size: Number of values per frame.
        model: Name of the model, for messages.

    Returns:
        The paths of the changed layers in the encoder.

    Raises:
        MissingPackageError: PEFT is not installed.
        ModelError: the blocks have no such layers, or dropout does not apply to them.
    """
    check_peft()
    from peft import LoraConfig, inject_adapter_in_model

    layers = _chosen(encoder, options.modules, hidden_size, model)
    called = _called(encoder, layers, hidden_size)
    if options.dropout and called != layers.keys():
        raise ModelError(
            f"--lora-dropout {options.dropout:g}: {model} has no separate inputs of its attention "
            "projections, to which dropout could be applied; use --lora-dropout 0"
        )
    config = LoraConfig(
        r=options.rank,
        lora_alpha=options.rank if options.alpha is None else options.alpha,  # type: ignore[arg-type]
        lora_dropout=options.dropout,
        target_modules="|".join(map(re.escape, layers)),
        # The layers of GPT-2 have transposed weights.
        fan_in_fan_out=not any(isinstance(layer, nn.Linear) for layer in layers.values()),
    )
    inject_adapter_in_model(config, encoder, adapter_name=_NAME)
    for path in layers.keys() - called:
        add_to_weights(encoder.get_submodule(path))
    return list(layers)


def draw_adapters(layers: Iterable[Any]) -> None:
    """Give adapters new initial weights, which change nothing yet, from torch's global generator."""
    for layer in layers:
        layer.reset_lora_parameters(_NAME, init_lora_weights=True)


def merged_weights(layer: Any) -> Tensor:
    """Return the weights of a layer that computes the same as the layer with its adapter."""
    base = layer.get_base_layer()
    added = parametrize.is_parametrized(base, "weight")
    weights: Tensor = base.weight if added else base.weight + layer.get_delta_weight(_NAME)
    return weights


class AddedProduct(nn.Module):
    """Parametrization of weights to which the product of an adapter is added.

    Args:
        layer: Layer with the adapter.
    """

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self._layer = [layer]  # A list, because the layer contains this module.

    def forward(self, weights: Tensor) -> Tensor:
        """Return the weights with the product."""
        changed: Tensor = weights + self._layer[0].get_delta_weight(_NAME)
        return changed


def add_to_weights(layer: Any) -> None:
    """Make an adapter act on the weights of its layer, for models such as WavLM that only read the weights."""
    parametrize.register_parametrization(layer.get_base_layer(), "weight", AddedProduct(layer))
    layer.get_base_layer().parametrizations.requires_grad_(False)
    for matrices in (layer.lora_A, layer.lora_B):
        matrices.requires_grad_(True)


def _chosen(encoder: UpperEncoder, wanted: str, hidden_size: int, model: str) -> dict[str, nn.Module]:
    """Return path → linear layer of the blocks.

    Raises:
        ModelError: there is none, or no layer has a given name.
    """
    linear = _linear_layers(encoder)
    if wanted == ALL:
        return linear
    if wanted == ATTENTION:
        attention = {id(layer) for block in encoder.blocks for layer in _projections(block, hidden_size)}
        if found := {path: layer for path, layer in linear.items() if id(layer) in attention}:
            return found
        raise ModelError(f"{model} has no attention projections; use --lora-modules all")
    names = [name.strip() for name in wanted.split(",")]
    known = sorted({path.rpartition(".")[2] for path in linear})
    unknown = [name for name in names if name not in known]
    if unknown:
        fault = f"the blocks of {model} have no linear layers {listed(unknown)}" if all(unknown) else "a name is empty"
        raise ModelError(
            f"--lora-modules {wanted or repr(wanted)}: {fault}; expected {ATTENTION}, {ALL}, or some of "
            f"{', '.join(known)}"
        )
    return {path: layer for path, layer in linear.items() if path.rpartition(".")[2] in names}


def _linear_layers(encoder: UpperEncoder) -> dict[str, nn.Module]:
    from transformers.pytorch_utils import Conv1D

    inside = {id(part) for block in encoder.blocks for part in block.modules()}
    return {
        path: part
        for path, part in encoder.named_modules()
        if isinstance(part, nn.Linear | Conv1D) and id(part) in inside
    }


def _projections(block: nn.Module, hidden_size: int) -> list[nn.Module]:
    """Return the parts of the attention in a block whose weights have the size of a hidden state on one side."""
    parts = [part for module in block.modules() if "Attention" in type(module).__name__ for part in module.modules()]
    return [part for part in parts if hidden_size in getattr(getattr(part, "weight", None), "shape", ())]


def _called(encoder: UpperEncoder, layers: Mapping[str, nn.Module], hidden_size: int) -> set[str]:
    """Return the paths of layers that a forward pass calls; models such as WavLM only read the weights of others."""
    called: set[str] = set()
    handles = [layer.register_forward_hook(_noting(called, path)) for path, layer in layers.items()]
    with torch.no_grad():
        encoder(torch.ones(1, encoder.fixed_frames or 3, hidden_size), None)
    for handle in handles:
        handle.remove()
    return called


def _noting(called: set[str], path: str) -> Any:
    def note(_module: nn.Module, _args: Sequence[Any], _output: Any) -> None:
        called.add(path)

    return note
