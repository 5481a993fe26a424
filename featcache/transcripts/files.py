"""Utterance → words that a machine heard. The human ones stay in the manifest's column ``transcript``.

===================================  ===================================================================================
in the folder of a corpus' cache     what it holds
===================================  ===================================================================================
``transcripts/<name>.csv``           ``utterance_id, transcript``, in the manifest's order
``transcripts/<name>.json``          what made them: model, revision, hashes, settings, versions; word errors. It is
                                     written last and removed before anything is added: without it they are unfinished
``transcripts/<name>/``              ``journal.jsonl``, from which the two are made, and ``failures.csv``
===================================  ===================================================================================
"""

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from featcache.errors import StoreError
from featcache.files.disk import remove
from featcache.files.regular import read_regular, remove_unfinished, replace_file
from featcache.files.values import check_types, read_json
from featcache.workspace import check_name

FOLDER = "transcripts"
COLUMNS = ["utterance_id", "transcript"]
JOURNAL = "journal.jsonl"
AGAIN = "run the same 'featcache transcribe' again"
# What descriptions hold, and the word errors in them.
_DESCRIBED = {
    "settings": (dict,),
    "fingerprint": (str,),
    "revision": (str, type(None)),
    "num_utterances": (int,),
    "num_failed": (int,),
    "wer": (dict, type(None)),
}
_ERRORS = {"percent": (int, float), "num_words": (int,), "normaliser": (str,)}
# Python's csv stops at 131072 characters in a field: two hours of speech.
MOST_CHARACTERS = 2**31 - 1


def read_transcripts(cache: Path, name: str) -> dict[str, str]:
    """Utterance id → what was heard in it, ``""`` where nothing was said; in the manifest's order.

    Args:
        cache: The folder of a corpus, such as ``data/cache/emodb``.
        name: Of the transcripts, such as ``whisper-tiny``. Utterances that failed, or were not asked for, are missing.

    Raises:
        StoreError: there are no such transcripts, they are unfinished, or they are no table of transcripts.
    """
    _check_finished(cache, name)
    path = table_path(cache, name)
    csv.field_size_limit(MOST_CHARACTERS)
    try:
        # newline="" keeps line breaks inside quoted texts as they are
        rows = list(csv.reader(io.StringIO(read_regular(path).decode(), newline=""), strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise StoreError(f"{path}: cannot be read as a CSV table in UTF-8 ({error}); {AGAIN}") from error
    if rows[:1] != [COLUMNS] or any(len(row) != len(COLUMNS) for row in rows):
        raise StoreError(f"{path}: expected the columns {', '.join(COLUMNS)} and two fields in every row; {AGAIN}")
    transcripts = dict(rows[1:])
    if len(transcripts) != len(rows) - 1:
        raise StoreError(f"{path}: {len(rows) - 1 - len(transcripts)} utterances stand there twice; {AGAIN}")
    return transcripts


def read_description(cache: Path, name: str) -> dict[str, Any]:
    """What made finished transcripts: their ``settings``, the ``fingerprint`` of these, ``revision``, ``wer``, ….

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
    """The names of all transcripts of a corpus, finished or not, sorted."""
    folder = cache / FOLDER
    finished = {path.stem for path in folder.glob("*.json")}
    begun = {path.parent.name for path in folder.glob(f"*/{JOURNAL}")}
    return sorted(name for name in finished | begun if not name.startswith("."))


def is_finished(cache: Path, name: str) -> bool:
    """Whether a transcription came to its end."""
    return description_path(cache, name).is_file()


def write_transcripts(cache: Path, name: str, transcripts: Mapping[str, str], description: Mapping[str, Any]) -> None:
    """Write finished transcripts: the table, and when that is on the disk what made them. Nobody else may be doing so.

    Args:
        cache: The folder of the corpus.
        name: Of the transcripts.
        transcripts: Utterance id → text, in the order in which they are to stand.
        description: What made them, as plain JSON values.
    """
    table, about = table_path(cache, name), description_path(cache, name)
    for path in (table, about):
        remove_unfinished(path.parent, path.name)
    text = io.StringIO(newline="")
    rows = csv.writer(text)  # its \r\n line ends make it quote a lone \r too, which it otherwise would not
    rows.writerows([COLUMNS, *transcripts.items()])
    replace_file(table, text.getvalue().encode())
    replace_file(about, (json.dumps(description, indent=2, ensure_ascii=False) + "\n").encode())


def mark_unfinished(cache: Path, name: str) -> None:
    """Have transcripts not pass for finished until they are written again."""
    remove(description_path(cache, name))
    remove(table_path(cache, name))


def table_path(cache: Path, name: str) -> Path:
    return cache / FOLDER / f"{checked_name(cache, name)}.csv"


def description_path(cache: Path, name: str) -> Path:
    return cache / FOLDER / f"{checked_name(cache, name)}.json"


def checked_name(cache: Path, name: str) -> str:
    """A name that transcripts have, or can have.

    Raises:
        StoreError: it would leave the folder, hide itself, or be taken for one of the files of another name.
    """
    return check_name("transcripts", name, cache / FOLDER)


def _check_finished(cache: Path, name: str) -> None:
    if is_finished(cache, name):
        return
    names = transcript_names(cache)
    if name in names:
        raise StoreError(f"the transcripts {name!r} of {cache} are unfinished; {AGAIN}")
    there = ", ".join(names) or "none"
    raise StoreError(f"no transcripts {name!r} in {cache} (there: {there}); make them with 'featcache transcribe'")
