"""audformat database → Manifest.

A database is a header ``db.yaml`` and a file ``db.<table>.csv`` or ``.parquet`` per table. Segments are the utterances
where a table has some, otherwise files are. Tables of a split give the label ``split``; what the header knows of a
value, such as the gender of a speaker, becomes a label too.

The package audformat would load a pickle that lies beside a table, so header and tables are read here instead.
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
    """Whether a file is such a header, or a folder holds one."""
    return (path / HEADER).is_file() or (path.is_file() and path.suffix.lower() in (".yaml", ".yml"))


def read(path: Path) -> tuple[Path, Manifest]:
    """The folder, and its utterances.

    Raises:
        ManifestError: a header or table that cannot be read, a table kept as a pickle only, or faulty rows.
    """
    header_path = path / HEADER if path.is_dir() else path
    header = _header(header_path)
    files: dict[str, Row] = {}
    segments: dict[tuple[str, str, str], Row] = {}
    for name, table in header["tables"].items():
        for row in _rows(header_path, name):
            index = (row["file"], row["start"], row["end"])
            known = segments.setdefault(index, {}) if index[1:] != ("", "") else files.setdefault(row["file"], {})
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
            | {"utterance_id": f"{file.rpartition('.')[0]}_{start}-{end}"}
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
    """The rows of a table as text, ``start`` and ``end`` in seconds, empty where they are the file's own."""
    import pandas as pd

    stem = f"{header_path.stem}.{name}"
    if Path(stem).name != stem:
        raise ManifestError(f"{header_path}: table {name!r} would lie outside of the folder; rename it")
    table_path = header_path.with_name(f"{stem}.csv")
    try:
        if table_path.is_file():
            columns, rows = read_csv(table_path, ("file",))
            if not all(is_whole(row) for _, row in rows):
                raise ValueError("rows have not as many fields as the header")
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
            f"{header_path}: neither {stem}.csv nor .parquet is there, and a pickle is never loaded; "
            "save the database with storage_format='csv'"
        ) from error
    except (OSError, ValueError, KeyError, ImportError, NotImplementedError) as error:
        raise ManifestError(f"{table_path}: cannot be read as a table with a column 'file' ({error!r})") from error
    for row in table.to_dict("records"):
        yield {str(name): value for name, value in row.items()}


def _labels(header: dict[str, Any], table: dict[str, Any], row: Row) -> Iterator[tuple[str, str]]:
    """What a row says, what the header adds to its values, and the split of its table."""
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
    """What lies under these names of a header, one in the other; empty where it is no mapping."""
    for name in names:
        content = content.get(name) if isinstance(content, dict) and isinstance(name, str) else None
    return content if isinstance(content, dict) else {}
