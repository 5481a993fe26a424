"""Utterance → ASR transcript. Human transcripts stay in the column ``transcript`` of the manifest.

===================================  ===================================================================================
in the cache folder of a corpus      content
===================================  ===================================================================================
``transcripts/<name>.csv``           ``utterance_id, transcript``, in the order of the manifest
``transcripts/<name>.json``          description: model, revision, hashes, settings, versions, word error rate. It is
                                     written last and removed before anything is added: without it, the transcripts
                                     are unfinished
``transcripts/<name>/``              ``journal.jsonl``, from which both files are made, and ``failures.csv``
===================================  ===================================================================================
"""

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from featcache.errors import StoreError, did_you_mean
from featcache.files.disk import remove
from featcache.files.regular import read_regular, remove_unfinished, replace_file
from featcache.files.values import check_types, read_json
from featcache.units import counted
from featcache.workspace import check_name

FOLDER = "transcripts"
COLUMNS = ["utterance_id", "transcript"]
JOURNAL = "journal.jsonl"
AGAIN = "run the same 'featcache transcribe' again"
# Types of the values in a description, and in its word error rate.
_DESCRIBED = {
    "settings": (dict,),
    "fingerprint": (str,),
    "revision": (str, type(None)),
    "num_parameters": (int,),
    "num_utterances": (int,),
    "num_failed": (int,),
    "wer": (dict, type(None)),
}
_ERRORS = {"percent": (int, float), "num_words": (int,), "normaliser": (str,)}
# Longest transcript. The default of Python's csv, 131072 characters, is only enough for about two hours of speech.
MOST_CHARACTERS = 2**31 - 1


def read_transcripts(cache: Path, name: str) -> dict[str, str]:
    """Read finished ASR transcripts.

    Args:
        cache: Cache folder of a corpus, such as ``data/cache/emodb``.
        name: Name of the transcripts, such as ``whisper-tiny``.

    Returns:
        Utterance id → transcript, in the order of the manifest; ``""`` if no speech was recognised. Utterances that
        failed or were not requested are missing.

    Raises:
        StoreError: there are no such transcripts, they are unfinished, or the file is not a table of transcripts.
    """
    _check_finished(cache, name)
    path = table_path(cache, name)
    csv.field_size_limit(MOST_CHARACTERS)
    try:
        # newline="" keeps line breaks inside quoted texts unchanged.
        rows = list(csv.reader(io.StringIO(read_regular(path).decode(), newline=""), strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise StoreError(f"{path}: cannot be read as a CSV table in UTF-8 ({error}); {AGAIN}") from error
    if rows[:1] != [COLUMNS] or any(len(row) != len(COLUMNS) for row in rows):
        raise StoreError(f"{path}: expected the columns {', '.join(COLUMNS)} and two fields in every row; {AGAIN}")
    transcripts = dict(rows[1:])
    if len(transcripts) != len(rows) - 1:
        raise StoreError(
            f"{path}: {counted(len(rows) - 1 - len(transcripts), 'row')} with the id of an earlier row; {AGAIN}"
        )
    return transcripts


def read_description(cache: Path, name: str) -> dict[str, Any]:
    """Read the description of finished transcripts: ``settings``, their ``fingerprint``, ``revision``, ``wer``, ….

    Args:
        cache: Cache folder of the corpus.
        name: Name of the transcripts.

    Raises:
        StoreError: there are no such transcripts, they are unfinished, or their description is damaged.
    """
    _check_finished(cache, name)
    path = description_path(cache, name)
    description: dict[str, Any] = read_json(path, dict, AGAIN)
    check_types(description, _DESCRIBED, path, AGAIN, required=["settings"])
    if description.get("wer") is not None:
        check_types(description["wer"], _ERRORS, path, AGAIN)
    return description


def transcript_names(cache: Path) -> list[str]:
    """Return the names of all transcripts in a cache folder, finished or not, sorted."""
    folder = cache / FOLDER
    finished = {path.stem for path in folder.glob("*.json")}
    begun = {path.parent.name for path in folder.glob(f"*/{JOURNAL}")}
    return sorted(name for name in finished | begun if not name.startswith("."))


def is_finished(cache: Path, name: str) -> bool:
    """Check whether transcripts are finished."""
    return description_path(cache, name).is_file()


def write_transcripts(cache: Path, name: str, transcripts: Mapping[str, str], description: Mapping[str, Any]) -> None:
    """Write finished transcripts: first the table, then the description.

    No other process may write the same transcripts at the same time.

    Args:
        cache: Cache folder of the corpus.
        name: Name of the transcripts.
        transcripts: Utterance id → text, in the order of the table.
        description: Model, settings and results of the transcription, as plain JSON values.
    """
    table, about = table_path(cache, name), description_path(cache, name)
    for path in (table, about):
        remove_unfinished(path.parent, path.name)
    text = io.StringIO(newline="")
    rows = csv.writer(text)  # It quotes a single \r only if its own line ends are \r\n.
    rows.writerows([COLUMNS, *transcripts.items()])
    replace_file(table, text.getvalue().encode())
    replace_file(about, (json.dumps(description, indent=2, ensure_ascii=False) + "\n").encode())


def mark_unfinished(cache: Path, name: str) -> None:
    """Mark transcripts as unfinished, until they are written again, by removing their table and description."""
    remove(description_path(cache, name))
    remove(table_path(cache, name))


def table_path(cache: Path, name: str) -> Path:
    """Return the path of the table of transcripts."""
    return cache / FOLDER / f"{checked_name(cache, name)}.csv"


def description_path(cache: Path, name: str) -> Path:
    """Return the path of the description of transcripts."""
    return cache / FOLDER / f"{checked_name(cache, name)}.json"


def checked_name(cache: Path, name: str) -> str:
    """Check that a name can be the name of transcripts, and return it.

    Raises:
        StoreError: the name leads out of the folder, is hidden, or could be a file of other transcripts.
    """
    return check_name("transcripts", name, cache / FOLDER)


def _check_finished(cache: Path, name: str) -> None:
    if is_finished(cache, name):
        return
    names = transcript_names(cache)
    if name in names:
        raise StoreError(f"the transcripts {name!r} of {cache} are unfinished; {AGAIN}")
    there, near = ", ".join(names) or "none", did_you_mean(name, names)
    raise StoreError(
        f"no transcripts {name!r} in {cache} (available: {there}); make them with 'featcache transcribe'{near}"
    )
