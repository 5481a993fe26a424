"""Feature stores + normalisers → the tensors that heads are trained on."""

import os
from collections.abc import Sequence
from dataclasses import replace
from threading import Lock

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from featcache.cache.reader import FeatureStore
from featcache.errors import ModelError
from featcache.layers import select_layers
from featcache.normalise import Normaliser

# Of the machine's memory, what normalised features may take; utterances beyond it are normalised anew each time.
MEMORY_SHARE = 0.5


class Features:
    """One store's features, with the layers, the frames and the normalisation that a fit asks for.

    Args:
        store: Where they come from.
        layers: ``all``, ``local``, ``last`` or a list; stores without named layers always give all they have.
        max_frames: How many frames of each utterance, counted from its beginning.
        memory: Bytes that normalised utterances may take.
    """

    def __init__(self, store: FeatureStore, *, layers: str, max_frames: int | None, memory: float) -> None:
        self.store = store
        self.max_frames = max_frames
        self.layers: tuple[int, ...] = (0,)
        if len(store.layer_names) > 1 or store.layer_names[0]:
            self.layers = select_layers(layers, store.layer_names, num_blocks=store.num_blocks)
        self.layer_names = tuple(store.layer_names[layer] for layer in self.layers)
        self.halved = store.metadata["extractor"] == "egemaps" and not np.isnan(store.frame_shift)
        self._normaliser: Normaliser | None = None
        self._kept: dict[str, Tensor] = {}
        self._room = self._memory = memory
        self._counting = Lock()

    @property
    def frame_shift(self) -> float:
        """Of the frames given out, in seconds; NaN where they are not steps in time."""
        return self.store.frame_shift * (2 if self.halved else 1)

    def normalise_with(self, normaliser: Normaliser) -> None:
        """Give out features normalised like this from now on."""
        layers = list(self.layers)
        self._normaliser = replace(
            normaliser,
            mean_={group: mean[layers] for group, mean in normaliser.mean_.items()},
            std_={group: std[layers] for group, std in normaliser.std_.items()},
        )
        self._kept.clear()
        self._room = self._memory

    def num_frames(self, utterance_id: str) -> int:
        """How many frames an utterance has, before any cut."""
        frames = int(self.store.num_frames([utterance_id])[0])
        return frames // 2 + 1 if self.halved else frames

    def __getitem__(self, utterance_id: str) -> Tensor:
        """(num_layers, num_frames, hidden_size) float32, normalised, contiguous."""
        kept = self._kept.get(utterance_id)
        if kept is not None:
            return kept
        tensor = torch.from_numpy(self._load(utterance_id))
        with self._counting:  # several threads may have loaded the same utterance
            if utterance_id not in self._kept and tensor.nbytes <= self._room:
                self._kept[utterance_id] = tensor
                self._room -= tensor.nbytes
        return tensor

    def _load(self, utterance_id: str) -> npt.NDArray[np.float32]:
        per_frame = 2 if self.halved else 1
        needed = slice(None if self.max_frames is None else per_frame * self.max_frames)
        view = self.store.view(utterance_id, self.layers, needed)
        if self.halved:
            view = halve_frames(view)
        frames = np.asarray(view[:, : self.max_frames], dtype=np.float32)
        if self._normaliser is None or not self._normaliser.group_of:
            return np.ascontiguousarray(frames)
        return self._normaliser(utterance_id, frames)


def halve_frames(features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Average frames 2i and 2i+1, so that frames every 10 ms pair with a model's every 20 ms.

    Args:
        features: (num_layers, num_frames, hidden_size) float32.

    Returns:
        (num_layers, num_frames // 2 + 1, hidden_size) float32; what is missing at the end counts as zero.

    Source: Pepino et al. 2021, section 2.2, and as run: padded with zeros first, before normalisation.
    """
    length = features.shape[1] // 2 + 1
    padded = np.pad(features, ((0, 0), (0, 2 * length - features.shape[1]), (0, 0)))
    halved: npt.NDArray[np.float32] = padded.reshape(len(padded), length, 2, -1).mean(axis=2)
    return halved


def batch(features: Sequence[Features], utterance_ids: Sequence[str]) -> list[list[Tensor]]:
    """For each store the features of these utterances, cut so that frames of all stores pair."""
    stores = [[store[utterance_id] for utterance_id in utterance_ids] for store in features]
    if len(stores) == 1:
        return stores
    shortest = [min(store[i].shape[1] for store in stores) for i in range(len(utterance_ids))]
    return [[item[:, :frames] for item, frames in zip(store, shortest, strict=True)] for store in stores]


def check_pairing(features: Sequence[Features]) -> None:
    """Refuse to pair frames that are not of the same moments.

    Raises:
        ModelError: the stores' frame shifts differ, or one has no frames in time.
    """
    shifts = {store.store.name: store.frame_shift for store in features}
    if len(shifts) > 1 and not np.ptp(list(shifts.values())) < 1e-9:
        told = ", ".join(f"{name} {shift * 1000:g} ms" for name, shift in shifts.items())
        raise ModelError(f"fusion pairs frames of the same moments, but the frame shifts differ: {told}")


def physical_memory() -> float:
    """Of this machine, in bytes."""
    return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
