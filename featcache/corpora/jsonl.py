"""File of JSON lines → rows of text, as read from a CSV table."""

import json
import re
from pathlib import Path
from typing import Any

from featcache.errors import ManifestError
from featcache.files.spreadsheets import Row, read_text
from featcache.terminal.progress import tracked

_HALF_A_CHARACTER = re.compile("[\ud800-\udfff]")


def read_rows(path: Path) -> list[tuple[str, Row]]:
    """Read the rows of a file of JSON lines.

    Args:
        path: The file.

    Returns:
        For each row its place in the file (``line 3``) and its columns.

    Raises:
        ManifestError: the file cannot be read, or a line is not a JSON object.
    """
    rows = []
    for number, line in enumerate(tracked(f"reading {path.name}", read_text(path).split("\n")), start=1):
        if line.strip() == "":
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ManifestError(f"{path}: line {number} is not JSON ({error}); fetch the file again") from error
        if not isinstance(row, dict):
            raise ManifestError(f"{path}: line {number} is no JSON object; expected one object per utterance and line")
        rows.append((f"line {number}", {as_text(name): as_text(value) for name, value in row.items()}))
    return rows


def as_text(value: Any) -> str:
    """Return a JSON value as text for a manifest; None becomes an empty text.

    JSON can contain half of a character, which no file can. It becomes U+FFFD, as in files that are not UTF-8.
    """
    if isinstance(value, str):
        return _HALF_A_CHARACTER.sub("\ufffd", value)
    return "" if value is None else json.dumps(value)
