"""Stored layer k of each utterance → upper blocks of its model → an ordinary head → logits."""

import threading
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from featcache.extractors.upper import UpperBlocks
from featcache.heads.base import MEAN_AND_MAX, Batch, Head
from featcache.heads.packed import Packed
from featcache.heads.spec import HeadSpec


class TunedHead(Head):
    """Upper blocks of one or more models, followed by a head on their outputs; both are trained.

    Its input is stored layer k of each store: (1, num_frames, hidden_size).

    Args:
        inner: The head on the outputs of the blocks.
        models: Name of each store → the blocks of its model, in the order of the stores.
        paired: Whether the head needs equal numbers of frames in all stores; further frames are cut.
        frozen: Whether the blocks are not trained, and compute without dropout.
    """

    spec = HeadSpec(stores=(1, None))

    def __init__(
        self, inner: Head, models: Mapping[str, UpperBlocks], *, paired: bool = False, frozen: bool = False
    ) -> None:
        nn.Module.__init__(self)
        self.inner = inner
        self.blocks = nn.ModuleList(models.values())
        self.models = dict(models)
        self.reference = inner.reference
        self.generator = inner.generator
        self.options = inner.options
        self.num_layers = (1,) * len(models)
        self.pooling = None
        self._pooling = inner.pooling
        self._paired = paired and len(models) > 1
        self._frozen = frozen
        self._one_at_a_time = threading.Lock()  # the modules of a model keep the stored layer during a forward pass
        if frozen:
            self.blocks.requires_grad_(False)
        self.train()

    @property
    def padded_frames(self) -> list[int | None]:
        """Number of frames that the model of each store reads, padding included; None for any number."""
        return [blocks.fixed_frames for blocks in self.models.values()]

    def tuned_parameters(self) -> list[nn.Parameter]:
        """Return the parameters of the blocks that are trained."""
        return [] if self._frozen else [one for blocks in self.models.values() for one in blocks.tuned_parameters()]

    def train(self, mode: bool = True) -> "TunedHead":
        """Set the training mode; frozen blocks always stay in evaluation mode."""
        super().train(mode)
        if self._frozen:
            self.blocks.eval()
        return self

    def forward(self, features: Batch) -> Tensor:
        logits: Tensor = self.inner(self._outputs(features))
        return logits

    def pooled(self, features: Batch) -> Tensor:
        return self.inner.pooled(self._outputs(features))

    def classify(self, pooled: Tensor) -> Tensor:
        return self.inner.classify(pooled)

    def layer_weights(self) -> list[Tensor | None]:
        """Return the layer weights of the head on the outputs of the blocks."""
        return self.inner.layer_weights()

    def _outputs(self, features: Batch) -> list[list[Tensor]]:
        """Return the outputs of the blocks as the inner head takes them: (num_layers, num_frames, frame_size) each."""
        with self._one_at_a_time:
            computed = [
                blocks([_stored_layer(item) for item in utterances])
                for blocks, utterances in zip(self.models.values(), features, strict=True)
            ]
        found = [
            [_without_padding(frames, item) for frames, item in zip(outputs, utterances, strict=True)]
            for outputs, utterances in zip(computed, features, strict=True)
        ]
        if self._paired:
            least = [min(frames.shape[1] for frames in of_stores) for of_stores in zip(*found, strict=True)]
            found = [[one[:, :number] for one, number in zip(of_store, least, strict=True)] for of_store in found]
        if self._pooling is None:
            return found
        return [[_pooled(frames, self._pooling) for frames in of_store] for of_store in found]


def _stored_layer(item: Packed | Tensor) -> Tensor:
    return (item.copy() if isinstance(item, Packed) else item)[0]


def _without_padding(frames: Tensor, item: Packed | Tensor) -> Tensor:
    """Return the real frames of an utterance: (num_layers, num_frames, hidden_size)."""
    return frames[:, : item.real_frames] if isinstance(item, Packed) else frames


def _pooled(frames: Tensor, pooling: str) -> Tensor:
    """Pool all frames to one: (num_layers, num_frames, hidden_size) → (num_layers, 1, frame_size) float32."""
    frames = frames.float()
    kinds = {
        "mean": lambda: [frames.mean(dim=1)],
        "sum": lambda: [frames.sum(dim=1)],
        "max": lambda: [frames.amax(dim=1)],
        MEAN_AND_MAX: lambda: [frames.mean(dim=1), frames.amax(dim=1)],
    }
    return torch.cat(kinds[pooling](), dim=-1)[:, None]
