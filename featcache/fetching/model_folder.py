"""Checked files of a model → a folder that can be copied to another machine and passed to ``--model``."""

import glob
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from featcache._version import __version__
from featcache.errors import DiskError, ModelError
from featcache.extractors.origin import FolderOrigin, read_origin, write_origin
from featcache.files.disk import writing
from featcache.files.locks import FOREVER, held
from featcache.files.regular import resolved, sha256_of_file

_PACKAGES = ("huggingface_hub", "safetensors", "torch", "transformers")


def existing(folder: Path, model_id: str, commit: str | None) -> bool:
    """Return whether a folder contains a model already.

    Args:
        folder: Folder to write.
        model_id: Id on the hub, or name of the folder whose pickle is converted.
        commit: Commit of the model; None accepts every commit.

    Raises:
        ModelError: the folder contains something else.
    """
    if not os.path.lexists(folder):
        return False
    if folder.is_dir() and not any(folder.iterdir()):
        return False
    origin = read_origin(folder) if folder.is_dir() else None
    if origin is not None and origin.model_id == model_id and commit in (None, origin.revision):
        return True
    found = f"commit {origin.revision} of {origin.model_id}" if origin else "other files"
    raise ModelError(f"{folder} contains {found}; choose another folder with --out, or remove it")


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Wait until no other process writes a folder, and remove what killed processes left beside it.

    Args:
        folder: Folder to write.

    Raises:
        ModelError: it is the current folder, which cannot be replaced.
    """
    if resolved(folder) == resolved("."):
        raise ModelError("--out is the current folder, expected the name of a new folder")
    with ExitStack() as stack:
        lock = folder.with_name(f".{folder.name}.lock")  # outside of the folder, which is replaced
        with suppress(DiskError):  # The disk is read-only, or its file system has no locks.
            stack.enter_context(held(lock, f"{folder} is being written", wait=FOREVER))
            for left in folder.parent.glob(f".{glob.escape(folder.name)}.{'[0-9a-f]' * 32}.tmp"):
                shutil.rmtree(left, ignore_errors=True)
        yield


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder beside ``folder``; on success it gets this name, on failure it is removed.

    Args:
        folder: Folder that does not exist yet, or is empty; :func:`only_one` keeps other processes away.

    Raises:
        DiskError: the folder cannot be written.
    """
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.tmp")
    try:
        with writing(folder):
            temporary.mkdir(parents=True)
        yield temporary
        with writing(folder):
            if folder.is_dir():
                folder.rmdir()
            os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def copy_files(source: Path, target: Path) -> None:
    """Copy all files of a checked folder, whose weights are links, into another folder.

    A hard link would save space, but a program that writes new weights into the folder would also change the hub's
    local cache.
    """
    for path in sorted(source.rglob("*")):
        if path.is_dir():
            continue
        copy = target / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        with writing(copy):
            shutil.copyfile(path, copy)


def describe_origin(
    folder: Path,
    model_id: str,
    *,
    revision: str | None,
    weights_revision: str | None,
    license: str | None,
    pickles: Mapping[str, str] | None = None,
) -> None:
    """Write the origin of the files in a folder, which lists the sizes and SHA-256 of its weights.

    Args:
        folder: Folder of the model.
        model_id: Id on the hub, or name of the folder whose pickle was converted.
        revision: Commit of the configuration.
        weights_revision: Commit of the weights.
        license: Licence that the hub states.
        pickles: Name of each converted pickle → SHA-256.
    """
    weights = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*.safetensors"))}
    versions = {name: metadata.version(name) for name in _PACKAGES}
    origin = FolderOrigin(
        model_id=model_id,
        revision=revision,
        weights_revision=weights_revision,
        license=license or None,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        versions={"featcache": __version__, **versions},
        sizes={name: path.stat().st_size for name, path in weights.items()},
        sha256={name: sha256_of_file(path) for name, path in weights.items()},
        pickles=pickles or {},
    )
    write_origin(folder, origin)
