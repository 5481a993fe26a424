"""Names of audio files → draft of a description, for the user to complete."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path, PurePosixPath

from featcache.corpora.common_labels import NAMES, common_label
from featcache.corpora.expressions import MOST_CHARACTERS, MOST_REPEATS
from featcache.corpora.folder_contents import audio_files, found
from featcache.errors import CorpusError
from featcache.terminal.progress import tracked

MOST_FOLDERS = 2
"""Number of folders above the file whose names are looked at."""
MOST_CLASSES = 20
MOST_OF_ALL = 0.9
"""Share of the files that folders must describe, in comparison with names without folders."""
TO_DO = "unknown; complete this line"
_TOKEN = re.compile(r"\d+|[^\W\d_]+|.", re.DOTALL)
EMOTION, SPEAKER, NUMBER = "emotion", "speaker", "number"


@dataclass(frozen=True, kw_only=True)
class NamePart:
    """Part of a file name that differs from file to file.

    Attributes:
        name: Name of its group.
        meaning: What it probably is: ``emotion``, ``speaker``, ``number``, or empty if that is not clear.
        values: Its values, in the order of their number of files.
    """

    name: str
    meaning: str
    values: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Draft:
    """Draft of a description.

    Attributes:
        text: YAML text.
        parts: Parts of the names, in order.
        num_files: Number of audio files.
        num_named: Number of audio files with the most common form of name, which the draft describes.
    """

    text: str
    parts: tuple[NamePart, ...]
    num_files: int
    num_named: int


def draft_description(folder: Path, name: str) -> Draft:
    """Draft a description from the names of the audio files in a folder.

    The names are cut into runs of digits, runs of letters and other characters. The draft describes the names of the
    most common form, and each part that differs between them becomes a group.

    Args:
        folder: Folder of the corpus.
        name: Name of the corpus.

    Raises:
        CorpusError: the folder does not exist, contains no audio, or its names have nothing in common.
    """
    everything = audio_files(folder)
    paths = [path for path in everything if path.isprintable()]
    if not paths:
        strange = f"{found(everything)}, whose names contain control characters; rename them"
        raise CorpusError(f"{folder}: {strange if everything else 'no audio files; give the folder of the corpus'}")
    tails = _tails(paths)
    tokens = [_TOKEN.findall(tail) for tail in tracked("comparing file names", tails)]
    form, count = _most_common(tails)
    alike = [one for one in tokens if _form(one) == form]
    columns = list(zip(*alike, strict=True))
    # A part that is the same as an earlier one, such as the folder of the speaker, is no part of its own.
    first = {values: place for place, values in reversed([*enumerate(columns)])}
    varying = [place for place, values in enumerate(columns) if len(set(values)) > 1 and first[values] == place]
    if not varying:
        raise CorpusError(f"{folder}: {found(paths)}, whose names have no common form; write a manifest.csv instead")
    parts = _parts([columns[place] for place in varying])
    groups = dict(zip(varying, parts, strict=True))
    exact = prod(max(map(len, columns[place])) for place in varying) <= MOST_REPEATS
    expression = "".join(
        f"(?P<{groups[place].name}>{_kind(values, exact=exact)})"
        if place in groups
        else f"(?P={groups[first[values]].name})"
        if first[values] in groups
        else re.escape(values[0])
        for place, values in enumerate(columns)
    )
    if len(expression) > MOST_CHARACTERS:
        raise CorpusError(f"{folder}: {found(paths)}, whose names have too many parts; write a manifest.csv instead")
    names = Counter(tail.rpartition("/")[2] for tail, one in zip(tails, tokens, strict=True) if _form(one) == form)
    example = next(path for path, one in zip(paths, tokens, strict=True) if _form(one) == form)
    unique = max(names.values()) == 1
    text = _text(name, expression, example, parts, unique)
    return Draft(text=text, parts=tuple(parts), num_files=len(everything), num_named=count)


def _tails(paths: Sequence[str]) -> list[str]:
    """Return the last parts of the paths without suffix, with folders if most files are in such folders."""
    parts = [PurePosixPath(path).with_suffix("").parts for path in paths]
    depths = [["/".join(one[-1 - depth :]) for one in parts] for depth in range(MOST_FOLDERS + 1)]
    counts = [_most_common(tails)[1] for tails in depths]
    best = max(depth for depth, count in enumerate(counts) if count >= MOST_OF_ALL * max(counts))
    return depths[best]


def _most_common(tails: Sequence[str]) -> tuple[str, int]:
    """Return the most common form of names, and their number."""
    return Counter(_form(_TOKEN.findall(tail)) for tail in tails).most_common(1)[0]


def _form(tokens: Sequence[str]) -> str:
    return "".join("0" if one.isdecimal() else "a" if one.isalpha() else one for one in tokens)


def _kind(values: Sequence[str], *, exact: bool) -> str:
    """Return an expression for the values of a part; ``exact`` states their number of digits."""
    letters = not all(value.isdecimal() for value in values)
    if not all(value.isascii() for value in values):
        return rf"[{'A-Za-z' if letters else '0-9'}\x80-\U0010ffff]+"  # In descriptions, \w and \d are ASCII.
    if letters:
        return "[A-Za-z]+"
    widths = {len(value) for value in values}
    return rf"\d{{{widths.pop()}}}" if len(widths) == 1 and exact else r"\d+"


def _parts(columns: Sequence[Sequence[str]]) -> list[NamePart]:
    """Return the parts with their probable meanings."""
    values = [Counter(column) for column in columns]
    meanings = [""] * len(columns)
    names = {place: share for place, one in enumerate(values) if (share := _share_of_emotions(one)) >= 0.5}
    codes = [p for p, one in enumerate(values) if 2 <= len(one) <= MOST_CLASSES and all(v.isalpha() for v in one)]
    emotion = max(names, key=lambda place: names[place]) if names else (codes[-1] if codes else None)
    if emotion is not None:
        meanings[emotion] = EMOTION
    rest = [place for place in range(len(columns)) if place != emotion]
    # A speaker has several utterances, and is usually named first.
    speakers = [place for place in rest if len(columns[place]) >= 3 * len(values[place])]
    if speakers:
        meanings[speakers[0]] = SPEAKER
    numbers = [place for place in rest if not meanings[place]]
    if numbers:
        meanings[max(numbers, key=lambda place: len(values[place]))] = NUMBER
    return [
        NamePart(
            name=meaning or f"part_{place + 1}", meaning=meaning, values=tuple(one for one, _ in counts.most_common())
        )
        for place, (meaning, counts) in enumerate(zip(meanings, values, strict=True))
    ]


def _share_of_emotions(values: Counter[str]) -> float:
    """Return which share of the values are usual names of emotions; 0 if there are too many values."""
    if len(values) > MOST_CLASSES:
        return 0.0
    return sum(common_label(value) in NAMES for value in values) / len(values)


def _text(name: str, expression: str, example: str, parts: Sequence[NamePart], unique: bool) -> str:
    """Return the YAML text of a draft."""
    labels = [part for part in parts if part.meaning not in (SPEAKER, NUMBER)]
    lines = [
        f"name: {json.dumps(name)}",
        f"title: {json.dumps(name)}",
        *(f"{field}: {TO_DO}" for field in ("description", "license", "source")),
        f"example: {json.dumps(example, ensure_ascii=False)}",
        "# Path without suffix; each (?P<name>…) is a field that the lines below use.",
        f"file: {json.dumps(expression, ensure_ascii=False)}",
    ]
    if not unique:
        lines.append("id: " + json.dumps("_".join(f"{{{part.name}}}" for part in parts)))
    if any(part.meaning == SPEAKER for part in parts):
        lines.append('speaker: "{speaker}"')
    lines.append("labels:")
    if not any(part.meaning == EMOTION for part in parts):
        lines += [
            "  # No part of the names looks like an emotion; use one of the fields here, or add a table.",
            '  emotion: ""',
        ]
    for part in labels:
        lines += (
            [f"  {part.name}:", f'    from: "{{{part.name}}}"']
            if part.meaning
            else [f'  {part.name}: "{{{part.name}}}"']
        )
        if part.meaning:
            lines.append("    map:  # code: label")
            lines += [
                f"      {json.dumps(value, ensure_ascii=False)}: {json.dumps(_label(value), ensure_ascii=False)}"
                for value in sorted(part.values)
            ]
    return "\n".join(lines) + "\n"


def _label(value: str) -> str:
    common = common_label(value)
    return common if common in NAMES else value
