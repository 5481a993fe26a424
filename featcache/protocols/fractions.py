"""Folds → the same folds with fewer speakers in their training parts, for learning curves.

The speakers of a training part are put into a random order, which depends on the fold only, and the first ones train.
Therefore, the speakers of a fraction include those of every smaller fraction, and the seeds of the trainings do not
matter. Every fold has an order of its own: a curve depends less on the speakers that happen to come first.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace

from featcache.errors import ProtocolError
from featcache.manifest import Manifest
from featcache.protocols.base import Fold


def reduced_folds(
    folds: Sequence[Fold], manifest: Manifest, fraction: float, label: Callable[[str], str] | None = None
) -> list[Fold]:
    """Return folds whose training parts contain a fraction of their speakers; other parts stay the same.

    Args:
        folds: The folds of a protocol.
        manifest: The utterances of the folds.
        fraction: Fraction of the speakers of each training part, above 0 and at most 1. The number of speakers is
            rounded to the nearest one, and is at least one.
        label: Function utterance id → class. Further speakers are added until the training part has two classes. None
            for dimensional labels.

    Returns:
        The folds, in order; for a fraction of 1, the folds as they are.

    Raises:
        ProtocolError: an utterance of a training part has no speaker.
    """
    return list(folds) if fraction == 1 else [_reduced(fold, manifest, fraction, label) for fold in folds]


def _reduced(fold: Fold, manifest: Manifest, fraction: float, label: Callable[[str], str] | None) -> Fold:
    of_speakers: dict[str, list[str]] = {}
    for utterance_id in fold.train:
        of_speakers.setdefault(manifest[utterance_id].speaker_id, []).append(utterance_id)
    unknown = len(of_speakers.get("", ()))
    if unknown:
        raise ProtocolError(
            f"--train-fraction takes fractions of speakers, but {unknown} of {len(fold.train)} training utterances of "
            f"fold {fold.name!r} have no speaker_id; fill in that column of the manifest"
        )
    speakers = sorted(of_speakers)
    random.Random(f"train-fraction {fold.name}").shuffle(speakers)
    number = max(1, int(fraction * len(speakers) + 0.5))
    while label and number < len(speakers) and _num_classes(of_speakers, speakers[:number], label) < 2:
        number += 1
    chosen = set(speakers[:number])
    return replace(fold, train=tuple(i for i in fold.train if manifest[i].speaker_id in chosen))


def _num_classes(of_speakers: dict[str, list[str]], speakers: Sequence[str], label: Callable[[str], str]) -> int:
    return len({label(utterance_id) for speaker in speakers for utterance_id in of_speakers[speaker]})


def num_train_speakers(fold: Fold, manifest: Manifest) -> int:
    """Return the number of speakers in the training part of a fold."""
    return len({manifest[utterance_id].speaker_id for utterance_id in fold.train})


def fraction_notes(reduced: Sequence[Fold], folds: Sequence[Fold], manifest: Manifest, fraction: float) -> list[str]:
    """Return the note on the reduced training parts for the report.

    Args:
        reduced: The folds with reduced training parts.
        folds: The folds of the protocol.
        manifest: The utterances of the folds.
        fraction: Fraction of the speakers.
    """
    speakers, of = (_between([num_train_speakers(fold, manifest) for fold in one]) for one in (reduced, folds))
    utterances = _between([len(fold.train) for fold in reduced])
    return [
        f"The training parts contain {speakers} of {of} speakers ({utterances} utterances), for a fraction of "
        f"{fraction:g} of the speakers. Validation and test parts are complete."
    ]


def fraction_warnings(reduced: Sequence[Fold], folds: Sequence[Fold], manifest: Manifest, fraction: float) -> list[str]:
    """Return a warning if a fraction changes nothing, because the training parts have too few speakers."""
    same = sum(len(one.train) == len(fold.train) for one, fold in zip(reduced, folds, strict=True))
    if not same:
        return []
    few = min(num_train_speakers(fold, manifest) for fold in folds)
    return [
        f"a fraction of {fraction:g} of the speakers is the complete training part in {same} of {len(folds)} folds, "
        f"which have as few as {few} training speakers"
    ]


def _between(numbers: Sequence[int]) -> str:
    low, high = min(numbers), max(numbers)
    return str(low) if low == high else f"{low} to {high}"
