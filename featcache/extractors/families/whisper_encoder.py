"""Log-mel spectrogram of 30 s → hidden states of Whisper's encoder, one frame per 20 ms.

Every signal is padded to the same length, so a batch needs no mask. The frames of the padding are returned only
on request.
"""

from typing import TYPE_CHECKING, Any, ClassVar

from featcache.extractors.families.family import Family, differing
from featcache.extractors.footprint import whisper_bytes

if TYPE_CHECKING:
    from featcache.extractors.stored_start import StoredBatch, UpperEncoder


class Whisper(Family):
    """Encoder of Whisper.

    Layer 0 is the encoder's input: the convolutions and the positions. Layer N is the output after the final LayerNorm.
    """

    model_types: ClassVar[tuple[str, ...]] = ("whisper",)
    title = "Whisper"
    reads = "log-mel spectrograms"
    class_name = "WhisperModel"
    feature_extractor_name = "WhisperFeatureExtractor"
    blocks_entry = "encoder_layers"
    size_entry = "d_model"
    default_dimensions = (4, 384)
    transcribes = True
    not_from_stores: ClassVar[str] = ""

    @classmethod
    def part(cls, module: Any) -> Any:
        return module.encoder

    @classmethod
    def new_feature_extractor(cls, config: Any, *, do_normalize: bool | None) -> Any:
        import transformers

        return transformers.WhisperFeatureExtractor(feature_size=config.num_mel_bins)

    @classmethod
    def unfit(cls, feature_extractor: Any, config: Any) -> str | None:
        return (
            differing("feature_size", feature_extractor.feature_size, config.num_mel_bins)
            or differing("padding_side", feature_extractor.padding_side, "right")
            or differing("padding_value", feature_extractor.padding_value, 0)
        )

    @property
    def blocks(self) -> Any:
        return self.encoder.layers

    @property
    def hop(self) -> int:
        return int(self.feature_extractor.hop_length) * 2  # the second convolution has stride 2

    @property
    def shortest(self) -> int:
        return self.hop

    @property
    def longest(self) -> int:
        return int(self.config.max_source_positions) * self.hop

    @property
    def input_shape(self) -> tuple[int, ...]:
        return self.config.num_mel_bins, 2 * self.config.max_source_positions

    def cut(self, layer: int, batch: "StoredBatch") -> "UpperEncoder":
        from featcache.extractors.stored_start import EncoderFromSpectrogram

        encoder = self.encoder
        del self.blocks[:layer]
        if layer > 0:
            encoder.dropout = 0.0  # The encoder applies it to its input only, which belongs to layer 0.
        trained = [*self.blocks.parameters(), *encoder.layer_norm.parameters()]
        return EncoderFromSpectrogram(encoder, self.blocks, trained, batch)

    @property
    def padded_frames(self) -> int | None:
        return int(self.config.max_source_positions)

    def num_frames(self, num_samples: int) -> int:
        return -(-num_samples // self.hop)

    def peak_bytes(self, batch: int, num_samples: int, num_layers: int) -> int:
        return whisper_bytes(self.config, batch, num_samples, num_layers)
