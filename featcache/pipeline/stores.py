"""Stores of a pipeline → number of missing utterances, their planned size, and their extraction."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from featcache import audio
from featcache.augmentation.augment_option import parse
from featcache.augmentation.augmented_view import AugmentedView
from featcache.cache.failures import read_failures
from featcache.cache.identity import StoreIdentity
from featcache.cache.layout import STATISTICS
from featcache.cache.shards import Catalogue, read_catalogue, shard_numbers
from featcache.errors import AudioError, StoreError
from featcache.extraction import ExtractionReport
from featcache.extraction.extract_corpus import carry_out
from featcache.extraction.from_run import tuned_source
from featcache.extraction.plan import ROW_BYTES, is_same
from featcache.extraction.resolve import ExtractionOptions, resolve
from featcache.extractors import create_extractor, find_extractor
from featcache.extractors.checkpoint import is_folder, read_config
from featcache.extractors.models import dimensions, frames_per_hour, known_models, known_text_models
from featcache.extractors.pretrained import explained
from featcache.manifest import Utterance
from featcache.pipeline.locate import PipelineCorpus, require_audio
from featcache.pipeline.schema import StoreSpec
from featcache.settings.extractor_configs import MANIFEST
from featcache.transcripts.files import is_finished
from featcache.transcripts.text import Transcript, made_by, read_words
from featcache.units import format_bytes

# Typical values for English subword tokens, to estimate the number of tokens of a text.
CHARACTERS_PER_TOKEN, SPECIAL_TOKENS, MOST_TOKENS = 4, 2, 512

# Options that a fine-tuned model does not have.
WHOLE = ("weights", "num_blocks", "revision")

log = logging.getLogger(__name__)

# Length of every signal with the padding of a published Whisper model.
PADDED_SECONDS = 30.0


@dataclass(frozen=True)
class PipelineStore:
    """A store of a pipeline in the cache of a corpus.

    Attributes:
        name: Name of its folder.
        spec: Fields of the store in the pipeline.
        place: The corpus.
        wanted: Utterances that the store must contain.
        source: Folder of the finished run whose fine-tuned model fills the store; None for other stores, and until the
            run is finished.
    """

    name: str
    spec: StoreSpec
    place: PipelineCorpus
    wanted: Sequence[Utterance]
    source: Path | None = None

    @property
    def waits(self) -> bool:
        """Whether the store is made from a fine-tuned run that is not finished yet."""
        return self.spec.run is not None and self.source is None

    @property
    def folder(self) -> Path:
        """Folder of the store."""
        return self.place.cache / self.name

    @cached_property
    def missing(self) -> int:
        """Number of utterances to extract.

        No model is loaded to find this number. If it is uncertain whether a store has the right settings, all
        utterances count as missing, and the extraction decides.
        """
        catalogue = None if self.waits else _catalogue(self.folder)
        if catalogue is None or not catalogue.complete or not self._is_filled_as_asked(catalogue):
            return len(self.wanted)
        if not all(self._has_view(view, catalogue) for view in self.views):
            return len(self.wanted)
        extracted = min(path.stat().st_mtime_ns for path in self.folder.glob("shard-*.h5"))
        if self._waits_for_words or (self.spec.is_model and is_newer(self.spec.encoder, extracted)):
            return len(self.wanted)
        if self.spec.text and not _reads(self.spec.transcripts, self.place.cache, catalogue.identity):
            return len(self.wanted)
        stored = {row["id"]: row for row in catalogue.utterances}
        failed = {failure.utterance_id for failure in read_failures(self.folder)}
        return sum(
            not is_same(stored[u.utterance_id], u, self._checksum(u))
            if u.utterance_id in stored
            else u.utterance_id not in failed
            for u in self._read
        )

    def _is_filled_as_asked(self, catalogue: Catalogue) -> bool:
        """Return whether the existing store certainly has the requested settings, and the same fine-tuned model."""
        if self.source is None:
            return _is_of(self.spec, catalogue)
        spec = self.spec
        tuned = tuned_source(
            str(self.source), self.place.workspace, text=bool(spec.text), fold=spec.fold, seed=spec.seed
        )
        found = catalogue.identity.settings
        expected = tuned.settings() if tuned else {}
        return _is_of(spec, catalogue, self.source.name) and expected.items() <= found.items()

    @cached_property
    def views(self) -> Sequence[AugmentedView]:
        """Views of the store."""
        augmentations = parse(self.spec.augment)
        numbers = range(1, self.spec.views + 1) if augmentations else ()
        return [AugmentedView(number=number, augmentations=augmentations) for number in numbers]

    def _has_view(self, view: AugmentedView, clean: Catalogue) -> bool:
        """Return whether a view has the utterances and the settings of the clean store."""
        found = _catalogue(self.folder.with_name(view.store_name(self.name)))
        if found is None or not found.complete:
            return False
        expected = {**clean.identity.settings, **view.settings()}
        ids = {row["id"] for row in clean.utterances}
        return found.identity.settings == expected and {row["id"] for row in found.utterances} >= ids

    @property
    def _waits_for_words(self) -> bool:
        """Whether the ASR transcripts that the store reads are not finished yet."""
        return self.spec.transcripts is not None and not is_finished(self.place.cache, self.spec.transcripts)

    @cached_property
    def _read(self) -> Sequence[Utterance]:
        """Utterances with the transcripts that the extractor reads."""
        if not self.spec.text or self._waits_for_words:
            return self.wanted
        words = read_words(self.place.cache, self.place.manifest, self.spec.transcripts)
        return [words.get(u.utterance_id, u) for u in self.wanted]

    def _checksum(self, utterance: Utterance) -> str | None:
        if self.spec.text:
            return Transcript(text=utterance.transcript).sha256
        return self.place.checksum(utterance.path)

    def fill(self, *, device: str, limit: int | None) -> ExtractionReport:
        """Extract what is missing; an existing store with frames is also accepted if only statistics are needed.

        Args:
            device: Device of torch.
            limit: Number of utterances; None for all.
        """
        if self.spec.model is not None:
            find_extractor(self.spec.model)  # only the user may name external code; extract() would accept the file's
        catalogue = _catalogue(self.folder)
        pool, dtype = self.spec.pool, self.spec.store
        if catalogue is not None:
            found = catalogue.identity
            pool = pool and found.pool
            dtype = dtype or (found.storage_dtype if self.spec.is_model else None)
        source = None if self.source is None else str(self.source)
        asked = ExtractionOptions(
            model=source if source and self.spec.model else self.spec.model,
            text=source if source and self.spec.text else self.spec.text,
            fold=self.spec.fold,
            seed=self.spec.seed,
            transcripts=self.spec.transcripts,
            corpus=self.place.name,
            data=self.place.data if self.spec.text else require_audio(self.place),
            set=self._options,
            augment=self.spec.augment,
            views=self.spec.views,
            layout=self.place.layout,
            speaker_from=self.place.speaker_from,
            egemaps=False,
            name=self.name,
            store=None if pool else dtype,
            pool=pool,
            limit=limit,
            device=device,
        )
        # Not the public function: it would import external code that the file names, which only the user may allow.
        return carry_out(resolve(asked, self.place.workspace))

    @property
    def _options(self) -> dict[str, Any]:
        """Options of the extractor; a fine-tuned model has the weights and blocks that it has."""
        whole = () if self.spec.run is None else WHOLE
        return {name: value for name, value in self.spec.options.items() if name not in whole}

    @cached_property
    def lengths(self) -> list[tuple[int, int]]:
        """Number of samples and sampling rate of each utterance, from the headers; unreadable files are left out."""
        if self.place.root is None:
            return []
        found, reasons = [], []
        headers = self.place.audio_files.header
        for utterance in self.wanted:
            try:
                found.append(audio.probe(self.place.root, utterance, headers))
            except AudioError as error:
                reasons.append(str(error))
        if reasons:
            log.warning("%d of %d utterances cannot be read; first: %s", len(reasons), len(self.wanted), reasons[0])
        return found

    @property
    def lacks_audio(self) -> bool:
        """Whether utterances are missing and no audio is available to extract them."""
        return bool(self.missing) and not self.spec.text and self.place.root is None

    def planned_size(self) -> tuple[int | None, str]:
        """Return the approximate size of the missing utterances in bytes, or None if it is unknown; and as a text."""
        if self.lacks_audio:
            return None, "size unknown without the audio"
        if not (self.spec.text or self.lengths):
            return None, f"size unknown: no audio file under {self.place.root} can be read"
        size = self._planned_bytes()
        if size is not None:
            size *= 1 + len(self.views)
        return size, "size unknown until the model is downloaded" if size is None else f"about {format_bytes(size)}"

    def _planned_bytes(self) -> int | None:
        """Return the approximate size of the missing utterances in bytes; None if the size of the model is unknown."""
        if not self.spec.is_model:
            return _descriptor_bytes(self)
        known = model_dimensions(self.spec.encoder)
        if known is None:
            return None
        layers, size, hourly = known
        layers = min(layers, (self.spec.num_blocks or layers) + 1)
        if self.spec.layers in ("local", "last"):
            layers = 1
        per_statistic = len(STATISTICS) * np.dtype(np.float32).itemsize
        total = len(self.wanted) * (ROW_BYTES + layers * size * per_statistic)
        if not self.spec.pool:
            itemsize = np.dtype(self.spec.store or "float16").itemsize
            frames = self._tokens() if self.spec.text else round(_seconds(self) * hourly / 3600)
            total += frames * layers * size * itemsize
        return total * self.missing // len(self.wanted)

    def _tokens(self) -> int:
        texts = [utterance.transcript for utterance in self._read]
        if self.spec.weights == "random":
            return sum(min(len(text.encode()) + 1, MOST_TOKENS) for text in texts)
        return sum(min(len(text) // CHARACTERS_PER_TOKEN + SPECIAL_TOKENS, MOST_TOKENS) for text in texts)


def _catalogue(folder: Path) -> Catalogue | None:
    try:
        return read_catalogue(folder) if shard_numbers(folder) else None
    except StoreError:
        return None


def _is_of(spec: StoreSpec, catalogue: Catalogue, run: str | None = None) -> bool:
    """Return whether an existing store certainly has the requested settings.

    Args:
        spec: Requested settings.
        catalogue: Content of the store.
        run: Name of the run whose fine-tuned model fills the store; None for other stores.
    """
    found = catalogue.identity
    if found.pool and not spec.pool:
        return False
    if spec.store not in (None, found.storage_dtype):
        return False
    if not spec.is_model:
        description = create_extractor(spec.encoder, **spec.options).description
        return StoreIdentity.of(description, found.storage_dtype, pool=found.pool) == found
    num_blocks = int(catalogue.attributes.get("num_blocks", 0))
    if run is not None:
        # The model itself, with its own normalisation of waveforms, is compared by checksum.
        own = {"do_normalize": found.settings.get("do_normalize"), **spec.options}
        own = {name: value for name, value in own.items() if name not in WHOLE}
        return found.is_of_model(run, own, text=spec.text is not None, num_blocks=num_blocks)
    return found.is_of_model(spec.encoder, spec.options, text=spec.text is not None, num_blocks=num_blocks)


def _reads(transcripts: str | None, cache: Path, found: StoreIdentity) -> bool:
    """Return whether a text store was extracted from the current version of these transcripts."""
    expected = (MANIFEST, "") if transcripts is None else (transcripts, made_by(cache, transcripts))
    return expected == (found.settings["transcripts"], found.settings["transcripts_made_by"])


def is_newer(model: str, made: int) -> bool:
    """Return whether a model folder was changed after features were extracted, so its weights may be different.

    Args:
        model: Name or folder of the model in the pipeline; a name counts as unchanged.
        made: Time of the extraction, in nanoseconds since 1970.
    """
    if model in known_models() or model in known_text_models() or not Path(model).is_dir():
        return False
    return any(path.stat().st_mtime_ns > made for path in Path(model).iterdir() if path.is_file())


def _descriptor_bytes(store: PipelineStore) -> int:
    """Return the size in bytes of low-level descriptors or functionals, from their exact number of frames."""
    extractor = create_extractor(store.spec.encoder, **store.spec.options)
    description = extractor.description
    total = 0
    for num_samples, rate in store.lengths:
        kept = audio.kept_samples(num_samples, rate, description.max_seconds)
        used = description.sampling_rate or rate
        frames = extractor.num_frames(audio.resampled_length(kept, rate, used), used)
        rows = (0 if store.spec.pool else frames) + len(STATISTICS)
        total += ROW_BYTES + np.dtype(np.float32).itemsize * description.hidden_size * rows
    return total * store.missing // len(store.wanted)


def model_dimensions(model: str) -> tuple[int, int, int] | None:
    """Return number of layers, hidden size and frames per hour of a model, without loading weights; None if unknown."""
    if model in known_models():
        family, config = known_models()[model]["family"], known_models()[model]["config"]
    elif model in known_text_models():
        return known_text_models()[model]["num_layers"], known_text_models()[model]["hidden_size"], 0
    elif is_folder(model):
        config = read_config(Path(model))
        family = config.get("model_type", "")
    else:
        return None
    with explained(model):
        return *dimensions(family, config), frames_per_hour(family)


def _seconds(store: PipelineStore) -> float:
    if store.spec.keep_padding:
        return PADDED_SECONDS * len(store.lengths)
    most = store.spec.max_seconds or np.inf
    return float(sum(min(num_samples / rate, most) for num_samples, rate in store.lengths))
