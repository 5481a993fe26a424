"""Description of a corpus in YAML → its checked fields."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, ValidationError, model_validator

from featcache.corpora.downloads import Checked, RemoteFile, check_downloads
from featcache.corpora.expressions import compile_expression
from featcache.errors import CorpusError, unknown_name
from featcache.files.yaml_file import YamlPath, describe_faults, read_yaml_file
from featcache.settings.yaml_schema import YamlPart, placed_faults
from featcache.utterances import FIXED_COLUMNS

ANY_FOLDER = "(?as)(?:.*/)?"
"""Expression before that of a file name, which may be in any folder; with the flags ASCII and DOTALL."""
NAME, PATH, KEY, VALUE = "name", "path", "key", "value"
"""Fields that need no group: file name and path without suffix; and key and value of a JSON object."""
MOST_BYTES_OF_NAME = 255
"""No file system has longer names."""
_FIELD = re.compile(r"\{([^{}]*)\}")


@lru_cache(maxsize=1024)
def _only_field(source: str) -> str:
    """Return the field of which a text consists; an empty text if it is made of more. Most values are single fields."""
    match = _FIELD.fullmatch(source)
    return match[1] if match else ""


def _several(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _inner(path: str) -> str:
    """Check that a path cannot lead out of the corpus folder, and is no pattern of file names."""
    parts = path.split("/")
    if (
        not path
        or path.startswith("/")
        or any(part in ("", ".", "..") for part in parts)
        or any(len(part.encode()) > MOST_BYTES_OF_NAME for part in parts)
        or re.search(r"[\\*?[:\0]", path)
    ):
        raise ValueError(f"expected a file inside the corpus folder, such as Labels/labels.csv, found {path!r:.80}")
    return path


def _expression(text: str) -> str:
    pattern = compile_expression(text, ANY_FOLDER)
    if taken := {NAME, PATH} & set(pattern.groupindex):
        raise ValueError(f"the group {min(taken)!r} is the file {min(taken)} itself; rename the group")
    return text


def _corpus_name(name: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,59}", name):
        raise ValueError(f"expected lower-case letters, digits, '-', '_' and '.', found {name!r:.80}")
    return name


def _label_name(name: str) -> str:
    if not name or name in FIXED_COLUMNS:
        raise ValueError(f"{name!r} is no name of a label; choose another")
    return name


Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Files = Annotated[tuple[Annotated[str, AfterValidator(_inner)], ...], BeforeValidator(_several), Field(min_length=1)]
Counts = dict[Text, Annotated[int, Field(ge=0)]]
Label = Annotated[str, AfterValidator(_label_name)]


class Value(YamlPart):
    """Text made of fields, and its replacement by a map of codes."""

    source: str = Field(alias="from", description="Text with fields in braces, such as '{speaker}'.")
    map: dict[str, str] | None = Field(default=None, description="Code → label; other codes are an error.")
    otherwise: str | None = Field(default=None, description="Label of codes that are not in the map.")

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the fields in the text."""
        return tuple(_FIELD.findall(self.source))

    def fill(self, found: Mapping[str, str]) -> str:
        """Return the text with the contents of its fields, and the label of the map.

        Args:
            found: Field → content.

        Raises:
            KeyError: the map does not have this code.
        """
        only = _only_field(self.source)
        text = found[only] if only else _FIELD.sub(lambda field: found[field[1]], self.source)
        if self.map is None:
            return text.strip()
        if text in self.map:
            return self.map[text]
        if text.strip() in self.map or text.strip() == "":
            return self.map.get(text.strip(), "")
        if self.otherwise is None:
            raise KeyError(text)
        return self.otherwise


def _text(source: str) -> Value:
    return Value.model_validate({"from": source})


def _as_value(given: Any) -> Any:
    return {"from": given} if isinstance(given, str) else given


Filled = Annotated[Value, BeforeValidator(_as_value)]


