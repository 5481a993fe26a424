"""EmoBox's JSON lines and folds → Manifest.

EmoBox has ``data/<corpus>/<corpus>.jsonl``, ``label_map.json`` beside it, and ``fold_1/<corpus>_train_fold_1.jsonl``,
``…_test_…``, sometimes ``…_valid_…``. A single fold becomes the label ``split``. With several folds, the label
``fold`` is the number of the fold that tests the utterance. The label ``emotion`` is EmoBox's ``emo``, renamed by
``label_map.json``, and empty if the map does not contain it.
Source: Ma et al. 2024, https://github.com/emo-box/EmoBox.
"""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

from featcache.corpora.folder_contents import files_in
from featcache.corpora.jsonl import as_text, read_rows
from featcache.errors import CorpusError, ManifestError
from featcache.files.regular import resolved
from featcache.files.spreadsheets import Row, first_line, read_text
from featcache.manifest import Manifest

PART_NAME = re.compile(r".+_(train|valid|test)_fold_(\d+)")
RENAMED = {"key": "utterance_id", "start_time": "start", "end_time": "end"}
OF_THE_AUDIO = ("type", "task", "sample_rate", "num_frame", "length", "channel")
LABEL_MAP = "label_map.json"
MOST_FOLDERS_UP = 4  # data/<corpus>/fold_1 is three levels below the folder to which paths are relative


def fits(path: Path) -> bool:
    """Return whether a file contains EmoBox's JSON lines, or a folder is EmoBox's folder of a corpus or fold."""
    table = path if path.is_file() else _main_table(path)
    if table is None:
        return path.is_dir() and bool(_parts(path))
    if table.suffix.lower() != ".jsonl":
        return False
    line = first_line(table)
    return all(f'"{name}"' in line for name in ("key", "wav", "emo"))


def read(path: Path) -> tuple[Path, Manifest]:
    """Read the utterances of EmoBox's JSON lines.

    Args:
        path: A file of JSON lines, or the folder of a corpus or a fold.

    Returns:
        The folder to which paths are relative, and the utterances.

    Raises:
        CorpusError: the audio of all utterances is missing.
        ManifestError: a file cannot be read, or rows are faulty.
    """
    folder = path.parent if path.is_file() else path
    main = path if path.is_file() else _main_table(path)
    names = _label_map(folder)
    if main is None:
        tables = _parts(folder)
        rows = [(place, _row(row, names) | {"split": part}) for part, _, t in tables for place, row in read_rows(t)]
    else:
        folds = _folds(folder) if path.is_dir() else {}
        rows = [(place, _row(row, names) | folds.get(row.get("key", ""), {})) for place, row in read_rows(main)]
    manifest = Manifest.from_rows(rows, main or folder)
    return _root(folder, manifest), manifest


def _main_table(folder: Path) -> Path | None:
    table = folder / f"{resolved(folder).name}.jsonl"
    return table if table.is_file() else None


def _parts(folder: Path) -> list[tuple[str, str, Path]]:
    """List the files of folds in a folder: part, number of the fold, and file."""
    matches = [(PART_NAME.fullmatch(table.stem), table) for table in files_in(folder, ".jsonl")]
    return [(match[1], match[2], table) for match, table in matches if match]


def _folds(folder: Path) -> dict[str, Row]:
    """Return key → label ``split`` if there is one fold, or label ``fold`` if there are several."""
    parts = [part for fold in sorted(folder.glob("fold_*")) for part in _parts(fold)]
    several = len({number for _, number, _ in parts}) > 1
    labels: dict[str, Row] = {}
    for part, number, table in parts:
        if several and part != "test":
            continue
        label = {"fold": number} if several else {"split": part}
        for _, row in read_rows(table):
            before = labels.setdefault(row.get("key", ""), label)
            if before != label:
                raise ManifestError(f"{table}: {row.get('key')!r} is in another part, too; give the folder of one fold")
    return labels


def _label_map(folder: Path) -> Mapping[str, str] | None:
    for place in (folder, resolved(folder).parent):
        if (place / LABEL_MAP).is_file():
            try:
                names = json.loads(read_text(place / LABEL_MAP))
            except (ValueError, RecursionError):
                names = None
            if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
                raise ManifestError(f"{place / LABEL_MAP}: expected a JSON object of names; fetch it again")
            return {name: as_text(emotion) for name, emotion in names.items()}
    return None


def _row(row: Row, names: Mapping[str, str] | None) -> Row:
    emotion = row.get("emo", "")
    labels = {"emotion": emotion} if names is None else {"emotion": names.get(emotion, ""), "emo": emotion}
    kept = {RENAMED.get(name, name): value for name, value in row.items() if name not in ("emo", *OF_THE_AUDIO)}
    return kept | labels


def _root(folder: Path, manifest: Manifest) -> Path:
    places = [folder, *resolved(folder).parents][:MOST_FOLDERS_UP]
    root = next((place for u in manifest for place in places if os.path.isfile(place / u.path)), None)
    if root is None:
        raise CorpusError(
            f"{folder}: {manifest[0].path!r:.300} exists neither there nor in a folder above; "
            "put the audio at the path in EmoBox's file"
        )
    return root
