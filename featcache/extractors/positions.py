"""Position embeddings that are exact in half precision and safe in threads."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


class SteadyPositions(nn.Module):
    """Position embeddings that are computed in float32 and remember nothing.

    The position embeddings of conformers store the table of the last length in the module, where another thread would
    find it. Converted to half precision, they would also count positions with 8 or 11 bits.

    Args:
        original: Module with float32 constants; its output has the dtype of its input.
    """

    def __init__(self, original: nn.Module) -> None:
        super().__init__()
        self._original = original

    def forward(self, hidden_states: Tensor) -> Any:
        """Return the position embeddings of hidden states (batch, frames, hidden_size), in their dtype."""
        own = copy.copy(self._original)  # It shares the constants, but what it stores is lost with it.
        object.__setattr__(own, "_buffers", dict(self._original._buffers))
        return own(hidden_states)


@contextmanager
def positions_in_float32(encoder: Any, device: str) -> Iterator[None]:
    """Keep the position embeddings of a conformer's encoder in float32, while the block converts the encoder.

    Args:
        encoder: Encoder with an attribute ``embed_positions``, which may be None.
        device: Torch device.
    """
    original, encoder.embed_positions = encoder.embed_positions, None
    yield
    if original is not None:
        encoder.embed_positions = SteadyPositions(original).to(device)
