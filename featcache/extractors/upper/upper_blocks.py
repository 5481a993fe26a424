"""Blocks k+1 … N of a model: stored layer k of some utterances → layers k … N."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from featcache.errors import ModelError
from featcache.extractors.padding import valid_mask
from featcache.extractors.stored_start import UpperEncoder
from featcache.extractors.upper.adapters import AdapterOptions, add_adapters, draw_adapters, merged_weights
from featcache.extractors.upper.model_source import ModelSource
from featcache.extractors.upper.saving import save_model
from featcache.extractors.upper.time_mask import TimeMask


class UpperBlocks(nn.Module):
    """Blocks k+1 … N of a model, which start from the stored layer k.

    Dropout draws from torch's global generator. BatchNorm always uses the stored statistics. With gradient
    checkpointing, call :meth:`backward` of the loss before the next forward pass.

    Args:
        encoder: Part of the model above layer k.
        from_layer: Number of the stored layer k.
        wanted: Names of the layers that :meth:`forward` returns.
        num_blocks: Number N of blocks of the whole model.
        hidden_size: Number of values per frame.
        source: Origin of the weights.
        names: ``id`` of a parameter → its name in the model.
        time_mask: Masking of frames during training; None for no masking.

    Attributes:
        from_layer: Number of the stored layer k.
        layer_names: Names of the layers that :meth:`forward` returns, in the order of their numbers. Layer N is the
            last hidden state, after the final LayerNorm if the model has one.
        num_blocks: Number N of blocks of the whole model.
        hidden_size: Number of values per frame.
        fixed_frames: Number of frames, padding included, that each utterance must have; None for any number.
        source: Origin of the weights.
    """

    def __init__(
        self,
        encoder: UpperEncoder,
        *,
        from_layer: int,
        wanted: Sequence[str],
        num_blocks: int,
        hidden_size: int,
        source: ModelSource,
        names: Mapping[int, str],
        time_mask: TimeMask | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.from_layer = from_layer
        self.layer_names = tuple(wanted)
        self.num_blocks = num_blocks
        self.hidden_size = hidden_size
        self.fixed_frames = encoder.fixed_frames
        self.source = source
        self.time_mask = time_mask
        self._kept = LayerInputs()
        for name in self.layer_names:
            if from_layer < int(name) < num_blocks:
                block = encoder.blocks[int(name) - from_layer]
                block.register_forward_pre_hook(KeepInput(self._kept, name).keep, with_kwargs=True)
        trained = {id(parameter) for parameter in encoder.trained}
        if time_mask is not None:
            trained.add(id(time_mask.embedding))
        self._original: dict[str, str] = {}
        for own, parameter in self.named_parameters():
            parameter.requires_grad_(id(parameter) in trained)
            if id(parameter) in trained:
                self._original[own] = names[id(parameter)]
        self._adapted: dict[str, str] = {}
        self.eval()

    def add_adapters(self, options: AdapterOptions) -> None:
        """Add low-rank adapters to layers of the blocks; they are trained in place of all other parameters.

        Args:
            options: Options of the adapters.

        Raises:
            MissingPackageError: PEFT is not installed.
            ModelError: the blocks have no such layers, or an option does not apply to them.
        """
        paths = add_adapters(self.encoder, options, hidden_size=self.hidden_size, model=self.source.model)
        self._adapted = {f"encoder.{path}": self._original[f"encoder.{path}.weight"] for path in paths}
        self._original = {}

    def draw_adapters(self) -> None:
        """Give the adapters new initial weights, which change nothing yet, from torch's global generator."""
        draw_adapters(self.get_submodule(path) for path in self._adapted)

    def forward(self, utterances: Sequence[Tensor]) -> list[Tensor]:
        """Return the wanted layers of each utterance.

        Args:
            utterances: (num_frames, hidden_size) float32 each: layer k.

        Returns:
            (num_layers, num_frames, hidden_size) float32 for each utterance.

        Raises:
            ModelError: an utterance has another hidden size, or another number of frames than the model needs.
        """
        return self._each(utterances, self.layer_names)

    def last_layer(self, utterances: Sequence[Tensor]) -> list[Tensor]:
        """Return layer N of each utterance, (num_frames, hidden_size); arguments and errors as in :meth:`forward`."""
        return [layers[0] for layers in self._each(utterances, (str(self.num_blocks),))]

    def tuned_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that are trained: those of blocks k+1 … N and of the final LayerNorm.

        From layer 0, they include the positional convolution and the embeddings of relative positions, which all blocks
        use; from higher layers these belong to the frozen part of the model. With adapters, only these are trained.
        """
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def tuned_state(self) -> dict[str, Tensor]:
        """Return the trained parameters: name in the model → values, on the CPU, not shared with this module.

        Adapters are merged into the weights of their layers.
        """
        own = dict(self.named_parameters())
        state: dict[str, Tensor] = {name: own[mine] for mine, name in self._original.items()}
        state |= {name: merged_weights(self.get_submodule(path)) for path, name in self._adapted.items()}
        return {name: values.detach().cpu().clone() for name, values in state.items()}

    def load_tuned_state(self, state: Mapping[str, Tensor]) -> None:
        """Replace the trained parameters of blocks without adapters.

        Args:
            state: Name in the model → values, as :meth:`tuned_state` returns them.
        """
        own = dict(self.named_parameters())
        with torch.no_grad():
            for mine, name in self._original.items():
                own[mine].copy_(state[name])

    def save(self, folder: Path) -> None:
        """Write the whole model, with its trained upper blocks, as a folder of Hugging Face transformers.

        The parts below layer k are loaded again from the origin of the weights. A decoder is not written, because it
        does not fit to the trained encoder.

        Args:
            folder: Folder to which the files are written.

        Raises:
            ModelError: the origin of the weights is not available, or its weights changed.
        """
        save_model(self.source, self.tuned_state(), folder)

    def train(self, mode: bool = True) -> "UpperBlocks":
        super().train(mode)
        for part in self.modules():
            if isinstance(part, nn.modules.batchnorm._BatchNorm):
                part.eval()
        return self

    def _each(self, utterances: Sequence[Tensor], names: Sequence[str]) -> list[Tensor]:
        for utterance in utterances:
            self._check(utterance)
        layers: dict[int, Tensor] = {}
        for together in self._groups([len(utterance) for utterance in utterances]):
            found = self._layers([utterances[item] for item in together], names)
            # Slices of the whole batch would each have a gradient of its size.
            for item, row in zip(together, found.unbind(dim=1), strict=True):
                layers[item] = row[:, : len(utterances[item])]
        return [layers[item] for item in range(len(utterances))]

    def _check(self, utterance: Tensor) -> None:
        if utterance.ndim != 2 or utterance.shape[1] != self.hidden_size:
            raise ModelError(
                f"stored features have the shape {tuple(utterance.shape)}, but {self.source.model} needs (num_frames, "
                f"{self.hidden_size}); use the store of this model"
            )
        if self.fixed_frames is not None and len(utterance) != self.fixed_frames:
            raise ModelError(
                f"stored features have {len(utterance)} frames, but {self.source.model} reads {self.fixed_frames}, "
                "padding included; extract with --keep-padding"
            )

    def _groups(self, lengths: Sequence[int]) -> list[list[int]]:
        """Return the positions of the utterances that are computed together."""
        if self.encoder.masks_padding:
            return [list(range(len(lengths)))]
        by_length: dict[int, list[int]] = {}
        for item, length in enumerate(lengths):
            by_length.setdefault(length, []).append(item)
        return list(by_length.values())

    def _layers(self, utterances: Sequence[Tensor], names: Sequence[str]) -> Tensor:
        """Return layers of utterances that are computed together, (num_layers, batch, frames, hidden_size) float32."""
        lengths = [len(utterance) for utterance in utterances]
        states = nn.utils.rnn.pad_sequence(list(utterances), batch_first=True)
        mask = None if len(set(lengths)) == 1 else valid_mask(lengths).to(states.device)
        stored = states.clone() if str(self.from_layer) in names else states
        if self.time_mask is not None:
            states = self.time_mask(states, mask)
        last = self.encoder(states, mask)
        found = {str(self.from_layer): stored, **self._kept.take(), str(self.num_blocks): last}
        return torch.stack([found[name].float() for name in names])


class LayerInputs:
    """Inputs of blocks during a forward pass."""

    def __init__(self) -> None:
        self._layers: dict[str, Tensor] = {}

    def put(self, name: str, layer: Tensor) -> None:
        """Keep a layer."""
        self._layers[name] = layer

    def take(self) -> dict[str, Tensor]:
        """Return the kept layers, and forget them."""
        layers, self._layers = self._layers, {}
        return layers


@dataclass(frozen=True)
class KeepInput:
    """Hook that keeps the input of a block as a layer.

    Attributes:
        kept: Place for the layer.
        name: Name of the layer.
    """

    kept: LayerInputs
    name: str

    def keep(self, _module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Keep the input; a forward pre-hook."""
        self.kept.put(self.name, args[0] if args else kwargs["hidden_states"])
