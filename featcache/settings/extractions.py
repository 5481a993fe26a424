"""The options of ``featcache extract``, ``featcache import-features`` and ``featcache transcribe``."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, make_dataclass
from pathlib import Path
from typing import Any, Literal, get_type_hints

from featcache.errors import ModelError
from featcache.settings.augmentations import AugmentSettings
from featcache.settings.extractor_configs import EgemapsConfig, SpectrogramConfig, SSLConfig
from featcache.settings.field import Dataclass, help_of, setting, settings_of
from featcache.settings.fits import DASK_WARNING, PluginSettings
from featcache.settings.types import Assignments, Names, read_assignments

Weights = Literal["pretrained", "random"]
Storage = Literal["float16", "float32", "int8"]
# Fields of an extractor's configuration that other options set.
_SAID_ELSEWHERE = {"model", "transcripts", "transcripts_made_by", "level"}


@dataclass(frozen=True, kw_only=True)
class LayoutSettings:
    """Layout of the corpus."""

    layout: str | None = setting(
        None,
        "Layout of the corpus: a name (see 'featcache corpora'), a description such as ./corpus.yaml, "
        "package.module:CORPUS or ./file.py:CORPUS [default: recognised from the files].",
        identity=False,
    )
    speaker_from: str | None = setting(
        None,
        "Regular expression for the path of a file, or else for the id of its utterance; its group, or the whole "
        "match, is the speaker [default: the speakers of the corpus].",
        identity=False,
    )


@dataclass(frozen=True, kw_only=True)
class CorpusSettings(LayoutSettings):
    """Corpus, and options that do not affect results."""

    corpus: str | None = setting(
        None, "Name of the corpus; required if data/corpora contains several and --data is not given.", identity=False
    )
    data: Path | None = setting(
        None, "Folder of the corpus, or its manifest as CSV [default: the corpus in data/corpora].", identity=False
    )
    limit: int | None = setting(
        None,
        "Size of a random subset of the utterances; a larger subset contains a smaller one [default: all].",
        minimum=1,
        identity=False,
    )
    workers: int | None = setting(
        None, "Number of threads; does not affect results [default: one per CPU core].", minimum=1, identity=False
    )
    strict: bool = setting(False, "Stop at the first utterance that fails.", identity=False)
    dry_run: bool = setting(False, "Print what would be done, and write nothing.", identity=False)


@dataclass(frozen=True, kw_only=True)
class StoreSettings:
    """Extractor and content of a store; ``set`` contains the options of the extractor."""

    model: str | None = setting(
        None,
        "Speech model or acoustic features: a short name (see 'featcache models'), a Hugging Face id, a folder, "
        "a run of 'featcache finetune', package.module:Class or ./file.py:Class [default: wav2vec2-base].",
    )
    text: str | None = setting(
        None,
        "Text encoder for the transcripts, such as tinybert or a run of 'featcache finetune'; replaces --model. Each "
        "token is one frame.",
    )
    transcripts: str | None = setting(
        None, "Name of the ASR transcripts for --text [default: the transcripts in the manifest]."
    )
    fold: int | None = setting(
        None,
        "Fold of the fine-tuned run whose model computes all utterances, counted from 1 [default: each utterance is "
        "computed by the model of the fold that tested it].",
        minimum=1,
    )
    seed: int | None = setting(
        None, "Seed of the models of the fine-tuned run [default: the first seed of the run].", minimum=0
    )
    set: Assignments = setting(
        help="Option of an extractor that has no option of its own here, such as f0_max=400. Can be repeated.",
        factory=dict,
    )
    egemaps: bool = setting(
        True, "Extract eGeMAPS low-level descriptors as well, into the store 'egemaps'.", identity=False
    )
    name: str | None = setting(None, "Name of the store [default: the name of the model].", identity=False)
    store: Storage | None = setting(
        None, "Dtype of the stored features [default: float16 for models; acoustic features are always float32]."
    )
    pool: bool = setting(
        False, "Store only the mean, standard deviation and maximum of each utterance, without frames."
    )


@dataclass(frozen=True, kw_only=True)
class ExtractSettings(PluginSettings, CorpusSettings, AugmentSettings, StoreSettings):
    """The options of ``featcache extract``."""

    device: str = setting(
        "auto",
        "Device: cpu, cuda, cuda:1, mps or auto (the first available of cuda, mps and cpu). Several devices, such as "
        "cuda:0,cuda:1, share the work.",
        identity=False,
    )
    batch_seconds: float | None = setting(
        None,
        "Seconds of audio per forward pass, padding included; does not affect results [default: one utterance on the "
        "CPU, 120 s on a GPU].",
        minimum=0,
        identity=False,
    )
    shard_index: int = setting(
        0, "Part of the corpus to extract, counted from 0, for example in a Slurm array.", minimum=0, identity=False
    )
    num_shards: int = setting(
        1, "Number of parts that --shard-index counts; together they fill one store.", minimum=1, identity=False
    )
    scheduler: str | None = setting(
        None,
        "Address of a Dask scheduler, such as tcp://host:8786, whose workers extract and see the same paths. "
        + DASK_WARNING,
        identity=False,
    )


@dataclass(frozen=True, kw_only=True)
class ImportedSettings:
    """Options of imported features."""

    name: str = setting(help="Name of the store.")
    frame_shift: float | None = setting(
        None,
        "Time between frames, in seconds, above 0 [default: none; each utterance has one vector].",
        above=0,
    )
    layer_names: Names | None = setting(None, "Names of the layers, separated by commas [default: 0,1,…].")
    array: str | None = setting(None, "Name of the array; required if a .npz or HDF5 file contains several.")
    store: Storage | None = setting(
        None, "Dtype of the stored features [default: float16 for arrays with layers, float32 for other arrays]."
    )
    pool: bool = setting(
        False, "Store only the mean, standard deviation and maximum of each utterance, without frames."
    )


@dataclass(frozen=True, kw_only=True)
class ImportSettings(CorpusSettings, ImportedSettings):
    """The options of ``featcache import-features``."""


@dataclass(frozen=True, kw_only=True)
class WhisperSettings:
    """Model for transcription."""

    model: str = setting(
        "whisper-tiny", "Whisper model: a short name (see 'featcache models'), a Hugging Face id or a folder."
    )
    name: str | None = setting(None, "Name of the transcripts [default: the name of the model].", identity=False)
    language: str | None = setting(
        None, "Language: a code or an English name, such as de or german [default: detected by Whisper]."
    )
    weights: Weights | None = setting(None, "Weights of the model; only pretrained is accepted [default: pretrained].")
    revision: str | None = setting(None, "Branch, tag or commit on the Hugging Face hub [default: main].")


@dataclass(frozen=True, kw_only=True)
class TranscribeSettings(CorpusSettings, WhisperSettings):
    """The options of ``featcache transcribe``."""

    device: str = setting("auto", "Device: cpu, cuda, cuda:1, mps or auto.", identity=False)
    overwrite: bool = setting(False, "Replace transcripts of this name that exist already.", identity=False)


def _flags(configs: Iterable[type[Dataclass]]) -> type[Any]:
    """Return a dataclass with the options of several extractors; None keeps the default of the extractor."""
    found: dict[str, Any] = {}
    for config in configs:
        types = get_type_hints(config)
        for name, (one, about) in settings_of(config).items():
            if name not in _SAID_ELSEWHERE:
                option = setting(
                    None, help_of(one, about), minimum=about.minimum, maximum=about.maximum, above=about.above
                )
                found.setdefault(name, (types[name] | None, option))
    fields = [(name, hint, field) for name, (hint, field) in found.items()]
    return make_dataclass("ExtractorFlags", fields, frozen=True, kw_only=True)


def extractor_options(values: Mapping[str, Any], assigned: Any) -> dict[str, Any]:
    """Return the options of an extractor, collected from the options of the command and from ``set``.

    Args:
        values: Option → value; None if the option is not given.
        assigned: Value of ``set``: option → value, or text.

    Raises:
        ModelError: An option is given in both ways, or ``set`` has another form.
    """
    try:
        assigned = read_assignments(assigned)
    except ValueError as error:
        raise ModelError(f"set: {error}") from error
    own = {name: values[name] for name in ExtractorFlags.__dataclass_fields__ if values.get(name) is not None}
    twice = sorted(own.keys() & assigned.keys())
    if twice:
        raise ModelError(f"{twice[0]} is given as --{twice[0].replace('_', '-')} and with --set; keep one")
    return {**own, **assigned}


ExtractorFlags = _flags((SSLConfig, EgemapsConfig, SpectrogramConfig))
"""Options of extractors that are options of ``featcache extract`` and keywords of ``featcache.extract``."""
