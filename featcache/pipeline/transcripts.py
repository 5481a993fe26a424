"""ASR transcripts of a pipeline → number of missing utterances, and their transcription."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from featcache.cache.failures import read_failures
from featcache.extractors.models import store_model_id
from featcache.manifest import Utterance
from featcache.pipeline.locate import PipelineCorpus, require_audio
from featcache.pipeline.schema import Pipeline, StoreSpec, TranscriptSpec
from featcache.pipeline.stores import is_newer
from featcache.transcription import TranscriptionReport, transcribe
from featcache.transcripts.files import FOLDER, description_path, is_finished, read_description, read_transcripts
from featcache.units import format_number


@dataclass(frozen=True)
class Transcripts:
    """ASR transcripts of a corpus that a pipeline needs.

    Attributes:
        name: Name of the transcripts.
        spec: Fields of the transcripts in the pipeline.
        place: The corpus.
        wanted: Utterances to transcribe.
    """

    name: str
    spec: TranscriptSpec
    place: PipelineCorpus
    wanted: Sequence[Utterance]

    @cached_property
    def missing(self) -> int:
        """Number of utterances to transcribe; utterances that failed before are not tried again.

        No model is loaded to find this number. If the transcripts may be from another model, all utterances count as
        missing, and the transcription decides.
        """
        cache = self.place.cache
        if not is_finished(cache, self.name) or not self._are_of_this_model:
            return len(self.wanted)
        failed = {failure.utterance_id for failure in read_failures(cache / FOLDER / self.name)}
        there = read_transcripts(cache, self.name).keys() | failed
        return sum(utterance.utterance_id not in there for utterance in self.wanted)

    @property
    def _are_of_this_model(self) -> bool:
        settings = read_description(self.place.cache, self.name)["settings"]
        made = description_path(self.place.cache, self.name).stat().st_mtime_ns
        wanted = (store_model_id(self.spec.model), self.spec.language)
        return wanted == (settings["model_id"], settings["language"]) and not is_newer(self.spec.model, made)

    def fill(self, *, device: str, limit: int | None) -> TranscriptionReport:
        """Transcribe what is missing."""
        return transcribe(
            model=self.spec.model,
            corpus=self.place.name,
            data=require_audio(self.place),
            layout=self.place.layout,
            speaker_from=self.place.speaker_from,
            name=self.name,
            language=self.spec.language,
            revision=self.spec.revision,
            limit=limit,
            device=device,
            home=self.place.workspace.home,
        )


def transcripts_of(
    pipeline: Pipeline, stores: Sequence[StoreSpec], place: PipelineCorpus, wanted: Sequence[Utterance]
) -> list[Transcripts]:
    """Return the transcripts that the text stores read and the pipeline makes.

    Args:
        pipeline: The pipeline.
        stores: Stores that runs read.
        place: The corpus.
        wanted: Utterances to transcribe.

    Raises:
        StoreError: Transcripts that the pipeline does not make are not in the cache.
    """
    names = {spec.transcripts for spec in stores if spec.transcripts}
    for name in sorted(names - pipeline.transcripts.keys()):
        read_description(place.cache, name)
    return [Transcripts(name, spec, place, wanted) for name, spec in pipeline.transcripts.items() if name in names]


def word_errors_of(place: PipelineCorpus, name: str) -> str:
    """Return a note with ASR transcripts, the size of their model and their word error rate, if these are known."""
    description = read_description(place.cache, name)
    number, errors = description.get("num_parameters"), description.get("wer")
    told = [f"ASR transcripts of {name}"]
    told += [f"{format_number(number)} parameters"] if number else []
    told += [f"word error rate {errors['percent']:.1f} %"] if errors else []
    return ", ".join(told)
