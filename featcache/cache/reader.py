"""Feature store → arrays. The only place that reads features; safe from any number of processes and threads."""

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakSet

import numpy as np
import numpy.typing as npt

from featcache.cache import layout
from featcache.cache.quantise import restore
from featcache.cache.shards import Shard, read_catalogue, shard_numbers
from featcache.cache.statistics import merge
from featcache.errors import StoreError, unknown_name
from featcache.extractors import is_reference
from featcache.files.regular import resolved
from featcache.manifest import Manifest

if TYPE_CHECKING:
    from featcache.cache.torch_dataset import StoreDataset

# Shards that are kept open per store, each with a file descriptor, of which a process may often have 1024.
OPEN_SHARDS = 256


class FeatureStore(Mapping[str, npt.NDArray[np.float32]]):
    """The features of one extractor on one corpus.

    Attributes:
        name: The name of its folder.
        layer_names: One per layer; a single empty name where there are no layers to choose from.
        frame_shift: In seconds; NaN where frames are not steps in time.
        metadata: What made the store: model, weights, precision, versions; see :mod:`featcache.cache.layout`.
        identity: The settings that changed its numbers, and their fingerprint.
        complete: Whether the last extraction came to its end.
        num_requested: How many utterances the last extraction was asked for; None where the store does not say.
        num_in_corpus: How many utterances the corpus had then: more than ``num_requested`` after ``--limit``; None
            where the store does not say, as those of earlier releases.
        pooled_only: Whether it holds statistics alone (``extract --pool``), and no frame can be read.

    Raises:
        StoreError: no store, a damaged one, or one of another format version.

    Example:
        >>> store = featcache.open("data/cache/emodb")["wav2vec2-base"]
        >>> x = store["03a01Fa"]  # (num_layers, num_frames, hidden_size) float32
        >>> len(x) == len(store.layer_names)
        True
        >>> means = store.pooled("mean")  # (num_utterances, num_layers, hidden_size) float32
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.name = resolved(self.path).name
        catalogue = read_catalogue(self.path)
        self.metadata = catalogue.attributes
        self.complete = catalogue.complete
        self.num_requested = catalogue.num_requested
        self.num_in_corpus = catalogue.num_in_corpus
        self.layer_names: tuple[str, ...] = tuple(self.metadata["layer_names"])
        self.frame_shift: float = self.metadata["frame_shift"]
        self.identity = catalogue.identity
        self.pooled_only = self.identity.pool
        self._rows = {row["id"]: row for row in catalogue.utterances}
        self._open: WeakSet[Shard] = WeakSet()
        self._shard = lru_cache(maxsize=OPEN_SHARDS)(self._open_shard)

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __contains__(self, utterance_id: object) -> bool:
        return utterance_id in self._rows

    def __getitem__(self, utterance_id: str) -> npt.NDArray[np.float32]:
        """(num_layers, num_frames, hidden_size) float32, a copy."""
        return self.view(utterance_id).astype(np.float32)

    def view(
        self, utterance_id: str, layers: Sequence[int] | slice | None = None, frames: slice | None = None
    ) -> npt.NDArray[Any]:
        """Read an utterance or a part of it, and nothing else.

        Args:
            utterance_id: Which.
            layers: Which, as a slice, or positions in the order in which they are wanted; all by default.
            frames: Which of the utterance's frames; all by default.

        Returns:
            (num_layers, num_frames, hidden_size) in the storage dtype, mapped from the file and read-only; a copy where
            positions are named. A store of 8 bits gives float32 instead, restored.

        Raises:
            KeyError: no such utterance.
            StoreError: the store holds statistics alone.
        """
        shard, row = self._place(utterance_id)
        if shard.features is None:
            raise StoreError(
                f"{self.path} holds statistics alone (--pool); read them with pooled() or mean_and_std(), "
                "or extract with frames into a store of another --name"
            )
        first, num_frames = shard.utterances["first_frame"][row], shard.utterances["num_frames"][row]
        wanted = layers if isinstance(layers, slice) else slice(None) if layers is None else list(layers)
        features = shard.features[:, first : first + num_frames][:, frames or slice(None)][wanted]
        if "step" in shard.statistics:
            mean, step = (shard.statistics[name][row][wanted] for name in ("mean", "step"))
            return restore(features, mean, step)
        return features

    def prefetch(self, utterance_ids: Sequence[str], layers: Sequence[int], num_frames: Sequence[int]) -> None:
        """Have the operating system read the beginnings of utterances ahead, adjacent ones in one request.

        Args:
            utterance_ids: Which.
            layers: Positions of the layers that will be read.
            num_frames: How many frames of each utterance.
        """
        together: list[tuple[Shard, int, int]] = []
        for utterance_id, wanted in zip(utterance_ids, num_frames, strict=True):
            shard, row = self._place(utterance_id)
            first = int(shard.utterances["first_frame"][row])
            last = first + min(wanted, int(shard.utterances["num_frames"][row]))
            if together and together[-1][0] is shard and together[-1][2] == first:
                first = together.pop()[1]
            together.append((shard, first, last))
        for shard, first, last in together:
            shard.prefetch(layers, first, last)

    def drop_pages(self) -> None:
        """Release the pages that were read: mapped pages count as this process's memory until they are released."""
        for shard in list(self._open):
            shard.drop_pages()

    @property
    def utterance_ids(self) -> tuple[str, ...]:
        """In the order in which they were written: the manifest's, unless parts or changed audio came later."""
        return tuple(self._rows)

    @property
    def hidden_size(self) -> int:
        return int(self.metadata["hidden_size"])

    @property
    def is_of_words(self) -> bool:
        """Whether its frames are the tokens of transcripts, and not steps in time."""
        return self.identity.reads_text

    @property
    def has_frames(self) -> bool:
        """Whether an utterance has frames, be they steps in time or tokens, and not a single vector (functionals)."""
        # stores of an earlier release do not record it; of their extractors eGeMAPS alone gave a vector each
        vectors = self.identity.is_imported or self.identity.settings.get("extractor") == "egemaps"
        one_vector = self.metadata.get("one_vector", vectors)
        return not (np.isnan(self.frame_shift) and one_vector)

    @property
    def averaged_frame_shift(self) -> float | None:
        """Frame shift in seconds to which its frames are averaged in every fit on frames; None for none in particular.

        Stores of an earlier release do not record it: those of eGeMAPS are averaged to 20 ms.
        """
        usual = 0.020 if self.identity.settings.get("extractor") == "egemaps" else None
        found = self.metadata.get("averaged_frame_shift", usual)
        return None if found is None or np.isnan(self.frame_shift) else float(found)

    @property
    def averages_frames(self) -> bool:
        """Whether its frames may be averaged to pair with slower frames of another store."""
        return bool(self.metadata.get("averages_frames", False))

    @property
    def num_blocks(self) -> int:
        """Transformer blocks of the model, so that ``last`` is layer ``num_blocks``; 0 without layers."""
        return int(self.metadata.get("num_blocks", 0))

    def num_frames(self, utterance_ids: Sequence[str]) -> npt.NDArray[np.int64]:
        """(num_utterances,) int64."""
        return np.array([self._row(utterance_id)["num_frames"] for utterance_id in utterance_ids], dtype=np.int64)

    def duration(self, utterance_ids: Sequence[str]) -> float:
        """Of these utterances together, in seconds."""
        return float(sum(self._row(utterance_id)["duration"] for utterance_id in utterance_ids))

    def audio_sha256(self, utterance_ids: Sequence[str]) -> list[str]:
        """Of the files that these utterances were extracted from."""
        return [self._row(utterance_id)["audio_sha256"] for utterance_id in utterance_ids]

    def recordings(self, utterance_ids: Sequence[str]) -> list[tuple[str, float, float]]:
        """For each utterance the SHA-256 of its file, and where it begins and ends in it, in seconds.

        The SHA-256 is empty where it is not known; the end is infinite where it is the file's own.
        """
        rows = [self._row(utterance_id) for utterance_id in utterance_ids]
        return [
            (row["audio_sha256"], float(np.nan_to_num(row["start"])), float(np.nan_to_num(row["end"], nan=np.inf)))
            for row in rows
        ]

    def durations(self, utterance_ids: Sequence[str]) -> npt.NDArray[np.float64]:
        """(num_utterances,) float64, in seconds; NaN where it is not known."""
        return np.array([self._row(utterance_id)["duration"] for utterance_id in utterance_ids], dtype=np.float64)

    def pooled(
        self, kind: Literal["mean", "max", "std"] = "mean", utterance_ids: Sequence[str] | None = None
    ) -> npt.NDArray[np.float32]:
        """Each utterance's frames as one vector per layer, from the stored statistics; no frame is read.

        Args:
            kind: ``mean``, ``max`` or population ``std`` over the frames.
            utterance_ids: Which, in which order; all by default.

        Returns:
            (num_utterances, num_layers, hidden_size) float32.
        """
        ids = self.utterance_ids if utterance_ids is None else utterance_ids
        if kind != "std":
            return self._statistic(kind, ids)
        return np.sqrt(self._statistic("m2", ids) / self.num_frames(ids)[:, None, None].astype(np.float32))

    def mean_and_std(self, utterance_ids: Sequence[str]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Mean and population standard deviation over all frames of these utterances; no frame is read.

        Returns:
            Two arrays, (num_layers, hidden_size) float64.
        """
        return merge(
            self.num_frames(utterance_ids),
            lambda rows: self._statistic("mean", [utterance_ids[row] for row in rows]),
            lambda rows: self._statistic("m2", [utterance_ids[row] for row in rows]),
        )

    def dataset(
        self,
        ids: Sequence[str] | None = None,
        *,
        target: str = "emotion",
        task: Literal["classification", "regression"] = "classification",
        classes: Sequence[str] | None = None,
    ) -> "StoreDataset":
        """Return a torch Dataset of (layers, length, label), for training loops of one's own.

        Args:
            ids: Which utterances, in which order; by default all that carry the label.
            target: The label of the cache's manifest that is to be predicted.
            task: ``regression`` for a label that is a number.
            classes: Names of the classes in the order of their positions; by default those of the whole manifest,
                sorted, so that parts of a corpus agree.

        Returns:
            Layers (num_layers, num_frames, hidden_size) float32, not normalised; the number of frames; and the position
            of the class in ``.classes``, or the number. ``.collate`` makes padded batches of them.

        Raises:
            ManifestError: utterances without the label, or with another class; no manifest beside the store.
            StoreError: utterances that the store lacks, or a store of statistics alone.

        Example:
            >>> store = featcache.open("data/cache/emodb")["wav2vec2-base"]
            >>> dataset = store.dataset(target="emotion")
            >>> layers, length, label = dataset[0]
            >>> layers.shape[:2] == (len(store.layer_names), length), dataset.classes[label]
            (True, 'happiness')
            >>> from torch.utils.data import DataLoader
            >>> loader = DataLoader(dataset, batch_size=4, shuffle=True, collate_fn=dataset.collate)
        """
        from featcache.cache.torch_dataset import StoreDataset

        return StoreDataset(self, ids, target=target, task=task, classes=classes)

    def not_finite(self, utterance_ids: Sequence[str] | None = None) -> dict[str, list[str]]:
        """Find utterances whose features are NaN or infinite, from the stored statistics; no frame is read.

        A value that is not finite makes the mean over its frames not finite. Statistics are taken before the features
        are rounded: values that overflowed the storage dtype of another program's store are not found here.

        Args:
            utterance_ids: Which; all by default.

        Returns:
            Utterance id → names of its layers with NaN or infinite statistics; empty where all is well.
        """
        found = {}
        for utterance_id in self.utterance_ids if utterance_ids is None else utterance_ids:
            shard, row = self._place(utterance_id)
            finite = np.all([np.isfinite(values[row]).all(axis=-1) for values in shard.statistics.values()], axis=0)
            if not finite.all():
                found[utterance_id] = [self.layer_names[layer] for layer in np.flatnonzero(~finite)]
        return found

    def _statistic(self, name: str, utterance_ids: Sequence[str]) -> npt.NDArray[np.float32]:
        places = [self._place(utterance_id) for utterance_id in utterance_ids]
        return np.stack([shard.statistics[name][row] for shard, row in places])

    def _place(self, utterance_id: str) -> tuple[Shard, int]:
        """The shard that holds an utterance, and its row there, which must agree with the index."""
        row = self._row(utterance_id)
        shard, position = self._shard(int(row["shard"])), int(row["row"])
        columns = ["id", "num_frames"]
        if not 0 <= position < len(shard.utterances) or shard.utterances[columns][position] != row[columns]:
            raise StoreError(
                f"{self.path / layout.INDEX} does not fit {shard.path.name}; remove the index, "
                "and the next 'featcache extract' writes it anew"
            )
        return shard, position

    def _row(self, utterance_id: str) -> Any:
        try:
            return self._rows[utterance_id]
        except KeyError:
            raise KeyError(f"no utterance {utterance_id!r} in {self.path}, which holds {len(self)}") from None

    def _open_shard(self, number: int) -> Shard:
        shard = Shard(self.path / layout.shard_name(number))
        # as text, because a frame shift may be NaN, which differs from itself
        differing = [name for name in layout.ATTRIBUTES if str(shard.attributes[name]) != str(self.metadata[name])]
        if differing:
            raise StoreError(f"{shard.path} is of another store: {', '.join(differing)} differ; remove it")
        self._open.add(shard)
        return shard

    def __repr__(self) -> str:
        return f"FeatureStore({str(self.path)!r}, {len(self)} utterances, {len(self.layer_names)} layers)"


class FeatureCache(Mapping[str, FeatureStore]):
    """All that is cached of one corpus: its manifest and its feature stores by name.

    Raises:
        StoreError: the folder holds no manifest.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.name = resolved(self.path).name
        if not (self.path / "manifest.csv").is_file():
            raise StoreError(f"{self.path} is no cache: it has no manifest.csv; make one with 'featcache extract'")
        self.manifest = Manifest.read(self.path / "manifest.csv")

    def __len__(self) -> int:
        return len(self._names())

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def __contains__(self, name: object) -> bool:
        return name in self._names()

    def __getitem__(self, name: str) -> FeatureStore:
        if name not in self._names():
            option = f"--model {name}" if is_reference(name) else "--model or --text"
            hint = f"'featcache extract' with {option} makes one in {self.path}"
            raise StoreError(unknown_name("store", name, self._names(), hint=hint))
        return FeatureStore(self.path / name)

    def _names(self) -> list[str]:
        return sorted(folder.name for folder in self.path.iterdir() if folder.is_dir() and shard_numbers(folder))

    def __repr__(self) -> str:
        return f"FeatureCache({str(self.path)!r}, {len(self.manifest)} utterances, stores: {', '.join(self._names())})"


def open(path: str | os.PathLike[str]) -> FeatureCache:
    """Open the cache of a corpus.

    Args:
        path: Its folder, such as ``data/cache/emodb``.

    Returns:
        Its manifest and its feature stores by name.

    Raises:
        StoreError: the folder is no cache.

    Example:
        >>> cache = featcache.open("data/cache/emodb")
        >>> list(cache)
        ['egemaps', 'wav2vec2-base']
    """
    return FeatureCache(path)
