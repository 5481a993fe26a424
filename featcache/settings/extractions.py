"""The options of ``featcache extract`` and ``featcache transcribe``."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, make_dataclass
from pathlib import Path
from typing import Any, Literal, get_type_hints

from featcache.errors import ModelError
from featcache.settings.extractor_configs import EgemapsConfig, SpectrogramConfig, SSLConfig
from featcache.settings.field import Dataclass, setting, settings_of
from featcache.settings.fits import DASK_WARNING, PluginSettings
from featcache.settings.types import Assignments, Names, read_assignments

Weights = Literal["pretrained", "random"]
Storage = Literal["float16", "float32", "int8"]
# Fields of an extractor's configuration that other options say.
_SAID_ELSEWHERE = {"model", "transcripts", "transcripts_made_by", "level"}


@dataclass(frozen=True, kw_only=True)
class LayoutSettings:
    """Which known corpus is read."""

    layout: str | None = setting(
        None,
        "Corpus that the files belong to, if their names do not tell: a name (see 'featcache corpora'), "
        "package.module:CORPUS or ./file.py:CORPUS.",
        identity=False,
    )


@dataclass(frozen=True, kw_only=True)
class CorpusSettings(LayoutSettings):
    """Which corpus is read, and how the work is done."""

    corpus: str | None = setting(None, "Name of the corpus under data/corpora, if there are several.", identity=False)
    data: Path | None = setting(
        None, "Folder of the corpus, or a manifest as CSV, if it is not under data/corpora.", identity=False
    )
    limit: int | None = setting(None, "Random subset of N utterances, always the same.", minimum=1, identity=False)
    workers: int | None = setting(
        None, "Number of threads; by default one per core. Changes no number.", minimum=1, identity=False
    )
    strict: bool = setting(False, "Stop at the first utterance that fails.", identity=False)
    dry_run: bool = setting(False, "Print what would be done; compute and write nothing.", identity=False)


@dataclass(frozen=True, kw_only=True)
class StoreSettings:
    """What fills a store, and what is kept; the options of the extractor are in ``set``."""

    model: str | None = setting(
        None,
        "Speech model or descriptors: a short name (see 'featcache models'), a Hugging Face id, a folder, "
        "package.module:Class or ./file.py:Class; by default wav2vec2-base.",
    )
    text: str | None = setting(
        None,
        "Text encoder that reads the transcripts, such as tinybert, in place of --model. Every token is a frame.",
    )
    transcripts: str | None = setting(None, "Name of the ASR transcripts for --text; by default the manifest's.")
    set: Assignments = setting(
        help="Option of the extractor, as in f0_max=400; for those that have no option of their own.", factory=dict
    )
    egemaps: bool = setting(True, "Fill the store 'egemaps' as well, from the same decoded audio.", identity=False)
    name: str | None = setting(None, "Name of the store; by default the model's.", identity=False)
    store: Storage | None = setting(
        None, "Dtype of the stored features; by default float16 for models, and always float32 for descriptors."
    )
    pool: bool = setting(False, "Keep the mean, standard deviation and maximum of each utterance; no frames.")


@dataclass(frozen=True, kw_only=True)
class ExtractSettings(PluginSettings, CorpusSettings, StoreSettings):
    """The options of ``featcache extract``."""

    device: str = setting(
        "auto",
        "Device of torch: cpu, cuda, cuda:1, mps, …; several share the work, as in cuda:0,cuda:1. auto is CUDA, else "
        "mps, else the CPU.",
        identity=False,
    )
    batch_seconds: float | None = setting(
        None,
        "Seconds of audio, padding included, per forward pass; by default one utterance on the CPU and 120 s on a GPU. "
        "Changes no number.",
        minimum=0,
        identity=False,
    )
    shard_index: int = setting(
        0, "Part of the corpus to extract, from 0 on, as in a Slurm array.", minimum=0, identity=False
    )
    num_shards: int = setting(
        1, "Number of parts; together they make one store, which the last one finishes.", minimum=1, identity=False
    )
    scheduler: str | None = setting(
        None,
        "Address of a Dask scheduler, as tcp://host:8786, whose workers extract. They need the same paths. "
        + DASK_WARNING,
        identity=False,
    )


@dataclass(frozen=True, kw_only=True)
class ImportedSettings:
    """How somebody else's features become a store."""

    name: str = setting(help="Name of the store.")
    frame_shift: float | None = setting(
        None, "Time between frames, in seconds, above 0; without it each utterance has one vector.", above=0
    )
    layer_names: Names | None = setting(None, "Names of the layers, separated by commas; by default 0, 1, ….")
    array: str | None = setting(None, "Name of the array in .npz and HDF5 files that hold several.")
    store: Storage | None = setting(
        None, "Dtype of the stored features; by default float16 for arrays with layers, and float32 for others."
    )
    pool: bool = setting(False, "Keep the mean, standard deviation and maximum of each utterance; no frames.")


@dataclass(frozen=True, kw_only=True)
class ImportSettings(CorpusSettings, ImportedSettings):
    """The options of ``featcache import-features``."""


@dataclass(frozen=True, kw_only=True)
class WhisperSettings:
    """Which model transcribes."""

    model: str = setting(
        "whisper-tiny", "Whisper model: a short name (see 'featcache models'), a Hugging Face id or a folder."
    )
    name: str | None = setting(None, "Name of the transcripts; by default the model's.", identity=False)
    language: str | None = setting(
        None, "Language code or English name, as de or german; by default Whisper detects it."
    )
    weights: Weights | None = setting(None, "Weights of the model; random is refused: it cannot transcribe.")
    revision: str | None = setting(None, "Branch, tag or commit on the Hugging Face hub.")


@dataclass(frozen=True, kw_only=True)
class TranscribeSettings(CorpusSettings, WhisperSettings):
    """The options of ``featcache transcribe``."""

    device: str = setting("auto", "Device of torch: cpu, cuda, cuda:1, mps, …, or auto.", identity=False)
    overwrite: bool = setting(False, "Transcribe again, and replace transcripts of this name.", identity=False)


def _flags(configs: Iterable[type[Dataclass]]) -> type[Any]:
    """Return a dataclass with the options of several extractors; None leaves an extractor its default."""
    found: dict[str, Any] = {}
    for config in configs:
        types = get_type_hints(config)
        for name, (_, about) in settings_of(config).items():
            if name not in _SAID_ELSEWHERE:
                option = setting(None, about.help, minimum=about.minimum, maximum=about.maximum, above=about.above)
                found.setdefault(name, (types[name] | None, option))
    fields = [(name, hint, field) for name, (hint, field) in found.items()]
    return make_dataclass("ExtractorFlags", fields, frozen=True, kw_only=True)


def extractor_options(values: Mapping[str, Any], assigned: Any) -> dict[str, Any]:
    """Return the options of an extractor, from the options of their own and from ``set``.

    Args:
        values: Option → value, of all options; None where none is given.
        assigned: What ``set`` is: option → value, or text.

    Raises:
        ModelError: one option is given in both ways, or ``set`` is something else.
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
"""Options of extractors that have an option of their own on the command line and a keyword in Python."""
