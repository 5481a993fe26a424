"""File of JSON lines → rows of text, as a CSV has them."""

import json
from pathlib import Path
from typing import Any

from featcache.errors import ManifestError
from featcache.files.spreadsheets import Row, read_text


def read_rows(path: Path) -> list[tuple[str, Row]]:
    """Where each row stands, and its columns.

    Raises:
        ManifestError: the file cannot be read, or a line is not a JSON object.
    """
    rows = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip() == "":
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ManifestError(f"{path}: line {number} is not JSON ({error}); fetch the file again") from error
        if not isinstance(row, dict):
            raise ManifestError(f"{path}: line {number} holds no JSON object; expected one utterance per line")
        rows.append((f"line {number}", {name: as_text(value) for name, value in row.items()}))
    return rows


def as_text(value: Any) -> str:
    """A value as a manifest holds it; None is no label."""
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value)
