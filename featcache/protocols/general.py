"""Manifest → folds, for any corpus."""

from collections.abc import Mapping

from featcache.errors import ProtocolError, listed
from featcache.manifest import Manifest
from featcache.protocols.base import (
    Fold,
    Protocol,
    even_share,
    held_out_fifth,
    known_speakers,
    make_fold,
    rotated,
    speaker_fold,
)
from featcache.protocols.dialogues import acquainted
from featcache.units import counted

PARTS = {
    "train": "train",
    "validation": "validation",
    "val": "validation",
    "valid": "validation",
    "dev": "validation",
    "development": "validation",
    "test": "test",
}
"""Allowed value of the label ``split``, in lower case → part; upper case is allowed, too."""


def _loso(manifest: Manifest, target: str) -> list[Fold]:
    speakers = known_speakers(manifest)
    num_validation = max(1, round(len(speakers) / 5))
    rounds = [speakers[i:] + speakers[:i] for i in range(len(speakers))]
    return [speaker_fold(test, manifest, others[:num_validation], [test]) for test, *others in rounds]


def _group_kfold(manifest: Manifest, target: str) -> list[Fold]:
    known_speakers(manifest)
    return _kfold({utterance.utterance_id: utterance.speaker_id for utterance in manifest})


def _session_kfold(manifest: Manifest, target: str) -> list[Fold]:
    groups = acquainted(manifest)
    found = sorted(set(groups.values()))
    if len(found) < 3:
        raise ProtocolError(
            f"found {len(found)} groups of speakers without shared sessions ({listed(found)}), expected at least 3 to "
            "train, validate and test; add sessions, or use --protocol loso, which does not keep partners apart"
        )
    return _kfold(groups)


def _kfold(groups: Mapping[str, str]) -> list[Fold]:
    """Make five folds of whole groups, or one per group if there are fewer; the next fold validates.

    Args:
        groups: Utterance id → group.
    """
    from sklearn.model_selection import GroupKFold

    ids, values = list(groups), list(groups.values())
    num_folds = min(5, len(set(values)))
    fold_of: dict[str, str] = {}
    for number, (_, test) in enumerate(GroupKFold(num_folds).split(ids, groups=values), start=1):
        fold_of |= {ids[i]: str(number) for i in test}
    return rotated({i: fold_of[i] for i in ids}, [str(number) for number in range(1, num_folds + 1)])


def _split(manifest: Manifest, target: str) -> list[Fold]:
    values = dict.fromkeys(manifest.utterance_ids, "") | manifest.labels("split")
    strange = sorted({value for value in values.values() if value.strip().lower() not in PARTS})
    if strange:
        raise ProtocolError(
            f"the label 'split' contains {listed(strange)}, expected {', '.join(PARTS)}; fix the manifest"
        )
    parts = {utterance_id: PARTS[value.strip().lower()] for utterance_id, value in values.items()}
    if "validation" not in parts.values():
        training = [utterance for utterance in manifest if parts[utterance.utterance_id] == "train"]
        chosen = held_out_fifth(training, target)
        parts |= dict.fromkeys(chosen, "validation")
    return [make_fold("1", parts)]


def _random_80_20(manifest: Manifest, target: str) -> list[Fold]:
    labels = {utterance.utterance_id: utterance.labels[target] for utterance in manifest}
    test = even_share(labels, 0.2)
    others = {utterance_id: label for utterance_id, label in labels.items() if utterance_id not in test}
    validation = even_share(others, 0.1 / 0.8)
    parts = dict.fromkeys(labels, "train") | dict.fromkeys(validation, "validation") | dict.fromkeys(test, "test")
    return [make_fold("1", parts)]


def _folds(manifest: Manifest, target: str) -> list[Fold]:
    groups = dict.fromkeys(manifest.utterance_ids, "") | manifest.labels("fold")
    without = [utterance_id for utterance_id, group in groups.items() if group == ""]
    names = sorted(set(groups.values()) - {""}, key=lambda name: (len(name), name))
    if without or len(names) < 3:
        found = (
            f"{counted(len(without), 'utterance', 'have')} none ({listed(without)})"
            if without
            else f"found {listed(names)}"
        )
        raise ProtocolError(f"the label 'fold' must assign all utterances to three or more folds; {found}")
    return rotated(groups, names)


def _two_speakers(manifest: Manifest, target: str) -> list[Fold]:
    speakers = known_speakers(manifest, at_least=2)
    if len(speakers) > 2:
        raise ProtocolError(f"found {len(speakers)} speakers, expected 2; use --protocol loso or group-kfold")
    folds = []
    for test in speakers:
        others = {u.utterance_id: u.labels[target] for u in manifest if u.speaker_id != test}
        parts = dict.fromkeys(manifest.utterance_ids, "test") | dict.fromkeys(others, "train")
        folds.append(make_fold(test, parts | dict.fromkeys(even_share(others, 0.2), "validation")))
    return folds


GENERAL = (
    Protocol(
        name="loso",
        description="Leave one speaker out: each speaker tests once; the next fifth of the speakers validates.",
        speaker_independent=True,
        folds=_loso,
    ),
    Protocol(
        name="group-kfold",
        description="Five folds of whole speakers, or one per speaker if there are fewer; the next fold validates, "
        "similar to the use of IEMOCAP's sessions by Pepino et al. 2021.",
        speaker_independent=True,
        folds=_group_kfold,
    ),
    Protocol(
        name="session-kfold",
        description="Five folds of whole sessions or dialogues (labels 'session', 'dialogue', 'podcast') with all "
        "their speakers, fewer if there are fewer such groups; the next fold validates.",
        speaker_independent=True,
        folds=_session_kfold,
        partners_apart=True,
    ),
    Protocol(
        name="split",
        description="The manifest's label 'split': train, validation, test. Without validation, 20 % of the training "
        "speakers validate, or 20 % of the training utterances if there is only one speaker or speakers are unknown.",
        speaker_independent=False,
        folds=_split,
    ),
    Protocol(
        name="folds",
        description="The manifest's label 'fold': each value tests once, the next one validates.",
        speaker_independent=False,
        folds=_folds,
    ),
    Protocol(
        name="two-speakers",
        description="For corpora of two speakers: each speaker tests once; 20 % of the other speaker's utterances "
        "validate, drawn evenly from the classes, because there is no third speaker.",
        speaker_independent=True,
        folds=_two_speakers,
    ),
    Protocol(
        name="random-80-20",
        description="20 % of the utterances test and 10 % validate, drawn evenly from the classes.",
        speaker_independent=False,
        folds=_random_80_20,
    ),
)
