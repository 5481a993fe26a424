"""Names of the files in a published folder: what is uploaded, downloaded and replaced, and nothing else."""

import re
from collections.abc import Iterable
from pathlib import Path

from featcache.files.checksums import CHECKSUMS
from featcache.publishing.published_models import READ_FILES, WEIGHT_FILE
from featcache.runs.file_names import CONFIG, HEADS, LAYER_WEIGHTS, METRICS, MODELS, NORMALISATION

CARD = "README.md"
FIGURE = "layer_weights"
ONNX = "onnx"

_TRAINING = r"seed-\d{1,18}-fold-\d{1,18}"
# Files that loading and predicting read.
_READ = (CONFIG, METRICS, LAYER_WEIGHTS, NORMALISATION, CHECKSUMS)
_SHOWN = (CARD, *(f"{FIGURE}{suffix}" for suffix in (".png", ".svg", ".pdf", "_summary.csv")))
_HEAD = re.compile(rf"{HEADS}/{_TRAINING}\.safetensors", re.ASCII)
_MODEL = re.compile(
    rf"{MODELS}/[^/]+/{_TRAINING}/({'|'.join(map(re.escape, READ_FILES))}|{WEIGHT_FILE.pattern})", re.ASCII
)
_GRAPH = re.compile(rf"{ONNX}/{_TRAINING}\.onnx", re.ASCII)


def files_to_read(names: Iterable[str]) -> list[str]:
    """Return the names of the files that loading and predicting read, sorted."""
    return sorted(name for name in names if name in _READ or _HEAD.fullmatch(name) or _MODEL.fullmatch(name))


def published_files(folder: Path) -> dict[str, int]:
    """Return name → size in bytes of all files of a published folder, sorted by name; other files are left out."""
    names = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.stat().st_size for name, path in sorted(names.items()) if _is_published(name)}


def unexpected_files(folder: Path) -> set[str]:
    """Return the names of the files in a folder that ``featcache publish`` does not write."""
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
    return {name for name in names if not _is_published(name)}


def _is_published(name: str) -> bool:
    return name in (*_READ, *_SHOWN) or any(one.fullmatch(name) for one in (_HEAD, _MODEL, _GRAPH))
