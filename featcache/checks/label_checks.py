"""Manifest → findings on labels, speakers and published numbers."""

import math
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from featcache.checks.findings import Finding
from featcache.corpora import Corpus
from featcache.corpora.published_counts import counts_in, parts_in
from featcache.errors import listed
from featcache.manifest import Manifest
from featcache.units import counted
from featcache.utterances import NO_TARGETS, is_target

FEWEST = 10
"""Number of utterances below which a class has few."""
# With more different values, a column is text or a number and no class.
MOST_CLASSES = 100
# With more different numbers, a column is a rating.
_MOST_NUMBERS = 10


def class_columns(manifest: Manifest, corpus: Corpus) -> list[str]:
    """Return the labels whose values are classes: no numbers, no free text, no ``split`` and no ``fold``."""
    found = []
    for column in manifest.label_columns:
        values = {utterance.labels.get(column, "") for utterance in manifest} - {""}
        numbers = len(values) > _MOST_NUMBERS and all(map(_is_number, values))
        if is_target(column) and column not in corpus.dimensions and not numbers and 0 < len(values) <= MOST_CLASSES:
            found.append(column)
    return found


def label_findings(manifest: Manifest, corpus: Corpus, target: str | None) -> Iterator[Finding]:
    """Yield the findings on labels and speakers.

    Args:
        manifest: The utterances.
        corpus: Description of the corpus.
        target: Label whose classes are counted; None if there is none.
    """
    columns = [*class_columns(manifest, corpus), *(name for name in NO_TARGETS if name in manifest.label_columns)]
    for column in columns:
        yield from _spellings(column, Counter(u.labels.get(column, "") for u in manifest))
    yield from _spellings("speaker_id", Counter(u.speaker_id for u in manifest))
    if target is not None:
        yield from _classes(manifest, target)
        yield from _published(manifest, corpus, target)
    alone = [speaker for speaker, number in Counter(u.speaker_id for u in manifest).items() if number == 1 and speaker]
    for speaker in sorted(alone):
        yield Finding(kind="one-utterance-speaker", found=f"speaker {speaker!r} has one utterance", speaker_id=speaker)
    for kind, number in (
        ("no-label", sum(not utterance.has_label for utterance in manifest)),
        ("no-speaker", sum(not utterance.speaker_id for utterance in manifest)),
    ):
        if number:
            yield Finding(kind=kind, found=f"{number} of {counted(len(manifest), 'utterance')}")


def _spellings(column: str, values: Mapping[str, int]) -> Iterator[Finding]:
    """Yield a finding for each set of values that differ only in case, blanks or Unicode form."""
    same: dict[str, list[str]] = {}
    for value in sorted(values):
        same.setdefault(_plain(value).casefold(), []).append(value)
    for spellings in same.values():
        if len(spellings) > 1 or spellings[0] != spellings[0].strip():
            found = ", ".join(f"{value!r} ({values[value]})" for value in spellings)
            yield Finding(kind="label-spelling", found=f"{column}: {found}")


def _plain(value: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", value).split())


def _classes(manifest: Manifest, target: str) -> Iterator[Finding]:
    speakers: dict[str, Counter[str]] = {}
    for utterance in manifest:
        if value := utterance.labels.get(target, ""):
            speakers.setdefault(value, Counter())[utterance.speaker_id] += 1
    for value, numbers in sorted(speakers.items()):
        if numbers.total() < FEWEST:
            found = f"{target} {value!r} has {counted(numbers.total(), 'utterance')}, fewer than {FEWEST}"
            yield Finding(kind="rare-class", found=found)
        if len(numbers) == 1 and numbers.total() > 1 and len(manifest.speaker_ids) > 1 and "" not in numbers:
            found = f"{target} {value!r} occurs only with speaker {listed(numbers)}"
            yield Finding(kind="class-of-one-speaker", found=found, speaker_id=next(iter(numbers)))


def _published(manifest: Manifest, corpus: Corpus, target: str) -> Iterator[Finding]:
    parts = parts_in(corpus, manifest)
    whole = f"the published corpus ({corpus.part} {listed(parts)})" if parts else "the published corpus"
    for value, number, published in published_differences(manifest, corpus, target):
        found = f"{target} {value!r} has {counted(number, 'utterance')}; {whole} has {published}"
        yield Finding(kind="counts", found=found)


def published_differences(manifest: Manifest, corpus: Corpus, target: str) -> list[tuple[str, int, int]]:
    """Return class, number of utterances and published number of the classes for which these numbers differ."""
    if target != corpus.target:
        return []
    numbers = Counter(utterance.labels.get(target, "") for utterance in manifest)
    return [(value, numbers[value], of) for value, of in counts_in(corpus, manifest).items() if numbers[value] != of]


def target_of(columns: Sequence[str], corpus: Corpus) -> str | None:
    """Return the label whose classes are counted: the corpus's own target, or the first label with classes."""
    return corpus.target if corpus.target in columns else next(iter(columns), None)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
