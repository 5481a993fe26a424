"""EmoBox's JSON lines and folds → Manifest.

EmoBox keeps ``data/<corpus>/<corpus>.jsonl``, ``label_map.json`` beside it, and ``fold_1/<corpus>_train_fold_1.jsonl``,
``…_test_…``, sometimes ``…_valid_…``. One fold becomes the label ``split``; of several, the label ``fold`` says
which one tests an utterance. ``emotion`` is EmoBox's ``emo`` as ``label_map.json`` renames it, and empty where it does
not.
Source: Ma et al. 2024, https://github.com/emo-box/EmoBox.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path

from featcache.corpora.base import files_in
from featcache.corpora.jsonl import read_rows
from featcache.errors import CorpusError, ManifestError
from featcache.files.regular import resolved
from featcache.files.spreadsheets import Row, first_line, read_text
from featcache.manifest import Manifest

PART_NAME = re.compile(r".+_(train|valid|test)_fold_(\d+)")
RENAMED = {"key": "utterance_id", "start_time": "start", "end_time": "end"}
OF_THE_AUDIO = ("type", "task", "sample_rate", "num_frame", "length", "channel")
LABEL_MAP = "label_map.json"
MOST_FOLDERS_UP = 4  # data/<corpus>/fold_1 is three below the folder that the paths start from


def fits(path: Path) -> bool:
    """Whether a file holds EmoBox's JSON lines, or a folder is the one that EmoBox keeps for a corpus or a fold."""
    table = path if path.is_file() else _main_table(path)
    if table is None:
        return path.is_dir() and bool(_parts(path))
    if table.suffix.lower() != ".jsonl":
        return False
    line = first_line(table)
    return all(f'"{name}"' in line for name in ("key", "wav", "emo"))


def read(path: Path) -> tuple[Path, Manifest]:
    """The folder that the paths start from, and the utterances.

    Raises:
        CorpusError: the audio of the first utterance is not where the file says.
        ManifestError: a file that cannot be read, or faulty rows.
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
    return _root(folder, manifest[0].path), manifest


def _main_table(folder: Path) -> Path | None:
    table = folder / f"{resolved(folder).name}.jsonl"
    return table if table.is_file() else None


def _parts(folder: Path) -> list[tuple[str, str, Path]]:
    """Part, number of the fold and file, of the parts of folds that lie in a folder."""
    matches = [(PART_NAME.fullmatch(table.stem), table) for table in files_in(folder, ".jsonl")]
    return [(match[1], match[2], table) for match, table in matches if match]


def _folds(folder: Path) -> dict[str, Row]:
    """Key → its label ``split`` where there is one fold, or ``fold`` where there are several."""
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
                raise ManifestError(f"{table}: {row.get('key')!r} stands in another part too; give the fold's folder")
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
            return names
    return None


def _row(row: Row, names: Mapping[str, str] | None) -> Row:
    emotion = row.get("emo", "")
    labels = {"emotion": emotion} if names is None else {"emotion": names.get(emotion, ""), "emo": emotion}
    kept = {RENAMED.get(name, name): value for name, value in row.items() if name not in ("emo", *OF_THE_AUDIO)}
    return kept | labels


def _root(folder: Path, path: str) -> Path:
    places = [folder, *resolved(folder).parents][:MOST_FOLDERS_UP]
    root = next((place for place in places if (place / path).is_file()), None)
    if root is None:
        raise CorpusError(
            f"{folder}: {path!r} lies neither there nor in a folder above; put the audio where EmoBox's file says"
        )
    return root
