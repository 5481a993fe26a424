"""Fractions of the training speakers: nested, independent of seeds, and never without classes."""

from itertools import pairwise

import pytest

from featcache.errors import ProtocolError
from featcache.manifest import Manifest, Utterance
from featcache.protocols import make_folds
from featcache.protocols.fractions import fraction_notes, fraction_warnings, num_train_speakers, reduced_folds

FRACTIONS = (0.05, 0.1, 0.25, 0.5, 0.75, 1)


def corpus(num_speakers=12, classes=("anger", "joy"), speaker=lambda number: f"s{number:02}"):
    return Manifest(
        [
            Utterance(utterance_id=f"{n:02}-{c}", path=f"{n:02}-{c}.wav", speaker_id=speaker(n), labels={"emotion": c})
            for n in range(num_speakers)
            for c in classes
        ]
    )


def speakers_of(fold, manifest):
    return {manifest[i].speaker_id for i in fold.train}


def test_larger_fractions_include_smaller_ones_and_other_parts_stay():
    manifest = corpus()
    folds = make_folds("loso", manifest, "emotion")
    reduced = {fraction: reduced_folds(folds, manifest, fraction) for fraction in FRACTIONS}
    assert reduced[1] == folds
    for position, fold in enumerate(folds):
        everyone = num_train_speakers(fold, manifest)
        for smaller, larger in pairwise(FRACTIONS):
            one, other = (speakers_of(reduced[fraction][position], manifest) for fraction in (smaller, larger))
            assert one <= other
            assert len(one) == max(1, int(smaller * everyone + 0.5))
        for fraction in FRACTIONS:
            found = reduced[fraction][position]
            assert (found.name, found.validation, found.test) == (fold.name, fold.validation, fold.test)
            # Whole speakers, in the order of the fold.
            chosen = speakers_of(found, manifest)
            assert found.train == tuple(i for i in fold.train if manifest[i].speaker_id in chosen)
    # The folds do not all train on the same speakers.
    assert len({frozenset(speakers_of(fold, manifest)) for fold in reduced[0.25]}) > 6
    assert reduced_folds(folds, manifest, 0.25) == reduced[0.25]


def test_speakers_are_added_until_there_are_two_classes():
    manifest = Manifest(
        [
            Utterance(utterance_id=f"{n}", path=f"{n}.wav", speaker_id=f"s{n:02}", labels={"emotion": "ab"[n == 7]})
            for n in range(12)
        ]
    )
    [fold, *_] = make_folds("loso", manifest, "emotion")
    labels = manifest.labels("emotion")
    [few] = reduced_folds([fold], manifest, 0.1, labels.__getitem__)
    assert {labels[i] for i in few.train} == {"a", "b"}
    [larger] = reduced_folds([fold], manifest, 0.2, labels.__getitem__)
    assert set(few.train) <= set(larger.train)
    [plain] = reduced_folds([fold], manifest, 0.1)
    assert len(plain.train) == 1


def test_unknown_speakers_are_refused_and_fractions_are_noted():
    manifest = corpus()
    folds = make_folds("loso", manifest, "emotion")
    reduced = reduced_folds(folds, manifest, 0.5)
    [note] = fraction_notes(reduced, folds, manifest, 0.5)
    numbers = {num_train_speakers(fold, manifest) for fold in reduced}
    assert f"contain {numbers.pop()} of " in note
    assert fraction_warnings(reduced, folds, manifest, 0.5) == []
    few = make_folds("loso", corpus(3), "emotion")
    [warning] = fraction_warnings(reduced_folds(few, corpus(3), 0.1), few, corpus(3), 0.1)
    assert "is the complete training part in 3 of 3 folds, which have as few as 1 training speakers" in warning
    nobody = corpus(speaker=lambda number: "")
    [fold] = make_folds("random-80-20", nobody, "emotion")[:1]
    with pytest.raises(ProtocolError, match=r"--train-fraction takes fractions of speakers, but .* have no speaker_id"):
        reduced_folds([fold], nobody, 0.5)
