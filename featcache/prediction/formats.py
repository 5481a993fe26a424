"""Predictions → CSV, JSON, or the tables that the MSP-Podcast challenges require."""

import json
import math
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from io import StringIO
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from featcache.corpora.msp_podcast import DIMENSIONS, EMOTIONS, NO_CLASS
from featcache.errors import PredictionsError, listed, unknown_name
from featcache.files.regular import CsvRows, replace_file
from featcache.targets.targets import MULTILABEL, REGRESSION
from featcache.terminal.escape import escaped

if TYPE_CHECKING:
    import pandas as pd

FORMATS = ("csv", "json", "msp")
LETTERS = {label: letter for letter, label in {**EMOTIONS, **NO_CLASS}.items()}
"""Class of MSP-Podcast → its letter in the tables of the corpus and of the challenges."""
_TIMES = ("start", "end")

Rows = list[list[Any]]


def write_predictions(table: "pd.DataFrame", *, format: str, out: Path | None, task: str) -> None:
    """Write predictions to a file or to standard output.

    A file, and the standard output in a pipe, contain names as they are. On a terminal, control characters in them are
    escaped.

    Args:
        table: One row per utterance or window, with the columns path, utterance_id, start, end, and for classes
            prediction, ``p_<class>…``, ``std_<class>…``; for dimensional labels ``<dimension>…``, ``std_<dimension>…``;
            for several labels ``prediction_<label>…``, ``p_<label>…``, ``std_<label>…``.
        format: ``csv``, ``json``, or ``msp`` for ``FileName,EmoClass`` or ``FileName,EmoAct,EmoVal,EmoDom``.
        out: File to write; None for standard output.
        task: ``classification``, ``regression`` or ``multilabel``.

    Raises:
        PredictionsError: the format is unknown, or these predictions cannot be written in it.
        DiskError: the file cannot be written.
    """
    shown = out is None and sys.stdout.isatty()
    text = formatted(table, format=format, task=task, cell=escaped if shown else str)
    if out is None:
        sys.stdout.write(text)
    else:
        replace_file(out, text.encode())


def formatted(table: "pd.DataFrame", *, format: str, task: str, cell: Callable[[str], str] = str) -> str:
    """Return predictions as text.

    Args:
        table: Predictions, see :func:`write_predictions`.
        format: ``csv``, ``json`` or ``msp``.
        task: ``classification``, ``regression`` or ``multilabel``.
        cell: Function that is applied to each text of a CSV table.

    Raises:
        PredictionsError: the format is unknown, or these predictions cannot be written in it.
    """
    if format not in FORMATS:
        raise PredictionsError(unknown_name("format", format, FORMATS))
    if format == "json":
        return _as_json(table)
    if format == "msp":
        rows = _for_msp(table, task)
    else:
        rows = [list(table.columns), *map(list, table.itertuples(index=False, name=None))]
    texts = ([cell(_as_text(value)) for value in row] for row in rows)
    content = StringIO(newline="")
    CsvRows(content).add(texts)
    return content.getvalue()


def _as_text(value: Any) -> str:
    """Return a cell; seven digits are more than the features determine, and a missing value is empty."""
    if isinstance(value, str):
        return value
    if value is None or math.isnan(value):
        return ""
    return f"{value:.7g}"


def _as_json(table: "pd.DataFrame") -> str:
    """Return an array with one object per row, one per line; only ASCII, so that it is safe on every terminal."""
    lines = (
        json.dumps(dict(zip(table.columns, map(_as_value, row), strict=True)))
        for row in table.itertuples(index=False, name=None)
    )
    body = ",\n ".join(lines)
    return f"[{body}]\n"


def _as_value(value: Any) -> str | float | None:
    if value is None or isinstance(value, str):
        return value
    return None if math.isnan(value) else float(f"{value:.7g}")


def _for_msp(table: "pd.DataFrame", task: str) -> Rows:
    if task == MULTILABEL:
        raise PredictionsError("--format msp has one class per file, but the run predicts several labels; use csv")
    names = [PurePosixPath(path).name for path in table["path"]]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise PredictionsError(
            f"--format msp has one row per file name, but {listed(twice)} occurs several times; omit --window, or use "
            "--format csv"
        )
    if task == REGRESSION:
        lacking = [name for name in DIMENSIONS.values() if name not in table]
        if lacking:
            raise PredictionsError(
                f"--format msp needs arousal, valence and dominance, but the run does not predict {listed(lacking)}; "
                "use --format csv"
            )
        columns = [table[name] for name in DIMENSIONS.values()]
        return [["FileName", *DIMENSIONS], *map(list, zip(names, *columns, strict=True))]
    classes = [column.removeprefix("p_") for column in table.columns if column.startswith("p_")]
    return [["FileName", "EmoClass"], *map(list, zip(names, _letters(list(table["prediction"]), classes), strict=True))]


def _letters(predictions: Sequence[str], classes: Sequence[str]) -> list[str]:
    """Return the letters of MSP-Podcast if all classes of a run are classes of this corpus, else the classes."""
    named = all(name in LETTERS for name in classes)
    return [LETTERS[label] if named else label for label in predictions]
