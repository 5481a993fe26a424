"""metadata.csv or metadata.jsonl of a Hugging Face audio folder → Manifest.

The table is in the folder itself, or each of the folders ``train``, ``validation`` and ``test`` contains one. The name
of such a folder becomes the label ``split``.
Source: https://huggingface.co/docs/datasets/audio_dataset, AudioFolder.
"""

from pathlib import Path, PurePosixPath

from featcache.corpora.jsonl import read_rows
from featcache.files.spreadsheets import Row, first_line, read_csv
from featcache.manifest import Manifest

NAMES = ("metadata.csv", "metadata.jsonl")
PARTS = ("train", "validation", "valid", "val", "dev", "test")
COLUMN = "file_name"


def fits(path: Path) -> bool:
    """Return whether a file is such a table, or a folder contains one."""
    if path.is_file():
        return path.suffix.lower() == ".jsonl"
    return any(_names_files(table) for table in _tables(path))


def read(path: Path) -> tuple[Path, Manifest]:
    """Read the utterances of a Hugging Face audio folder.

    Args:
        path: The folder, or its table.

    Returns:
        The folder to which paths are relative, and the utterances.

    Raises:
        ManifestError: a table cannot be read, or rows are faulty.
    """
    root, tables = (path.parent, [path]) if path.is_file() else (path, _tables(path))
    rows = []
    for table in tables:
        folder = table.parent.relative_to(root)
        rows += [(f"{folder / table.name}, {place}", _row(row, folder)) for place, row in _rows(table)]
    return root, Manifest.from_rows(rows, path)


def _tables(folder: Path) -> list[Path]:
    here = [folder / name for name in NAMES]
    of_parts = [folder / part / name for part in PARTS for name in NAMES]
    there = [table for table in here if table.is_file()]
    return there[:1] or [table for table in of_parts if table.is_file()]


def _names_files(table: Path) -> bool:
    """Return whether a table has the column ``file_name``; other corpora have files called metadata.csv, too."""
    return COLUMN in first_line(table)


def _rows(table: Path) -> list[tuple[str, Row]]:
    return read_rows(table) if table.suffix.lower() == ".jsonl" else read_csv(table, (COLUMN,))[1]


def _row(row: Row, folder: Path) -> Row:
    """Return a row with its path relative to the root, and the split if the path starts with a split's folder."""
    if not row.get(COLUMN):
        return row
    path = PurePosixPath(folder.as_posix()) / row[COLUMN]
    part = {"split": path.parts[0]} if path.parts[0] in PARTS and "split" not in row else {}
    return {**row, COLUMN: str(path), **part}
