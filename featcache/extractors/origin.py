"""Folder that ``featcache fetch`` made ↔ description of where its files come from.

Such folders in ``data/models`` are found by the short name or id of the model. They can be copied from another machine.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from featcache.errors import StoreError
from featcache.extractors.safetensors_revision import COMMIT
from featcache.files.regular import is_hidden, replace_file, sha256_of_file
from featcache.files.values import check_types, read_json
from featcache.workspace import Workspace

ORIGIN = "featcache-origin.json"
_HINT = "fetch the model again"


@dataclass(frozen=True, kw_only=True)
class FolderOrigin:
    """Origin of the files in a model folder.

    Attributes:
        model_id: Id on the Hugging Face hub, or name of the folder whose pickle was converted.
        revision: Commit of the configuration on the hub; None for folders.
        weights_revision: Commit of the weights on the hub; None for folders.
        license: Licence that the hub states; None if it is unknown.
        date: Time of the download or conversion, in UTC.
        versions: Package → version.
        sizes: Name of each weights file → size in bytes.
        sha256: Name of each weights file → SHA-256.
        pickles: Name of each converted pickle → SHA-256; empty if nothing was converted.
    """

    model_id: str
    revision: str | None = None
    weights_revision: str | None = None
    license: str | None = None
    date: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    sha256: Mapping[str, str] = field(default_factory=dict)
    pickles: Mapping[str, str] = field(default_factory=dict)


_TYPES: Mapping[str, tuple[type, ...]] = {
    "model_id": (str,),
    "revision": (str, type(None)),
    "weights_revision": (str, type(None)),
    "license": (str, type(None)),
    "date": (str,),
    "versions": (dict,),
    "sizes": (dict,),
    "sha256": (dict,),
    "pickles": (dict,),
}


def write_origin(folder: Path, origin: FolderOrigin) -> None:
    """Write the description of a folder."""
    replace_file(folder / ORIGIN, (json.dumps(asdict(origin), indent=2, ensure_ascii=False) + "\n").encode())


def read_origin(folder: Path) -> FolderOrigin | None:
    """Return the description of a folder; None if there is none, it is damaged, or the weights have another size.

    The file may come from anyone. It decides only which name a folder answers to; the weights identify stores.
    """
    path = folder / ORIGIN
    try:
        if not path.is_file():
            return None
        found: dict[str, Any] = read_json(path, dict, _HINT)
        check_types(found, _TYPES, path, _HINT, required=tuple(_TYPES))
        commits = [found[name] for name in ("revision", "weights_revision") if found[name] is not None]
        if not all(map(COMMIT.fullmatch, commits)) or not all(_has(folder, *one) for one in found["sizes"].items()):
            return None
    except (StoreError, OSError, ValueError):  # such as a file name that is too long
        return None
    return FolderOrigin(**{name: found[name] for name in _TYPES})


def _has(folder: Path, name: str, size: object) -> bool:
    """Return whether a folder has a file of this name and size."""
    inside = ".." not in PurePosixPath(name).parts and not PurePosixPath(name).is_absolute()
    return inside and (folder / name).is_file() and (folder / name).stat().st_size == size


def is_unchanged(folder: Path, origin: FolderOrigin) -> bool:
    """Return whether the weights in a folder are those that its description lists; all of them are read."""
    weights = {path.relative_to(folder).as_posix() for path in folder.rglob("*.safetensors")}
    return weights == origin.sha256.keys() and all(
        sha256_of_file(folder / name) == origin.sha256[name] for name in weights
    )


def find_fetched(source: str, revision: str | None) -> Path | None:
    """Return the folder in ``data/models`` that contains a model of the hub, or None.

    Args:
        source: Id on the hub.
        revision: Commit that the folder must have; None or ``main`` accept every commit.
    """
    folders = Workspace.at().models
    try:
        visible = sorted(path for path in folders.iterdir() if not is_hidden(path.name))
    except OSError:  # It does not exist, or may not be read.
        return None
    for folder in visible:
        origin = read_origin(folder) if os.path.lexists(folder / "config.json") else None
        if origin is not None and origin.model_id == source and revision in (None, "main", origin.revision):
            return folder
    return None
