"""What a pipeline's file may say: every field, what it means, and what may stand there."""

from collections.abc import Iterable
from dataclasses import fields
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from featcache.corpora import CORPORA
from featcache.errors import ModelError, StoreError, unknown_name
from featcache.evaluate.scores import SCORES, find_score
from featcache.evaluate.voting import VOTES
from featcache.extractors import DESCRIPTORS, find_extractor, is_descriptors, is_reference
from featcache.extractors.models import known_models, known_text_models
from featcache.fitting.request import FitRequest
from featcache.heads import LAYER_WEIGHTINGS, SPECS
from featcache.heads.base import POOLINGS
from featcache.normalise import SCOPES, SPEAKER
from featcache.protocols import PROTOCOLS
from featcache.workspace import check_name

UNKNOWN_FIELD = "unknown_field"


def _known(kind: str, names: Iterable[str]) -> AfterValidator:
    """Refuse a name that is not among these."""
    known = tuple(names)

    def check(name: str) -> str:
        if name not in known:
            raise ValueError(unknown_name(kind, name, known))
        return name

    return AfterValidator(check)


def _check_model(model: str) -> str:
    """A name without a slash is short, one of a file's own or a mistake."""
    if is_reference(model):
        try:
            find_extractor(model)
        except ModelError as error:
            raise ValueError(str(error)) from error
        return model
    if "/" not in model and model not in known_models():
        raise ValueError(unknown_name("model", model, (*DESCRIPTORS, *known_models())))
    return model


def _check_metric(metric: str) -> str:
    """A score of a classification, or of a regression: the mean of its dimensions or, as ``ccc_valence``, of one."""
    try:
        find_score(metric)
    except KeyError:
        known = [*SCORES, *(f"{score.name}_DIMENSION" for score in SCORES.values() if score.of_dimensions)]
        raise ValueError(unknown_name("metric", metric, known)) from None
    return metric


def _check_text_model(model: str) -> str:
    if "/" not in model and model not in known_text_models():
        raise ValueError(unknown_name("text model", model, known_text_models()))
    return model


def _named(kind: str) -> AfterValidator:
    """Refuse a name that makes no name of a file."""

    def check(name: str) -> str:
        try:
            return check_name(kind, name, advice="choose another")
        except StoreError as error:
            raise ValueError(str(error)) from error

    return AfterValidator(check)


