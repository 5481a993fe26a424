"""Feature store × normaliser → the normalised features of an utterance, with the layers and frames that a fit uses."""

import math
import warnings
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from featcache.cache.reader import FeatureStore
from featcache.errors import StoreError
from featcache.heads.base import MEAN_AND_MAX, frame_sizes
from featcache.layer_selection import select_layers
from featcache.normalise import Normaliser

# Features are memory-mapped files that are only read, but torch warns because they are not writable.
warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)

# Tolerance for frame shifts in seconds, and for numbers of frames.
ROUNDING = 1e-9


class StoreFeatures:
    """Features of one store, with the layers and frames that a fit uses.

    Args:
        store: Feature store.
        layers: ``all``, ``local``, ``last`` or a list; a store without named layers always returns everything.
        max_frames: Number of frames used of each utterance, from its beginning; None for all. Tokens are never cut.
        pooling: ``mean``, ``sum`` or ``max`` over all frames, from the stored statistics; ``mean+max`` concatenates
            both to a frame of 2 × hidden_size values; None for no pooling.
        paired: Whether frame i is at the same time as frame i of the other stores of the head; only frames that
            all stores have are used.
        averaged: Number of neighbouring frames that are averaged first; 1 for no averaging, None for as many as the
            store declares.
        with_padding: Whether :meth:`read` returns the frames of the padding as well, which only the upper blocks of a
            model use. They are not counted, and not limited by ``max_frames``. Frames are then not averaged.

    Raises:
        StoreError: the padding is needed, and was not kept.
    """

    def __init__(
        self,
        store: FeatureStore,
        *,
        layers: str,
        max_frames: int | None,
        pooling: str | None = None,
        paired: bool = True,
        averaged: int | None = None,
        with_padding: bool = False,
    ) -> None:
        if with_padding and store.padded_frames is None:
            raise StoreError(
                f"{store.path} contains no padding; extract with --keep-padding into a store of another --name"
            )
        self.store = store
        self.padded_frames = store.padded_frames if with_padding else None
        tokens = np.isnan(store.frame_shift) and store.metadata["dataset"] == "hidden_states"
        self.max_frames = None if tokens else max_frames
        self.pooling = pooling
        self.paired = paired
        self.layers: tuple[int, ...] = (0,)
        if len(store.layer_names) > 1 or store.layer_names[0]:
            self.layers = select_layers(layers, store.layer_names, num_blocks=store.num_blocks)
        self.layer_names = tuple(store.layer_names[layer] for layer in self.layers)
        usual = _ratio(store.averaged_frame_shift, store.frame_shift) if averaged is None else averaged
        self.averaged = usual if paired and pooling is None and not with_padding else 1

    @property
    def frame_size(self) -> int:
        """Number of values of one frame of one layer."""
        return frame_sizes([self.store.hidden_size], self.pooling)[0]

    @property
    def frame_shift(self) -> float:
        """Frame shift in seconds, after averaging; NaN if frames are not steps in time."""
        if self.pooling:
            return float("nan")
        return self.store.frame_shift * self.averaged

    def num_frames(self, utterance_id: str) -> int:
        """Return the number of frames of an utterance before it is cut to ``max_frames``."""
        if self.pooling:
            return 1
        frames = int(self.store.num_frames([utterance_id])[0])
        return frames if self.averaged == 1 else frames // self.averaged + 1

    def num_read(self, num_frames: int) -> int:
        """Return the number of frames that :meth:`read` returns for this number of frames."""
        return self.padded_frames or num_frames

    def real_frames(self, num_frames: int) -> int | None:
        """Return the number of frames if padding follows them; None if :meth:`read` returns no padding."""
        return None if self.padded_frames is None else num_frames

    def of_layers(self, normaliser: Normaliser) -> Normaliser:
        """Restrict a normaliser of all layers to the layers that are used."""
        layers = list(self.layers)
        return replace(
            normaliser,
            mean_={group: mean[layers] for group, mean in normaliser.mean_.items()},
            std_={group: std[layers] for group, std in normaliser.std_.items()},
        )

    def read(self, utterance_id: str, num_frames: int, normaliser: Normaliser) -> Tensor:
        """Read and normalise the first frames of an utterance.

        Args:
            utterance_id: The utterance.
            num_frames: Number of frames.
            normaliser: Normaliser of the layers that are used, see :meth:`of_layers`.

        Returns:
            (num_layers, num_frames, frame_size) float32, contiguous; with padding, all ``store.padded_frames`` frames.
        """
        if self.pooling:
            return torch.from_numpy(self._pooled(utterance_id, normaliser))
        needed = slice(self._stored_frames(self.num_read(num_frames)))
        in_one_piece = slice(self.layers[0], self.layers[-1] + 1)
        whole = in_one_piece.stop - in_one_piece.start == len(self.layers)
        chosen = in_one_piece if whole else self.layers
        stored = self.store.view(utterance_id, chosen, needed, with_padding=self.padded_frames is not None)
        # torch converts 16-bit values to float32 many times faster than numpy.
        features = torch.from_numpy(stored).to(torch.float32, copy=True).numpy()
        if self.averaged > 1:
            features = np.ascontiguousarray(average_frames(features, self.averaged)[:, :num_frames])
        return torch.from_numpy(normaliser.normalise_(utterance_id, features))

    def prefetch(self, utterance_ids: Sequence[str], num_frames: Sequence[int]) -> None:
        """Ask the operating system to read ahead the data that :meth:`read` will need for these utterances."""
        if not self.pooling:
            self.store.prefetch(utterance_ids, self.layers, [self._stored_frames(number) for number in num_frames])

    def in_order(self, utterance_ids: Collection[str]) -> list[str]:
        """Return the ids in the order of the store."""
        wanted = set(utterance_ids)
        return [utterance_id for utterance_id in self.store.utterance_ids if utterance_id in wanted]

    def drop_pages(self) -> None:
        """Release the pages that were read; until then they count as memory of this process."""
        self.store.drop_pages()

    def of_stores(self, utterance_ids: Sequence[str]) -> "list[tuple[StoreFeatures, list[str]]]":
        """Return the features of each store with the ids that it contains, out of the given ones."""
        return [(self, list(utterance_ids))] if utterance_ids else []

    def _stored_frames(self, num_frames: int) -> int:
        """Return the number of frames of the store that are averaged to ``num_frames`` frames."""
        return num_frames * self.averaged

    def _pooled(self, utterance_id: str, normaliser: Normaliser) -> npt.NDArray[np.float32]:
        """Return the pooled, normalised frames; z-scores keep the order and commute with the mean."""
        if self.pooling == MEAN_AND_MAX:
            both = [self.store.pooled(kind, [utterance_id])[0, list(self.layers)] for kind in ("mean", "max")]
            normalised = normaliser.normalise_(utterance_id, np.stack(both, axis=1))
            return normalised.reshape(len(normalised), 1, -1)
        kind: Literal["mean", "max"] = "max" if self.pooling == "max" else "mean"
        pooled = self.store.pooled(kind, [utterance_id])[0, list(self.layers), None]
        normalised = normaliser.normalise_(utterance_id, pooled)
        return normalised * int(self.store.num_frames([utterance_id])[0]) if self.pooling == "sum" else normalised


