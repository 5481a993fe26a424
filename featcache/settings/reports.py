"""The options of ``featcache report``."""

from dataclasses import dataclass
from pathlib import Path

from featcache.settings.field import setting


@dataclass(frozen=True, kw_only=True)
class ReportSettings:
    """The options of ``featcache report``."""

    data: Path | None = setting(
        None, "Folder of the audio, to which the pages link [default: the corpus in data/corpora].", identity=False
    )
    out: Path | None = setting(None, "Folder of the pages [default: the folder of the runs].", identity=False)
