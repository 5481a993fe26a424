"""Hashes of decoded samples → sets of utterances with identical audio, and what each set crosses."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from featcache.checks.findings import Finding, finding_on
from featcache.errors import listed
from featcache.manifest import Manifest, Utterance
from featcache.protocols import Fold
from featcache.units import counted

# Number of other utterances that a finding names.
_TOLD = 3


def identical_findings(
    manifest: Manifest, facts: npt.NDArray[Any], columns: Sequence[str], folds: Sequence[Fold]
) -> Iterator[Finding]:
    """Yield a finding on each utterance that has the same samples as another one.

    Silence without any sound is not compared: it is a finding of its own.

    Args:
        manifest: The utterances.
        facts: (num_utterances,) rows of ``FACTS``.
        columns: Labels that are compared: labels to predict, ``split`` and ``fold``.
        folds: Folds of the protocol; empty if there are none.
    """
    sets = [[manifest[row] for row in rows] for rows in _sets(facts)]
    parts = _parts({u.utterance_id for members in sets for u in members}, folds)
    for members in sets:
        crossed = _crossed(members, columns, parts, len(folds))
        kind = "identical-audio-apart" if crossed else "identical-audio"
        for utterance in members:
            yield finding_on(utterance, kind, "; ".join([f"identical to {_others(utterance, members)}", *crossed]))


def _others(utterance: Utterance, members: Sequence[Utterance]) -> str:
    """Return the first other members of a set as text, and the number of further ones; a set may be large."""
    first = [one.utterance_id for one in members[: _TOLD + 1] if one is not utterance][:_TOLD]
    more = len(members) - 1 - len(first)
    return ", ".join(map(repr, first)) + (f" and {more} more" if more else "")


def _sets(facts: npt.NDArray[Any]) -> list[list[int]]:
    """Return the positions of utterances with equal samples, in the order of the manifest."""
    rows = np.flatnonzero(facts["measured"] & (facts["peak"] > 0))
    digests = facts["digest"][rows]
    _, where, numbers = np.unique(digests, axis=0, return_inverse=True, return_counts=True)
    where = where.reshape(-1)  # Some releases of numpy return two dimensions.
    found: dict[int, list[int]] = {}
    for row, digest in zip(rows[numbers[where] > 1].tolist(), where[numbers[where] > 1].tolist(), strict=True):
        found.setdefault(digest, []).append(row)
    return sorted(found.values())


def _parts(utterance_ids: set[str], folds: Sequence[Fold]) -> Mapping[str, list[tuple[int, str]]]:
    """Return utterance id → number of a fold and part of the utterance in it, for these utterances."""
    parts: dict[str, list[tuple[int, str]]] = {name: [] for name in utterance_ids}
    for number, fold in enumerate(folds):
        for part in ("train", "validation", "test"):
            for name in utterance_ids.intersection(getattr(fold, part)):
                parts[name].append((number, part))
    return parts


def _crossed(
    members: Sequence[Utterance], columns: Sequence[str], parts: Mapping[str, list[tuple[int, str]]], num_folds: int
) -> list[str]:
    """Return in which ways utterances with the same audio differ, each as text."""
    crossed = []
    for title, values in (
        ("speakers", {one.speaker_id for one in members}),
        *((f"values of {column}", {one.labels.get(column, "") for one in members}) for column in columns),
    ):
        known = sorted(values - {""})
        if len(known) > 1:
            crossed.append(f"{title}: {listed(known)}")
    in_fold: dict[int, set[str]] = {}
    for one in members:
        for number, part in parts[one.utterance_id]:
            in_fold.setdefault(number, set()).add(part)
    several = sum(len(found) > 1 for found in in_fold.values())
    if several:
        crossed.append(f"in several parts of {several} of {counted(num_folds, 'fold')}")
    return crossed
