"""Log-mel spectrogram of about 10 s → hidden states of the Audio Spectrogram Transformer (AST), one frame per 100 ms.

The model divides the spectrogram into overlapping patches of 16 bands × 16 frames. Its hidden states are two special
tokens, then the patches: all times of the lowest bands, then all times of the next bands, and so on. A frame is the
mean of the patches at one time (12 in the published models). The special tokens are removed.
"""

import math
from typing import TYPE_CHECKING, Any

from featcache.extractors.families.family import ARCHITECTURE, Family, differing
from featcache.extractors.families.mel_stack import FRAME_HOP, RATE, mel_frames, mel_samples
from featcache.extractors.footprint import AUDIO_BYTES, block_bytes, kept_bytes

if TYPE_CHECKING:
    from torch import Tensor

SPECIAL_TOKENS = 2  # the class token and the distillation token
# Parts of parameter names: in transformers 4, in transformers 5.
NAMES = (
    ("encoder.layer.", "layers."),
    ("attention.attention.query", "attention.q_proj"),
    ("attention.attention.key", "attention.k_proj"),
    ("attention.attention.value", "attention.v_proj"),
    ("attention.output.dense", "attention.o_proj"),
    ("intermediate.dense", "mlp.fc1"),
    ("output.dense", "mlp.fc2"),
)


class SpectrogramTransformer(Family):
    """Audio Spectrogram Transformer.

    Layer 0 is the encoder's input: the patches with their positions. Layer N is the output after the final LayerNorm.
    Only frames whose patches lie completely inside the signal are returned.
    """

    model_types = ("audio-spectrogram-transformer",)
    title = "AST"
    reads = "log-mel spectrograms"
    class_name = "ASTModel"
    feature_extractor_name = "ASTFeatureExtractor"
    usual_frame_shift = 0.100
    not_from_stores = "its blocks read patches and special tokens, of which stores contain only a mean per frame"
    preprocessor_entries = ("do_normalize", "mean", "std")
    architecture = (*ARCHITECTURE, "frequency_stride", "max_length", "num_mel_bins", "patch_size", "time_stride")

    @classmethod
    def lasting_name(cls, parameter: str) -> str:
        for earlier, later in NAMES:
            parameter = parameter.replace(earlier, later)
        return parameter

    @classmethod
    def new_feature_extractor(cls, config: Any, *, do_normalize: bool | None) -> Any:
        import transformers

        return transformers.ASTFeatureExtractor(num_mel_bins=config.num_mel_bins, max_length=config.max_length)

    @classmethod
    def unfit(cls, feature_extractor: Any, config: Any) -> str | None:
        return (
            super().unfit(feature_extractor, config)
            or differing("sampling_rate", feature_extractor.sampling_rate, RATE)
            or differing("num_mel_bins", feature_extractor.num_mel_bins, config.num_mel_bins)
            or differing("max_length", feature_extractor.max_length, config.max_length)
            or _scale_fault(feature_extractor)
        )

    @property
    def blocks(self) -> Any:
        # transformers 4 has the blocks in an encoder.
        return self.encoder.encoder.layer if hasattr(self.encoder, "encoder") else self.encoder.layers

    @property
    def last(self) -> Any:
        return self.encoder.layernorm

    @property
    def hop(self) -> int:
        return FRAME_HOP * int(self.config.time_stride)

    @property
    def shortest(self) -> int:
        return mel_samples(self.config.patch_size)

    @property
    def longest(self) -> int:
        return mel_samples(self.config.max_length + 1) - 1

    @property
    def input_shape(self) -> tuple[int, ...]:
        return self.config.max_length, self.config.num_mel_bins

    def num_frames(self, num_samples: int) -> int:
        return max(0, int((mel_frames(num_samples) - self.config.patch_size) // self.config.time_stride + 1))

    def peak_bytes(self, batch: int, num_samples: int, num_layers: int) -> int:
        tokens = SPECIAL_TOKENS + self._bands * self._times
        blocks = block_bytes(self.config, batch, tokens, self.width, padded=False)
        return AUDIO_BYTES * batch * num_samples + blocks + kept_bytes(num_layers, batch * tokens, self.width)

    def arrange(self, name: str, layer: "Tensor") -> "Tensor":
        patches = layer[:, SPECIAL_TOKENS:].reshape(len(layer), self._bands, self._times, -1)
        return patches.float().mean(1)

    @property
    def _bands(self) -> int:
        """Number of patches at one time."""
        return int((self.config.num_mel_bins - self.config.patch_size) // self.config.frequency_stride + 1)

    @property
    def _times(self) -> int:
        """Number of times of patches."""
        return int((self.config.max_length - self.config.patch_size) // self.config.time_stride + 1)


def _scale_fault(feature_extractor: Any) -> str | None:
    """Return why the mean and standard deviation of the spectrogram cannot be used; None if they can."""
    for name in ("mean", "std"):
        value = getattr(feature_extractor, name)
        if not isinstance(value, (int, float)) or not math.isfinite(value) or (name == "std" and value <= 0):
            return f"has {name!r}: {value!r}, expected {'a positive number' if name == 'std' else 'a number'}"
    return None
