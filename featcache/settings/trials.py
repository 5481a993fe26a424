"""The options of ``featcache run``: which experiment, and how a trial differs from it."""

from dataclasses import dataclass
from pathlib import Path

from featcache.settings.extractions import LayoutSettings, Weights
from featcache.settings.field import setting
from featcache.settings.fits import CacheSettings
from featcache.settings.types import Names, Seeds


@dataclass(frozen=True, kw_only=True)
class TrialSettings:
    """What makes a run of a pipeline a trial; every row of its table says so."""

    only: Names | None = setting(None, "Names of runs, separated by commas; by default all.")
    limit: int | None = setting(None, "Random subset of N utterances.", minimum=1)
    weights: Weights | None = setting(None, "Weights of the models; random: untrained, offline, a control.")
    protocol: str | None = setting(None, "Protocol in place of the pipeline's, for part of a corpus.")
    seeds: Seeds | None = setting(
        None, "Number of seeds, or a list such as 123,1234 (one seed: 123,); by default as the pipeline says."
    )
    max_epochs: int | None = setting(None, "Largest number of epochs; by default as the pipeline says.", minimum=1)


@dataclass(frozen=True, kw_only=True)
class PipelineSettings(LayoutSettings, CacheSettings, TrialSettings):
    """The options of ``featcache run``."""

    data: Path | None = setting(None, "Folder of the corpus, if it is not under data/corpora.", identity=False)
    device: str = setting("auto", "Device of torch: cpu, cuda, cuda:1, mps, or auto.", identity=False)
    dry_run: bool = setting(False, "Print what would be done; write nothing.", identity=False)
