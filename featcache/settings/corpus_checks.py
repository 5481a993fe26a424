"""The options of ``featcache check``."""

from dataclasses import dataclass
from pathlib import Path

from featcache.settings.extractions import LayoutSettings
from featcache.settings.field import setting
from featcache.settings.fits import PluginSettings


@dataclass(frozen=True, kw_only=True)
class CheckSettings(PluginSettings, LayoutSettings):
    """The options of ``featcache check``."""

    data: Path | None = setting(
        None, "Folder of the corpus, or its manifest as CSV [default: the corpus in data/corpora].", identity=False
    )
    target: str | None = setting(
        None, "Label whose classes are counted [default: the corpus's own target].", identity=False
    )
    protocol: str | None = setting(
        None,
        "Protocol whose folds are compared: a name, package.module:PROTOCOL or ./file.py:PROTOCOL [default: as in a "
        "fit].",
        identity=False,
    )
    workers: int | None = setting(
        None, "Number of threads; does not affect results [default: one per CPU core].", minimum=1, identity=False
    )
    out: Path | None = setting(
        None, "Folder of the page and the table [default: a folder in data/checks].", identity=False
    )
