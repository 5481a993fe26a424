"""Store → faults: checksums of all stored bytes, and differences from utterances that are recomputed alone."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from featcache.augmentation.augmented_view import AugmentedView, is_view
from featcache.cache import layout
from featcache.cache.identity import StoreIdentity
from featcache.cache.intact import damaged_shards, faults_of_index, faults_of_request, has_no_checksum
from featcache.cache.known_audio import AUDIO, faults_of_audio
from featcache.cache.reader import FeatureStore
from featcache.cache.request import REQUEST
from featcache.cache.shards import read_catalogue, shard_numbers
from featcache.cache.statistics import RunningStatistics
from featcache.cache.tuned_store import TESTED, TunedOrigin, faults_of_tested, fold_by_utterance, read_tested
from featcache.corpora import read_corpus
from featcache.corpora.recorded import layout_of
from featcache.errors import FeatcacheError, ModelError, StoreError, listed
from featcache.extraction.inputs import Input, input_of, signal_for, signal_of_view
from featcache.extraction.store_models import as_recorded, model_of_store, naming_folder, workspace_of
from featcache.extractors import create_extractor, usable_device
from featcache.extractors.base import SAME_IN_ANY_BATCH, Extractor
from featcache.extractors.chunked import extract_windows
from featcache.features import Features
from featcache.files.checksums import unrecorded_files, wrong_files
from featcache.files.regular import resolved
from featcache.manifest import Manifest, Utterance
from featcache.registry import name_plugins
from featcache.settings.extractor_configs import MANIFEST
from featcache.terminal.progress import tracked
from featcache.transcripts.text import read_words
from featcache.units import counted

# Largest difference divided by largest value, per layer, for models that compute in float32. Rounding to float16
# changes a value by at most 2^-11 of it. Other batches or numbers of threads change float32 results by less than 1e-5.
TOLERANCES = {"float16": 2.0**-11 + 1e-5, "float32": 1e-5, "int8": 1 / 127 + 1e-5}

# Files of a cache, outside its stores, that have checksums.
CACHE_FILES = ("manifest.csv", "corpus.json")

# Divisor for a layer of zeros.
TINY = np.finfo(np.float32).tiny


@dataclass(frozen=True, kw_only=True)
class Deviation:
    """Difference between stored and recomputed features of one layer.

    Attributes:
        layer: Name of the layer; empty if the features have no layers.
        largest: Maximum absolute error divided by the largest value, the largest of all recomputed utterances.
        tolerance: Allowed value of ``largest``, for the storage dtype and the precision of the model.
    """

    layer: str
    largest: float
    tolerance: float

    @property
    def within(self) -> bool:
        """Whether the difference is within the tolerance."""
        return self.largest <= self.tolerance


def tolerance_of(settings: Mapping[str, Any]) -> float:
    """Return the largest allowed relative error of a store, from its storage dtype and the precision of its model.

    Args:
        settings: Settings of the store.
    """
    precision = settings.get("precision", "float32")
    computed = 0.0 if precision == "float32" else SAME_IN_ANY_BATCH.get(precision, 0.0)
    return TOLERANCES[settings["storage_dtype"]] + computed


def damaged_datasets(folder: Path) -> Iterator[str]:
    """Compare every byte of every shard with its checksums, before HDF5 reads it.

    Yields:
        One line for each shard or dataset whose bytes have changed.
    """
    for path, faults in damaged_shards(folder):
        yield from (f"{path.name}: {fault}" for fault in faults)


def damaged_files(folder: Path) -> Iterator[str]:
    """Compare the files of a store, and ``manifest.csv`` and ``corpus.json`` of its cache, with their checksums.

    Yields:
        One line for each fault.
    """
    damaged = list(damaged_datasets(folder))
    yield from damaged
    yield from (f"{layout.INDEX}: {fault}" for fault in faults_of_index(folder))
    yield from (f"{REQUEST}: {fault}" for fault in faults_of_request(folder))
    if not damaged:
        yield from (f"{TESTED}: {fault}" for fault in faults_of_tested(folder, read_catalogue(folder).identity))
    yield from (f"{AUDIO}: {fault}" for fault in faults_of_audio(folder))
    cache = resolved(folder).parent
    yield from (f"{cache / name} {fault}" for name, fault in wrong_files(cache).items())


def unchecked_files(folder: Path) -> list[str]:
    """Return the names of files without a checksum, because an earlier release wrote them."""
    names = [*(layout.shard_name(number) for number in shard_numbers(folder)), layout.INDEX]
    old = [name for name in names if (folder / name).is_file() and has_no_checksum(folder / name)]
    return [*old, *unrecorded_files(resolved(folder).parent, CACHE_FILES)]


def check_all_finite(store: FeatureStore) -> None:
    """Check that all features of a store are finite.

    Args:
        store: The store, which is read completely.

    Raises:
        StoreError: features are NaN or infinite; the message names utterances and layers.
    """
    found = not_finite(store)
    if found:
        layers = [name for name in store.layer_names if any(name in names for names in found.values())]
        where = f" in the layers {', '.join(layers)}" if layers != [""] else ""
        raise StoreError(
            f"{store.path}: the features of {counted(len(found), 'utterance')} ({listed(found)}) are NaN or "
            f"infinite{where}; extract into a store of another --name, and models with --precision float32"
        )


def not_finite(store: FeatureStore) -> dict[str, list[str]]:
    """Find NaN and infinite values in all features and statistics of a store.

    Returns:
        Utterance id → names of its layers with such values; empty if all values are finite.
    """
    found = store.not_finite()
    if store.pooled_only:
        return found
    for utterance_id in tracked("checking values", store.utterance_ids, step=1):
        features = store.view(utterance_id, with_padding=store.padded_frames is not None)
        finite = np.array([np.isfinite(layer).all() for layer in features])
        layers = {store.layer_names[layer] for layer in np.flatnonzero(~finite)}.union(found.get(utterance_id, ()))
        if layers:
            found[utterance_id] = [name for name in store.layer_names if name in layers]
    return found


def recompute(
    store: FeatureStore,
    data: Path | None,
    number: int,
    *,
    model: str | None = None,
    augment: Sequence[str] = (),
    device: str = "cpu",
) -> list[Deviation]:
    """Recompute utterances one by one, and compare them with the stored features.

    Args:
        store: The store to check.
        data: Folder of the corpus; None for a text encoder, whose transcripts are in the cache.
        number: Number of utterances, a random subset that is always the same.
        model: Folder of the model, if it was loaded from a folder.
        augment: Augmentations as in the extraction, if the store is a view with noise or impulse responses from a
            folder.
        device: Device of torch.

    Returns:
        Difference for each layer.

    Raises:
        StoreError: the extractor cannot be created as it was, or the utterances are missing.
        ModelError: the store names external code that the user did not name.
    """
    if model is not None:
        name_plugins([model])
    view, folds = _view(store, augment), _fold_by_utterance(store)
    fold = min(folds.values(), default=None)
    extractor = _extractor(store, model, device, view, fold)
    known, source = _known(store, extractor, data)
    there = [utterance_id for utterance_id in store.utterance_ids if utterance_id in known]
    if not there:
        raise StoreError(
            f"{data or store.path.parent} has none of the utterances of {store.path} ({listed(store.utterance_ids)})"
        )
    chosen = [there[position] for position in np.random.default_rng(0).permutation(len(there))[:number]]
    compare = _compare_statistics if store.pooled_only else _compare_frames
    largest = np.zeros(len(store.layer_names))
    for utterance_id in tracked("recomputing", sorted(chosen, key=lambda one: folds.get(one, 0)), step=1):
        if folds.get(utterance_id) != fold:
            fold = folds[utterance_id]
            extractor = _extractor(store, model, device, view, fold)
        computed = _computed(extractor, source, known[utterance_id], view)
        largest = np.maximum(largest, compare(store, utterance_id, computed))
    tolerance = tolerance_of(store.identity.settings)
    return [
        Deviation(layer=layer, largest=float(value), tolerance=tolerance)
        for layer, value in zip(store.layer_names, largest, strict=True)
    ]


def _extractor(
    store: FeatureStore, model: str | None, device: str, view: AugmentedView | None, fold: int | None
) -> Extractor:
    """Create the extractor of a store; for a store of several fine-tuned models, that of one fold.

    Raises:
        StoreError: the extractor cannot be created as it was.
        ModelError: the store names external code that the user did not name.
    """
    device = usable_device(device)
    try:
        with naming_folder(store.path, store.name, {store.name: store.identity}, model):
            source, options = model_of_store(store.identity, model, workspace_of(store), fold=fold)
            extractor = create_extractor(source, device=device, **options)
    except FeatcacheError:
        raise
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise StoreError(f"{store.path}: its settings do not define a valid extractor ({error})") from error
    as_recorded(extractor, store.identity)
    description = extractor.description if view is None else view.described(extractor.description)
    now = StoreIdentity.of(description, store.identity.storage_dtype, pool=store.pooled_only)
    differing = store.identity.differences(now)
    if differing:
        raise StoreError(
            f"{store.path}: the extractor on this machine differs in {', '.join(differing)}; nothing was compared"
        )
    return extractor


def _fold_by_utterance(store: FeatureStore) -> dict[str, int]:
    """Return utterance id → fold whose fine-tuned model computed it; empty if one model computed all."""
    origin = TunedOrigin.of(store.identity)
    if origin is None or origin.fold is not None:
        return {}
    tested = read_tested(store.path, origin)
    if tested is None:
        raise StoreError(f"{store.path / TESTED} is missing; run 'featcache extract' again")
    return fold_by_utterance(tested, origin.folds)


def _known(store: FeatureStore, extractor: Extractor, data: Path | None) -> tuple[dict[str, Utterance], Input]:
    """Return the utterances of the corpus by their ids, and the input to read them from."""
    if data is None:
        cache, transcripts = resolved(store.path).parent, store.metadata["transcripts"]
        manifest = Manifest.read(cache / "manifest.csv")
        found = read_words(cache, manifest, None if transcripts == MANIFEST else transcripts)
        return found, input_of(extractor, cache)
    files = read_corpus(data, layout_of(resolved(store.path).parent))
    return {u.utterance_id: u for u in files.manifest}, input_of(extractor, files.root)


def _view(store: FeatureStore, augment: Sequence[str]) -> AugmentedView | None:
    """Return the augmentation of a store.

    Raises:
        StoreError: its settings are not valid.
        ModelError: a folder is needed, or augmentations are given for a store without them.
    """
    settings = store.identity.settings
    if augment and not is_view(settings):
        raise ModelError(f"{store.path} contains speech without augmentation; omit --augment")
    try:
        return AugmentedView.from_settings(settings, augment)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        if isinstance(error, FeatcacheError):
            raise
        raise StoreError(f"{store.path}: its settings do not define a valid augmentation ({error})") from error


def _computed(
    extractor: Extractor, source: Input, utterance: Utterance, view: AugmentedView | None
) -> Iterator[tuple[int, Features]]:
    """Yield first frame and features, computed like in an extraction: whole, or window by window; then the padding."""
    description = extractor.description
    num_samples, rate = source.probe(utterance)
    signal: Any = None
    if view is not None:
        found = source.read(utterance, description.max_seconds)
        signal = signal_of_view(extractor, found, view, utterance.utterance_id)
    if description.in_windows(num_samples / rate * (1.0 if view is None else view.longest)):
        yield from extract_windows(extractor, source.root, utterance, signal=signal)
        return
    if view is None:
        signal = signal_for(extractor, source.read(utterance, description.max_seconds))
    features, padding = extractor.extract_with_padding([signal])[0]
    yield 0, features
    if padding is not None:
        yield features.shape[1], padding


def _compare_frames(
    store: FeatureStore, utterance_id: str, computed: Iterable[tuple[int, Features]]
) -> npt.NDArray[np.float32]:
    """Return the maximum absolute error divided by the largest value for each layer, (num_layers,)."""
    difference = np.zeros(len(store.layer_names), dtype=np.float32)
    scale = np.full(len(store.layer_names), TINY)
    there = int(store.num_frames([utterance_id])[0])
    num_frames = 0
    for first, features in computed:
        if first and store.padded_frames is not None:  # the padding, which begins after all frames of the signal
            if first != there:
                break
            there = store.padded_frames
        num_frames = first + features.shape[1]
        stored = store.view(utterance_id, frames=slice(first, num_frames), with_padding=there == store.padded_frames)
        if stored.shape != features.shape:
            break
        if features.size:  # An utterance of the whole length has no padding.
            difference = np.maximum(difference, np.abs(stored - features).max(axis=(1, 2)))
            scale = np.maximum(scale, np.abs(features).max(axis=(1, 2)))
    if num_frames != there:
        raise StoreError(f"{utterance_id!r} is stored with {there} frames, but recomputed with {num_frames}")
    return difference / scale


def _compare_statistics(
    store: FeatureStore, utterance_id: str, computed: Iterable[tuple[int, Features]]
) -> npt.NDArray[np.float32]:
    """Return the maximum absolute error of mean, std and maximum divided by the largest of them, (num_layers,)."""
    running = RunningStatistics()
    for _, features in computed:
        running.add(features)
    found = running.result()
    there = int(store.num_frames([utterance_id])[0])
    if found.count != there:
        raise StoreError(f"{utterance_id!r} is stored with {there} frames, but recomputed with {found.count}")
    stored = np.stack([store.pooled(kind, [utterance_id])[0] for kind in ("mean", "std", "max")])
    anew = np.stack([found.mean, np.sqrt(found.m2 / np.float32(found.count)), found.max])
    difference, scale = (np.abs(values).max(axis=(0, 2)) for values in (stored - anew, anew))
    deviation: npt.NDArray[np.float32] = difference / np.maximum(scale, TINY)
    return deviation
