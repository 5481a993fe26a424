"""Feature store → torch Dataset of (layers, length, label), for other training loops, such as those of s3prl."""

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
    """What is used of :class:`featcache.FeatureStore`."""

    path: Path
    pooled_only: bool

    @property
    def utterance_ids(self) -> tuple[str, ...]:
        """The utterances."""

    def __contains__(self, utterance_id: object) -> bool: ...
    def __getitem__(self, utterance_id: str) -> npt.NDArray[np.float32]: ...


class StoreDataset(Dataset[Item]):
    """Utterances of a store; made by :meth:`featcache.FeatureStore.dataset`.

    An item is (layers, length, label): layers (num_layers, num_frames, hidden_size) float32, as they are stored and
    without normalisation; length, the number of frames; and the label, the position of the utterance's class in
    ``classes`` or, of numbers, the number. It can be pickled: each worker of a ``DataLoader`` opens the store itself.

    Attributes:
        utterance_ids: In the order of the items.
        classes: Names of the classes, by label; empty of numbers.
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
            raise StoreError(f"{store.path} holds statistics alone (--pool); read them with pooled()")
        manifest = Manifest.read(resolved(store.path).parent / "manifest.csv")
        labels = manifest.labels(target)
        if ids is None:
            ids = [i for i in store.utterance_ids if i in labels]
        unknown = [i for i in ids if i not in store]
        if unknown:
            raise StoreError(f"{store.path} has no features of {listed(unknown)}; choose among its utterance_ids")
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
                raise ManifestError(f"the label {target!r} has {listed(strange)}, which is not among the classes given")
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
        """Make a batch: pad with zeros up to the longest utterance.

        Args:
            items: Of this dataset.

        Returns:
            Layers (batch, num_layers, num_frames, hidden_size) float32, lengths (batch,) int64, and labels (batch,),
            int64 of classes and float32 of numbers.
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