class LabelTable(YamlPart):
    """A file of labels: CSV with any separator, JSON, or JSON lines."""

    file: Files = Field(description="File inside the corpus folder, or several names of which the first found counts.")
    columns: dict[Text, Text] = Field(
        min_length=1, description="Field → name of its column; or its number from 1, if the table has no header."
    )
    key: Filled = Field(description="Text, made of the columns, that says which audio file a row is about.")
    matches: Filled = Field(
        default=_text("{name}"), description="The same text, made of the file name or of columns of earlier tables."
    )
    required: bool = Field(default=True, description="Whether audio files need this table and a row in it.")
    segments: bool = Field(default=False, description="Whether each row is an utterance, a part of an audio file.")

    @property
    def numbered(self) -> bool:
        """Whether columns are numbers, so that the table has no header."""
        return all(column.isdecimal() for column in self.columns.values())

    @model_validator(mode="after")
    def _check(self) -> "LabelTable":
        _check_fields("key", self.key, self.columns)
        if not self.numbered and any(column.isdecimal() for column in self.columns.values()):
            raise ValueError("columns are names or numbers, not both")
        if self.numbered and not all(1 <= int(column[:6]) <= 10_000 for column in self.columns.values()):
            raise ValueError("columns are counted from 1")
        return self


class CorpusDescription(YamlPart):
    """Everything that a description says about a corpus."""

    name: Annotated[str, AfterValidator(_corpus_name)] = Field(
        description="Name on the command line: lower-case letters, digits, '-', '_' and '.'."
    )
    title: Text = Field(description="Full name.")
    description: Text = Field(description="One or a few sentences.")
    license: Text = Field(description="Licence of the audio.")
    source: Text = Field(description="Address of the corpus, and the files that are needed.")
    citation: str = Field(default="", description="The publication to cite.")
    checked: Checked = Field(
        default="", description="How the names were established: from the authors' documentation, or from public code."
    )
    download: tuple[RemoteFile, ...] = Field(
        default=(), description="Files for 'featcache fetch', if anybody may download them without an application."
    )
    example: Text = Field(description="Example of a file name, for messages.")
    file: Annotated[str, AfterValidator(_expression)] = Field(
        description="Regular expression for the path without suffix; it may begin at any folder. Groups are fields."
    )
    recognised: bool = Field(default=True, description="Whether file names show the corpus, without --layout.")
    id: Filled = Field(default=_text("{name}"), description="Id of an utterance.")
    speaker: Filled = Field(default=_text(""), description="Speaker.")
    text: Filled = Field(default=_text(""), description="Transcript.")
    start: Filled = Field(default=_text(""), description="Start in the audio file, in seconds; below 0 is 0.")
    end: Filled = Field(default=_text(""), description="End in the audio file, in seconds.")
    labels: dict[Label, Filled] = Field(min_length=1, description="Name of a label → its value.")
    tables: tuple[LabelTable, ...] = Field(default=(), description="Files with labels.")
    target: str = Field(default="emotion", description="Label that is predicted by default.")
    classes: tuple[Text, ...] | None = Field(default=None, description="Classes, in order [default: those of the map].")
    counts: Counts = Field(default={}, description="Class → published number.")
    part: str = Field(default="", description="Label whose values are parts that many users download alone.")
    part_counts: dict[Text, Counts] = Field(
        default={}, description="Part → its published counts; their sum is that of 'counts'."
    )
    dimensions: dict[Text, tuple[float, float]] = Field(default={}, description="Label → lowest and highest value.")
    protocols: tuple[Text, ...] = Field(default=(), description="Protocols published for the corpus.")
    dialogue: str = Field(default="", description="Label that all utterances of one conversation share.")
    max_frames: Annotated[int, Field(ge=1)] = Field(default=400, description="Number of 20 ms frames that a fit uses.")

    @model_validator(mode="after")
    def _check(self) -> "CorpusDescription":
        of_file = set(compile_expression(self.file).groupindex) | {NAME, PATH}
        of_tables: set[str] = set()
        for table in self.tables:
            _check_fields("matches", table.matches, of_file | of_tables)
            if twice := (of_file | of_tables) & set(table.columns):
                raise ValueError(f"the field {min(twice)!r} is defined twice; rename one")
            of_tables |= set(table.columns)
        if sum(table.segments for table in self.tables) > 1:
            raise ValueError("only one table can have 'segments: true'")
        if (self.start.source or self.end.source) and not any(table.segments for table in self.tables):
            raise ValueError("start and end need a table with 'segments: true'")
        for where, value in self.values():
            _check_fields(where, value, of_file | of_tables)
        self._check_labels()
        check_downloads(self.download)
        return self

    def _check_labels(self) -> None:
        """Check that target, dialogue, dimensions, classes and counts fit the labels."""
        named = {
            "target": [self.target],
            "dialogue": [self.dialogue][: bool(self.dialogue)],
            "part": [self.part][: bool(self.part)],
        }
        for where, names in {**named, "dimensions": [*self.dimensions]}.items():
            for name in names:
                if name not in self.labels:
                    raise ValueError(f"{where}: {unknown_name('label', name, self.labels)}")
        for name, (low, high) in self.dimensions.items():
            if not low < high:
                raise ValueError(f"dimensions: {name} from {low:g} to {high:g}, expected the lowest value first")
        mapped = self.map_of_target()
        for where, names, known in (
            ("classes", [*(self.classes or ())], mapped),
            ("counts", [*self.counts], self.all_classes()),
        ):
            for name in names:
                if known and name not in known:
                    raise ValueError(f"{where}: {unknown_name('class', name, known)}")
        if bool(self.part) != bool(self.part_counts):
            raise ValueError("part: give 'part' and 'part_counts', or neither")
        total = sum(map(Counter, self.part_counts.values()), Counter[str]())
        if self.part and dict(total) != {name: number for name, number in self.counts.items() if number}:
            raise ValueError(f"part_counts: their sum is {dict(total)}, expected that of 'counts'")

    def values(self) -> Iterator[tuple[str, Value]]:
        """Yield the place and the value of everything that is made of fields."""
        for where in ("id", "speaker", "text", "start", "end"):
            yield where, getattr(self, where)
        for name, value in self.labels.items():
            yield f"labels.{name}", value

    def map_of_target(self) -> tuple[str, ...]:
        """Return the classes that the map of the target gives, in its order."""
        value = self.labels[self.target]
        mapped = [*(value.map or {}).values(), value.otherwise or ""]
        return tuple(dict.fromkeys(filter(None, mapped)))

    def all_classes(self) -> tuple[str, ...]:
        """Return the classes of the target; empty if all values are allowed."""
        return self.map_of_target() if self.classes is None else self.classes


def _check_fields(where: str, value: Value, known: Any) -> None:
    for field in value.fields:
        if field not in known:
            raise ValueError(f"{where}: {unknown_name('field', field, known)}")


def read_description(path: Path) -> CorpusDescription:
    """Read the description of a corpus from a YAML file.

    Args:
        path: The file.

    Raises:
        CorpusError: the file cannot be read, or has faults; the message lists the first ones with their lines.
    """
    content, lines = read_yaml_file(path, "description of a corpus", CorpusError)
    return parse_description(content, path, lines)


def parse_description(content: Any, where: Path | str, lines: dict[YamlPath, int] | None = None) -> CorpusDescription:
    """Check the content of a description.

    Args:
        content: Texts, lists and dictionaries.
        where: The file, for messages.
        lines: Line of each place in the file.

    Raises:
        CorpusError: the content has faults.
    """
    try:
        return CorpusDescription.model_validate(content)
    except ValidationError as error:
        raise CorpusError(describe_faults(where, placed_faults(error), lines or {(): 1})) from None
