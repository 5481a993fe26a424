"""Hugging Face data set with embedded audio → Manifest.

A data set is a folder of Parquet shards, as hubs distribute it, or a folder that ``datasets.save_to_disk`` wrote, with
Arrow shards. The names of classes come from the metadata of a shard. The label ``split`` comes from the names of
Parquet shards or their folders, and from the folders of ``save_to_disk``; parts of a data set with other names become
the label ``subset``.
Neither the package datasets nor a script of the data set is used.
Source: https://huggingface.co/docs/datasets/repository_structure
"""

import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from featcache.corpora.huggingface import PARTS
from featcache.corpora.jsonl import as_text
from featcache.errors import ManifestError, listed
from featcache.files.audio_shards import ARROW, PARQUET, AudioShard, ShardError, open_shard
from featcache.files.regular import is_hidden
from featcache.files.spreadsheets import MOST_BYTES, Row
from featcache.files.values import read_json
from featcache.manifest import USUAL_NAMES, Manifest
from featcache.terminal.progress import tracked

SPLITS_FILE, STATE_FILE = "dataset_dict.json", "state.json"
# Parquet shards are in the folder, or at most two folders below it: data/, default/train/.
_PLACES = ("*", "*/*", "*/*/*")
_PART = re.compile(rf"(?<![a-z])({'|'.join(PARTS)})(?:ing)?(?![a-z])", re.IGNORECASE)
_NUMBERED = re.compile(r"(.+)-(\d{5})-of-(\d{5})", re.DOTALL)
# Columns of speech data sets that contain the words of an utterance.
_WORDS = ("transcript", *USUAL_NAMES["transcript"], "sentence", "text")
_OF_OTHER_FILES = {"path", *USUAL_NAMES["path"], "start", "end"}
_HINT = "save the data set again"

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Shard, and the part of the data set that it belongs to."""

    file: Path
    part: str


def fits(path: Path) -> bool:
    """Return whether a file is a shard with embedded audio, or a folder contains some."""
    if path.is_file():
        return path.suffix.lower() in (PARQUET, ARROW)
    if (path / SPLITS_FILE).is_file() or (path / STATE_FILE).is_file():
        return True
    first = next(_parquet_files(path), None)
    if first is None:
        return False
    try:
        return open_shard(first).audio_column is not None
    except (OSError, ShardError):
        return _NUMBERED.fullmatch(first.stem) is not None  # The reason is reported when it is read.


def read(path: Path) -> tuple[Path, Manifest]:
    """Read the utterances of a data set.

    Args:
        path: The folder, or one shard.

    Returns:
        The folder to which paths are relative, and the utterances. The path of an utterance is that of its shard, a
        slash, and the number of its row.

    Raises:
        ManifestError: a shard is damaged, has no audio, or other columns than the others; or rows are faulty.
    """
    root = path.parent if path.is_file() else path
    places = _places(path)
    if not places:
        raise ManifestError(f"{path}: no Parquet or Arrow files with audio; expected names like train-00000-of-00001")
    for told in missing_shards(path) if path.is_dir() else []:
        log.warning("%s: %s", path, told)
    rows: list[tuple[str, Row]] = []
    names: list[str] = []
    columns: set[str] | None = None
    counts: Counter[str] = Counter()
    for place in tracked(f"reading {path.name}", places, step=1):
        shard, values = _opened(place.file)
        if place is places[0] and shard.others:
            log.info("%s: columns that cannot be labels: %s", path, listed(shard.others))
        of_shard = set(values[0]) if values else columns
        if columns is not None and of_shard != columns:
            raise ManifestError(
                f"{place.file} has other columns than {places[0].file} "
                f"({listed(sorted(columns ^ (of_shard or set())))}); give the folder of one configuration"
            )
        columns = of_shard
        within = place.file.relative_to(root).as_posix()
        for number, row in enumerate(_rows(shard, values)):
            names.append(row["path"])
            own = {"utterance_id": f"{place.part or place.file.stem}/{counts[place.part]}"}
            if place.part:
                own["split" if place.part in PARTS else "subset"] = place.part
            rows.append((f"{within}, row {number}", own | row | {"path": f"{within}/{number}"}))
            counts[place.part] += 1
    if "utterance_id" not in (columns or ()):
        rows = _with_names(rows, names)
    return root, Manifest.from_rows(rows, path)


def _places(path: Path) -> list[_Place]:
    """Return the shards of a data set in order."""
    if path.is_file():
        return [_Place(file=path, part=_part_of(path, path.parent))]
    if (path / SPLITS_FILE).is_file():
        parts = read_json(path / SPLITS_FILE, dict, _HINT).get("splits")
        if (
            not isinstance(parts, list)
            or not all(isinstance(part, str) and _is_name(part) for part in parts)
            or len(set(parts)) < len(parts)
        ):
            raise ManifestError(f"{path / SPLITS_FILE}: expected the names of the splits, each once; {_HINT}")
        return [_Place(file=file, part=part) for part in parts for file in _arrow_files(path / part)]
    if (path / STATE_FILE).is_file():
        return [_Place(file=file, part="") for file in _arrow_files(path)]
    return [_Place(file=file, part=_part_of(file, path)) for file in sorted(_parquet_files(path))]


def _arrow_files(folder: Path) -> list[Path]:
    """Return the Arrow shards of a folder that ``save_to_disk`` wrote."""
    state = read_json(folder / STATE_FILE, dict, _HINT)
    if state.get("_indices_data_files") or state.get("_indices_files"):
        raise ManifestError(f"{folder}: its rows were selected by an old release of datasets; {_HINT} with a new one")
    files = state.get("_data_files")
    found = [file.get("filename") for file in files if isinstance(file, dict)] if isinstance(files, list) else []
    names = [name for name in found if isinstance(name, str) and _is_name(name) and name.endswith(ARROW)]
    if not names or len(set(names)) < len(found):
        raise ManifestError(
            f"{folder / STATE_FILE}: expected the names of Arrow files in this folder, each once; {_HINT}"
        )
    return [folder / name for name in names]


def _is_name(name: str) -> bool:
    """Return whether a name that a data set contains is that of a file or folder directly in it."""
    return re.fullmatch(r"[\w.-]+", name) is not None and not is_hidden(name)


def _parquet_files(folder: Path) -> Iterator[Path]:
    for pattern in _PLACES:
        for file in folder.glob(f"{pattern}{PARQUET}"):
            if file.is_file() and not any(map(is_hidden, file.relative_to(folder).parts)):
                yield file


def _part_of(file: Path, root: Path) -> str:
    """Return the part of a data set that the name of a shard, or of its folders, states."""
    within = file.relative_to(root).with_suffix("")
    for name in reversed(within.parts):
        found = _PART.search(name)
        if found:
            return found[1].lower()
    numbered = _NUMBERED.fullmatch(within.name)
    return numbered[1] if numbered else ""


def missing_shards(path: Path) -> list[str]:
    """Return how many shards of each series are missing in a folder, one line for each series that is not complete."""
    found: dict[tuple[str, str], set[str]] = {}
    for place in _places(path):
        numbered = _NUMBERED.fullmatch(place.file.relative_to(path).with_suffix("").as_posix())
        if numbered:
            found.setdefault((numbered[1], numbered[3]), set()).add(numbered[2])
    return [
        f"{int(number) - len(there)} of {int(number)} shards of {name!r} are missing"
        for (name, number), there in found.items()
        if len(there) < int(number)
    ]


def _opened(file: Path) -> tuple[AudioShard, list[dict[str, Any]]]:
    """Open a shard, and read the plain values of its rows."""
    try:
        shard = open_shard(file)
        if shard.audio_column is None:
            raise ManifestError(f"{file}: no column with embedded audio, expected one with 'bytes' and 'path'")
        return shard, list(shard.texts(MOST_BYTES))
    except ShardError as error:
        raise ManifestError(f"{file}: {error}") from error
    except OSError as error:
        raise ManifestError(f"{file}: cannot be read ({error.strerror})") from error


def _rows(shard: AudioShard, values: Iterable[Mapping[str, Any]]) -> Iterator[Row]:
    """Yield the rows as text; ``path`` is the name that the audio had before it was embedded."""
    classes = {name: _class_names(feature) for name, feature in shard.features.items()}
    for row in values:
        texts = {name: _text(value, classes.get(name)) for name, value in row.items() if name not in _OF_OTHER_FILES}
        words = next((name for name in _WORDS if name in texts), None)
        if words is not None:
            texts["transcript"] = texts.pop(words)
        yield texts | {"path": as_text(row["path"])}


def _class_names(feature: Any) -> list[str] | None:
    """Return the names of the classes of a column, or of the items of its lists."""
    of = feature[0] if isinstance(feature, list) and feature else feature
    of = of.get("feature", of) if isinstance(of, dict) else of
    names = of.get("names") if isinstance(of, dict) and of.get("_type") == "ClassLabel" else None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return None
    return [as_text(name) for name in names]


def _text(value: Any, classes: list[str] | None) -> str:
    if isinstance(value, list):  # As in manifests, "none" is annotated without any of the labels.
        return ";".join(filter(None, (_text(item, classes) for item in value))) or ("" if value else "none")
    if classes is not None and isinstance(value, int):
        return classes[value] if 0 <= value < len(classes) else ""  # -1 stands for a missing label.
    if value is None or isinstance(value, str | int | float):
        return "" if value != value else as_text(value)  # noqa: PLR0124, pandas writes a missing number as NaN
    return str(value)  # decimal and half-precision numbers


def _with_names(rows: list[tuple[str, Row]], names: list[str]) -> list[tuple[str, Row]]:
    """Return the rows with the names of their audio files as ids, if all are different."""
    stems = [PurePosixPath(name.replace("\\", "/")).stem for name in names]
    if all(stems) and len(set(stems)) == len(stems):
        return [(place, row | {"utterance_id": stem}) for (place, row), stem in zip(rows, stems, strict=True)]
    return rows
