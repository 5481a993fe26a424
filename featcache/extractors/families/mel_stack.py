"""Log-mel frames, two side by side → hidden states of w2v-BERT 2.0, one frame per 20 ms.

Each band of the spectrogram is normalised over the utterance. The convolutions are causal and the model's own mask
excludes the padding from attention, so the padding of a batch changes nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from featcache.extractors.checkpoint import Checkpoint
from featcache.extractors.families.family import ARCHITECTURE, differing
from featcache.extractors.families.waveform import ProjectedFrames
from featcache.extractors.footprint import AUDIO_BYTES, FLOAT32, kept_bytes, relative_bytes

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch
    from torch import Tensor

    from featcache.extractors.padding import Pass
    from featcache.extractors.stored_start import EncoderFromFrames, StoredBatch

# Kaldi's frames at 16 kHz, in samples; fixed in transformers.
RATE, FRAME_LENGTH, FRAME_HOP = 16000, 400, 160


def mel_frames(num_samples: int) -> int:
    """Return the number of frames of Kaldi's log-mel spectrogram: only whole frames of 25 ms, every 10 ms."""
    return max(0, (num_samples - FRAME_LENGTH) // FRAME_HOP + 1)


def mel_samples(num_frames: int) -> int:
    """Return the number of samples of the shortest signal with this number of Kaldi's log-mel frames."""
    return FRAME_LENGTH + FRAME_HOP * (num_frames - 1)


class Wav2Vec2Bert(ProjectedFrames):
    """w2v-BERT 2.0: conformer blocks over stacked log-mel frames.

    Layer 0 is the encoder's input, the projection of two log-mel frames to the hidden size. Layer N is the output of
    the last block, which ends with a LayerNorm. An adapter, which shortens the output for speech recognition, is not
    loaded. If the number of log-mel frames is odd, the last one is dropped; the model itself masks it.
    """

    model_types = ("wav2vec2-bert",)
    title = "w2v-BERT"
    reads = "log-mel spectrograms"
    class_name = "Wav2Vec2BertModel"
    feature_extractor_name = "SeamlessM4TFeatureExtractor"
    preprocessor_entries = ("stride",)
    default_dimensions = (24, 1024)
    architecture = (
        *ARCHITECTURE,
        *("left_max_position_embeddings", "right_max_position_embeddings"),
        *("position_embeddings_type", "rotary_embedding_base"),
    )

    @classmethod
    def configuration(cls, entries: Mapping[str, Any]) -> Any:
        return _without_adapter(super().configuration(entries))

    @classmethod
    def read_configuration(cls, checkpoint: Checkpoint) -> Any:
        return _without_adapter(super().read_configuration(checkpoint))

    @classmethod
    def new_feature_extractor(cls, config: Any, *, do_normalize: bool | None) -> Any:
        import transformers

        bins = config.feature_projection_input_dim // 2
        return transformers.SeamlessM4TFeatureExtractor(feature_size=bins, num_mel_bins=bins)

    @classmethod
    def unfit(cls, feature_extractor: Any, config: Any) -> str | None:
        stride = feature_extractor.stride
        if isinstance(stride, bool) or not isinstance(stride, int) or stride < 1:
            return f"has 'stride': {stride!r}, expected a number of frames such as 2"
        bins = config.feature_projection_input_dim // stride
        return (
            differing("sampling_rate", feature_extractor.sampling_rate, RATE)
            or differing("num_mel_bins", feature_extractor.num_mel_bins, bins)
            or differing("feature_size", feature_extractor.feature_size, bins)
            or differing("padding_side", feature_extractor.padding_side, "right")
        )

    @property
    def hop(self) -> int:
        return FRAME_HOP * int(self.feature_extractor.stride)

    @property
    def shortest(self) -> int:
        # Each band is divided by its standard deviation, which needs two frames.
        return mel_samples(max(2, int(self.feature_extractor.stride)))

    def num_frames(self, num_samples: int) -> int:
        return 0 if num_samples < self.shortest else mel_frames(num_samples) // int(self.feature_extractor.stride)

    def peak_bytes(self, batch: int, num_samples: int, num_layers: int) -> int:
        frames = self.num_frames(num_samples)
        spectrogram = 2 * FLOAT32 * batch * mel_frames(num_samples) * 257  # magnitudes and their products
        blocks = relative_bytes(self.config, batch, frames) + kept_bytes(num_layers, batch * frames, self.width)
        return AUDIO_BYTES * batch * num_samples + max(spectrogram, blocks)

    def to(self, device: str, dtype: "torch.dtype", current: "Pass") -> None:
        from featcache.extractors.positions import positions_in_float32

        with positions_in_float32(self.last, device):
            super().to(device, dtype, current)

    def cut(self, layer: int, batch: "StoredBatch") -> "EncoderFromFrames":
        import torch

        from featcache.extractors.positions import SteadyPositions

        encoder = self.last
        if encoder.embed_positions is not None:
            encoder.embed_positions = SteadyPositions(encoder.embed_positions)
        upper = super().cut(layer, batch)
        upper.mask_dtype = torch.long
        return upper

    def prepare(self, samples: "npt.NDArray[np.float32]") -> "Tensor":
        return super().prepare(samples)[: self.num_frames(len(samples))]

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
        mask = None if len(set(num_frames)) == 1 else send(valid_mask(num_frames)).to(torch.long)
        self.encoder(values, attention_mask=mask)


def _without_adapter(config: Any) -> Any:
    config.add_adapter = config.use_intermediate_ffn_before_adapter = False
    return config
