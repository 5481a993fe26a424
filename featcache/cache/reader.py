"""Feature store → arrays. The only module that reads features; safe from any number of processes and threads."""

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakSet

import numpy as np
import numpy.typing as npt

from featcache.cache import layout
from featcache.cache.missing_store import missing_store
from featcache.cache.shards import Shard, read_catalogue, shard_numbers
from featcache.cache.statistics import merge
from featcache.errors import StoreError
from featcache.extractors import is_reference
from featcache.files.regular import resolved
from featcache.manifest import Manifest

if TYPE_CHECKING:
    from featcache.cache.torch_dataset import StoreDataset

# Number of shards kept open per store. Each takes a file descriptor, and many systems allow 1024 per process.
OPEN_SHARDS = 256


class FeatureStore(Mapping[str, npt.NDArray[np.float32]]):
    """Features of one extractor on one corpus: a read-only mapping from utterance id to array.

    Args:
        path: Folder of the store, such as ``data/cache/emodb/wav2vec2-base``.

    Attributes:
        name: Name of the folder.
        layer_names: One name per layer; a single empty name if the features have no layers.
        frame_shift: Time between frames in seconds; NaN if frames are not steps in time.
        metadata: Record of the extraction: model, weights, precision, versions; see :mod:`featcache.cache.layout`.
        identity: Settings that change the features, and their fingerprint.
        complete: Whether the last extraction finished.
        num_requested: Number of utterances requested from the last extraction; None if it is not recorded.
        num_in_corpus: Number of utterances in the corpus at that time; None if it is not recorded.
        pooled_only: Whether the store contains only statistics (``extract --pool``), and no frames.

    Raises:
        StoreError: the folder is not a store, the store is damaged, or it has another format version.

    Example:
        >>> store = featcache.open("data/cache/emodb")["wav2vec2-base"]
        >>> x = store["03a01Fa"]  # (num_layers, num_frames, hidden_size) float32
        >>> x.shape[0] == len(store.layer_names)
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
        """Return a copy of an utterance, (num_layers, num_frames, hidden_size) float32; errors as in :meth:`view`."""
        return self.view(utterance_id).astype(np.float32)

    def view(
        self,
        utterance_id: str,
        layers: Sequence[int] | slice | None = None,
        frames: slice | None = None,
        *,
        with_padding: bool = False,
    ) -> npt.NDArray[Any]:
        """Return an utterance, or some of its layers and frames, without reading anything else.

        Args:
            utterance_id: Id of the utterance.
            layers: Layers to return, as a slice or as positions in any order; by default all.
            frames: Frames to return; by default all.
            with_padding: Whether the frames of the padding follow, up to :attr:`padded_frames`.

        Returns:
            (num_layers, num_frames, hidden_size) in the storage dtype, a read-only memory map; a copy if ``layers`` are
            positions, or with padding. An int8 store returns restored float32 values.

        Raises:
            KeyError: the utterance is not in the store.
            StoreError: the store contains only statistics, or the padding was not kept.
        """
        shard, row = self._place(utterance_id)
        wanted = layers if isinstance(layers, slice) else slice(None) if layers is None else list(layers)
        return shard.read(row, wanted, frames or slice(None), with_padding=with_padding)

    def prefetch(self, utterance_ids: Sequence[str], layers: Sequence[int], num_frames: Sequence[int]) -> None:
        """Ask the operating system to read the first ``num_frames`` frames of each utterance ahead, in some layers."""
        together: list[tuple[Shard, int, int]] = []  # Adjacent utterances share a request.
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
        """Release the pages that were read; until then they count as memory of this process."""
        for shard in list(self._open):
            shard.drop_pages()

    @property
    def utterance_ids(self) -> tuple[str, ...]:
        """Utterance ids in the order of writing, which is that of the manifest unless utterances were added later."""
        return tuple(self._rows)

    @property
    def hidden_size(self) -> int:
        """Number of values per frame and layer."""
        return int(self.metadata["hidden_size"])

    @property
    def padded_frames(self) -> int | None:
        """Number of frames of every utterance with its padding (``extract --keep-padding``); None without padding."""
        found = None if self.pooled_only else self.metadata.get("padded_frames")
        return None if found is None else int(found)

    @property
    def is_of_words(self) -> bool:
        """Whether frames are tokens of transcripts instead of steps in time."""
        return self.identity.reads_text

    @property
    def has_frames(self) -> bool:
        """Whether an utterance has frames (steps in time or tokens) instead of a single vector (functionals)."""
        # Stores of an earlier release do not record it; of their extractors, only eGeMAPS could give one vector.
        vectors = self.identity.is_imported or self.identity.settings.get("extractor") == "egemaps"
        one_vector = self.metadata.get("one_vector", vectors)
        return not (np.isnan(self.frame_shift) and one_vector)

    @property
    def averaged_frame_shift(self) -> float | None:
        """Frame shift in seconds to which frames are averaged in every fit on frames; None if they are not averaged.

        Stores of an earlier release do not record it; their eGeMAPS frames are averaged to 20 ms.
        """
        usual = 0.020 if self.identity.settings.get("extractor") == "egemaps" else None
        found = self.metadata.get("averaged_frame_shift", usual)
        return None if found is None or np.isnan(self.frame_shift) else float(found)

    @property
    def averages_frames(self) -> bool:
        """Whether frames may be averaged to match the longer frame shift of another store."""
        return bool(self.metadata.get("averages_frames", False))

    @property
    def num_blocks(self) -> int:
        """Number of transformer blocks of the model, which is also the name of its last layer; 0 without layers."""
        return int(self.metadata.get("num_blocks", 0))

    def num_frames(self, utterance_ids: Sequence[str]) -> npt.NDArray[np.int64]:
        """Return the number of frames of each utterance, (num_utterances,) int64."""
        return np.array([self._row(utterance_id)["num_frames"] for utterance_id in utterance_ids], dtype=np.int64)

    def duration(self, utterance_ids: Sequence[str]) -> float:
        """Return the total duration of utterances, in seconds."""
        return float(sum(self._row(utterance_id)["duration"] for utterance_id in utterance_ids))

    def audio_sha256(self, utterance_ids: Sequence[str]) -> list[str]:
        """Return the SHA-256 of the file from which each utterance was extracted."""
        return [self._row(utterance_id)["audio_sha256"] for utterance_id in utterance_ids]

    def recordings(self, utterance_ids: Sequence[str]) -> list[tuple[str, float, float]]:
        """Return the SHA-256 of the file of each utterance, and its start and end in this file, in seconds.

        The SHA-256 is empty if it is not known. The end is infinite if the utterance lasts to the end of the file.
        """
        rows = [self._row(utterance_id) for utterance_id in utterance_ids]
        return [
            (row["audio_sha256"], float(np.nan_to_num(row["start"])), float(np.nan_to_num(row["end"], nan=np.inf)))
            for row in rows
        ]

    def durations(self, utterance_ids: Sequence[str]) -> npt.NDArray[np.float64]:
        """Return the duration of each utterance in seconds, (num_utterances,) float64; NaN if it is not known."""
        return np.array([self._row(utterance_id)["duration"] for utterance_id in utterance_ids], dtype=np.float64)

    def pooled(
        self, kind: Literal["mean", "max", "std"] = "mean", utterance_ids: Sequence[str] | None = None
    ) -> npt.NDArray[np.float32]:
        """Return the pooled features of each utterance, from the stored statistics; no frame is read.

        Args:
            kind: ``mean``, ``max`` or ``std`` (population standard deviation) over the frames.
            utterance_ids: Ids of the utterances, in the order of the result; by default all.

        Returns:
            (num_utterances, num_layers, hidden_size) float32.

        Raises:
            KeyError: an utterance is not in the store.
        """
        ids = self.utterance_ids if utterance_ids is None else utterance_ids
        if kind != "std":
            return self._statistic(kind, ids)
        return np.sqrt(self._statistic("m2", ids) / self.num_frames(ids)[:, None, None].astype(np.float32))

    def mean_and_std(self, utterance_ids: Sequence[str]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return the mean and population standard deviation over all frames of utterances; no frame is read.

        Returns:
            Mean and standard deviation, (num_layers, hidden_size) float64 each.
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
        """Return a torch Dataset of (layers, length, label) for your own training loop.

        Args:
            ids: Ids of the utterances, in the order of the items; by default all utterances that have the label.
            target: Label to predict, a column of the cache's manifest.
            task: ``regression`` for a dimensional label.
            classes: Class names in the order of their indices; by default the sorted classes of the whole manifest, so
                that all parts of a corpus have the same indices.

        Returns:
            Dataset of layers (num_layers, num_frames, hidden_size) float32, not normalised; number of frames; and index
            of the class in ``.classes``, or value of the dimensional label. ``.collate`` makes padded batches.

        Raises:
            ManifestError: an utterance has no label or another class, or the cache has no manifest.
            StoreError: an utterance is not in the store, or the store contains only statistics.

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
        """Find utterances with NaN or infinite features, from the stored statistics; no frame is read.

        A frame with a NaN or infinite value makes the mean NaN or infinite. Statistics are computed before features are
        rounded, so that values that overflow the storage dtype in a store of another program are not found here.

        Args:
            utterance_ids: Ids of the utterances; by default all.

        Returns:
            Utterance id → names of its layers with NaN or infinite statistics; empty if all values are finite.
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
        """Return the shard that contains an utterance and its row there, after a comparison with the index."""
        row = self._row(utterance_id)
        shard, position = self._shard(int(row["shard"])), int(row["row"])
        columns = ["id", "num_frames"]
        if not 0 <= position < len(shard.utterances) or shard.utterances[columns][position] != row[columns]:
            raise StoreError(
                f"{self.path / layout.INDEX} does not match {shard.path.name}; remove the index, "
                "and the next 'featcache extract' writes it again"
            )
        return shard, position

    def _row(self, utterance_id: str) -> Any:
        try:
            return self._rows[utterance_id]
        except KeyError:
            raise KeyError(f"no utterance {utterance_id!r} in {self.path}, which contains {len(self)}") from None

    def _open_shard(self, number: int) -> Shard:
        shard = Shard(self.path / layout.shard_name(number))
        # Compared as strings, because a frame shift may be NaN, which is not equal to itself.
        differing = [name for name in layout.ATTRIBUTES if str(shard.attributes[name]) != str(self.metadata[name])]
        if differing:
            raise StoreError(f"{shard.path} belongs to another store: {', '.join(differing)} differ; remove it")
        self._open.add(shard)
        return shard

    def __repr__(self) -> str:
        return f"FeatureStore({str(self.path)!r}, {len(self)} utterances, {len(self.layer_names)} layers)"


class FeatureCache(Mapping[str, FeatureStore]):
    """Cache of one corpus: its manifest, and a read-only mapping from name to feature store.

    Args:
        path: Folder of the cache, such as ``data/cache/emodb``.

    Attributes:
        name: Name of the folder, which is the name of the corpus.
        manifest: Utterances of the corpus, with speakers and labels.

    Raises:
        StoreError: the folder has no ``manifest.csv``.
        ManifestError: the manifest cannot be read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.name = resolved(self.path).name
        if not (self.path / "manifest.csv").is_file():
            raise StoreError(f"{self.path} is not a cache: it has no manifest.csv; make one with 'featcache extract'")
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
            raise StoreError(missing_store(self.path, name, self._names(), hint))
        return FeatureStore(self.path / name)

    def _names(self) -> list[str]:
        return sorted(folder.name for folder in self.path.iterdir() if folder.is_dir() and shard_numbers(folder))

    def __repr__(self) -> str:
        return f"FeatureCache({str(self.path)!r}, {len(self.manifest)} utterances, stores: {', '.join(self._names())})"


def open(path: str | os.PathLike[str]) -> FeatureCache:
    """Open the cache of a corpus.

    Args:
        path: Folder of the cache, such as ``data/cache/emodb``.

    Returns:
        The cache: its manifest, and its feature stores by name.

    Raises:
        StoreError: the folder is not a cache.
        ManifestError: the manifest of the cache cannot be read.

    Example:
        >>> cache = featcache.open("data/cache/emodb")
        >>> list(cache)
        ['egemaps', 'wav2vec2-base']
        >>> store = cache["wav2vec2-base"]
        >>> len(store) == len(cache.manifest)
        True
    """
    return FeatureCache(path)
