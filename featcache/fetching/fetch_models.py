"""Names of models → folders with all files that featcache reads, downloaded or converted."""

import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from featcache.errors import FeatcacheError, ModelError
from featcache.extractors import is_reference
from featcache.extractors.checkpoint import TRANSCRIBER, Checkpoint, open_checkpoint
from featcache.extractors.families import weight_prefixes
from featcache.extractors.hub import Repository
from featcache.extractors.models import known_text_models, resolve, short_name
from featcache.extractors.pretrained import explained
from featcache.fetching.contents import Contents, announce, read_contents
from featcache.fetching.convert_models import convert_folder, convert_repository
from featcache.fetching.model_folder import copy_files, describe_origin, existing, new_folder, only_one
from featcache.fetching.safe_torch import check_torch
from featcache.settings.checked import configured
from featcache.settings.fetches import FetchSettings
from featcache.settings.public import documented, without

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class FetchReport:
    """Result of :func:`fetch`.

    Attributes:
        folders: Model, as it was given → its folder. In the cache of the Hugging Face client, its files are links.
        failures: Model → reason why it could not be fetched.
    """

    folders: Mapping[str, Path]
    failures: Mapping[str, str]


@documented("featcache.fetch", FetchSettings)
def fetch(
    models: str | Sequence[str],
    *,
    out: str | os.PathLike[str] | None = None,
    convert: bool = False,
    revision: str | None = None,
) -> FetchReport:
    """Download what later work with models needs, without a network.

    These are the configuration, safetensors weights, preprocessor, and the tokenizer and generation settings if there
    are any. The size and licence of each model are logged before its download. A second call continues an interrupted
    download. If the hub contains the weights as a pickle only, the safetensors weights of the hub's conversion bot are
    used; if there are none, ``convert`` makes them. They are written to ``data/models``, or to ``out``. Models in
    ``data/models`` are found by their names.

    Args:
        models: Short names, names of s3prl or Hugging Face ids; with ``convert`` also folders with pickled weights.

    Returns:
        The folder of each model. If one of several models fails, the others are fetched.

    Raises:
        FeatcacheError: the only model is unknown, cannot be downloaded, or has only pickled weights.
        TypeError: an unknown option.
    """
    asked = configured(FetchSettings, without(locals(), "models"))
    names = [models] if isinstance(models, str) else list(dict.fromkeys(models))
    if asked.convert:
        check_torch(metadata.version("torch"))
    folders, failures = {}, {}
    for name in names:
        try:
            out_of_model = asked.out / short_name(name) if asked.out and len(names) > 1 else asked.out
            folders[name] = _fetch(name, out_of_model, asked.revision, convert=asked.convert)
        except FeatcacheError as error:
            if len(names) == 1:
                raise
            failures[name] = str(error)
    return FetchReport(folders=folders, failures=failures)


def _fetch(model: str, out: Path | None, revision: str | None, *, convert: bool) -> Path:
    """Return the folder of a model after downloading or converting its files."""
    if os.path.isdir(model):
        return convert_folder(model, out, convert=convert)
    if is_reference(model):
        raise ModelError(f"{model} needs no download: it is not a model of the Hugging Face hub")
    source, entry = resolve(model, text=short_name(model) in known_text_models())
    contents = read_contents(source, revision)
    if contents.has_safetensors or (contents.conversion and not convert):
        if convert:
            log.info("%s: it has safetensors weights; nothing to convert", model)
        announce(model, contents, contents.needed())
        return _download(source, contents, out, revision)
    family = entry["family"] if entry else None
    return convert_repository(model, contents, family, out, convert=convert)


def _opened(source: str, revision: str | None) -> AbstractContextManager[Checkpoint]:
    """Open all files that extraction or transcription may read; of split weights only those with needed parameters."""
    return open_checkpoint(source, revision, names=TRANSCRIBER, prefixes=weight_prefixes)


def _download(source: str, contents: Contents, out: Path | None, revision: str | None) -> Path:
    """Download and check all files, and copy them to ``out``; return the folder."""
    with ExitStack() as stack:
        if out is not None:
            stack.enter_context(only_one(out))
            if existing(out, source, contents.commit):
                return out
        with explained(source):
            # Later, without a network, the branch is looked up in the cache. Asking for it keeps its commit there.
            Repository(source, revision)
            checkpoint = stack.enter_context(_opened(source, contents.commit))
        if out is None:
            weights_revision = checkpoint.weights_revision
            if checkpoint.home.parent.name == "snapshots" and weights_revision != checkpoint.revision:
                # The folder of the converted weights gets the other files too. Then it is complete.
                with explained(source):
                    checkpoint = stack.enter_context(_opened(source, weights_revision))
            return checkpoint.home
        with new_folder(out) as temporary:
            copy_files(checkpoint.folder, temporary)
            describe_origin(
                temporary,
                source,
                revision=checkpoint.revision,
                weights_revision=checkpoint.weights_revision,
                license=contents.license,
            )
    return out
