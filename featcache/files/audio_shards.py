"""Parquet or Arrow file with embedded audio → its other columns, and the bytes of one audio file at a time.

Such a file is one of the shards of a Hugging Face data set. The path of an audio file in it is that of the shard, a
slash, and the number of the row: ``data/train-00000-of-00004.parquet/12``. Nothing is unpacked to disk. Paths that the
rows contain are never opened, and no code is imported that a data set names.
"""

import json
import os
import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from featcache.errors import in_one_line
from featcache.files.regular import open_regular

PARQUET, ARROW = ".parquet", ".arrow"
_INSIDE = re.compile(r"(.+\.(?:parquet|arrow))/(\d{1,12})", re.DOTALL | re.IGNORECASE)
# Largest row group that is read, in bytes, and bytes of row groups that each shard keeps in memory.
_LARGEST_GROUP, _KEPT_BYTES = 1 << 32, 1 << 26
# Number of shards that stay open.
_MOST_OPEN = 4
# A few bytes can state any number of rows without values. A row of speech needs far more bytes than one.
_FREE_ROWS = 1 << 16
# Rows that are decoded at a time; a text that a file contains once may be the value of all of them.
_ROWS_AT_ONCE = 1024
_BYTES, _PATH = "bytes", "path"

_open: "OrderedDict[tuple[str, int, int, int, int, int], AudioShard]" = OrderedDict()
_opening = Lock()


class ShardError(Exception):
    """Parquet or Arrow file that cannot be read. The message does not name the file."""


class NoAudioInRowError(ShardError):
    """Row that does not exist, or has no audio, in a shard that can be read."""


def row_in_shard(path: str | os.PathLike[str]) -> tuple[Path, int] | None:
    """Return the shard and the row of an embedded audio file; None if the path is that of a file of its own."""
    match = _INSIDE.fullmatch(Path(path).as_posix())
    return (Path(match[1]), int(match[2])) if match else None


def open_shard(path: Path) -> "AudioShard":
    """Open a shard; the last ones stay open.

    Args:
        path: Parquet or Arrow file.

    Raises:
        OSError: the file cannot be opened, or is not a regular file.
        ShardError: it is not Parquet or Arrow, is damaged, or pyarrow is not installed.
    """
    status = os.stat(path)
    # The position in an open file is shared with forked processes, which therefore open it again.
    key = (str(path), status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, os.getpid())
    with _opening:
        if key not in _open:
            _open[key] = AudioShard(path)
            if len(_open) > _MOST_OPEN:
                _open.popitem(last=False)
        _open.move_to_end(key)
        return _open[key]


