"""Waveform → hidden states of wav2vec 2.0 and the models with its architecture, one frame per 20 ms.

In a padded batch, the padding could change an utterance's features in three places. Each is handled here:

- GroupNorm in the first convolution (wav2vec2-base and similar models) averages over time.
  :class:`~featcache.extractors.padding.ValidGroupNorm` computes mean and variance over each utterance's own frames.
- Self-attention reads all frames. The models' own attention mask excludes the padding.
- data2vec's positional convolutions, and the batch norm before those of some HuBERT models, write values into the
  padding. These values are set to zero before the next convolution.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from featcache.extractors.families.family import Family
from featcache.extractors.footprint import waveform_bytes

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from featcache.extractors.padding import Pass
    from featcache.extractors.stored_start import EncoderFromFrames, StoredBatch


class ProjectedFrames(Family):
    """Frames that are projected to the hidden size, which is layer 0, then transformer blocks; layer N is their output.

    The model's own attention mask excludes the padding.
    """

    masks_padding = True
    not_from_stores = ""

    @property
    def blocks(self) -> Any:
        return self.encoder.encoder.layers

    @property
    def local(self) -> Any:
        return self.encoder.feature_projection

    @property
    def last(self) -> Any:
        return self.encoder.encoder

    def cut(self, layer: int, batch: "StoredBatch") -> "EncoderFromFrames":
        from torch import nn

        from featcache.extractors.stored_start import EncoderFromFrames, StoredStates

        encoder = self.last
        del self.blocks[:layer]
        if layer == 0:
            return EncoderFromFrames(encoder, self.blocks, list(encoder.parameters()), batch)
        encoder.dropout = StoredStates(batch)  # the last module before the blocks
        trained = list(self.blocks.parameters())
        if self._ends_with_norm:
            trained += encoder.layer_norm.parameters()
        elif hasattr(encoder, "layer_norm"):
            encoder.layer_norm = nn.Identity()
        return EncoderFromFrames(encoder, self.blocks, trained, batch)

    @property
    def _ends_with_norm(self) -> bool:
        """Whether the encoder's LayerNorm is applied after the last block, and not before the first one."""
        return bool(getattr(self.config, "do_stable_layer_norm", False))


class Waveform(ProjectedFrames):
    """Convolutions over the waveform, then transformer blocks.

    Layer 0 is the projection of the convolutions to the hidden size; layer N is the encoder's output.
    """

    normalises_waveform = True
    has_input_layer = True

    @property
    def hop(self) -> int:
        hop = 1
        for stride in self.config.conv_stride:
            hop *= stride
        return int(hop)

    @property
    def shortest(self) -> int:
        num_samples = 1
        for kernel, stride in reversed(list(zip(self.config.conv_kernel, self.config.conv_stride, strict=True))):
            num_samples = (num_samples - 1) * stride + kernel
        return int(num_samples)

    def num_frames(self, num_samples: int) -> int:
        return self._frames_after(num_samples, len(self.config.conv_kernel))

    def peak_bytes(self, batch: int, num_samples: int, num_layers: int) -> int:
        first, frames = self._frames_after(num_samples, 1), Waveform.num_frames(self, num_samples)
        return waveform_bytes(self.config, batch, num_samples, first, frames, num_layers)

    def cut(self, layer: int, batch: "StoredBatch") -> "EncoderFromFrames":
        from featcache.extractors.padding import keep_padding_out_of_positions
        from featcache.extractors.stored_start import NoPositions

        if layer == 0:
            keep_padding_out_of_positions(self.last.pos_conv_embed, batch.zero_padding)
        else:
            self.last.pos_conv_embed = NoPositions()
        return super().cut(layer, batch)

    def settings(self) -> dict[str, Any]:
        import torch

        from featcache.extractors.padding import ValidGroupNorm

        # Earlier releases summed over time in float16, which overflowed. Their stores have no such entry.
        is_float16 = self.dtype == torch.float16
        averages = is_float16 and any(isinstance(part, ValidGroupNorm) for part in self.module.modules())
        return {"statistics_precision": "float32"} if averages else {}

    def to(self, device: str, dtype: "torch.dtype", current: "Pass") -> None:
        from featcache.extractors.padding import keep_padding_out

        self.dtype = dtype
        keep_padding_out(self.encoder, current, device, dtype)

    def forward(
        self,
        inputs: "Sequence[Tensor]",
        num_frames: Sequence[int],
        send: "Callable[[Tensor], Tensor]",
        current: "Pass",
    ) -> None:
        import torch

        from featcache.extractors.padding import valid_mask

        values = send(torch.nn.utils.rnn.pad_sequence(list(inputs), batch_first=True)).to(self.dtype)
        lengths = [len(item) for item in inputs]
        if len(set(lengths)) == 1:
            current.mask = current.first_convolution_mask = None
            self.encoder(values)
            return
        current.first_convolution_mask = send(valid_mask([self._frames_after(length, 1) for length in lengths]))
        current.mask = send(valid_mask(num_frames))
        self.encoder(values, attention_mask=send(valid_mask(lengths)).to(torch.long))

    def _frames_after(self, num_samples: int, num_convolutions: int) -> int:
        for kernel, stride in zip(self.config.conv_kernel[:num_convolutions], self.config.conv_stride, strict=False):
            num_samples = (num_samples - kernel) // stride + 1
        return max(0, num_samples)


class Wav2Vec2(Waveform):
    """wav2vec 2.0, XLSR-53, XLS-R and MMS."""

    model_types = ("wav2vec2",)
    title = "wav2vec 2.0"
    class_name = "Wav2Vec2Model"


class Hubert(Waveform):
    """HuBERT, DistilHuBERT and mHuBERT."""

    model_types = ("hubert",)
    title = "HuBERT"
    class_name = "HubertModel"


class WavLM(Waveform):
    """WavLM."""

    model_types = ("wavlm",)
    title = "WavLM"
    class_name = "WavLMModel"

    def cut(self, layer: int, batch: "StoredBatch") -> "EncoderFromFrames":
        from featcache.extractors.stored_start import StoredBias

        first = self.blocks[0]
        upper = super().cut(layer, batch)
        if layer > 0:  # The first block computes the bias of relative positions for all blocks.
            self.blocks.insert(0, StoredBias(batch, first.attention))
        return upper


class UniSpeech(Waveform):
    """UniSpeech."""

    model_types = ("unispeech",)
    title = "UniSpeech"
    class_name = "UniSpeechModel"


class UniSpeechSat(Waveform):
    """UniSpeech-SAT."""

    model_types = ("unispeech-sat",)
    title = "UniSpeech-SAT"
    class_name = "UniSpeechSatModel"


class Data2VecAudio(Waveform):
    """data2vec-audio."""

    model_types = ("data2vec-audio",)
    title = "data2vec-audio"
    class_name = "Data2VecAudioModel"
