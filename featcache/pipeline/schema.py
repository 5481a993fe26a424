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
from featcache.errors import unknown_name
from featcache.evaluate.voting import VOTES
from featcache.extractors import configuration_of, is_descriptors
from featcache.extractors.families import FAMILIES
from featcache.extractors.models import known_models
from featcache.fitting.common_options import options_for
from featcache.pipeline.field_types import (
    FileName,
    Names,
    Pair,
    check_metric,
    check_model,
    check_text_model,
    known_head,
    named,
    one_of,
    several,
)
from featcache.protocols import PROTOCOLS
from featcache.settings.checked import schema_fields
from featcache.settings.extractions import ExtractorFlags, ExtractSettings, extractor_options
from featcache.settings.extractor_configs import TextConfig
from featcache.settings.field import settings_of
from featcache.settings.finetunings import NOT_IN_FINETUNING, BlockSettings, FinetuneSettings
from featcache.settings.fits import FitSettings, TrainingConfig
from featcache.settings.trials import PipelineSettings
from featcache.settings.yaml_schema import YamlPart

EACH = "each"
"""Value of ``layers`` for one run per layer of the store."""


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


_STORE_OPTIONS = ("transcripts", "fold", "seed", "set", "store", "pool", "augment", "views")
_CHECKS_OF_STORES = {"model": AfterValidator(check_model), "text": AfterValidator(check_text_model)}

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

    run: str | None = Field(
        default=None, description="Fine-tuned run of the pipeline whose model fills the store, in place of 'model'."
    )

    @model_validator(mode="after")
    def _check_kind(self) -> "StoreSpec":
        if [self.model, self.text, self.run].count(None) != 2:
            raise ValueError("expected either 'model', 'text' or 'run'")
        for option in ("fold", "seed") if self.run is None else ():
            if getattr(self, option) is not None:
                raise ValueError(f"{option!r} applies to 'run' only: the fine-tuned run of a store")
        if self.run is not None:
            if "num_blocks" in self.model_fields_set or "weights" in self.model_fields_set:
                raise ValueError("the model of 'run' is complete; remove 'num_blocks' and 'weights'")
            return self
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
BLOCK_OPTIONS = tuple(name for name, (_, about) in settings_of(BlockSettings).items() if about.identity)
# Options of 'defaults' that fine-tuned runs do not use.
_OF_FROZEN = ("norm", *NOT_IN_FINETUNING)
_CHECKS = {"head": AfterValidator(known_head), "protocol": one_of("protocol", PROTOCOLS)}

if TYPE_CHECKING:

    class FitOptions(Part):
        """All options of ``fit`` and ``finetune`` that change the results of a run."""

        def __getattr__(self, name: str) -> Any: ...
else:
    FitOptions = create_model(
        "FitOptions",
        __base__=Part,
        **schema_fields(FitSettings, RUN_OPTIONS, checks=_CHECKS),
        **schema_fields(BlockSettings, BLOCK_OPTIONS),
    )


class RunSettings(FitOptions):
    """Settings of the sections 'defaults' and 'finetuned', which a run can override."""

    note: str = Field(default="", description="Difference from the paper; printed with the scores.")


class RunSpec(RunSettings):
    """A row of the table: a fit over all folds and seeds of a protocol."""

    title: str = Field(description="Title of the row in the table.")
    published: dict[str, str] | None = Field(
        default=None, description="Columns and values that select the published result of this row."
    )
    corpus: Annotated[str, one_of("corpus", CORPORA)] | None = Field(
        default=None, description="Corpus of this row, in a pipeline for several corpora; by default all."
    )

    @property
    def options(self) -> FitSettings:
        """Options for ``fit``, or for ``finetune`` if there is a layer from which blocks are trained."""
        if self.from_layer is None:
            return FitSettings(**{name: getattr(self, name) for name in RUN_OPTIONS})
        # Fields that are not set have the defaults of a fine-tuning, which are not always those of a fit.
        given = self.model_fields_set.intersection(RUN_OPTIONS + BLOCK_OPTIONS)
        return FinetuneSettings(**{name: getattr(self, name) for name in given})


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

    metric: Annotated[str, AfterValidator(check_metric)] = Field(description="Name of the score: ccc_valence, uar, …")
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
    corpus: Annotated[str, one_of("corpus", CORPORA)] | None = Field(
        default=None, description="Corpus of this row, in a pipeline for several corpora; by default all."
    )
    note: str = Field(default="", description="What readers need to know to compare it; printed with the score.")


class EnsembleSpec(Part):
    """A row of the table: a vote of several runs."""

    title: str = Field(description="Title of the row in the table.")
    runs: Names = Field(description="Candidate runs; the members are selected by their score on the validation part.")
    size: Annotated[int, Field(ge=2)] = Field(description="Number of members that vote.")
    votes: Annotated[tuple[Annotated[str, one_of("vote", VOTES)], ...], BeforeValidator(several)] = Field(
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
    corpus: Annotated[tuple[Annotated[str, one_of("corpus", CORPORA)], ...], BeforeValidator(several)] = Field(
        default=(), description="Corpus of the pipeline, or several, which run one after another; by default any."
    )
    metric: Annotated[
        tuple[Annotated[str, AfterValidator(check_metric)], ...], BeforeValidator(several), Field(min_length=1)
    ] = Field(default=("uar",), description="Scores in the table: uar, wa, ccc, ccc_valence, …; one or several.")
    published: dict[str, str] = Field(
        default={}, description="Columns and values that all selected published results have in common."
    )
    transcripts: dict[Annotated[str, named("transcripts")], TranscriptSpec] = Field(
        default={},
        description="Name of ASR transcripts → how to make them; without it they must already be in the cache.",
    )
    stores: dict[Annotated[str, named("store")], StoreSpec] = Field(
        min_length=1, description="Name of a store → model and options of the extraction."
    )
    defaults: RunSettings = Field(default=RunSettings(), description="Settings that all runs have in common.")
    finetuned: RunSettings = Field(
        default=RunSettings(),
        description="Further settings that all runs with 'from_layer' have in common; they override 'defaults'.",
    )
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
        if (common | given).get("from_layer") is None:
            common = {option: value for option, value in common.items() if option not in BLOCK_OPTIONS}
        else:
            common = {option: value for option, value in common.items() if option not in _OF_FROZEN}
            common |= self.finetuned.model_dump(exclude_unset=True)
        head = given.get("head", common.get("head", ""))
        return RunSpec.model_validate({**options_for(head, common), **given})
