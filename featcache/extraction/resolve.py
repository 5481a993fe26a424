"""What a user asks for → an extraction request: the corpus, its utterances, and how each store is filled.

A request is resolved once, before any model is loaded or anything is written, and passed on as a whole.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featcache.cache.shards import read_catalogue, shard_numbers
from featcache.errors import ClusterError, ModelError, StoreError
from featcache.extraction.dask_worker import Recipe, recipe_of
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
    """The options that a user gives, and what they exclude."""

    @property
    def encoder(self) -> str:
        """The model, of speech or text, or the descriptors."""
        return self.model or self.text or DEFAULT_MODEL

    def check(self) -> None:
        """Refuse options that exclude each other.

        Raises:
            ModelError: an empty name, or options of audio for text and the other way round.
            StoreError: a storage dtype of statistics.
        """
        if "" in (self.model, self.text):  # a variable of a shell script that is not set
            raise ModelError("the name of the model is empty; name one, or leave --model and --text out")
        if self.text is None and self.transcripts is not None:
            raise ModelError("--transcripts says what a model of text reads; name one with --text")
        if self.text is not None and self.model is not None:
            raise ModelError(
                f"--model {self.model} reads audio and --text {self.text} words; extract one after the other"
            )
        if self.text is not None and self.batch_seconds is not None:
            raise ModelError(f"--batch-seconds does not apply to {self.text!r}, which reads no audio")
        if self.pool and self.store:
            raise StoreError(
                f"--store {self.store} and --pool exclude each other: statistics are always float32; leave out one"
            )

    def part(self) -> tuple[int, int]:
        """Return which part of the corpus is wanted, and how many there are.

        Raises:
            StoreError: no such part.
            ClusterError: parts of an extraction that a cluster shares anyway.
        """
        if not 0 <= self.shard_index < self.num_shards:
            raise StoreError(
                f"--shard-index is {self.shard_index}, expected 0 to {self.num_shards - 1} (--num-shards "
                f"{self.num_shards})"
            )
        if self.scheduler is not None and self.num_shards > 1:
            raise ClusterError("--scheduler shares the work among its workers itself; leave --num-shards out")
        return self.shard_index, self.num_shards


@dataclass(frozen=True, kw_only=True)
class RequestedStore:
    """How a store is filled.

    Attributes:
        folder: Where it is.
        recipe: What makes its extractor, here or on a worker.
        pool: Whether it keeps statistics alone.
    """

    folder: Path
    recipe: Recipe
    pool: bool


@dataclass(frozen=True, kw_only=True)
class ExtractionRequest:
    """A resolved request.

    Attributes:
        options: What the user asks for.
        place: The corpus and its cache.
        part: Which part of the corpus is wanted, and how many there are.
        requested: The utterances of all parts.
        wanted: The utterances of this part.
        readable: The wanted utterances as the extractors read them; a machine may lack the transcripts of some.
        stores: The stores that are filled; the first is the one that the user names.
        device: Where models run here.
        workers: Threads.
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


def resolve(options: ExtractionOptions, workspace: Workspace) -> ExtractionRequest:
    """Find the corpus, its utterances and the stores that a user asks for.

    Args:
        options: What the user asks for.
        workspace: Where everything lives.

    Raises:
        FeatcacheError: options that exclude each other; no or several corpora; no such transcripts; a name that no
            store can have; a device that is not here.
    """
    options.check()
    place = find_place(workspace, options.corpus, options.data, audio=options.text is None, layout=options.layout)
    part = options.part()
    requested = list(place.manifest.limited(options.limit))
    wanted = requested[part[0] :: part[1]]
    readable = _as_read(options, place, wanted)
    stores = _stores(options, place.cache)
    # the workers of a cluster use their own devices
    on_cpu = _computes_on_cpu(options) or options.scheduler is not None
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
    )


def _as_read(options: ExtractionOptions, place: LocatedCorpus, wanted: Sequence[Utterance]) -> Sequence[Utterance]:
    """Return utterances as the extractor reads them: with the transcripts that are asked for, if it reads text."""
    if options.text is None:
        return wanted
    words = read_words(place.cache, place.manifest, options.transcripts)
    return [words[u.utterance_id] for u in wanted if u.utterance_id in words]


def _stores(options: ExtractionOptions, cache: Path) -> tuple[RequestedStore, ...]:
    """Return the stores that are filled: the one that is asked for, and eGeMAPS beside a model of speech."""
    encoder, given = options.encoder, dict(options.set)
    if options.text is not None:
        given |= _transcript_options(cache, options.transcripts)
    usual = "-".join(filter(None, (store_name(encoder), options.transcripts)))
    name = check_name("store", usual if options.name is None else options.name, cache)
    on_cpu = _computes_on_cpu(options)
    device = "cpu" if on_cpu else options.device
    store = RequestedStore(folder=cache / name, recipe=recipe_of(encoder, given, device), pool=options.pool)
    if not options.egemaps or options.text is not None or on_cpu or name == "egemaps":
        return (store,)
    return store, _egemaps_beside(cache / "egemaps", given, options.pool)


def _computes_on_cpu(options: ExtractionOptions) -> bool:
    """Whether the extractor has no weights."""
    return options.text is None and is_descriptors(options.encoder)


def _transcript_options(cache: Path, transcripts: str | None) -> dict[str, Any]:
    """Return the options of an extractor that say whose transcripts it reads."""
    if transcripts is None:
        return {"text": True, "transcripts": MANIFEST}
    return {"text": True, "transcripts": transcripts, "transcripts_made_by": made_by(cache, transcripts)}


def _egemaps_beside(folder: Path, options: Mapping[str, Any], pool: bool) -> RequestedStore:
    """Return how an eGeMAPS store is filled beside that of a model.

    One that exists is continued as it was begun; a new one is cut and pooled as the model's is.
    """
    options = {name: options.get(name) for name in CHUNK_OPTIONS}
    if shard_numbers(folder):
        found = read_catalogue(folder).identity
        pool = found.pool
        if found.settings.get("extractor") == "egemaps":  # anything else is refused by the settings of the store
            options = found.model_and_options()[1]
    return RequestedStore(folder=folder, recipe=recipe_of("egemaps", options, "cpu"), pool=pool)
