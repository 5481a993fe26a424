"""The fields of a pipeline file, with their meaning and allowed values."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    create_model,
    field_validator,
    model_validator,
)

from featcache.corpora import CORPORA
from featcache.errors import StoreError, unknown_name
from featcache.evaluate.scores import SCORES, find_score
from featcache.evaluate.voting import VOTES
from featcache.extractors import DESCRIPTORS, configuration_of, find_extractor, is_descriptors, is_reference
from featcache.extractors.families import FAMILIES
from featcache.extractors.models import known_models, known_text_models
from featcache.fitting.common_options import options_for
from featcache.heads import head_spec
from featcache.protocols import PROTOCOLS
from featcache.registry import Registry
from featcache.settings.checked import schema_fields
from featcache.settings.extractions import ExtractorFlags, ExtractSettings, extractor_options
from featcache.settings.extractor_configs import TextConfig
from featcache.settings.field import settings_of
from featcache.settings.fits import FitSettings, TrainingConfig
from featcache.settings.trials import PipelineSettings
from featcache.settings.yaml_schema import YamlPart
from featcache.workspace import check_name

EACH = "each"
"""Value of ``layers`` for one run per layer of the store."""


def _known_head(name: str) -> str:
    """Check that a head is known, or is external code that the user named."""
    head_spec(name)
    return name


def _known(kind: str, names: Iterable[str]) -> AfterValidator:
    """Return a check that a name is known; for a registry, that it may be used. External code is not imported."""
    known = names if isinstance(names, Registry) else tuple(names)

    def check(name: str) -> str:
        if name not in known:
            raise ValueError(known.refusal(name) if isinstance(known, Registry) else unknown_name(kind, name, known))
        return name

    return AfterValidator(check)


def _check_model(model: str) -> str:
    """Check that a model is external code that the user named, a known short name, or an id or path with a slash."""
    if is_reference(model):
        find_extractor(model)
        return model
    if "/" not in model and model not in known_models():
        raise ValueError(unknown_name("model", model, (*DESCRIPTORS, *known_models())))
    return model


def _check_metric(metric: str) -> str:
    """Check that a score is known: ``uar``, ``ccc`` (mean of the dimensions), ``ccc_valence`` and so on."""
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
    """Return a check that a name is a valid file name."""

    def check(name: str) -> str:
        try:
            return check_name(kind, name, advice="choose another")
        except StoreError as error:
            raise ValueError(str(error)) from error

    return AfterValidator(check)


def _several(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _two(value: Any) -> Any:
    given = _several(value)
    if isinstance(given, list) and len(given) != 2:
        raise ValueError(f"expected two runs, found {len(given)}")
    return given


FileName = Annotated[str, _named("file")]
Pair = Annotated[tuple[str, str], BeforeValidator(_two)]
Names = Annotated[tuple[str, ...], BeforeValidator(_several), Field(min_length=1)]


class Part(YamlPart):
    """The base class of all parts of a pipeline."""

    @classmethod
    def unknown_field(cls, name: str) -> str:
        """Return the message about an unknown field."""
        return _unknown_field(name, cls.model_fields)


def _unknown_field(name: str, known: Iterable[str]) -> str:
    """Return a message about an unknown field, with advice on fields of earlier releases, options and typing errors."""
    if name == "training":
        told = ", ".join(settings_of(TrainingConfig))
        return f"unknown field 'training'; write its fields next to the others: {told}"
    if name == "final":
        return "unknown field 'final': a pipeline compares test scores; train heads for new audio with fit --final"
    if name in settings_of(PipelineSettings) and not any(
        name in part.model_fields for part in (Pipeline, RunSpec, StoreSpec)
    ):
        return f"unknown field {name!r}; it is an option of the command line: featcache run --{name.replace('_', '-')}"
    return unknown_name("field", name, known)


_STORE_OPTIONS = ("transcripts", "set", "store", "pool", "augment", "views")
_CHECKS_OF_STORES = {"model": AfterValidator(_check_model), "text": AfterValidator(_check_text_model)}

if TYPE_CHECKING:

    class StoreOptions(Part):
        """All options of ``extract`` that change the content of a store."""

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
        if self.views > 1 and not self.augment:
            raise ValueError("'views' needs 'augment', such as noise:10-20")
        if self.text is None:
            if self.transcripts is not None:
                raise ValueError("'transcripts' applies to 'text' only; a 'model' reads audio")
            configuration_of(self.encoder, options=self.options)
            return self
        if self.augment:
            raise ValueError("'augment' changes audio, and 'text' reads text")
        strange = sorted(self.options.keys() - settings_of(TextConfig).keys())
        if strange:
            raise ValueError(f"{', '.join(strange)} does not apply to 'text'")
        configuration_of(self.encoder, text=True, options=self.options)
        return self

    @property
    def encoder(self) -> str:
        """Name of the extractor: a speech model, a text model, or a set of low-level descriptors or functionals."""
        return str(self.model or self.text or "")

    @property
    def options(self) -> dict[str, Any]:
        """Options of the extractor."""
        return extractor_options(self.model_dump(), self.set)

    @property
    def is_model(self) -> bool:
        """Whether the extractor has weights, which may be random."""
        return self.model is None or not is_descriptors(self.model)


class TranscriptSpec(Part):
    """ASR transcripts that the pipeline makes."""

    model: str = Field(description="Whisper model: short name (see 'featcache models'), Hugging Face id, or ./folder.")
    language: str | None = Field(default=None, description="Language code, e.g. de; by default Whisper detects it.")
    revision: str | None = Field(default=None, description="Branch, tag or commit on the Hugging Face hub.")

    @field_validator("model")
    @classmethod
    def _check_model(cls, model: str) -> str:
        known = [name for name, entry in known_models().items() if FAMILIES[entry["family"]].transcribes]
        if "/" not in model and model not in known:
            raise ValueError(unknown_name("Whisper model", model, known))
        return model


# Options of ``fit`` that are not fields of a run: ``limit`` is an option of a trial on the command line. A table needs
# test scores, which a fit with ``final`` does not have.
NOT_IN_RUNS = ("limit", "final")
RUN_OPTIONS = tuple(
    name for name, (_, about) in settings_of(FitSettings).items() if about.identity and name not in NOT_IN_RUNS
)
_CHECKS = {"head": AfterValidator(_known_head), "protocol": _known("protocol", PROTOCOLS)}

if TYPE_CHECKING:

    class FitOptions(Part):
        """All options of ``fit`` that change the results of a run."""

        def __getattr__(self, name: str) -> Any: ...
else:
    FitOptions = create_model("FitOptions", __base__=Part, **schema_fields(FitSettings, RUN_OPTIONS, checks=_CHECKS))


class RunSettings(FitOptions):
    """Settings of the section 'defaults', which a run can override."""

    note: str = Field(default="", description="Difference from the paper; printed with the scores.")


class RunSpec(RunSettings):
    """A row of the table: a fit over all folds and seeds of a protocol."""

    title: str = Field(description="Title of the row in the table.")
    published: dict[str, str] | None = Field(
        default=None, description="Columns and values that select the published result of this row."
    )
    corpus: Annotated[str, _known("corpus", CORPORA)] | None = Field(
        default=None, description="Corpus of this row, in a pipeline for several corpora; by default all."
    )

    @property
    def options(self) -> FitSettings:
        """Options for ``fit``."""
        return FitSettings(**{name: getattr(self, name) for name in RUN_OPTIONS})


class FigureSpec(Part):
    """A figure of the learned layer weights of runs."""

    runs: Names = Field(description="Runs with learned layer weights.")
    probes: bool = Field(default=False, description="Whether to draw scores of linear probes below the weights.")
    published: dict[str, dict[str, str]] = Field(
        default={}, description="Run → columns and values that select published layer weights, which are drawn dashed."
    )
    caption: str = Field(default="", description="Caption of the figure [default: what the figure shows].")


class GainSpec(Part):
    """A figure of relative gains: the difference of two runs in percent of the second one's score, with intervals."""

    metric: Annotated[str, AfterValidator(_check_metric)] = Field(description="Name of the score: ccc_valence, uar, …")
    pairs: dict[str, Pair] = Field(
        min_length=1, description="Title of a bar → the two runs; the gain is that of the first over the second."
    )
    caption: str = Field(default="Relative gain; error bars show 95 % intervals.", description="Caption of the figure.")

    @property
    def runs(self) -> tuple[str, ...]:
        """Names of all runs in the pairs."""
        return tuple(run for pair in self.pairs.values() for run in pair)


