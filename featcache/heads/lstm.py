"""Layers of each frame → weighted average → dense layer → LSTM → mean over frames → logits."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from featcache.heads.dense import HIDDEN_UNITS, Dense
from featcache.heads.dropout import Dropout
from featcache.heads.spec import HeadSpec


class LSTMLayer(nn.Module):
    """Dropout → LSTM, forward in time → ReLU, with Keras' semantics.

    That is one dropout mask per utterance, shared by all its frames, and one vector of biases, the forget gate's
    starting at 1; input weights Glorot-uniform and recurrent weights orthogonal over the four gates together.
    """

    def __init__(self, num_inputs: int, generator: torch.Generator) -> None:
        super().__init__()
        self.dropout = Dropout(generator, shared_axis=1)
        # made on the meta device first, because torch would draw initial weights from its global generator
        self.lstm = nn.LSTM(num_inputs, HIDDEN_UNITS, batch_first=True, device="meta").to_empty(device="cpu")
        input_weights, recurrent_weights, bias, second_bias = self.lstm.parameters()
        nn.init.xavier_uniform_(input_weights, generator=generator)
        nn.init.orthogonal_(recurrent_weights, generator=generator)
        nn.init.zeros_(bias)
        # torch's gates are in the order input, forget, cell, output
        nn.init.ones_(bias[HIDDEN_UNITS : 2 * HIDDEN_UNITS])
        # torch adds a second vector of biases; trained, it would double the steps of the first
        nn.init.zeros_(second_bias).requires_grad_(False)

    def forward(self, frames: Tensor, num_frames: Sequence[int]) -> Tensor:
        """(total_frames, num_inputs) → (total_frames, HIDDEN_UNITS)."""
        sequences = pad_sequence(list(torch.split(frames, list(num_frames))), batch_first=True)
        # padding follows the valid frames, so the LSTM meets it only after them
        outputs, _ = self.lstm(self.dropout(sequences))
        return torch.cat([output[:valid] for output, valid in zip(outputs, num_frames, strict=True)]).relu()


class LSTM(Dense):
    """Weighted average → dense layer → LSTM → mean over valid frames → linear; arguments as for `Head`.

    Source: Pepino et al. 2021, section 2.3; dropout and initial weights as in the authors' released configuration.
    """

    spec = HeadSpec(batch_size=16)
    second_layer = LSTMLayer
