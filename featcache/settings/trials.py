"""The options of ``featcache run``."""

from dataclasses import dataclass
from pathlib import Path

from featcache.settings.extractions import LayoutSettings, Weights
from featcache.settings.field import setting
from featcache.settings.fits import CacheSettings
from featcache.settings.types import Names, Seeds


@dataclass(frozen=True, kw_only=True)
class TrialSettings:
    """Options that turn a pipeline into a trial; each row of its table is marked."""

    only: Names | None = setting(None, "Names of the runs, separated by commas [default: all].")
    limit: int | None = setting(None, "Size of a random subset of the utterances [default: all].", minimum=1)
    weights: Weights | None = setting(
        None,
        "Weights of the models; random is an untrained control, without network [default: the pipeline's choice].",
    )
    model: str | None = setting(
        None,
        "Speech model in place of the only model of the pipeline: a short name (see 'featcache models'), a Hugging "
        "Face id, a folder, package.module:Class or ./file.py:Class [default: the pipeline's model].",
    )
    protocol: str | None = setting(
        None, "Protocol, for example for a part of a corpus [default: the pipeline's protocol]."
    )
    seeds: Seeds | None = setting(
        None, "Number of seeds, or a list such as 123,1234 (a single seed: 123,) [default: the pipeline's seeds]."
    )
    max_epochs: int | None = setting(None, "Maximum number of epochs [default: the pipeline's number].", minimum=1)


@dataclass(frozen=True, kw_only=True)
class PipelineSettings(LayoutSettings, CacheSettings, TrialSettings):
    """The options of ``featcache run``."""

    data: Path | None = setting(None, "Folder of the corpus [default: the corpus in data/corpora].", identity=False)
    device: str = setting("auto", "Device: cpu, cuda, cuda:1, mps or auto.", identity=False)
    dry_run: bool = setting(False, "Print what would be done, and write nothing.", identity=False)