class ContrastSpec(Part):
    """Two runs compared layer by layer: a table and a figure of the scores, their differences and intervals."""

    runs: Pair = Field(
        description=f"Two runs with 'layers: {EACH}'; the difference is that of the first minus the second."
    )
    all: Pair | None = Field(
        default=None, description="The same two kinds of runs on all layers, for the last row of the table."
    )
    caption: str = Field(
        default="Score of each layer; error bars show 95 % intervals, the shaded area shows the difference.",
        description="Caption of the figure.",
    )


class CitedSpec(Part):
    """A row of the table with a published result only, such as a system that another paper describes."""

    title: str = Field(description="Title of the row in the table.")
    published: dict[str, str] = Field(description="Columns and values that select the published result of this row.")
    protocol: str | None = Field(
        default=None, description="Section of the table [default: the protocol of 'defaults', or of the paper]."
    )
    corpus: Annotated[str, _known("corpus", CORPORA)] | None = Field(
        default=None, description="Corpus of this row, in a pipeline for several corpora; by default all."
    )
    note: str = Field(default="", description="What readers need to know to compare it; printed with the score.")


class EnsembleSpec(Part):
    """A row of the table: a vote of several runs."""

    title: str = Field(description="Title of the row in the table.")
    runs: Names = Field(description="Candidate runs; the members are selected by their score on the validation part.")
    size: Annotated[int, Field(ge=2)] = Field(description="Number of members that vote.")
    votes: Annotated[tuple[Annotated[str, _known("vote", VOTES)], ...], BeforeValidator(_several)] = Field(
        default=("hard",), description="hard (majority), soft (mean probability), or both."
    )
    published: dict[str, str] | None = Field(
        default=None, description="Columns and values that select the published result of this row."
    )
    note: str = Field(default="", description="Difference from the paper; printed with the scores.")


