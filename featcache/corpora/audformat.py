"""audformat database → Manifest.

A database consists of a header ``db.yaml`` and a file ``db.<table>.csv`` or ``.parquet`` per table. If a table has
segments, they are the utterances; otherwise, whole files are. Tables of a split set the label ``split``. Properties of
a value in the header, such as the gender of a speaker, become labels, too.

The package audformat loads a pickle if one lies beside a table, so header and tables are read here instead.
Source: https://audeering.github.io/audformat/data-format.html
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from featcache.corpora.jsonl import as_text
from featcache.errors import ManifestError
from featcache.files.regular import open_regular
from featcache.files.spreadsheets import Row, is_whole, read_csv, read_text
from featcache.manifest import Manifest

HEADER = "db.yaml"
INDEX = ("file", "start", "end")
MOST_CHARACTERS = 1 << 24


def fits(path: Path) -> bool:
    """Return whether a file is an audformat header, or a folder contains one."""
    return (path / HEADER).is_file() or (path.is_file() and path.suffix.lower() in (".yaml", ".yml"))


def read(path: Path) -> tuple[Path, Manifest]:
    """Read the utterances of an audformat database.

    Args:
        path: The header, or the folder that contains ``db.yaml``.

    Returns:
        The folder to which paths are relative, and the utterances.

    Raises:
        ManifestError: a header or table cannot be read, a table exists only as a pickle, or rows are faulty.
    """
    header_path = path / HEADER if path.is_dir() else path
    header = _header(header_path)
    files: dict[str, Row] = {}
    segments: dict[tuple[str, str, str], Row] = {}
    for name, table in header["tables"].items():
        rows_of_table = list(_rows(header_path, name))
        # Beside segments, a whole file is one, too: it has no end.
        segmented = any(row["start"] or row["end"] for row in rows_of_table)
        for row in rows_of_table:
            index = (row["file"], row["start"], row["end"])
            known = segments.setdefault(index, {}) if segmented else files.setdefault(row["file"], {})
            for label, value in _labels(header, table, row):
                if known.setdefault(label, value) == value:
                    continue
                if label == "split":
                    raise ManifestError(f"{header_path}: {row['file']!r} is in two splits, {known[label]} and {value}")
                known[f"{name}.{label}"] = value
    if not segments:
        rows = [{"file": file} | row for file, row in sorted(files.items())]
    else:
        rows = [
            dict(zip(INDEX, (file, start, end), strict=True))
            | {"utterance_id": file.rpartition(".")[0] + (f"_{start}-{end}" if start or end else "")}
            | files.get(file, {})
            | row
            for (file, start, end), row in segments.items()
        ]
    return header_path.parent, Manifest.from_rows([(repr(row["file"]), row) for row in rows], header_path)


def _header(path: Path) -> dict[str, Any]:
    from featcache.files.yaml_text import YamlError, load

    text = read_text(path)
    if len(text) > MOST_CHARACTERS:
        raise ManifestError(f"{path}: more than {MOST_CHARACTERS} characters; expected the header of a database")
    try:
        content = load(text)
    except YamlError as error:
        place = "" if error.line is None else f"line {error.line}: "
        raise ManifestError(f"{path}: not YAML as expected ({place}{error}); fetch it again") from error
    header: dict[str, Any] = content if isinstance(content, dict) else {}
    tables = header.get("tables")
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        raise ManifestError(f"{path}: no 'tables' in it; expected the header of an audformat database")
    return header


def _rows(header_path: Path, name: str) -> Iterator[Row]:
    """Yield the rows of a table as text; ``start`` and ``end`` are in seconds, and empty for whole files."""
    import pandas as pd

    stem = f"{header_path.stem}.{name}"
    if Path(stem).name != stem:
        raise ManifestError(f"{header_path}: table {name!r} would lie outside of the folder; rename it")
    table_path = header_path.with_name(f"{stem}.csv")
    try:
        if table_path.is_file():
            columns, rows = read_csv(table_path, ("file",))
            if not all(is_whole(row) for _, row in rows):
                raise ValueError("rows do not have as many fields as the header")
            table = pd.DataFrame([row for _, row in rows], columns=columns, dtype=str)
        else:
            table_path = header_path.with_name(f"{stem}.parquet")
            with open_regular(table_path) as file:
                table = pd.read_parquet(file)
        for column in ("start", "end"):
            times = table[column].replace("", None) if column in table else None
            table[column] = pd.to_timedelta(times).dt.total_seconds() if times is not None else None
        table = table.astype(object).where(table.notna(), "").map(str)
        whole = table["start"].isin(["", "0.0"]) & (table["end"] == "")
        table.loc[whole, "start"] = ""
        if "file" not in table:
            raise KeyError("file")
    except FileNotFoundError as error:
        raise ManifestError(
            f"{header_path}: neither {stem}.csv nor .parquet exists, and a pickle is never loaded; "
            "save the database with storage_format='csv'"
        ) from error
    except ManifestError:
        raise
    except (OSError, ValueError, KeyError, ImportError, NotImplementedError) as error:
        raise ManifestError(f"{table_path}: cannot be read as a table with a column 'file' ({error!r})") from error
    for row in table.to_dict("records"):
        yield {str(name): value for name, value in row.items()}


def _labels(header: dict[str, Any], table: dict[str, Any], row: Row) -> Iterator[tuple[str, str]]:
    """Yield the labels of a row: its values, their properties in the header, and the split of its table."""
    for column, its in _mapping(table, "columns").items():
        scheme = _mapping(header, "schemes", its.get("scheme_id") if isinstance(its, dict) else None)
        if scheme.get("dtype") == "time" or row.get(column, "") == "":
            continue
        yield column, row[column]
        properties = _mapping(scheme, "labels", row[column])
        yield from ((str(name), as_text(value)) for name, value in properties.items())
    if "split_id" in table:
        split = str(table["split_id"])
        yield "split", str(_mapping(header, "splits", split).get("type", split))


def _mapping(content: Any, *names: Any) -> dict[Any, Any]:
    """Return the mapping under nested names of a header; empty if it is not a mapping."""
    for name in names:
        content = content.get(name) if isinstance(content, dict) and isinstance(name, str) else None
    return content if isinstance(content, dict) else {}
