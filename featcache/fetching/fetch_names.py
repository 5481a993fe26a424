"""Names of models and corpora → their folders on this machine. A name of a known corpus is never a model."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from featcache.corpora import CORPORA
from featcache.errors import FeatcacheError, ModelError, did_you_mean
from featcache.extractors.models import known_models, known_text_models, short_name
from featcache.fetching.fetch_corpora import fetch_corpus
from featcache.fetching.fetch_models import fetch_model
from featcache.fetching.safe_torch import check_torch
from featcache.settings.checked import configured
from featcache.settings.fetches import FetchSettings
from featcache.settings.public import documented, without


@dataclass(frozen=True, kw_only=True)
class FetchReport:
    """Result of :func:`fetch`.

    Attributes:
        folders: Model or corpus, as it was given → its folder. In the cache of the Hugging Face client, its files are
            links.
        failures: Model or corpus → reason why it could not be fetched.
    """

    folders: Mapping[str, Path]
    failures: Mapping[str, str]


@documented("featcache.fetch", FetchSettings)
def fetch(
    names: str | Sequence[str],
    *,
    out: str | os.PathLike[str] | None = None,
    convert: bool = False,
    revision: str | None = None,
) -> FetchReport:
    """Download corpora, or what later work with models needs without a network.

    The size and licence of each are logged before its download. A second call continues an interrupted download.

    A corpus is downloaded from its authors, if they let anybody do so, compared with the published checksum if there
    is one, and unpacked into ``data/corpora``, or ``out``. A corpus that is there already is left as it is.

    Of a model, these are the configuration, safetensors weights, preprocessor, and the tokenizer and generation
    settings if there are any. If the hub contains the weights as a pickle only, the safetensors weights of the hub's
    conversion bot are used; if there are none, ``convert`` makes them. They are written to ``data/models``, or to
    ``out``. Models in ``data/models`` are found by their names.

    Args:
        names: Names of known corpora; short names of models, names of s3prl or Hugging Face ids; with ``convert`` also
            folders with pickled weights.

    Returns:
        The folder of each. If one of several fails, the others are fetched.

    Raises:
        FeatcacheError: the only name is unknown, cannot be downloaded, or is that of a model with pickled weights only.
        TypeError: an unknown option.
    """
    asked = configured(FetchSettings, without(locals(), "names"))
    wanted = [names] if isinstance(names, str) else list(dict.fromkeys(names))
    if wanted and all(name in CORPORA for name in wanted) and (asked.convert or asked.revision is not None):
        raise ModelError(f"{'--convert' if asked.convert else '--revision'} is for models, but {wanted[0]} is a corpus")
    if asked.convert:
        check_torch(metadata.version("torch"))
    folders, failures = {}, {}
    for name in wanted:
        try:
            folders[name] = _fetch(name, asked, several=len(wanted) > 1)
        except FeatcacheError as error:
            if len(wanted) == 1:
                raise
            failures[name] = str(error)
    return FetchReport(folders=folders, failures=failures)


def _fetch(name: str, asked: FetchSettings, *, several: bool) -> Path:
    out = asked.out / short_name(name) if asked.out and several else asked.out
    if name in CORPORA:
        return fetch_corpus(name, out)
    _check_spelling(name)
    return fetch_model(name, out, asked.revision, convert=asked.convert)


def _check_spelling(name: str) -> None:
    """Refuse a name that is nearly that of a corpus, such as CREMA-D, and not one of a model.

    Raises:
        ModelError: the name is unknown.
    """
    if "/" in name or os.path.lexists(name) or short_name(name) in {*known_models(), *known_text_models()}:
        return
    meant = [one for one in CORPORA if _letters(one) == _letters(name)]
    if meant:
        raise ModelError(f"no model or corpus {name!r}{did_you_mean(name, meant)}")


def _letters(name: str) -> str:
    return "".join(filter(str.isalnum, name.casefold()))
