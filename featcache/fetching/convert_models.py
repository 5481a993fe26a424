"""Repository or folder with pickled weights → folder with the same weights as safetensors."""

import os
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

from featcache.errors import FeatcacheError, ModelError
from featcache.extractors.checkpoint import TRANSCRIBER, open_checkpoint, read_config
from featcache.extractors.download import download
from featcache.extractors.hub import CONFIG, reason_of
from featcache.extractors.models import short_name
from featcache.extractors.pickles import Pickles, pickles_of
from featcache.extractors.pretrained import explained
from featcache.extractors.safetensors_revision import INDEX, WEIGHTS
from featcache.fetching.contents import Contents, announce
from featcache.fetching.convert_pickles import convert_pickles, pickle_names
from featcache.fetching.model_folder import copy_files, describe_origin, existing, new_folder, only_one
from featcache.files.regular import resolved
from featcache.workspace import Workspace, check_name


def convert_repository(model: str, contents: Contents, family: str | None, out: Path | None, *, convert: bool) -> Path:
    """Download and convert the pickled weights of a model on the hub.

    Args:
        model: Name of the model, as the user gave it.
        contents: Content of its repository.
        family: Family of the model; None if only its config.json tells it.
        out: Folder to write; None for the folder of this name in ``data/models``.
        convert: Whether the user allows the conversion.

    Returns:
        The folder.

    Raises:
        ModelError: the model has no pickled weights, they contain something else than tensors, or the user did not
            allow the conversion.
    """
    source, commit = contents.source, contents.commit

    def get(name: str) -> Path:
        try:
            return download(source, name, commit)
        except FeatcacheError:
            raise
        except Exception as error:  # The service and the network may raise anything.
            raise ModelError(f"{source}: cannot be downloaded ({reason_of(error, source, commit)})") from error

    has_config = CONFIG in contents.sizes
    if has_config and family is None:
        family = read_config(get(CONFIG).parent).get("model_type")
    name, pickles = _found(source, family, contents.sizes, convert=convert)
    target = _target(model, out)
    with only_one(target):
        if existing(target, source, commit):
            return target
        index = get(name) if name.endswith(".json") else None
        names = pickle_names(source, index) if index else [name]
        announce(model, contents, contents.needed(tuple(names)))
        with new_folder(target) as temporary:
            if has_config and not pickles.converter:
                with ExitStack() as stack:
                    with explained(source):
                        files = open_checkpoint(source, commit, names=TRANSCRIBER, weights=False)
                        checkpoint = stack.enter_context(files)
                    copy_files(checkpoint.folder, temporary)
            hashes = convert_pickles(source, [get(one) for one in names], pickles, temporary)
            describe_origin(
                temporary, source, revision=commit, weights_revision=commit, license=contents.license, pickles=hashes
            )
    return target


def convert_folder(folder: str, out: Path | None, *, convert: bool) -> Path:
    """Convert the pickled weights in a folder.

    Args:
        folder: Folder of the model, which is not changed.
        out: Folder to write; None for the folder of this name in ``data/models``.
        convert: Whether the user allows the conversion.

    Returns:
        The new folder.

    Raises:
        ModelError: as for :func:`convert_repository`, or the folder contains safetensors weights.
    """
    there = sorted(os.listdir(folder))
    if WEIGHTS in there or INDEX in there:
        raise ModelError(f"{folder} is a folder with safetensors weights; pass it to --model as it is")
    family = read_config(Path(folder)).get("model_type") if CONFIG in there else None
    name, pickles = _found(folder, family, there, convert=convert)
    target = _target(folder, out)
    model_id = resolved(folder).name
    with only_one(target):
        if existing(target, model_id, None):
            return target
        names = pickle_names(folder, Path(folder) / name) if name.endswith(".json") else [name]
        with new_folder(target) as temporary:
            if CONFIG in there and not pickles.converter:
                with open_checkpoint(folder, names=TRANSCRIBER, weights=False) as checkpoint:
                    copy_files(checkpoint.folder, temporary)
            hashes = convert_pickles(folder, [Path(folder) / one for one in names], pickles, temporary)
            describe_origin(temporary, model_id, revision=None, weights_revision=None, license=None, pickles=hashes)
    return target


def _found(source: str, family: str | None, names: Iterable[str], *, convert: bool) -> tuple[str, Pickles]:
    """Return the file with the pickled weights; or refuse a model that has none, or that may not be converted."""
    found = pickles_of(family, names)
    if found is None:
        raise ModelError(f"{source} has no weights that featcache knows, expected {WEIGHTS} or pytorch_model.bin")
    if not convert:
        raise ModelError(
            f"{source} has its weights as a pickle only ({found[0]}), which is never loaded; add --convert to convert "
            "it to safetensors in a separate process"
        )
    return found


def _target(model: str, out: Path | None) -> Path:
    if out is not None:
        return out
    name = check_name("model", short_name(model), advice="choose a folder with --out")
    return Workspace.at().models / name
