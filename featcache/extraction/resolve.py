"""Options of an extraction → request: the corpus, its utterances, and how each store is filled.

A request is resolved once, before a model is loaded or a file is written, and then passed on unchanged.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from featcache.augmentation.augment_option import parse
from featcache.augmentation.augmented_view import AugmentedView
from featcache.cache.shards import read_catalogue, shard_numbers
from featcache.errors import ClusterError, ModelError, StoreError
from featcache.extraction.dask_worker import Recipe, recipe_of
from featcache.extraction.from_run import TunedSource, tuned_source
from featcache.extraction.locate import LocatedCorpus, find_place
from featcache.extraction.plan import default_workers
from featcache.extractors import is_descriptors, store_name, usable_devices
from featcache.manifest import Utterance
from featcache.settings.extractions import ExtractSettings
from featcache.settings.extractor_configs import CHUNK_OPTIONS, MANIFEST
from featcache.transcripts.text import made_by, read_words
from featcache.workspace import Workspace, check_name

DEFAULT_MODEL = "wav2vec2-base"


@dataclass(frozen=True, kw_only=True)
class ExtractionOptions(ExtractSettings):
    """Options of an extraction, and checks of their combination."""

    @property
    def encoder(self) -> str:
        """Speech model, text encoder or descriptors."""
        return self.model or self.text or DEFAULT_MODEL

    def check(self) -> None:
        """Check that no options exclude each other.

        Raises:
            ModelError: the name of the model is empty, or options for audio and text are mixed.
            StoreError: a storage dtype is given for statistics.
        """
        if self.views > 1 and not self.augment:
            raise ModelError(f"--views {self.views} needs an augmentation; add one, such as --augment noise:10-20")
        if "" in (self.model, self.text):  # An unset variable in a shell script.
            raise ModelError("the name of the model is empty; name a model, or omit --model and --text")
        if self.text is None and self.transcripts is not None:
            raise ModelError("--transcripts needs a text encoder; name one with --text")
        if self.text is not None and self.model is not None:
            raise ModelError(
                f"--model {self.model} reads audio and --text {self.text} reads text; extract one after the other"
            )
        if self.text is not None and self.augment:
            raise ModelError(f"--augment changes audio, and --text {self.text} reads text; omit one of them")
        if self.text is not None and self.batch_seconds is not None:
            raise ModelError(f"--batch-seconds does not apply to {self.text!r}, which reads text")
        if self.pool and self.store:
            raise StoreError(
                f"--store {self.store} and --pool exclude each other: statistics are always float32; omit one of them"
            )

    def part(self) -> tuple[int, int]:
        """Return the index of the requested part of the corpus, and the number of parts.

        Raises:
            StoreError: the index is too large.
            ClusterError: parts are requested of an extraction on a cluster.
        """
        if not 0 <= self.shard_index < self.num_shards:
            raise StoreError(
                f"--shard-index is {self.shard_index}, expected 0 to {self.num_shards - 1} (--num-shards "
                f"{self.num_shards})"
            )
        if self.scheduler is not None and self.num_shards > 1:
            raise ClusterError("--scheduler divides the work among its workers; omit --num-shards")
        return self.shard_index, self.num_shards


@dataclass(frozen=True, kw_only=True)
class RequestedStore:
    """Requested store.

    Attributes:
        folder: Folder of the store.
        recipe: Recipe of its extractor, here or on a worker.
        pool: Whether it contains only statistics.
        view: Augmentation of the speech; None for the speech as it is.
        by_fold: Fold of a fine-tuned run → recipe of its model, if utterances are computed by different models. The
            recipe of the store is then that of the first fold.
    """

    folder: Path
    recipe: Recipe
    pool: bool
    view: AugmentedView | None = None
    by_fold: Mapping[int, Recipe] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ExtractionRequest:
    """Resolved request.

    Attributes:
        options: Options of the user.
        place: The corpus and its cache.
        part: Index of the requested part of the corpus, and number of parts.
        requested: Utterances of all parts.
        wanted: Utterances of this part.
        readable: Utterances of this part with the requested transcripts; some ASR transcripts may be missing.
        stores: The stores that are filled; the first is the one that the user names. Views follow.
        device: Device of the models on this machine.
        workers: Number of threads.
        tuned: Fine-tuned models of a run; None for any other extractor.
        fold_of: Utterance id → fold whose model computes it; empty for any other extractor.
        num_failed_before: Number of utterances that are not requested because they failed in the store of the run.
    """

    options: ExtractionOptions
    place: LocatedCorpus
    part: tuple[int, int]
    requested: Sequence[Utterance]
    wanted: Sequence[Utterance]
    readable: Sequence[Utterance]
    stores: tuple[RequestedStore, ...]
    device: str
    workers: int
    tuned: TunedSource | None = None
    fold_of: Mapping[str, int] = field(default_factory=dict)
    num_failed_before: int = 0


def resolve(options: ExtractionOptions, workspace: Workspace) -> ExtractionRequest:
    """Find the corpus, its utterances and the stores of a request.

    Args:
        options: Options of the user.
        workspace: Folder of corpora, caches and runs.

    Raises:
        FeatcacheError: options that exclude each other; no corpus, or several; missing transcripts; an invalid name of
            a store; a device that is not available.
    """
    options.check()
    place = find_place(
        workspace,
        options.corpus,
        options.data,
        audio=options.text is None,
        layout=options.layout,
        speaker_from=options.speaker_from,
    )
    part = options.part()
    tuned = tuned_source(
        options.encoder, workspace, text=options.text is not None, fold=options.fold, seed=options.seed
    )
    requested = chosen = list(place.manifest.limited(options.limit))
    if tuned is not None:
        requested = tuned.without_failed(requested, place.cache.name)
    wanted = requested[part[0] :: part[1]]
    readable = _as_read(options, place, wanted)
    fold_of = tuned.fold_of(requested, place.cache.name) if tuned else {}
    stores = _with_views(options, _stores(options, place.cache, tuned))
    # The workers of a cluster use their own devices.
    on_cpu = _computes_on_cpu(options, tuned) or options.scheduler is not None
    device = "cpu" if on_cpu else usable_devices(options.device)
    return ExtractionRequest(
        options=options,
        place=place,
        part=part,
        requested=requested,
        wanted=wanted,
        readable=readable,
        stores=stores,
        device=device,
        workers=options.workers or default_workers(device),
        tuned=tuned,
        fold_of=fold_of,
        num_failed_before=len(chosen) - len(requested),
    )


def _as_read(options: ExtractionOptions, place: LocatedCorpus, wanted: Sequence[Utterance]) -> Sequence[Utterance]:
    """Return the utterances that the extractor can read, with the requested transcripts if it reads text."""
    if options.text is None:
        return wanted
    words = read_words(place.cache, place.manifest, options.transcripts)
    return [words[u.utterance_id] for u in wanted if u.utterance_id in words]


def _stores(options: ExtractionOptions, cache: Path, tuned: TunedSource | None) -> tuple[RequestedStore, ...]:
    """Return the requested store and, for a speech model, the store of eGeMAPS."""
    encoder, given = options.encoder, dict(options.set)
    if options.text is not None:
        given |= _transcript_options(cache, options.transcripts)
    of_model = store_name(encoder) if tuned is None else tuned.store_name
    usual = "-".join(filter(None, (of_model, options.transcripts)))
    name = check_name("store", usual if options.name is None else options.name, cache)
    on_cpu = _computes_on_cpu(options, tuned)
    device = "cpu" if on_cpu else options.device
    if tuned is None:
        store = RequestedStore(folder=cache / name, recipe=recipe_of(encoder, given, device), pool=options.pool)
    else:
        store = _of_tuned(tuned, cache / name, given, options)
    if not options.egemaps or options.text is not None or on_cpu or name == "egemaps":
        return (store,)
    return store, _egemaps_beside(cache / "egemaps", given, options.pool)


def _of_tuned(tuned: TunedSource, folder: Path, given: Mapping[str, Any], options: ExtractionOptions) -> RequestedStore:
    """Return a store that is filled by fine-tuned models."""
    for name in ("weights", "revision"):
        if given.get(name) not in (None, "pretrained"):
            raise ModelError(
                f"--{name} {given[name]} does not apply to the fine-tuned models of {tuned.run.name}; omit it"
            )
    replaced = json.dumps(tuned.settings())
    recipes = {
        fold: replace(recipe_of(str(path), given, options.device), replaced=replaced)
        for fold, (path, _) in tuned.models.items()
    }
    first, by_fold = next(iter(recipes.values())), recipes if tuned.fold is None else {}
    return RequestedStore(folder=folder, recipe=first, pool=options.pool, by_fold=by_fold)


def _with_views(options: ExtractionOptions, stores: tuple[RequestedStore, ...]) -> tuple[RequestedStore, ...]:
    """Return the stores, followed by the stores of each view, with the same extractors."""
    augmentations = parse(options.augment)
    if not augmentations:
        return stores
    views = [AugmentedView(number=number, augmentations=augmentations) for number in range(1, options.views + 1)]
    beside = [
        replace(one, folder=one.folder.with_name(_view_name(view, one.folder)), view=view)
        for view in views
        for one in stores
    ]
    return (*stores, *beside)


def _view_name(view: AugmentedView, clean: Path) -> str:
    return check_name("store", view.store_name(clean.name), clean.parent)


def _computes_on_cpu(options: ExtractionOptions, tuned: TunedSource | None) -> bool:
    """Return whether the extractor computes descriptors, which have no weights."""
    return options.text is None and tuned is None and is_descriptors(options.encoder)


def _transcript_options(cache: Path, transcripts: str | None) -> dict[str, Any]:
    """Return the options that record which transcripts a text encoder reads."""
    if transcripts is None:
        return {"text": True, "transcripts": MANIFEST}
    return {"text": True, "transcripts": transcripts, "transcripts_made_by": made_by(cache, transcripts)}


def _egemaps_beside(folder: Path, options: Mapping[str, Any], pool: bool) -> RequestedStore:
    """Return the store of eGeMAPS that is filled together with the store of a model.

    An existing store keeps its settings. A new one has the same windows and pooling as the store of the model.
    """
    options = {name: options.get(name) for name in CHUNK_OPTIONS}
    if shard_numbers(folder):
        found = read_catalogue(folder).identity
        pool = found.pool
        if found.settings.get("extractor") == "egemaps":  # Another extractor is refused later, by its settings.
            options = found.model_and_options()[1]
    return RequestedStore(folder=folder, recipe=recipe_of("egemaps", options, "cpu"), pool=pool)
