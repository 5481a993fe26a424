"""Description of a corpus → the corpus, read like those whose names are described in Python."""

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from featcache.corpora.base import NamedCorpus, as_named
from featcache.corpora.description import (
    ANY_FOLDER,
    NAME,
    PATH,
    CorpusDescription,
    LabelTable,
    parse_description,
    read_description,
)
from featcache.corpora.expressions import compile_expression
from featcache.corpora.label_tables import Fields, find_table, read_table, without_suffix
from featcache.errors import CorpusError, listed
from featcache.manifest import Utterance
from featcache.utterances import seconds_in

if TYPE_CHECKING:
    import regex

MOST_SECONDS = 2.0
"""Time limit for all file names whose matching takes long."""
_QUICK = 0.02  # Time in seconds in which an expression without nested repetitions matches any name.


@dataclass(frozen=True, kw_only=True)
class DescribedCorpus(NamedCorpus):
    """A corpus that a YAML file describes.

    Attributes:
        content: Its description.
        citation: Publication to cite.
        checked: How the description was established: ``authors``, ``public readers``, or empty.
    """

    content: CorpusDescription
    citation: str = ""
    checked: str = ""
    complete: Any = field(default=as_named, compare=False)
    utterance: Any = field(compare=False)
    _slow: list[float] = field(default_factory=list, init=False, repr=False, compare=False)

    def match(self, path: str) -> Any:
        pattern, stem = cast("regex.Pattern[str]", self.pattern), os.path.splitext(path)[0]
        with suppress(TimeoutError):
            return pattern.fullmatch(stem, timeout=_QUICK)
        # Many names that each take a little less than a limit would take days.
        began = time.monotonic()
        try:
            return pattern.fullmatch(stem, timeout=max(1e-3, MOST_SECONDS - sum(self._slow)))
        except TimeoutError:
            raise CorpusError(
                f"the description of {self.title!r} took more than {MOST_SECONDS:g} s for names like {path!r:.80}; "
                "simplify its regular expression: no repetitions inside of repetitions, such as (a+)+"
            ) from None
        finally:
            self._slow.append(time.monotonic() - began)

    def record(self) -> dict[str, Any]:
        """Return the description as JSON values, from which :func:`from_record` makes the corpus again.

        The addresses of downloads are left out: a cache of someone else cannot name any.
        """
        return self.content.model_dump(by_alias=True, exclude_unset=True, mode="json", exclude={"download"})


def described(content: CorpusDescription) -> DescribedCorpus:
    """Return the corpus of a description."""
    return DescribedCorpus(
        **{
            name: getattr(content, name)
            for name in (
                *("name", "title", "description", "license", "source", "download", "citation", "checked", "example"),
                *("target", "dialogue", "part", "part_counts", "protocols", "dimensions", "max_frames", "recognised"),
            )
        },
        classes=content.all_classes(),
        published_counts=content.counts,
        pattern=_pattern(content.file),
        utterance=_from_names(content),
        complete=lambda folder, found: _from_tables(content, folder, found),
        content=content,
    )


def describe(path: str | Path) -> DescribedCorpus:
    """Return the corpus that a YAML file describes, for an entry point of a package.

    Args:
        path: The file.

    Raises:
        CorpusError: the file cannot be read, or has faults.
    """
    place = Path(path)
    try:
        changed = place.stat()
    except OSError as error:
        raise CorpusError(f"{place}: cannot be read ({error.strerror}); give the description of a corpus") from error
    return _described_file(place, changed.st_mtime_ns, changed.st_size)


def from_record(record: Any, where: Path) -> DescribedCorpus:
    """Return the corpus that was recorded with a cache.

    Args:
        record: Result of :meth:`DescribedCorpus.record`; it may come from anyone.
        where: File that contains it, for messages.

    Raises:
        CorpusError: it is no description.
    """
    return _recorded(json.dumps(record), where)


@lru_cache(maxsize=64)
def _described_file(path: Path, changed: int, size: int) -> DescribedCorpus:
    return described(read_description(path))


@lru_cache(maxsize=64)
def _recorded(record: str, where: Path) -> DescribedCorpus:
    return described(parse_description(json.loads(record), f"{where}, description"))