def average_frames(features: npt.NDArray[np.float32], number: int) -> npt.NDArray[np.float32]:
    """Average neighbouring frames, for example two frames of 10 ms to match one frame of 20 ms of a model.

    Args:
        features: (num_layers, num_frames, hidden_size) float32.
        number: Number of frames that are averaged to one: the integer ratio of the frame shifts.

    Returns:
        (num_layers, num_frames // number + 1, hidden_size) float32. Frame i is the mean of the frames ``number * i`` to
        ``number * (i + 1) - 1``. Missing frames at the end count as zero, and the last frame is zero if ``num_frames``
        is a multiple of ``number``.

    Source: Pepino et al. 2021, section 2.2, and their code, for pairs: padded with zeros before normalisation. Other
    ratios follow the same rule.
    """
    length = features.shape[1] // number + 1
    padded = np.pad(features, ((0, 0), (0, number * length - features.shape[1]), (0, 0)))
    averaged: npt.NDArray[np.float32] = padded.reshape(len(padded), length, number, -1).mean(axis=2)
    return averaged


def features_of(
    stores: Sequence[FeatureStore],
    *,
    layers: str | Sequence[str],
    max_frames: int | None,
    pooling: str | None,
    paired: bool = True,
    with_padding: bool = False,
) -> list[StoreFeatures]:
    """Return the features of all stores of one head.

    Args:
        stores: Feature stores.
        layers: Selection of layers, see :class:`StoreFeatures`; a list has one selection for each store.
        max_frames: Number of frames used of each utterance of the first store that has a frame shift; None for all.
            Stores whose frames are not aligned in time are cut after the same number of seconds. If there are several
            stores, those without a frame shift are not cut.
        pooling: Pooling over all frames, see :class:`StoreFeatures`.
        paired: Whether frames of the stores are paired if their frame shifts are equal.
        with_padding: Whether stores with kept padding are read with it.

    Returns:
        One item per store.
    """

    def of_store(store: FeatureStore, chosen: str, **options: Any) -> StoreFeatures:
        padded = with_padding and store.padded_frames is not None
        return StoreFeatures(store, layers=chosen, pooling=pooling, with_padding=padded, **options)

    chosen = [layers] * len(stores) if isinstance(layers, str) else layers
    together = [
        of_store(store, one, max_frames=max_frames, averaged=averaged)
        for store, one, averaged in zip(stores, chosen, _averaged(stores), strict=True)
    ]
    if paired and _pair(together):
        return together
    return [
        of_store(store, one, max_frames=most, paired=False)
        for store, one, most in zip(stores, chosen, _cuts(stores, max_frames), strict=True)
    ]


