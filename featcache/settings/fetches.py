"""The options of ``featcache fetch``."""

from dataclasses import dataclass
from pathlib import Path

from featcache.settings.field import setting


@dataclass(frozen=True, kw_only=True)
class FetchSettings:
    """The options of ``featcache fetch``."""

    out: Path | None = setting(
        None,
        "Folder to write: a corpus for --data, or a model that can be copied to a machine without a network and passed "
        "to --model. With several names, it contains a folder for each [default: data/corpora/NAME for a corpus, the "
        "cache of the Hugging Face client for a model].",
        identity=False,
    )
    convert: bool = setting(
        False,
        "Convert weights of a model that exist only as a pickle to safetensors, in a separate process that loads "
        "tensors only.",
        identity=False,
    )
    revision: str | None = setting(
        None, "Branch, tag or commit of a model on the Hugging Face hub [default: main].", identity=False
    )