@lru_cache(maxsize=256)
def _pattern(expression: str) -> Any:
    return compile_expression(expression, ANY_FOLDER)


def _groups(path: str, match: Any) -> Fields:
    stem = os.path.splitext(path)[0]
    found = {name: text or "" for name, text in match.groupdict().items()}
    return {**found, NAME: stem.rpartition("/")[2], PATH: stem}


def _from_names(content: CorpusDescription) -> Callable[[str, Any], Utterance]:
    """Return the function from a file to its utterance; values that need a table are empty until the table is read."""
    fields = {*_pattern(content.file).groupindex, NAME, PATH}
    known = [(where, value) for where, value in content.values() if set(value.fields) <= fields]
    without_id = bool(content.tables) and "id" not in dict(known)

    def utterance(path: str, match: Any) -> Utterance:
        if without_id:
            return Utterance(utterance_id=path, path=path)
        found = _groups(path, match)
        return _utterance({where: value.fill(found) for where, value in known}, path)

    return utterance


def _utterance(values: Mapping[str, str], path: str) -> Utterance:
    return Utterance(
        utterance_id=values["id"],
        path=path,
        speaker_id=values.get("speaker", ""),
        transcript=values.get("text", ""),
        start=seconds_in("start", "0" if (start := values.get("start", "")).startswith("-") else start),
        end=seconds_in("end", values.get("end", "")),
        labels={where[len("labels.") :]: text for where, text in values.items() if where.startswith("labels.")},
    )


def _from_tables(
    content: CorpusDescription, folder: Path, utterances: list[Utterance]
) -> tuple[list[Utterance], list[str]]:
    """Return the utterances with the contents of the tables, and the keys of rows without audio."""
    if not content.tables:
        return utterances, []
    pattern = _pattern(content.file)
    rows = {u.path: [_groups(u.path, pattern.fullmatch(os.path.splitext(u.path)[0]))] for u in utterances}
    missing: list[str] = []
    for table in content.tables:
        rows, without = _joined(content, folder, table, rows)
        missing += without
    found, faults = [], []
    for path, of_file in rows.items():
        for fields in of_file:
            try:
                utterance = _utterance({where: value.fill(fields) for where, value in content.values()}, path)
                _check_encoding(utterance)
                found.append(utterance)
            except (KeyError, ValueError) as error:
                faults.append(f"{path!r} has the unknown code {error}" if isinstance(error, KeyError) else str(error))
    if faults:
        more = f" (and {len(faults) - 1} more)" if faults[1:] else ""
        raise CorpusError(f"{folder}: {faults[0]}{more}; correct the label files, or the description")
    return found, missing


def _check_encoding(utterance: Utterance) -> None:
    """Raise a ValueError if a label contains characters of another encoding, because different ones became the same."""
    for name, label in utterance.labels.items():
        if "\ufffd" in label:
            raise ValueError(f"{utterance.path!r} has {name} {label!r:.80}, which is not UTF-8")


def _joined(
    content: CorpusDescription, folder: Path, table: LabelTable, rows: Mapping[str, Sequence[Fields]]
) -> tuple[dict[str, list[Fields]], list[str]]:
    """Return path → fields of its utterances, with those of one more table, and the keys of rows without audio."""
    path = find_table(folder, table)
    empty = dict.fromkeys(table.columns, "")
    if path is None:
        if table.required:
            raise CorpusError(
                f"{folder}: {listed(table.file)} with the labels of {content.title} is missing; add it to the folder"
            )
        return {name: [{**fields, **empty} for fields in of_file] for name, of_file in rows.items()}, []
    of_key = read_table(path, table)
    joined: dict[str, list[Fields]] = {}
    used = set()
    for name, of_file in rows.items():
        for fields in of_file:
            key = without_suffix(table.matches.fill(fields))
            used.add(key)
            matching = of_key.get(key, [] if table.required else [empty])
            joined.setdefault(name, []).extend({**fields, **row} for row in matching)
    names_files = table.required and (table.matches.source == f"{{{NAME}}}" or table.matches == content.id)
    return joined, [key for key in of_key if key not in used] if names_files else []