def _several(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


FileName = Annotated[str, _named("file")]
Names = Annotated[tuple[str, ...], BeforeValidator(_several), Field(min_length=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class Part(BaseModel):
    """What all parts of a file have in common: they never change, and know all their fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _check_fields(cls, given: Any) -> Any:
        for name in given if isinstance(given, dict) else ():
            if name not in cls.model_fields:
                told = unknown_name("field", name, cls.model_fields)
                raise PydanticCustomError(UNKNOWN_FIELD, "{told}", {"told": told, "field": name})
        return given


class StoreSpec(Part):
    """A feature store: which model or descriptors, and how they are extracted."""

    model: Annotated[str, AfterValidator(_check_model)] | None = Field(
        default=None,
        description="Short name ('featcache models'), Hugging Face id, ./folder, egemaps, egemaps-functionals, "
        "spectrogram.",
    )
    text: Annotated[str, AfterValidator(_check_text_model)] | None = Field(
        default=None, description="In place of a model: an encoder of text, which reads the transcripts."
    )
    transcripts: str | None = Field(
        default=None, description="For text: a machine's ('featcache transcribe'); None is the manifest's."
    )
    pool: bool = Field(default=False, description="Keep statistics alone, where only pooled features are trained on.")
    store: Literal["float16", "float32", "int8"] | None = Field(default=None, description="How features are stored.")
    weights: Literal["pretrained", "random"] | None = Field(default=None, description="random: untrained.")
    revision: str | None = Field(default=None, description="Branch, tag or commit on the Hugging Face hub.")
    num_blocks: Count | None = Field(default=None, description="Only so many transformer blocks, the first.")
    layers: str | None = Field(default=None, description="all, local, last, or a list such as 0,4-8.")
    do_normalize: bool | None = Field(default=None, description="Normalise waveforms; None as the checkpoint says.")
    max_seconds: Positive | None = Field(default=None, description="How much of each utterance is used.")
    chunk_seconds: Positive | None = Field(default=None, description="Longer utterances are computed in windows.")
    overlap_seconds: Annotated[float, Field(ge=0)] | None = Field(default=None, description="Of these windows.")
    precision: Literal["float32", "bfloat16", "float16"] | None = Field(default=None, description="Models compute in.")
    sampling_rate: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="In Hz, for descriptors; 0 for each file's own."
    )
    channel: Literal["mean", "first"] | None = Field(default=None, description="How descriptors mix channels.")
    window: str | None = Field(default=None, description="Of a spectrogram: 25ms, or 400samples.")
    hop: str | None = Field(default=None, description="Of a spectrogram: 10ms, or 320samples.")
    n_fft: Annotated[int, Field(ge=2)] | None = Field(default=None, description="Of a spectrogram, in samples.")
    center: bool | None = Field(default=None, description="Whether a spectrogram's frames are centred.")

    @model_validator(mode="after")
    def _check_kind(self) -> "StoreSpec":
        if (self.model is None) == (self.text is None):
            raise ValueError("expected either 'model' or 'text'")
        if self.text is None:
            if self.transcripts is not None:
                raise ValueError("'transcripts' are what 'text' reads; a 'model' reads audio")
            return self
        strange = sorted(self.options.keys() - {"weights", "revision", "layers", "precision"})
        if strange:
            raise ValueError(f"{', '.join(strange)} does not apply to 'text'")
        return self

    @property
    def encoder(self) -> str:
        """What extracts: a model, of speech or of text, or descriptors."""
        return self.model or self.text or ""

    @property
    def options(self) -> dict[str, Any]:
        """What the extractor is told."""
        return self.model_dump(exclude={"model", "text", "transcripts", "pool", "store"}, exclude_none=True)

    @property
    def is_model(self) -> bool:
        """Whether it has weights, which could be random."""
        return self.model is None or not is_descriptors(self.model)


class TranscriptSpec(Part):
    """Transcripts that a machine makes, beside the human ones."""

    model: str = Field(description="A Whisper: short name ('featcache models'), Hugging Face id, or ./folder.")
    language: str | None = Field(default=None, description="Such as de; None lets Whisper find out.")
    revision: str | None = Field(default=None, description="Branch, tag or commit on the Hugging Face hub.")

    @field_validator("model")
    @classmethod
    def _check_model(cls, model: str) -> str:
        known = [name for name, entry in known_models().items() if entry["family"] == "whisper"]
        if "/" not in model and model not in known:
            raise ValueError(unknown_name("model that transcribes", model, known))
        return model


class TrainingSpec(Part):
    """How heads are trained, where that differs from the defaults of 'featcache fit'."""

    learning_rate: Positive | None = Field(default=None, description="Of Adam.")
    batch_size: Count | None = Field(default=None, description="Utterances per step.")
    max_epochs: Count | None = Field(default=None, description="At most so many.")
    patience: Count | None = Field(default=None, description="Epochs without improvement after which training ends.")
    clip_value: Positive | None = Field(default=None, description="Gradients are clipped to it, value by value.")
    epsilon: Positive | None = Field(default=None, description="Of Adam.")


class RunSettings(Part):
    """What runs may have in common; 'defaults' of a pipeline, which each run can overrule."""

    features: Names | None = Field(default=None, description="Names of stores; two or more for fusion.")
    head: Annotated[str, _known("head", SPECS)] = Field(default="dense", description="What is trained.")
    norm: Annotated[str, _known("normalisation", SCOPES)] = Field(default="speaker", description="Whose statistics.")
    norm_by: str = Field(default=SPEAKER, description="What counts as the speaker: speaker_id, or a label.")
    layers: str = Field(default="all", description="all, local, last, or a list such as 0,4-8.")
    layer_weighting: Annotated[str, _known("layer weighting", LAYER_WEIGHTINGS)] = Field(
        default="abs", description="How layer weights are made to sum to 1: abs or softmax."
    )
    pooling: Annotated[str, _known("pooling", POOLINGS)] | None = Field(
        default=None, description="mean, sum, max or mean+max of an utterance's frames in place of them."
    )
    scalar_norm: bool = Field(default=False, description="One mean and deviation for all dimensions of a layer.")
    max_frames: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="Frames used of each utterance; 0 for all, None as the corpus says."
    )
    protocol: Annotated[str, _known("protocol", PROTOCOLS)] | None = Field(
        default=None, description="Which utterances train and test ('featcache corpora')."
    )
    target: str | None = Field(
        default=None, description="The label to predict, or several numbers; None as the protocol says."
    )
    task: Literal["classification", "regression"] | None = Field(
        default=None, description="Where the label does not tell."
    )
    select: dict[str, Names] = Field(default={}, description="Only utterances with these labels.")
    seeds: Count = Field(default=5, description="How many trainings in each fold.")
    training: TrainingSpec = Field(default=TrainingSpec(), description="How heads are trained.")
    note: str = Field(default="", description="What differs from the paper; printed beside the numbers.")


class RunSpec(RunSettings):
    """A row of the table: a fit over all folds and seeds of a protocol."""

    title: str = Field(description="What the table calls it.")
    published: dict[str, str] | None = Field(
        default=None, description="Columns of the published results that tell this row's number from the others."
    )
    corpus: Annotated[str, _known("corpus", CORPORA)] | None = Field(
        default=None, description="A row for this corpus alone, in a pipeline of several."
    )

    def request(self, seeds: tuple[int, ...]) -> FitRequest:
        """What ``fit`` is asked for."""
        settings = self.model_dump(
            include={field.name for field in fields(FitRequest)} - {"seeds", "training"}, exclude_none=True
        )
        return FitRequest(**settings, seeds=seeds, training=self.training.model_dump(exclude_none=True))


class FigureSpec(Part):
    """Learned layer weights of runs, side by side."""

    runs: Names = Field(description="Runs that learn layer weights.")
    probes: bool = Field(default=False, description="Below them, how a linear probe does on each layer for each run.")
    caption: str = Field(default="Learned layer weights; bars are the deviation over seeds.", description="Below it.")


class GainSpec(Part):
    """What one run gains over another, relative to the other's score, with its interval."""

    metric: Annotated[str, AfterValidator(_check_metric)] = Field(description="Of which score: ccc_valence, uar, …")
    pairs: dict[str, Annotated[tuple[str, str], BeforeValidator(_several)]] = Field(
        min_length=1, description="Title of a bar → the run that gains, and the run that it gains over."
    )
    caption: str = Field(default="Relative gain; bars are 95 % intervals.", description="Below it.")

    @property
    def runs(self) -> tuple[str, ...]:
        """All that are named."""
        return tuple(run for pair in self.pairs.values() for run in pair)


class EnsembleSpec(Part):
    """A row of the table: runs that vote."""

    title: str = Field(description="What the table calls it.")
    runs: Names = Field(description="The runs among which members are chosen on validation.")
    size: Annotated[int, Field(ge=2)] = Field(description="How many vote; if all do, nothing is chosen.")
    votes: Annotated[tuple[Annotated[str, _known("vote", VOTES)], ...], BeforeValidator(_several)] = Field(
        default=("hard",), description="hard (majority), soft (mean probability), or both."
    )
    published: dict[str, str] | None = Field(default=None, description="As of a run.")
    note: str = Field(default="", description="As of a run.")


class ComparisonSpec(Part):
    """Paired tests of runs that tested the same."""

    runs: Names = Field(description="Two or more.")


class Pipeline(Part):
    """A published experiment, from audio to table."""

    title: str = Field(description="What it is; stands above the table.")
    paper: str = Field(default="", description="Where the published numbers and settings are from.")
    corpus: Annotated[tuple[Annotated[str, _known("corpus", CORPORA)], ...], BeforeValidator(_several)] = Field(
        default=(), description="For which it is made; several are done one after another; none fits all."
    )
    metric: Annotated[
        tuple[Annotated[str, AfterValidator(_check_metric)], ...], BeforeValidator(_several), Field(min_length=1)
    ] = Field(default=("uar",), description="What the table compares: uar, wa, ccc, ccc_valence, …; or several.")
    published: dict[str, str] = Field(default={}, description="What all rows' published results have in common.")
    transcripts: dict[Annotated[str, _named("transcripts")], TranscriptSpec] = Field(
        default={},
        description="Name of transcripts that stores of words read → what makes them, unless they are there.",
    )
    stores: dict[Annotated[str, _named("store")], StoreSpec] = Field(
        min_length=1, description="Name of a store → what is in it."
    )
    defaults: RunSettings = Field(default=RunSettings(), description="What runs have in common.")
    runs: dict[str, RunSpec] = Field(min_length=1, description="A short name → a row of the table.")
    ensembles: dict[FileName, EnsembleSpec] = Field(default={}, description="A short name → votes of runs.")
    figures: dict[FileName, FigureSpec] = Field(default={}, description="File name → layer weights of runs.")
    gains: dict[FileName, GainSpec] = Field(default={}, description="File name → relative gains of runs over others.")
    comparisons: dict[FileName, ComparisonSpec] = Field(default={}, description="File name → paired tests of runs.")

    def run(self, name: str) -> RunSpec:
        """A run with what the defaults say of it."""
        given = self.runs[name].model_dump(exclude_unset=True)
        return RunSpec.model_validate({**self.defaults.model_dump(exclude_unset=True), **given})