class AudioShard:
    """Open Parquet or Arrow file.

    Args:
        path: The file.

    Attributes:
        num_rows: Number of rows.
        features: Column → its type as the package datasets names it, with the names of a ``ClassLabel``; empty if the
            file does not say.
        audio_column: Column with the audio; None if there is none.
        others: Columns that :meth:`texts` does not yield.

    Raises:
        OSError: see :func:`open_shard`.
        ShardError: see :func:`open_shard`.
    """

    def __init__(self, path: Path) -> None:
        self._lock = Lock()
        self._groups: OrderedDict[int, Any] = OrderedDict()
        with _errors():
            rows = _ArrowRows(path) if path.suffix.lower() == ARROW else _ParquetRows(path)
            self._rows = rows
            self._first = np.concatenate([[0], np.cumsum(rows.group_sizes)])
            self.num_rows = int(self._first[-1])
            if self.num_rows > max(_FREE_ROWS, num_bytes := path.stat().st_size):
                raise ShardError(f"states {self.num_rows} rows in {num_bytes} bytes; fetch it again")
            self.features = _features(rows.schema)
            self.audio_column = _audio_column(rows.schema, self.features)
            self._texts = [field.name for field in rows.schema if _is_text(field.type, self.features.get(field.name))]
            self.others = [field.name for field in rows.schema if field.name not in (*self._texts, self.audio_column)]

    def texts(self, most_bytes: int) -> Iterator[dict[str, Any]]:
        """Yield the plain values of each row, without audio: text, numbers, truth values, and lists of text or classes.

        Args:
            most_bytes: Maximum size of these columns in bytes.

        Raises:
            ShardError: the columns are too large, or damaged.
        """
        names = self._texts
        of_paths = [f"{self.audio_column}.{_PATH}"] if self.audio_column else []
        with _errors():
            too_large = ShardError(f"its columns {', '.join(names)} have more than {most_bytes} bytes")
            if self._rows.size_of(names + of_paths) > most_bytes:
                raise too_large
            num_bytes = 0
            for batch in self._rows.batches(names + of_paths):
                columns = {name: batch.column(name) for name in names}
                columns[_PATH] = _child(batch, self.audio_column, _PATH)
                num_bytes += sum(column.nbytes for column in columns.values())
                if num_bytes > most_bytes:  # Repeated values, which a file contains only once, are now written out.
                    raise too_large
                values = [column.to_pylist() for column in columns.values()]
                yield from (dict(zip(columns, row, strict=True)) for row in zip(*values, strict=True))

    def audio(self, row: int) -> bytes:
        """Return the bytes of the audio file in a row.

        Args:
            row: Number of the row, from 0.

        Raises:
            NoAudioInRowError: there is no such row, or it has no audio.
            ShardError: its part of the file is damaged or too large.
        """
        if self.audio_column is None:
            raise ShardError("has no column with embedded audio")
        if row >= self.num_rows:
            raise NoAudioInRowError(f"has no row {row}, only {self.num_rows} rows")
        group = int(np.searchsorted(self._first, row, side="right")) - 1
        with self._lock, _errors():
            if group not in self._groups:
                self._groups[group] = self._rows.audio_of_group(group, self.audio_column)
                while len(self._groups) > 1 and sum(kept.nbytes for kept in self._groups.values()) > _KEPT_BYTES:
                    self._groups.popitem(last=False)
            self._groups.move_to_end(group)
            content = self._groups[group][row - int(self._first[group])].as_py()
        if content is None:
            raise NoAudioInRowError("this row contains no audio; save the data set again with embedded audio")
        return bytes(content)


class _ParquetRows:
    """Row groups of a Parquet file."""

    def __init__(self, path: Path) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        open_regular(path).close()  # pyarrow would wait for the writer of a named pipe.
        self._file = parquet.ParquetFile(pa.OSFile(str(path)), pre_buffer=False)
        self.schema = self._file.schema_arrow
        self._meta = self._file.metadata
        self.group_sizes = [self._meta.row_group(number).num_rows for number in range(self._meta.num_row_groups)]

    def size_of(self, columns: list[str]) -> int:
        """Return the size of columns in bytes; the part of a struct is ``column.part``."""
        return sum(self._size(group, columns) for group in range(self._meta.num_row_groups))

    def batches(self, columns: list[str]) -> Iterator[Any]:
        """Yield the rows with some columns."""
        yield from self._file.iter_batches(_ROWS_AT_ONCE, columns=columns, use_threads=False)

    def audio_of_group(self, group: int, column: str) -> Any:
        """Return the audio of a row group, an array of bytes."""
        name = f"{column}.{_BYTES}"
        size = self._size(group, [name])
        if size > _LARGEST_GROUP:
            raise ShardError(f"{size} bytes of audio are in one row group; write it again with row_group_size=100")
        table = self._file.read_row_group(group, columns=[name], use_threads=False)
        return _part(table.column(column).combine_chunks(), _BYTES)

    def _size(self, group: int, columns: list[str]) -> int:
        row_group = self._meta.row_group(group)
        chunks = [row_group.column(number) for number in range(row_group.num_columns)]
        return sum(
            chunk.total_uncompressed_size
            for chunk in chunks
            if chunk.path_in_schema in columns or chunk.path_in_schema.partition(".")[0] in columns
        )


