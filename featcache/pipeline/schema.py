"""What a pipeline's file may say: every field, what it means, and what may stand there."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    create_model,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from featcache.corpora import CORPORA
from featcache.errors import StoreError, unknown_name
from featcache.evaluate.scores import SCORES, find_score
from featcache.evaluate.voting import VOTES
from featcache.extractors import DESCRIPTORS, configuration_of, find_extractor, is_descriptors, is_reference
from featcache.extractors.models import known_models, known_text_models
from featcache.heads import head_spec
from featcache.protocols import PROTOCOLS
from featcache.registry import Registry
from featcache.settings.checked import schema_fields
from featcache.settings.extractions import ExtractorFlags, ExtractSettings, extractor_options
from featcache.settings.extractor_configs import TextConfig
from featcache.settings.field import settings_of
from featcache.settings.fits import FitSettings, TrainingConfig
from featcache.settings.trials import PipelineSettings
from featcache.workspace import check_name

UNKNOWN_FIELD = "unknown_field"


def _known_head(name: str) -> str:
    """Refuse a head that is unknown, or that the user did not name."""
    head_spec(name)
    return name


def _known(kind: str, names: Iterable[str]) -> AfterValidator:
    """Refuse a name that is not among these; of a registry, a part that may not be used. Nothing is imported."""
    known = names if isinstance(names, Registry) else tuple(names)

    def check(name: str) -> str:
        if name not in known:
            raise ValueError(known.refusal(name) if isinstance(known, Registry) else unknown_name(kind, name, known))
        return name

    return AfterValidator(check)


def _check_model(model: str) -> str:
    """A name without a slash is short, one of a file's own or a mistake."""
    if is_reference(model):
        find_extractor(model)
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


class Part(BaseModel):
    """What all parts of a file have in common: they never change, and know all their fields."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _check_fields(cls, given: Any) -> Any:
        for name in given if isinstance(given, dict) else ():
            if name not in cls.model_fields:
                told = _unknown_field(name, cls.model_fields)
                raise PydanticCustomError(UNKNOWN_FIELD, "{told}", {"told": told, "field": name})
        return given


def _unknown_field(name: str, known: Iterable[str]) -> str:
    """What to do about a field that is not known: one of an earlier release, an option, or a mistake."""
    if name == "training":
        told = ", ".join(settings_of(TrainingConfig))
        return f"unknown field 'training'; its fields stand beside the others now: {told}"
    if name in settings_of(PipelineSettings) and not any(
        name in part.model_fields for part in (Pipeline, RunSpec, StoreSpec)
    ):
        return f"unknown field {name!r}; it is an option of the command line: featcache run --{name.replace('_', '-')}"
    return unknown_name("field", name, known)


_STORE_OPTIONS = ("transcripts", "set", "store", "pool")
_CHECKS_OF_STORES = {"model": AfterValidator(_check_model), "text": AfterValidator(_check_text_model)}

if TYPE_CHECKING:

    class StoreOptions(Part):
        """Every option of ``extract`` that makes a store what it is."""

        def __getattr__(self, name: str) -> Any: ...
else:
    StoreOptions = create_model(
        "StoreOptions",
        __base__=Part,
        **schema_fields(ExtractSettings, ("model", "text", *_STORE_OPTIONS), checks=_CHECKS_OF_STORES),
        **schema_fields(ExtractorFlags),
    )


class StoreSpec(StoreOptions):
    """A feature store: which model or descriptors, and how they are extracted."""

    @model_validator(mode="after")
    def _check_kind(self) -> "StoreSpec":
        if (self.model is None) == (self.text is None):
            raise ValueError("expected either 'model' or 'text'")
        if self.text is None:
            if self.transcripts is not None:
                raise ValueError("'transcripts' are what 'text' reads; a 'model' reads audio")
            configuration_of(self.encoder, options=self.options)
            return self
        strange = sorted(self.options.keys() - settings_of(TextConfig).keys())
        if strange:
            raise ValueError(f"{', '.join(strange)} does not apply to 'text'")
        configuration_of(self.encoder, text=True, options=self.options)
        return self

    @property
    def encoder(self) -> str:
        """What extracts: a model, of speech or of text, or descriptors."""
        return str(self.model or self.text or "")

    @property
    def options(self) -> dict[str, Any]:
        """The options of the extractor."""
        return extractor_options(self.model_dump(), self.set)

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


# Options of ``fit`` that a file says in another place, or not at all: ``limit`` makes a trial.
NOT_IN_RUNS = ("limit",)
RUN_OPTIONS = tuple(
    name for name, (_, about) in settings_of(FitSettings).items() if about.identity and name not in NOT_IN_RUNS
)
_CHECKS = {"head": AfterValidator(_known_head), "protocol": _known("protocol", PROTOCOLS)}

if TYPE_CHECKING:

    class FitOptions(Part):
        """Every option of ``fit`` that makes a run what it is."""

        def __getattr__(self, name: str) -> Any: ...
else:
    FitOptions = create_model("FitOptions", __base__=Part, **schema_fields(FitSettings, RUN_OPTIONS, checks=_CHECKS))


class RunSettings(FitOptions):
    """What runs may have in common; 'defaults' of a pipeline, which each run can overrule."""

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

    @property
    def options(self) -> FitSettings:
        """The options of the fit."""
        return FitSettings(**{name: getattr(self, name) for name in RUN_OPTIONS})


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