class ComparisonSpec(Part):
    """Paired tests of runs that were tested on the same utterances."""

    runs: Names = Field(description="Two or more runs.")


class Pipeline(Part):
    """A published experiment, from audio to table."""

    title: str = Field(description="Heading of the table.")
    paper: str = Field(default="", description="Source of the published scores and settings.")
    corpus: Annotated[tuple[Annotated[str, _known("corpus", CORPORA)], ...], BeforeValidator(_several)] = Field(
        default=(), description="Corpus of the pipeline, or several, which run one after another; by default any."
    )
    metric: Annotated[
        tuple[Annotated[str, AfterValidator(_check_metric)], ...], BeforeValidator(_several), Field(min_length=1)
    ] = Field(default=("uar",), description="Scores in the table: uar, wa, ccc, ccc_valence, …; one or several.")
    published: dict[str, str] = Field(
        default={}, description="Columns and values that all selected published results have in common."
    )
    transcripts: dict[Annotated[str, _named("transcripts")], TranscriptSpec] = Field(
        default={},
        description="Name of ASR transcripts → how to make them; without it they must already be in the cache.",
    )
    stores: dict[Annotated[str, _named("store")], StoreSpec] = Field(
        min_length=1, description="Name of a store → model and options of the extraction."
    )
    defaults: RunSettings = Field(default=RunSettings(), description="Settings that all runs have in common.")
    runs: dict[str, RunSpec] = Field(min_length=1, description="Short name → row of the table.")
    cited: dict[FileName, CitedSpec] = Field(default={}, description="Short name → published result without a run.")
    ensembles: dict[FileName, EnsembleSpec] = Field(default={}, description="Short name → vote of several runs.")
    figures: dict[FileName, FigureSpec] = Field(default={}, description="File name → layer weights of runs.")
    gains: dict[FileName, GainSpec] = Field(default={}, description="File name → relative gains between runs.")
    contrasts: dict[FileName, ContrastSpec] = Field(
        default={}, description="File name → two runs compared layer by layer."
    )
    comparisons: dict[FileName, ComparisonSpec] = Field(default={}, description="File name → paired tests of runs.")

    def run(self, name: str) -> RunSpec:
        """Return a run, with the defaults for fields that it does not set."""
        given = self.runs[name].model_dump(exclude_unset=True)
        common = self.defaults.model_dump(exclude_unset=True)
        head = given.get("head", common.get("head", ""))
        return RunSpec.model_validate({**options_for(head, common), **given})