def _averaged(stores: Sequence[FeatureStore]) -> list[int]:
    """Return the number of frames to average per store, so that all stores have the largest frame shift.

    A store with an ``averaged_frame_shift`` (eGeMAPS: 20 ms, as Pepino et al. 2021) always uses that one. Others are
    averaged by the integer ratio of the frame shifts, if they allow it.
    """
    usual = [_ratio(store.averaged_frame_shift, store.frame_shift) for store in stores]
    shifts = [store.frame_shift * number for store, number in zip(stores, usual, strict=True)]
    if np.isnan(shifts).any():
        return usual
    return [
        number * (_ratio(max(shifts), shift) if store.averages_frames else 1)
        for store, number, shift in zip(stores, usual, shifts, strict=True)
    ]


def _ratio(slower: float | None, shift: float) -> int:
    """Return the integer ratio of two frame shifts in seconds; 1 if it is not an integer, or a shift is missing."""
    if slower is None or np.isnan(shift):
        return 1
    number = max(1, round(slower / shift))
    return number if abs(slower - number * shift) < ROUNDING else 1


def _pair(features: Sequence[StoreFeatures]) -> bool:
    shifts = [item.frame_shift for item in features]
    if np.isnan(shifts).all():  # one vector per utterance, or tokens
        return len(features) == 1 or all(item.pooling or not item.store.has_frames for item in features)
    return bool(np.ptp(shifts) < ROUNDING)


def _cuts(stores: Sequence[FeatureStore], max_frames: int | None) -> list[int | None]:
    """Return the maximum number of frames per store, for the duration of ``max_frames`` of the first store in time."""
    shifts = [store.frame_shift for store in stores]
    if max_frames is None or np.isnan(shifts).all():
        return [max_frames] * len(stores)
    seconds = max_frames * next(shift for shift in shifts if not np.isnan(shift))
    return [None if np.isnan(shift) else math.ceil(seconds / shift - ROUNDING) for shift in shifts]


def frames_in_use(features: Sequence[StoreFeatures], utterance_id: str) -> list[int]:
    """Return the number of frames of an utterance that are used, per store: at most ``max_frames``, equal if paired."""
    given = [(item.num_frames(utterance_id), item.max_frames) for item in features]
    frames = [min(number, most or number) for number, most in given]
    return [min(frames)] * len(frames) if features[0].paired else frames


def steps_of(features: Sequence[StoreFeatures]) -> int:
    """Return the number of values of one frame, over all layers and stores; in int8 each has a quantisation scale."""
    return sum(len(item.layers) * item.frame_size for item in features)


def values_in_use(features: Sequence[StoreFeatures], utterance_id: str) -> int:
    """Return the number of feature values of an utterance, summed over all stores."""
    frames = frames_in_use(features, utterance_id)
    return sum(
        item.num_read(number) * len(item.layers) * item.frame_size
        for item, number in zip(features, frames, strict=True)
    )
