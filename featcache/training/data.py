"""Feature store × normaliser → an utterance as it is trained on: its layers, its frames, normalised."""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from featcache.cache.reader import FeatureStore
from featcache.errors import ModelError
from featcache.layers import select_layers
from featcache.normalise import Normaliser

# Features are mapped from files and only read: without a copy, torch would rather have them writable.
warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)

POOLINGS = ("mean", "sum", "max")


class Features:
    """One store's features, with the layers and the frames that a fit asks for.

    Args:
        store: Where they come from.
        layers: ``all``, ``local``, ``last`` or a list; stores without named layers always give all they have.
        max_frames: How many frames of each utterance, counted from its beginning; None is all.
        pooling: ``mean``, ``sum`` or ``max`` of all frames as a single one, from the stored statistics.
    """

    def __init__(self, store: FeatureStore, *, layers: str, max_frames: int | None, pooling: str | None = None) -> None:
        self.store = store
        self.max_frames = max_frames
        self.pooling = pooling
        self.layers: tuple[int, ...] = (0,)
        if len(store.layer_names) > 1 or store.layer_names[0]:
            self.layers = select_layers(layers, store.layer_names, num_blocks=store.num_blocks)
        self.layer_names = tuple(store.layer_names[layer] for layer in self.layers)
        self.halved = pooling is None and store.metadata["extractor"] == "egemaps" and not np.isnan(store.frame_shift)

    @property
    def frame_shift(self) -> float:
        """Of the frames given out, in seconds; NaN where they are not steps in time."""
        if self.pooling:
            return float("nan")
        return self.store.frame_shift * (2 if self.halved else 1)

    def num_frames(self, utterance_id: str) -> int:
        """How many frames an utterance has, before any cut."""
        if self.pooling:
            return 1
        frames = int(self.store.num_frames([utterance_id])[0])
        return frames // 2 + 1 if self.halved else frames

    def of_layers(self, normaliser: Normaliser) -> Normaliser:
        """A normaliser of all layers, for those that are given out."""
        layers = list(self.layers)
        return replace(
            normaliser,
            mean_={group: mean[layers] for group, mean in normaliser.mean_.items()},
            std_={group: std[layers] for group, std in normaliser.std_.items()},
        )

    def read(self, utterance_id: str, num_frames: int, normaliser: Normaliser) -> Tensor:
        """Read and normalise the first frames of an utterance.

        Args:
            num_frames: How many.
            normaliser: Of the layers that are given out, see :meth:`of_layers`.

        Returns:
            (num_layers, num_frames, hidden_size) float32, contiguous.
        """
        if self.pooling:
            return torch.from_numpy(self._pooled(utterance_id, normaliser))
        needed = slice(self._stored_frames(num_frames))
        in_one_piece = slice(self.layers[0], self.layers[-1] + 1)
        whole = in_one_piece.stop - in_one_piece.start == len(self.layers)
        stored = self.store.view(utterance_id, in_one_piece if whole else self.layers, needed)
        # torch widens 16-bit numbers many times as fast as numpy does
        features = torch.from_numpy(stored).to(torch.float32, copy=True).numpy()
        if self.halved:
            features = np.ascontiguousarray(halve_frames(features)[:, :num_frames])
        return torch.from_numpy(normaliser.in_place(utterance_id, features))

    def expect(self, utterance_ids: Sequence[str], num_frames: Sequence[int]) -> None:
        """Have the system read ahead what :meth:`read` will read of these utterances."""
        if not self.pooling:
            self.store.expect(utterance_ids, self.layers, [self._stored_frames(number) for number in num_frames])

    def _stored_frames(self, num_frames: int) -> int:
        """How many frames of the store make so many of those that are given out."""
        return 2 * num_frames if self.halved else num_frames

    def _pooled(self, utterance_id: str, normaliser: Normaliser) -> npt.NDArray[np.float32]:
        """What pooling the normalised frames would give: z-scores keep the order, and commute with the mean."""
        kind: Literal["mean", "max"] = "max" if self.pooling == "max" else "mean"
        pooled = self.store.pooled(kind, [utterance_id])[0, list(self.layers), None]
        normalised = normaliser.in_place(utterance_id, pooled)
        return normalised * int(self.store.num_frames([utterance_id])[0]) if self.pooling == "sum" else normalised


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


def frames_in_use(features: Sequence[Features], utterance_id: str) -> int:
    """How many frames of an utterance are trained on: those that all stores have, up to ``max_frames``."""
    frames = min(store.num_frames(utterance_id) for store in features)
    return min(frames, features[0].max_frames or frames)


def check_pairing(features: Sequence[Features]) -> None:
    """Refuse to pair frames that are not of the same moments.

    Raises:
        ModelError: the stores' frame shifts differ, or one has no frames in time.
    """
    shifts = {store.store.name: store.frame_shift for store in features}
    if all(store.pooling or not store.store.has_frames for store in features):  # a single vector each
        return
    if len(shifts) > 1 and not np.ptp(list(shifts.values())) < 1e-9:
        told = ", ".join(
            f"{name} {'none' if np.isnan(shift) else f'{shift * 1000:g} ms'}" for name, shift in shifts.items()
        )
        raise ModelError(f"fusion pairs frames of the same moments, but the frame shifts differ: {told}")
