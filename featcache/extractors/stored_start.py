"""Stored layer → the place in a model's forward pass where it belongs, instead of the parts below it.

The encoder's own forward pass computes the blocks above. Its parts below the stored layer are replaced by modules that
cost nothing.
"""

from typing import Any

import torch
from torch import Tensor, nn


class StoredBatch:
    """Stored hidden states of the batch that a model computes.

    Unlike :class:`~featcache.extractors.padding.Pass`, it is seen from all threads: with gradient checkpointing on a
    GPU, the backward pass computes blocks again in a thread of its own.

    Attributes:
        states: (batch, frames, hidden_size); zero in the padding.
        mask: (batch, frames) bool, true for an utterance's own frames; None if nothing is padded.
    """

    def __init__(self) -> None:
        self.states: Any = None
        self.mask: Tensor | None = None

    def __deepcopy__(self, _memo: dict[int, Any]) -> "StoredBatch":
        """Return an empty batch, because a copy of a model does not continue a pass; torch copies no masked states."""
        return StoredBatch()

    def zero_padding(self, _module: nn.Module, _args: Any, output: Tensor) -> Tensor:
        """Set the padding in the output of a module, (batch, channels, frames), to zero; a forward hook."""
        return output if self.mask is None else output * self.mask[:, None]

    def replace_input(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Replace the hidden states that a block receives by the stored ones; a forward pre-hook."""
        return ((self.states, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": self.states})


class UpperEncoder(nn.Module):
    """Part of a model above a stored layer; a subclass runs it.

    Args:
        encoder: Encoder of the model, without the blocks below the stored layer.
        blocks: Its other blocks, in order.
        trained: Parameters that are trained.
        batch: Batch that the parts of the encoder read.

    Attributes:
        masks_padding: Whether utterances of different lengths are computed together.
        fixed_frames: Number of frames of every utterance; None for any number.
    """

    masks_padding = True
    fixed_frames: int | None = None

    def __init__(self, encoder: Any, blocks: Any, trained: list[nn.Parameter], batch: StoredBatch) -> None:
        super().__init__()
        self.encoder = encoder
        self.blocks = list(blocks)  # A list, so that parameters and modules are not counted twice.
        self.trained = trained
        self.batch = batch

    def forward(self, states: Tensor, mask: Tensor | None) -> Tensor:
        """Return the last layer, (batch, frames, hidden_size).

        Args:
            states: (batch, frames, hidden_size): the stored layer, zero in the padding.
            mask: (batch, frames) bool, true for an utterance's own frames; None if nothing is padded.
        """
        self.batch.states, self.batch.mask = states, mask
        return self.run(states, mask)

    def run(self, states: Tensor, mask: Tensor | None) -> Tensor:
        """Run the encoder; arguments and result as in :meth:`forward`."""
        raise NotImplementedError


class EncoderFromFrames(UpperEncoder):
    """Encoder that takes hidden states and a mask: wav2vec 2.0 and the models with its architecture.

    Attributes:
        mask_dtype: Dtype of the mask that the encoder takes.
    """

    mask_dtype = torch.bool

    def run(self, states: Tensor, mask: Tensor | None) -> Tensor:
        """Run the encoder."""
        output: Tensor = self.encoder(states, attention_mask=None if mask is None else mask.to(self.mask_dtype))[0]
        return output


class EncoderFromSpectrogram(UpperEncoder):
    """Encoder of Whisper, which takes a spectrogram of a fixed length."""

    def __init__(self, encoder: Any, blocks: Any, trained: list[nn.Parameter], batch: StoredBatch) -> None:
        super().__init__(encoder, blocks, trained, batch)
        self.fixed_frames = int(encoder.config.max_source_positions)
        encoder.conv1, encoder.conv2 = NoConvolution(1), NoConvolution(2)
        encoder.embed_positions = StoredPositions(batch)

    def run(self, states: Tensor, mask: Tensor | None) -> Tensor:
        """Run the encoder on an empty spectrogram, whose frames are all zero after the convolutions."""
        output: Tensor = self.encoder(states.new_zeros(1, 1, 2 * states.shape[1]))[0]
        return output


class StoredStates(nn.Module):
    """Module that returns the stored hidden states, whatever its input.

    Args:
        batch: Batch with the hidden states.
    """

    def __init__(self, batch: StoredBatch) -> None:
        super().__init__()
        self._batch = batch

    def forward(self, _hidden_states: Tensor) -> Tensor:
        """Return the stored hidden states."""
        states: Tensor = self._batch.states
        return states


class NoPositions(nn.Module):
    """Positional convolution that adds nothing."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Return a zero."""
        return hidden_states.new_zeros(())


class NoConvolution(nn.Module):
    """Convolution that only shortens its input.

    Args:
        stride: Stride of the convolution.
    """

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = (stride,)

    def forward(self, values: Tensor) -> Tensor:
        """Return every ``stride``-th frame of values (batch, channels, frames)."""
        return values[..., :: self.stride[0]]


class StoredPositions(StoredStates):
    """Position embeddings of Whisper that are the stored hidden states, to be added to zeros.

    Args:
        batch: Batch with the hidden states.
    """

    @property
    def weight(self) -> Tensor:
        """The stored hidden states, (batch, frames, hidden_size); some versions of transformers read the table."""
        states: Tensor = self._batch.states
        return states

    @property
    def num_embeddings(self) -> int:
        """Number of frames."""
        return int(self.weight.shape[1])


class StoredBias(nn.Module):
    """First block of WavLM, without the block: the stored hidden states, and the bias of relative positions.

    Args:
        batch: Batch with the hidden states.
        attention: Attention of the first block, whose embeddings of relative positions all blocks use.
    """

    def __init__(self, batch: StoredBatch, attention: Any) -> None:
        super().__init__()
        self._batch = batch
        self._num_heads = attention.num_heads
        self.attention = attention
        for name in ("k_proj", "v_proj", "q_proj", "out_proj", "gru_rel_pos_linear"):
            setattr(attention, name, None)

    def forward(self, *_args: Any, **_kwargs: Any) -> tuple[Tensor, Tensor]:
        """Return the stored hidden states and the bias, (batch * num_heads, frames, frames)."""
        states: Tensor = self._batch.states
        bias = self.attention.compute_bias(states.shape[1], states.shape[1])
        return states, bias.repeat(len(states), 1, 1)
