"""Transcripts of a machine, beside the stores of a corpus: ``transcripts/<name>.csv`` and ``<name>.json``."""

import csv
import json
from pathlib import Path
from typing import Any

from featcache.errors import StoreError


def read_transcripts(cache: Path, name: str) -> dict[str, str]:
    """Utterance id → text, empty where nothing was said.

    Raises:
        StoreError: there are none of that name.
    """
    read_description(cache, name)
    with open(cache / "transcripts" / f"{name}.csv", newline="", encoding="utf-8") as file:
        return {row["utterance_id"]: row["transcript"] for row in csv.DictReader(file)}


def read_description(cache: Path, name: str) -> dict[str, Any]:
    """What made them: ``settings`` and more.

    Raises:
        StoreError: there are none of that name.
    """
    path = cache / "transcripts" / f"{name}.json"
    if not path.is_file():
        there = ", ".join(sorted(found.stem for found in path.parent.glob("*.json"))) or "none"
        raise StoreError(f"no transcripts {name!r} in {cache} (there: {there}); make them with 'featcache transcribe'")
    description: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return description
