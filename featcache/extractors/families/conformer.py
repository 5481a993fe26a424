"""Waveform → hidden states of a wav2vec 2.0 conformer, one frame per 20 ms.

Each block also convolves over time. In addition to :mod:`featcache.extractors.families.waveform`, the padding is
set to zero before this convolution, as the silence beyond the end of a single utterance.
"""

import copy
from typing import TYPE_CHECKING

from featcache.extractors.families.family import ARCHITECTURE
from featcache.extractors.families.waveform import Waveform
from featcache.extractors.footprint import block_bytes, relative_bytes

if TYPE_CHECKING:
    import torch

    from featcache.extractors.padding import Pass
    from featcache.extractors.stored_start import EncoderFromFrames, StoredBatch


class Wav2Vec2Conformer(Waveform):
    """wav2vec 2.0 with conformer blocks, whose positions are rotary or relative.

    Layer 0 is the encoder's input; there is no positional convolution.
    """

    model_types = ("wav2vec2-conformer",)
    title = "wav2vec 2.0 Conformer"
    class_name = "Wav2Vec2ConformerModel"
    has_input_layer = False
    architecture = (*ARCHITECTURE, "position_embeddings_type", "rotary_embedding_base")

    def cut(self, layer: int, batch: "StoredBatch") -> "EncoderFromFrames":
        from featcache.extractors.positions import SteadyPositions
        from featcache.extractors.stored_start import NoPositions

        encoder = self.last
        encoder.pos_conv_embed = NoPositions()  # No forward pass uses it.
        if encoder.embed_positions is not None:
            encoder.embed_positions = SteadyPositions(encoder.embed_positions)
        for block in self.blocks:
            block.conv_module.glu.register_forward_hook(batch.zero_padding)
        return super().cut(layer, batch)

    @property
    def _ends_with_norm(self) -> bool:
        return True

    def to(self, device: str, dtype: "torch.dtype", current: "Pass") -> None:
        from featcache.extractors.padding import InFloat32
        from featcache.extractors.positions import positions_in_float32

        # They are copied before the model is converted, because the conversion rounds their parameters.
        norms = [copy.deepcopy(block.conv_module.batch_norm) for block in self.blocks]
        with positions_in_float32(self.last, device):
            super().to(device, dtype, current)
        for block, norm in zip(self.blocks, norms, strict=True):
            block.conv_module.batch_norm = InFloat32(norm.to(device))
            block.conv_module.glu.register_forward_hook(current.zero_padding)

    def peak_bytes(self, batch: int, num_samples: int, num_layers: int) -> int:
        frames = self.num_frames(num_samples)
        whole = super().peak_bytes(batch, num_samples, num_layers)
        plain = block_bytes(self.config, batch, frames, self.width, padded=batch > 1)
        return whole + max(0, relative_bytes(self.config, batch, frames) - plain)
