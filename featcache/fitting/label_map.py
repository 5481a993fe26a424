"""Label map (YAML), labels of several corpora → corpus → label → common label, or None for labels that are left out."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from featcache.corpora.common_labels import common_label
from featcache.errors import ManifestError, listed
from featcache.files.disk import reading
from featcache.files.regular import read_regular
from featcache.files.yaml_text import YamlError, load

Labels = Mapping[str, Mapping[str, str | None]]
"""Corpus → label → common label; None leaves the label out."""
MOST_BYTES = 1 << 20
_EXPECTED = "expected CORPUS: {LABEL: COMMON LABEL}, with null for labels to leave out"


def read_label_map(path: Path) -> Mapping[str, Any]:
    """Read a label map.

    Args:
        path: YAML file.

    Raises:
        ManifestError: the file is too large, or not YAML with a mapping.
        DiskError: the file cannot be read.
    """
    if not path.exists():
        raise ManifestError(f"--label-map {path}: no such file")
    with reading(path):
        content = read_regular(path, MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ManifestError(f"--label-map {path}: more than {MOST_BYTES >> 20} MiB, which is too large for a label map")
    try:
        found = load(content.decode())
    except YamlError as error:
        place = "" if error.line is None else f"line {error.line}: "
        raise ManifestError(f"--label-map {path}: {place}{error}") from error
    except UnicodeDecodeError:
        raise ManifestError(f"--label-map {path}: not UTF-8 text; {_EXPECTED}") from None
    if not isinstance(found, dict):
        raise ManifestError(f"--label-map {path}: {_EXPECTED}, found no mapping")
    if unquoted := [name for name in found if not isinstance(name, str)]:
        raise ManifestError(f"--label-map {path}: {unquoted[0]!r:.40} is no text; write the corpus in quotes")
    return found


def map_labels(labels: Mapping[str, tuple[str, ...]], content: Mapping[str, Any] | None) -> Labels:
    """Return the common label of each label of each corpus.

    Args:
        labels: Corpus → its labels.
        content: Content of the user's label map, which must name all of them; None for usual names of emotions, where
            labels that some corpus does not have are left out.

    Raises:
        ManifestError: the label map is faulty, or leaves fewer than two common labels.
    """
    mapped = (
        _usual(labels) if content is None else {corpus: _given(corpus, labels[corpus], content) for corpus in labels}
    )
    common = {one for of_corpus in mapped.values() for one in of_corpus.values() if one is not None}
    if len(common) < 2:
        told = "; ".join(f"{corpus}: {', '.join(found[:20]) or 'none'}" for corpus, found in labels.items())
        how = "the label map gives" if content is not None else "the corpora have"
        raise ManifestError(
            f"{how} fewer than two common labels ({told}); name common labels with --label-map FILE, or choose another "
            "--target"
        )
    return mapped


def _usual(labels: Mapping[str, tuple[str, ...]]) -> dict[str, dict[str, str | None]]:
    found = {corpus: {label: common_label(label) for label in of_corpus} for corpus, of_corpus in labels.items()}
    everywhere = set.intersection(*(set(of_corpus.values()) for of_corpus in found.values()))
    return {
        corpus: {label: common if common in everywhere else None for label, common in of_corpus.items()}
        for corpus, of_corpus in found.items()
    }


def _given(corpus: str, labels: tuple[str, ...], content: Mapping[Any, Any]) -> dict[str, str | None]:
    of_corpus = content.get(corpus)
    if not isinstance(of_corpus, Mapping):
        found = "nothing" if of_corpus is None else f"{of_corpus!r:.40}"
        raise ManifestError(f"the label map has no labels of the corpus {corpus!r}: {_EXPECTED}, found {found}")
    for label, common in of_corpus.items():
        if not isinstance(label, str):
            raise ManifestError(f"the label map of {corpus!r}: {label!r:.40} is no text; write the label in quotes")
        if common is not None and (not isinstance(common, str) or not common.strip()):
            raise ManifestError(
                f"the label map of {corpus!r}: the common label of {label!r:.40} is {common!r:.40}, expected a text "
                "(write it in quotes), or null to leave the label out"
            )
    missing = [label for label in labels if label not in of_corpus]
    if missing:
        raise ManifestError(
            f"the label map of {corpus!r} has no entry for {listed(missing)}; give each label a common label, or null "
            "to leave it out"
        )
    return {label: common and common.strip() for label in labels for common in [of_corpus[label]]}


def described(corpus: str, labels: Mapping[str, str | None], counts: Mapping[str, int]) -> str:
    """Return one line about the label map of a corpus, with the number of utterances that are left out.

    Args:
        corpus: Name of the corpus.
        labels: Label → common label, or None.
        counts: Label → number of utterances.
    """
    kept = ", ".join(
        label if label == common else f"{label} → {common}"
        for label, common in labels.items()
        if common is not None and counts.get(label)
    )
    gone = {label: counts[label] for label, common in labels.items() if common is None and counts.get(label)}
    told = ", ".join(f"{label} {count}" for label, count in gone.items())
    left = f"left out: {told} ({sum(gone.values())} of {sum(counts.values())} utterances)" if gone else "none left out"
    return f"Labels of {corpus!r}: {kept or 'none'}; {left}."
