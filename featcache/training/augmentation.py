"""Features of a training batch → the same features with random crops, noise and masks. No layer is copied."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from featcache.heads.packed import Change, Packed
from featcache.settings.training_loop import AugmentationSettings, mask_numbers
from featcache.training.seeded import Draws, generator_of
from featcache.training.store_features import ROUNDING

# Random numbers in [0, 1), one for each draw.
Uniform = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


class FeatureAugmentation:
    """Random changes of normalised features; each kind has its own random numbers.

    Crops and time masks are at the same time in all layers and stores of an utterance. Stores without a frame shift
    keep all their frames, unless there is only one store. Noise and masks over dimensions are the same in all layers of
    a store. Noise is read from a random place of a fixed table of normal numbers, with a random sign. Masked values are
    0, which is the mean of normalised features.

    Args:
        seed: Seed of the training.
        settings: Kinds of changes and their strength.
        frame_shifts: Frame shift of each store in seconds; NaN if frames are not steps in time.

    Source: masks: Park et al. 2019 (SpecAugment), without time warping; widths are uniform from 0 to the largest one.
    """

    def __init__(self, seed: int, settings: AugmentationSettings, frame_shifts: Sequence[float]) -> None:
        self._crop = settings.crop
        self._masks = {
            draws: (generator_of(seed, draws), *mask_numbers(masks))
            for draws, masks in ((Draws.MASK_TIME, settings.mask_time), (Draws.MASK_DIMS, settings.mask_dims))
            if masks
        }
        self._noise = settings.feature_noise
        self._cropping, self._noises = generator_of(seed, Draws.CROP), generator_of(seed, Draws.NOISE)
        self._lead = next((store for store, shift in enumerate(frame_shifts) if not math.isnan(shift)), 0)
        self._ratios = [_ratio(frame_shifts, store, self._lead) for store in range(len(frame_shifts))]

    @property
    def changes_nothing(self) -> bool:
        """Whether all strengths are 0."""
        return not (self._crop or self._masks or self._noise)

    def applied(self, batch: Sequence[Sequence[Packed]]) -> list[list[Packed]]:
        """Return a batch with new random changes.

        Args:
            batch: Features of each store and utterance.
        """
        stores = [list(of_store) for of_store in batch]
        if self._crop:
            stores = self._cropped(stores)
        time_masks = self._time_masks(stores)
        return [
            [
                replace(item, change=Change(frames=masked, dims=dims, noise=noise, noise_std=std))
                for item, masked, dims, (noise, std) in zip(
                    of_store, time_masks[store], self._dims_masks(of_store), self._noise_of(of_store), strict=True
                )
            ]
            for store, of_store in enumerate(stores)
        ]

    def saved(self) -> dict[str, Any]:
        """Return the states of all sources of random numbers as plain JSON values."""
        return {"generators": [one.bit_generator.state for one in self._generators]}

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Set the result of :meth:`saved`, see :meth:`~featcache.training.seeded.Resumable.restore`."""
        for generator, state in zip(self._generators, saved["generators"], strict=True):
            generator.bit_generator.state = state

    @property
    def _generators(self) -> list[np.random.Generator]:
        return [self._cropping, self._noises, *(generator for generator, _, _ in self._masks.values())]

    def _cropped(self, stores: list[list[Packed]]) -> list[list[Packed]]:
        """Return views of a random part of each utterance."""
        draws = self._cropping.random(len(stores[0]))
        cropped = []
        for of_store, ratio in zip(stores, self._ratios, strict=True):
            cropped.append(of_store)
            if ratio is not None:
                width = math.ceil(self._crop * ratio - ROUNDING)
                lengths = [item.num_frames for item in stores[self._lead]]
                firsts = [int(draw * (max(0, n - self._crop) + 1)) for draw, n in zip(draws, lengths, strict=True)]
                cropped[-1] = [
                    _part(item, round(first * ratio), width) for item, first in zip(of_store, firsts, strict=True)
                ]
        return cropped

    def _time_masks(self, stores: list[list[Packed]]) -> list[list[tuple[slice, ...]]]:
        """Return the masked frames of each utterance, per store."""
        lengths = [item.num_frames for item in stores[self._lead]]
        masks = self._drawn(Draws.MASK_TIME, lengths)
        found: list[list[tuple[slice, ...]]] = []
        for ratio in self._ratios:
            scaled = masks if ratio in (None, 1) else [tuple(_scaled(one, ratio) for one in of_it) for of_it in masks]
            found.append([()] * len(lengths) if ratio is None else scaled)
        return found

    def _dims_masks(self, of_store: list[Packed]) -> list[tuple[slice, ...]]:
        return self._drawn(Draws.MASK_DIMS, [item.values.shape[2] for item in of_store])

    def _drawn(self, draws: Draws, lengths: Sequence[int]) -> list[tuple[slice, ...]]:
        """Return random stretches of axes with the given lengths."""
        if draws not in self._masks:
            return [()] * len(lengths)
        generator, count, most = self._masks[draws]
        numbers = generator.random((len(lengths), count, 2)).tolist()
        return [tuple(_stretch(n, most, *pair) for pair in of_it) for n, of_it in zip(lengths, numbers, strict=True)]

    def _noise_of(self, of_store: list[Packed]) -> list[tuple[Tensor | None, float]]:
        """Return noise and its signed standard deviation for each utterance.

        Returns:
            Standard normal noise (num_frames, frame_size) float32, the same for all layers; None for no noise.
        """
        if not self._noise:
            return [(None, 0.0)] * len(of_store)
        draws = self._noises.random((len(of_store), 2)).tolist()
        return [
            (_normal(item, of_place), self._noise if of_sign < 0.5 else -self._noise)
            for item, (of_place, of_sign) in zip(of_store, draws, strict=True)
        ]


def _normal(item: Packed, of_place: float) -> Tensor:
    """Return normal numbers for an utterance, from a random place of the table; of_place is in [0, 1)."""
    shape = item.values.shape[1:]
    table, number = _normal_table(str(item.values.device)), shape.numel()
    if number > len(table):
        table = table.repeat(-(-number // len(table)))
    first = int(of_place * (len(table) - number + 1))
    return table[first : first + number].view(shape)


@cache
def _normal_table(device: str) -> Tensor:
    """Return a table of normal numbers, which all trainings share.

    Drawing a new number for each value of a batch would take 15 % of the time of an epoch.
    """
    return torch.randn(2**22, generator=torch.Generator().manual_seed(0)).to(device)


def _ratio(frame_shifts: Sequence[float], store: int, lead: int) -> float | None:
    """Return the number of frames of a store for each frame of the leading one; None if its frames are not in time."""
    if store == lead:
        return 1
    shift = frame_shifts[store]
    return None if math.isnan(shift) else frame_shifts[lead] / shift


def _part(item: Packed, first: int, width: int) -> Packed:
    """Return a view of some frames, at least one."""
    first = min(first, item.num_frames - 1)
    return replace(item, values=item.values[:, first : first + width])


def _stretch(length: int, most: int, of_width: float, of_place: float) -> slice:
    """Return a random stretch of an axis, from two random numbers in [0, 1)."""
    width = min(int(of_width * (most + 1)), length)
    first = int(of_place * (length - width + 1))
    return slice(first, first + width)


def _scaled(stretch: slice, ratio: float) -> slice:
    """Return the same time in frames of another store; a frame that is masked in part is masked."""
    if stretch.start == stretch.stop:
        return slice(0, 0)
    return slice(math.floor(stretch.start * ratio + ROUNDING), math.ceil(stretch.stop * ratio - ROUNDING))
