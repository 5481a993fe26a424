"""Store → is it what it says? Checksums of all that is stored, and utterances computed anew, alone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from featcache import audio
from featcache.cache import layout
from featcache.cache.reader import FeatureStore
from featcache.cache.shards import Shard, opened, shard_numbers
from featcache.corpora import read_corpus
from featcache.errors import StoreError, listed
from featcache.extractors import create_extractor, made_with, usable_device
from featcache.extractors.base import signal_for

# Largest difference over largest value, per layer. Rounding to float16 is off by 2^-11 of a value at most; what float32
# adds over another grouping or another number of threads stays below 1e-5.
TOLERANCES = {"float16": 2.0**-11 + 1e-5, "float32": 1e-5, "int8": 1 / 127 + 1e-5}


@dataclass(frozen=True, kw_only=True)
class Deviation:
    """How far stored features are from features computed anew.

    Attributes:
        layer: Its name; empty where there are no layers to choose from.
        largest: Over all utterances that were computed: largest difference over largest value.
        tolerance: Of the storage dtype.
    """

    layer: str
    largest: float
    tolerance: float

    @property
    def within(self) -> bool:
        return self.largest <= self.tolerance


def damaged_datasets(folder: Path) -> Iterator[str]:
    """Compare every dataset of every shard with its checksum.

    Yields:
        One line for each shard or dataset whose bytes are not those that were written.
    """
    for number in shard_numbers(folder):
        path = folder / layout.shard_name(number)
        try:
            shard = Shard(path)
            with opened(path) as file:
                expected = {name: file[name].attrs["crc32"] for name in _dataset_names(shard)}
        except StoreError as error:
            yield f"{path.name}: {error}"
            continue
        found = {
            shard.attributes["dataset"]: layout.crc32(shard.features),
            "utterances": layout.crc32_of_table(shard.utterances),
            "statistics/count": layout.crc32([shard.count]),
            **{f"statistics/{name}": layout.crc32([values]) for name, values in shard.statistics.items()},
        }
        yield from (f"{path.name}: /{name} has changed" for name in found if found[name] != expected[name])


def recompute(
    store: FeatureStore, data: Path, number: int, *, model: str | None = None, device: str = "cpu"
) -> list[Deviation]:
    """Compute utterances alone and compare them with what is stored.

    Args:
        store: What is to be checked.
        data: The corpus's folder.
        number: How many utterances, drawn from the whole store and always the same.
        model: Where the model is, if it was a folder.
        device: As torch names it.

    Returns:
        One deviation per layer.

    Raises:
        StoreError: the extractor that can be made here is not the one that made the store, or the audio is not there.
    """
    settings = layout.settings_of(store.metadata)
    made_model, options = made_with(settings)
    extractor = create_extractor(model or made_model, device=usable_device(device), **options)
    now = layout.identity(extractor.description, store.metadata["storage_dtype"])
    differing = sorted(name for name in settings | now if settings.get(name) != now.get(name))
    if differing:
        raise StoreError(
            f"{store.path}: the extractor made here differs in {', '.join(differing)}; nothing was compared"
        )
    files = read_corpus(data)
    known = set(files.manifest.utterance_ids)
    there = [utterance_id for utterance_id in store.utterance_ids if utterance_id in known]
    if not there:
        raise StoreError(f"{data} has none of the utterances of {store.path} ({listed(store.utterance_ids)})")
    chosen = np.random.default_rng(0).permutation(len(there))[:number]
    largest = np.zeros(len(store.layer_names))
    for position in chosen:
        utterance_id = there[position]
        recording = audio.read(files.root, files.manifest[utterance_id])
        features = extractor.extract([signal_for(extractor.description, recording)])[0]
        stored = store[utterance_id]
        if stored.shape != features.shape:
            raise StoreError(f"{utterance_id!r} is stored as {stored.shape}, computed anew it is {features.shape}")
        scale = np.maximum(np.abs(features).max(axis=(1, 2)), np.finfo(np.float32).tiny)
        largest = np.maximum(largest, np.abs(stored - features).max(axis=(1, 2)) / scale)
    tolerance = TOLERANCES[store.metadata["storage_dtype"]]
    return [
        Deviation(layer=layer, largest=float(value), tolerance=tolerance)
        for layer, value in zip(store.layer_names, largest, strict=True)
    ]


def _dataset_names(shard: Shard) -> Sequence[str]:
    return [shard.attributes["dataset"], "utterances", *(f"statistics/{name}" for name in ("count", *shard.statistics))]
