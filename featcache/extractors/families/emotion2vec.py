"""Waveform → hidden states of emotion2vec and emotion2vec+, one frame per 20 ms.

The network is featcache's own: see :mod:`featcache.extractors.emotion2vec.network`, which also says how the padding of
a batch is kept out.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from featcache.extractors.checkpoint import Checkpoint
from featcache.extractors.emotion2vec.sizes import MODEL_TYPE, Emotion2vecConfig, configuration
from featcache.extractors.families.own_family import OwnFamily
from featcache.extractors.families.waveform import Waveform

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch
    from torch import Tensor

    from featcache.extractors.padding import Pass


class Emotion2vec(OwnFamily, Waveform):
    """emotion2vec and emotion2vec+.

    Layer 0 is the projection of the convolutions to the hidden size. The prenet's blocks come first: in the published
    models they are layers 1 to 4. The frames of all layers come before the extra tokens, which are not read.
    """

    model_types = (MODEL_TYPE,)
    title = "emotion2vec"
    not_from_stores = "its blocks also read extra tokens, which stores do not contain"
    config_class = Emotion2vecConfig
    # The other sizes are those of the weights.
    architecture = ("conv_stride", "layer_norm_eps", "num_attention_heads", "num_conv_pos_embedding_groups")

    @classmethod
    def model_class(cls) -> Any:
        from featcache.extractors.emotion2vec.network import Emotion2vecModel

        return Emotion2vecModel

    @classmethod
    def configuration(cls, entries: Mapping[str, Any]) -> Any:
        return configuration(cls.title, entries)

    @classmethod
    def read_configuration(cls, checkpoint: Checkpoint) -> Any:
        return configuration(checkpoint.source, checkpoint.config)

    @classmethod
    def new_feature_extractor(cls, config: Any, *, do_normalize: bool | None) -> Any:
        # Only its sampling rate and its do_normalize are read; config.json contains the latter.
        return super().new_feature_extractor(config, do_normalize=config.do_normalize)

    def to(self, device: str, dtype: "torch.dtype", current: "Pass") -> None:
        self.dtype = dtype
        self.module.to(device, dtype)

    def prepare(self, samples: "npt.NDArray[np.float32]") -> "Tensor":
        import torch

        values = torch.tensor(samples)
        if not self.feature_extractor.do_normalize:
            return values
        # The original adds 1e-5 to the variance. transformers' feature extractor adds 1e-7, which differs for quiet
        # audio.
        return torch.nn.functional.layer_norm(values, values.shape, eps=1e-5)
