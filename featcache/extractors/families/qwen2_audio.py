"""Log-mel spectrogram of 30 s → hidden states of Qwen2-Audio's encoder, one frame per 40 ms.

The encoder is that of Whisper. Before its final LayerNorm it averages pairs of frames. The other layers are averaged in
the same way, so that all layers have the same frames.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from featcache.extractors.checkpoint import Checkpoint
from featcache.extractors.families.whisper_encoder import Whisper
from featcache.extractors.own_modules import own_module

if TYPE_CHECKING:
    from torch import Tensor


class Qwen2AudioEncoder(Whisper):
    """Audio encoder of Qwen2-Audio; the language model is neither downloaded nor loaded.

    Layer 0 is the encoder's input: the convolutions and the positions. Layer N is the output after the final LayerNorm.
    """

    model_types = ("qwen2_audio", "qwen2_audio_encoder")
    title = "Qwen2-Audio"
    class_name = "Qwen2AudioEncoder"
    default_dimensions = (32, 1280)
    transcribes = False
    usual_frame_shift = 0.040
    not_from_stores = "its blocks read 50 frames per second, of which stores contain means of two"
    weight_prefixes = ("audio_tower.", "model.audio_tower.", "")

    @classmethod
    def configuration(cls, entries: Mapping[str, Any]) -> Any:
        import transformers

        cls.model_class()
        # Dropout matters in training only, but invalid values would raise an error at the first utterance.
        kept = {name: value for name, value in _of_encoder(entries).items() if "drop" not in name}
        return transformers.Qwen2AudioEncoderConfig(**kept)

    @classmethod
    def read_configuration(cls, checkpoint: Checkpoint) -> Any:
        entries = _of_encoder(checkpoint.config)
        return cls.configuration({name: value for name, value in entries.items() if name != "model_type"})

    @classmethod
    def dimensions(cls, entries: Mapping[str, Any]) -> tuple[int, int]:
        return super().dimensions(_of_encoder(entries))

    @classmethod
    def load(cls, checkpoint: Checkpoint, config: Any) -> Any:
        return own_module(cls.model_class(), checkpoint, config, prefixes=cls.weight_prefixes)

    @classmethod
    def part(cls, module: Any) -> Any:
        return module

    @property
    def hop(self) -> int:
        return 2 * super().hop

    @property
    def longest(self) -> int:
        return int(self.config.max_source_positions) // 2 * self.hop

    @property
    def padded_frames(self) -> int | None:
        return None  # The blocks cannot start from averages of two frames.

    def arrange(self, name: str, layer: "Tensor") -> "Tensor":
        if name == str(len(self.blocks)):
            return layer
        batch, frames, size = layer.shape
        pairs: Tensor = layer[:, : frames // 2 * 2].reshape(batch, frames // 2, 2, size).float()
        return pairs.mean(2)


def _of_encoder(entries: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the configuration of the encoder: a part of that of the whole model."""
    found = entries.get("audio_config", entries)
    if not isinstance(found, Mapping):
        raise ValueError(f"config.json has 'audio_config': {found!r}, expected the configuration of the encoder")
    return found
