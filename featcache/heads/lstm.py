"""Layers of each frame → weighted average → dense layer → recurrent layers → mean over frames → logits."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

from featcache.heads.base import MOST_HIDDEN, MOST_UNITS, undrawn
from featcache.heads.dense import Dense, DenseOptions, HiddenLayer
from featcache.heads.dropout import Dropout
from featcache.heads.spec import HeadSpec
from featcache.settings.field import setting


@dataclass(frozen=True, kw_only=True)
class LSTMOptions(DenseOptions):
    """Options of `LSTM`."""

    hidden_units: int = setting(
        128, "Width of each hidden layer, and of each direction of a recurrent one.", minimum=1, maximum=MOST_UNITS
    )
    num_hidden: int = setting(
        2, "Number of hidden layers: one dense layer, followed by recurrent ones.", minimum=2, maximum=MOST_HIDDEN
    )
    bidirectional: bool = setting(False, "Also process frames backward in time, and concatenate both directions.")
    cell: Literal["lstm", "gru"] = setting("lstm", "Kind of recurrent layer: lstm or gru.")


class RecurrentLayer(HiddenLayer):
    """Dropout → LSTM or GRU → ReLU, with the conventions of Keras.

    All frames of an utterance share one dropout mask. Initial input weights are Glorot-uniform, and initial recurrent
    weights are orthogonal over all gates together. An LSTM has one vector of biases, which starts at 1 for the forget
    gate and at 0 for the others. A GRU has two vectors, which start at 0 (``reset_after`` in Keras).

    Args:
        num_inputs: Number of values of an input frame.
        options: Options of the head.
        generator: Source of initial weights and dropout masks.
    """

    def __init__(self, num_inputs: int, options: LSTMOptions, generator: torch.Generator) -> None:
        super().__init__()
        self.cell = options.cell
        self.num_outputs = options.hidden_units * (2 if options.bidirectional else 1)
        self.dropout = Dropout(generator, rate=options.dropout, shared_axis=1)
        kind = {"lstm": nn.LSTM, "gru": nn.GRU}[options.cell]
        recurrent = undrawn(
            kind(
                num_inputs,
                options.hidden_units,
                batch_first=True,
                bidirectional=options.bidirectional,
                device="meta",
            )
        )
        self.add_module(options.cell, recurrent)
        parameters = list(recurrent.parameters())
        for first in range(0, len(parameters), 4):  # each direction has four
            input_weights, recurrent_weights, bias, second_bias = parameters[first : first + 4]
            nn.init.xavier_uniform_(input_weights, generator=generator)
            nn.init.orthogonal_(recurrent_weights, generator=generator)
            nn.init.zeros_(bias)
            nn.init.zeros_(second_bias)
            if options.cell == "lstm":
                # The order of the gates in torch is input, forget, cell, output.
                nn.init.ones_(bias[options.hidden_units : 2 * options.hidden_units])
                # torch adds a second vector of biases. If it were trained, the sum of both would learn twice as fast.
                second_bias.requires_grad_(False)

    def forward(self, frames: Tensor, num_frames: Sequence[int]) -> Tensor:
        """Compute the layer: (total_frames, num_inputs) → (total_frames, num_outputs)."""
        recurrent = self.get_submodule(self.cell)
        lengths = list(num_frames)
        sequences = self.dropout(pad_sequence(list(torch.split(frames, lengths)), batch_first=True))
        if recurrent.bidirectional:  # backward in time, padding would be processed first
            packed = pack_padded_sequence(sequences, torch.tensor(lengths), batch_first=True, enforce_sorted=False)
            outputs, _ = pad_packed_sequence(recurrent(packed)[0], batch_first=True)
        else:
            # Padding is processed after the valid frames, so it does not affect them.
            outputs, _ = recurrent(sequences)
        return torch.cat([output[:valid] for output, valid in zip(outputs, lengths, strict=True)]).relu()


class LSTM(Dense):
    """Weighted average → dense layer → LSTM or GRU → mean over frames → linear.

    The arguments are those of `Head`.

    Source: Pepino et al. 2021, section 2.3; dropout and initial weights as in the authors' released configuration.
    """

    spec = HeadSpec(batch_size=16, options=LSTMOptions)
    options: LSTMOptions

    def later_layer(self, num_inputs: int, generator: torch.Generator) -> HiddenLayer:
        return RecurrentLayer(num_inputs, self.options, generator)
