"""Features of the padding after each utterance ↔ the group ``/padding`` of a shard.

Whisper computes 30 s for every signal, however short. ``/hidden_states`` contains only the frames of the signal, so
that a store reads the same with and without the padding, also in releases that do not know it. Fine-tuning needs both.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from featcache.cache import layout
from featcache.cache.quantise import quantise, restore

GROUP = "padding"
SCALE = ("mean", "step")
"""Datasets of int8 stores with which the values of the padding are restored."""
# Largest accepted number of frames: 30 s are 1,500, and sums over the utterances of a shard fit into 64 bits.
MOST_FRAMES = 2**20

Mapped = Callable[[str, str], npt.NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class Padding:
    """Features of the padding of one utterance, ready to be written.

    Attributes:
        features: (num_layers, num_frames, hidden_size) in the storage dtype.
        mean: Mean over its frames, (num_layers, hidden_size) float32; None unless the features are stored as int8.
        step: Quantisation scale, (num_layers, hidden_size) float32; None unless the features are stored as int8.
    """

    features: npt.NDArray[Any]
    mean: npt.NDArray[np.float32] | None = None
    step: npt.NDArray[np.float32] | None = None

    @property
    def nbytes(self) -> int:
        """Total size in bytes."""
        return sum(values.nbytes for values in (self.features, self.mean, self.step) if values is not None)


def quantised_padding(features: npt.NDArray[np.float32]) -> Padding:
    """Return padding as int8, with a mean and a scale of its own, so that those of the signal do not change.

    Args:
        features: (num_layers, num_frames, hidden_size) float32, finite.
    """
    if not features.shape[1]:
        none = np.zeros((features.shape[0], features.shape[2]), dtype=np.float32)
        return Padding(features=features.astype(np.int8), mean=none, step=none)
    mean = features.mean(axis=1, dtype=np.float64).astype(np.float32)
    in_steps, step = quantise(features, mean)
    return Padding(features=in_steps, mean=mean, step=step)


def write_padding(file: h5py.File, dataset: str, paddings: Sequence[Padding]) -> list[h5py.Dataset]:
    """Write the group ``/padding`` of a shard.

    Args:
        file: The shard.
        dataset: Name of the dataset with the features of the signals, ``hidden_states``.
        paddings: Padding of each utterance.

    Returns:
        The arrays that HDF5 does not parse.
    """
    num_layers, _, hidden_size = paddings[0].features.shape
    total = sum(padding.features.shape[1] for padding in paddings)
    written = []
    if total:  # An empty array has no place in the file.
        shape, first = (num_layers, total, hidden_size), 0
        whole = file.create_dataset(f"{GROUP}/{dataset}", shape, dtype=paddings[0].features.dtype)
        for padding in paddings:
            last = first + padding.features.shape[1]
            whole[:, first:last] = padding.features
            first = last
        whole.attrs["crc32"] = layout.crc32(
            padding.features[layer] for layer in range(num_layers) for padding in paddings
        )
        written.append(whole)
    for name in SCALE if paddings[0].step is not None else ():
        file[f"{GROUP}/{name}"] = np.stack([getattr(padding, name) for padding in paddings])
        file[f"{GROUP}/{name}"].attrs["crc32"] = layout.crc32([file[f"{GROUP}/{name}"][()]])
        written.append(file[f"{GROUP}/{name}"])
    return written


class ShardPadding:
    """Padding of the utterances of one shard, memory-mapped.

    Args:
        attributes: Root attributes of the shard.
        num_frames: Number of frames of each utterance, without padding, (num_utterances,) int64.
        mapped: Function from the name and the dtype of a dataset to its array.

    Attributes:
        num_frames: Number of frames of each utterance, padding included.
        arrays: Arrays by the names of their datasets, as stored in the file.

    Raises:
        ValueError: the number of frames is impossible, or the datasets do not fit the utterances.
    """

    def __init__(self, attributes: dict[str, Any], num_frames: npt.NDArray[np.int64], mapped: Mapped) -> None:
        self.num_frames = int(attributes["padded_frames"])
        if not 0 < self.num_frames <= MOST_FRAMES or (num_frames > self.num_frames).any():
            raise ValueError(f"its padded_frames is {self.num_frames}")
        self._ends = np.cumsum(self.num_frames - num_frames)
        layers, size = len(attributes["layer_names"]), attributes["hidden_size"]
        dtype, name = attributes["storage_dtype"], f"{GROUP}/{attributes['dataset']}"
        shape = (layers, int(self._ends[-1]), size)
        scale = [f"{GROUP}/{one}" for one in SCALE] if dtype == "int8" else []
        self.arrays = {one: mapped(one, "float32") for one in scale}
        self._scale = list(self.arrays.values())
        self._features = mapped(name, dtype) if shape[1] else np.empty(shape, dtype)
        if shape[1]:
            self.arrays[name] = self._features
        of_utterances = (len(num_frames), layers, size)
        if self._features.shape != shape or any(array.shape != of_utterances for array in self._scale):
            raise ValueError(f"its /{GROUP} contradicts its utterances")

    def stretch(self, row: int) -> slice:
        """Return the position of the padding of an utterance in the dataset."""
        first = int(self._ends[row - 1]) if row else 0
        return slice(first, int(self._ends[row]))

    def read(self, row: int, layers: slice | list[int]) -> npt.NDArray[Any]:
        """Return (num_layers, num_frames, hidden_size) in the storage dtype; of int8, the restored float32 values."""
        features = self._features[:, self.stretch(row)][layers]
        if not self._scale:
            return features
        mean, step = (array[row][layers] for array in self._scale)
        return restore(features, mean, step)
