"""Feature store → torch Dataset of (layers, length, label), for other training loops such as those of s3prl."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from featcache.errors import ManifestError, StoreError, listed
from featcache.files.regular import resolved
from featcache.manifest import Manifest

Item = tuple[torch.Tensor, int, int | float]


class FrameStore(Protocol):
    """Part of :class:`featcache.FeatureStore` that the dataset uses."""

    path: Path
    pooled_only: bool

    @property
    def utterance_ids(self) -> tuple[str, ...]:
        """Ids of the utterances."""

    def __contains__(self, utterance_id: object) -> bool: ...
    def __getitem__(self, utterance_id: str) -> npt.NDArray[np.float32]: ...


class StoreDataset(Dataset[Item]):
    """Dataset of the utterances of a store, returned by :meth:`featcache.FeatureStore.dataset`.

    An item is (layers, length, label): layers (num_layers, num_frames, hidden_size) float32, not normalised; length is
    the number of frames; label is the index of the class in ``classes``, or the value of a dimensional label. The
    dataset can be pickled: each worker of a ``DataLoader`` opens the store itself.

    Args:
        store: The feature store.
        ids: Ids of the utterances, in the order of the items; by default all utterances that have the label.
        target: Label to predict, a column of the cache's manifest.
        task: ``regression`` for a dimensional label.
        classes: Class names in the order of their indices; by default the sorted classes of the whole manifest.

    Attributes:
        utterance_ids: Ids of the utterances, in the order of the items.
        classes: Class names in the order of their indices; empty for regression.
        labels: Label of each utterance, in the order of the items.

    Raises:
        ManifestError: an utterance has no label or another class, or the cache has no manifest.
        StoreError: an utterance is not in the store, or the store contains only statistics.
    """

    def __init__(
        self,
        store: FrameStore,
        ids: Sequence[str] | None = None,
        *,
        target: str = "emotion",
        task: Literal["classification", "regression"] = "classification",
        classes: Sequence[str] | None = None,
    ) -> None:
        if store.pooled_only:
            raise StoreError(f"{store.path} contains only statistics (--pool); read them with pooled()")
        manifest = Manifest.read(resolved(store.path).parent / "manifest.csv")
        labels = manifest.labels(target)
        if ids is None:
            ids = [i for i in store.utterance_ids if i in labels]
        unknown = [i for i in ids if i not in store]
        if unknown:
            raise StoreError(f"{store.path} has no features of {listed(unknown)}; choose from its utterance_ids")
        without = [i for i in ids if i not in labels]
        if without:
            raise ManifestError(f"{listed(without)} have no label {target!r}; leave them out, or choose another target")
        self.utterance_ids = tuple(ids)
        self.classes: tuple[str, ...] = ()
        self.labels: tuple[int | float, ...]
        if task == "regression":
            self.labels = tuple(_number(i, target, labels[i]) for i in ids)
        else:
            self.classes = tuple(sorted(set(labels.values()))) if classes is None else tuple(classes)
            strange = sorted({labels[i] for i in ids} - set(self.classes))
            if strange:
                raise ManifestError(f"label {target!r} has {listed(strange)}, which is not a given class; add it")
            self.labels = tuple(self.classes.index(labels[i]) for i in ids)
        self._path = store.path
        self._open: Callable[[Path], FrameStore] = type(store)
        self._store: FrameStore | None = store

    def __len__(self) -> int:
        return len(self.utterance_ids)

    def __getitem__(self, index: int) -> Item:
        """Return the layers, the number of frames and the label of an utterance."""
        if self._store is None:
            self._store = self._open(self._path)
        layers = torch.from_numpy(self._store[self.utterance_ids[index]])
        return layers, layers.shape[1], self.labels[index]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_path": self._path.absolute(), "_store": None}

    @staticmethod
    def collate(items: Sequence[Item]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return a batch, padded with zeros to the longest utterance.

        Args:
            items: Items of this dataset.

        Returns:
            Layers (batch, num_layers, num_frames, hidden_size) float32, lengths (batch,) int64, and labels (batch,):
            int64 for classes, float32 for dimensional labels.
        """
        layers, lengths, labels = zip(*items, strict=True)
        padded = layers[0].new_zeros((len(items), layers[0].shape[0], max(lengths), layers[0].shape[2]))
        for row, features in zip(padded, layers, strict=True):
            row[:, : features.shape[1]] = features
        return padded, torch.tensor(lengths), torch.tensor(labels)


def _number(utterance_id: str, target: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ManifestError(
            f"utterance {utterance_id!r} has {target} {text!r}, expected a number; choose another target, or "
            'task="classification"'
        ) from None