class _ArrowRows:
    """Record batches of an Arrow stream, which stay on disk until they are used."""

    def __init__(self, path: Path) -> None:
        import pyarrow as pa

        open_regular(path).close()
        self._map = pa.memory_map(str(path))
        with pa.ipc.open_stream(self._map) as stream:
            self.schema = stream.schema
            self._batches = list(stream)
        if sum(batch.nbytes for batch in self._batches) > self._map.size():
            raise ShardError("its columns are compressed; save the data set without compression")
        for batch in self._batches:
            batch.validate(full=True)  # Positions outside of the file would end the process.
        self.group_sizes = [batch.num_rows for batch in self._batches]

    def size_of(self, columns: list[str]) -> int:
        return sum(batch.column(name).nbytes for batch in self._batches for name in columns if "." not in name)

    def batches(self, columns: list[str]) -> Iterator[Any]:
        yield from self._batches

    def audio_of_group(self, group: int, column: str) -> Any:
        return _part(self._batches[group].column(column), _BYTES)


def _features(schema: Any) -> Mapping[str, Any]:
    """Return the features that the package datasets stores in the metadata of a schema."""
    text = (schema.metadata or {}).get(b"huggingface", b"{}")
    try:
        features = json.loads(text)["info"]["features"]
    except (ValueError, RecursionError, LookupError, TypeError):
        return {}
    return features if isinstance(features, dict) else {}


def _is_text(kind: Any, feature: Any) -> bool:
    """Return whether a column has a type that :meth:`AudioShard.texts` yields."""
    import pyarrow.types as kinds

    strings = [kinds.is_string, kinds.is_large_string, getattr(kinds, "is_string_view", kinds.is_string)]
    plain = [*strings, kinds.is_integer, kinds.is_floating, kinds.is_boolean, kinds.is_decimal, kinds.is_null]
    if kinds.is_list(kind) or kinds.is_large_list(kind) or kinds.is_fixed_size_list(kind):
        of = feature.get("feature") if isinstance(feature, dict) else feature[0] if isinstance(feature, list) else None
        classes = isinstance(of, dict) and of.get("_type") == "ClassLabel"
        kind, plain = kind.value_type, [*strings, kinds.is_integer] if classes else strings
    if kinds.is_dictionary(kind):
        kind = kind.value_type
    return any(is_kind(kind) for is_kind in plain)


def _audio_column(schema: Any, features: Mapping[str, Any]) -> str | None:
    """Return the name of the column with embedded audio.

    Raises:
        ShardError: several columns could be it.
    """
    import pyarrow.types as kinds

    structs = [field for field in schema if kinds.is_struct(field.type)]
    embedded = [field.name for field in structs if _has_bytes(field.type)]
    declared = {name for name, one in features.items() if isinstance(one, dict) and one.get("_type") == "Audio"}
    names = [name for name in embedded if name in declared] or [name for name in embedded if not features]
    if len(names) > 1 and "audio" in names:
        names = ["audio"]
    if len(names) > 1:
        raise ShardError(f"several columns contain audio ({', '.join(names)}); name the one to use 'audio'")
    return names[0] if names else None


def _has_bytes(struct: Any) -> bool:
    """Return whether a struct has a part of bytes; numbers and texts of the same name are no audio."""
    import pyarrow.types as kinds

    place = struct.get_field_index(_BYTES)
    of_bytes = (kinds.is_binary, kinds.is_large_binary, kinds.is_binary_view, kinds.is_fixed_size_binary)
    return place >= 0 and any(is_kind(struct.field(place).type) for is_kind in of_bytes)


def _part(column: Any, name: str) -> Any:
    """Return a part of a struct column, in which missing structs have no value."""
    from pyarrow import compute

    return compute.struct_field(column, name)


def _child(batch: Any, column: str | None, name: str) -> Any:
    import pyarrow as pa

    field = batch.column(column) if column in batch.schema.names else None
    if field is None or field.type.get_field_index(name) < 0:
        return pa.nulls(batch.num_rows)
    return _part(field, name)


class _errors:  # noqa: N801, used as a function
    """Context that reports everything that pyarrow raises as a ShardError."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if isinstance(error, ImportError):
            raise ShardError("needs pyarrow, which is not installed: pip install pyarrow") from None
        if isinstance(error, OSError) and error.errno is not None:
            return
        # pyarrow's own errors are subclasses of ValueError, KeyError, NotImplementedError, OSError and MemoryError.
        if isinstance(error, ValueError | LookupError | TypeError | NotImplementedError | OSError | MemoryError):
            raise ShardError(f"damaged or cut off ({in_one_line(error)[:200]})") from error
