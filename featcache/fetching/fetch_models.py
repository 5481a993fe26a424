"""Name of a model → its folder with all files that featcache reads, downloaded or converted."""

import logging
import os
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

from featcache.errors import ModelError
from featcache.extractors import is_reference
from featcache.extractors.checkpoint import TRANSCRIBER, Checkpoint, open_checkpoint
from featcache.extractors.families import weight_prefixes
from featcache.extractors.hub import Repository
from featcache.extractors.models import known_text_models, resolve, short_name
from featcache.extractors.pretrained import explained
from featcache.fetching.contents import Contents, announce, read_contents
from featcache.fetching.convert_models import convert_folder, convert_repository
from featcache.fetching.model_folder import copy_files, describe_origin, existing, new_folder, only_one

log = logging.getLogger(__name__)


def fetch_model(model: str, out: Path | None, revision: str | None, *, convert: bool) -> Path:
    """Return the folder of a model after downloading or converting its files.

    Args:
        model: Short name, name of s3prl, Hugging Face id, or folder with pickled weights.
        out: Folder to write; by default, the cache of the Hugging Face client is filled.
        revision: Branch, tag or commit on the hub.
        convert: Whether pickled weights are converted.

    Raises:
        ModelError: the model is unknown, cannot be downloaded, or has only pickled weights.
    """
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
