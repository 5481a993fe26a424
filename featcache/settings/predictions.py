"""The options of ``featcache predict``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from featcache.settings.extractions import LayoutSettings
from featcache.settings.field import setting
from featcache.settings.fits import PluginSettings
from featcache.settings.types import Folders

TableFormat = Literal["csv", "json", "msp"]


@dataclass(frozen=True, kw_only=True)
class PredictSettings(PluginSettings, LayoutSettings):
    """The options of ``featcache.predict``."""

    one_speaker: bool = setting(False, "All audio is of one speaker.", identity=False)
    include_trained: bool = setting(
        False,
        "Use all heads for audio of the run's own corpus, also the heads that trained on it [default: only the heads "
        "that did not].",
        identity=False,
    )
    window: float | None = setting(
        None,
        "Length of windows in seconds, above 0; each window of a file is predicted [default: whole files].",
        above=0,
        identity=False,
    )
    hop: float | None = setting(
        None, "Time from one window to the next in seconds, above 0 [default: --window].", above=0, identity=False
    )
    limit: int | None = setting(None, "Size of a random subset of the utterances [default: all].", minimum=1)
    model: Folders = setting(
        (),
        "Folder of the model that made the features, if its path is not recorded; STORE=PATH for a run with several "
        "models. Can be repeated. Other weights than those of the run are refused.",
        identity=False,
    )
    embeddings: Path | None = setting(
        None,
        "HDF5 file for the penultimate activations of each utterance, with one dataset for each head.",
        identity=False,
    )
    device: str = setting(
        "auto",
        "Device: cpu, cuda, cuda:1, mps or auto (the first available of cuda, mps and cpu). Several devices, such as "
        "cuda:0,cuda:1, share the extraction.",
        identity=False,
    )
    workers: int | None = setting(
        None, "Number of threads; does not affect results [default: one per CPU core].", minimum=1, identity=False
    )
    batch_seconds: float | None = setting(
        None,
        "Seconds of audio per forward pass, padding included; does not affect results [default: one utterance on the "
        "CPU, 120 s on a GPU].",
        minimum=0,
        identity=False,
    )
    strict: bool = setting(False, "Stop at the first utterance that fails.", identity=False)


@dataclass(frozen=True, kw_only=True)
class PredictCommandSettings(PredictSettings):
    """The options of ``featcache predict``."""

    format: TableFormat = setting(
        "csv", "Form of the table: csv, json, or msp, as the MSP-Podcast challenges require.", identity=False
    )
    out: Path | None = setting(None, "File for the table [default: standard output].", identity=False)
    plot: Path | None = setting(
        None, "Path of the figure of predictions over seconds, without suffix [default: no figure].", identity=False
    )
