"""Waveform → x-vector: one vector per utterance, computed by a speaker recognition model from its last hidden states.

Time-delay layers (convolutions over time) read the hidden states. Mean and standard deviation of their output over the
utterance are projected to the x-vector. The hidden states of a batch are exact (see
:mod:`featcache.extractors.families.waveform`); the layers after them compute each utterance alone, in float32.

Source: Snyder et al. 2018, X-vectors: robust DNN embeddings for speaker recognition.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from featcache.errors import ModelError
from featcache.extractors.families.family import ARCHITECTURE, INPUT
from featcache.extractors.families.waveform import UniSpeechSat, Wav2Vec2, Waveform, WavLM

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from featcache.extractors.padding import Pass

XVECTOR = "xvector"
"""Name of the layer, and the value of ``--layers`` that selects it."""


class XVector(Waveform):
    """Speaker recognition head on an encoder; its only layer is ``xvector``."""

    supports_chunks = False
    not_from_stores = "their stores contain one vector per utterance"
    unused = ("masked_spec_embed", "classifier", "objective")
    architecture = (*ARCHITECTURE, "tdnn_dilation", "tdnn_kernel", "use_weighted_layer_sum")

    @classmethod
    def shorten(cls, config: Any, num_blocks: int | None, source: str) -> None:
        if num_blocks is not None:
            raise ModelError("--num-blocks does not apply to x-vectors, which need the whole encoder")

    @classmethod
    def part(cls, module: Any) -> Any:
        del module.classifier, module.objective  # They assign speakers of the training set.
        return module

    @property
    def encoder(self) -> Any:
        return getattr(self.module, self.module.base_model_prefix)

    @property
    def layer_names(self) -> tuple[str, ...]:
        return (XVECTOR,)

    @property
    def width(self) -> int:
        return int(self.config.xvector_output_dim)

    @property
    def frame_shift(self) -> None:
        return None

    @property
    def shortest(self) -> int:
        frames = 2  # A standard deviation needs two.
        for kernel, dilation in zip(self.config.tdnn_kernel, self.config.tdnn_dilation, strict=True):
            frames += dilation * (kernel - 1)
        return super().shortest + (frames - 1) * self.hop

    def num_frames(self, num_samples: int) -> int:
        return int(num_samples >= self.shortest)

    def peak_bytes(self, batch: int, num_samples: int, num_layers: int) -> int:
        return super().peak_bytes(batch, num_samples, len(self._read_layers))

    def to(self, device: str, dtype: "torch.dtype", current: "Pass") -> None:
        super().to(device, dtype, current)
        for child in self.module.children():
            if child is not self.encoder:
                child.to(device)
        if self.config.use_weighted_layer_sum:
            self.module.layer_weights.data = self.module.layer_weights.data.to(device)

    def attach_hooks(self, names: Sequence[str], current: "Pass") -> None:
        super().attach_hooks(self._read_layers, current)

    def forward(
        self,
        inputs: "Sequence[Tensor]",
        num_frames: Sequence[int],
        send: "Callable[[Tensor], Tensor]",
        current: "Pass",
    ) -> None:
        import torch

        frames = [super(XVector, self).num_frames(len(item)) for item in inputs]
        super().forward(inputs, frames, send, current)
        layers = [current.layers.pop(name) for name in self._read_layers]
        vectors = [self._vector([layer[item, :own] for layer in layers]) for item, own in enumerate(frames)]
        current.layers[XVECTOR] = torch.stack(vectors)[:, None]

    def _vector(self, layers: "Sequence[Tensor]") -> "Tensor":
        """Return the x-vector (xvector_output_dim,) of the layers of one utterance, (num_frames, hidden_size) each."""
        import torch

        hidden = torch.stack(list(layers)).float()
        if self.config.use_weighted_layer_sum:
            hidden = hidden * self.module.layer_weights.softmax(0)[:, None, None]
        hidden = self.module.projector(hidden.sum(0)[None])
        for layer in self.module.tdnn:
            hidden = layer(hidden)
        vector: Tensor = self.module.feature_extractor(torch.cat([hidden.mean(1), hidden.std(1)], dim=1))
        return vector[0]

    @property
    def _read_layers(self) -> tuple[str, ...]:
        numbered = tuple(str(number) for number in range(1, len(self.blocks) + 1))
        return (INPUT, *numbered) if self.config.use_weighted_layer_sum else numbered[-1:]


class Wav2Vec2XVector(XVector):
    """x-vector of wav2vec 2.0."""

    model_types = Wav2Vec2.model_types
    title = "x-vectors of wav2vec 2.0"
    class_name = "Wav2Vec2ForXVector"


class WavLMXVector(XVector):
    """x-vector of WavLM."""

    model_types = WavLM.model_types
    title = "x-vectors of WavLM"
    class_name = "WavLMForXVector"


class UniSpeechSatXVector(XVector):
    """x-vector of UniSpeech-SAT."""

    model_types = UniSpeechSat.model_types
    title = "x-vectors of UniSpeech-SAT"
    class_name = "UniSpeechSatForXVector"
