"""Manifest → folds, as published for one corpus."""

import random
from collections.abc import Callable

from featcache.corpora.cremad import ACTORS
from featcache.errors import ProtocolError, listed
from featcache.manifest import Manifest
from featcache.protocols.base import Fold, Protocol, even_share, known_speakers, make_fold, rotated, speaker_fold

SPEECH = {"vocal_channel": ("speech",)}
SPONTANEOUS = {"improvised": ("yes",), "full_agreement": ("yes",)}
_EMODB_AUTRAINER = ("03", "08", "09", "10", "11", "12"), ("13", "14"), ("15", "16")
SESSION_5_VALIDATES = {"1": "5", "2": "5", "3": "5", "4": "5", "5": "4"}


def _pepino2021(manifest: Manifest, target: str) -> list[Fold]:
    _require_actors(manifest, 21, 24)
    return [speaker_fold("1", manifest, validation=_actors(21, 22), test=_actors(23, 24))]


def _pepino2021_speech(manifest: Manifest, target: str) -> list[Fold]:
    _require_actors(manifest, 21, 24)
    return _pepino2021(manifest.select(**SPEECH), target)


def _ravdess_6fold(manifest: Manifest, target: str) -> list[Fold]:
    _require_actors(manifest, 1, 24)
    tests = [_actors(first, first + 3) for first in range(1, 25, 4)]
    return [speaker_fold(f"{tests[k][0]}-{tests[k][-1]}", manifest, tests[(k + 1) % 6], tests[k]) for k in range(6)]


def _emodb_autrainer(manifest: Manifest, target: str) -> list[Fold]:
    found, needed = set(known_speakers(manifest)), {speaker for part in _EMODB_AUTRAINER for speaker in part}
    if found != needed:
        missing, strange = sorted(needed - found), sorted(found - needed)
        told = (
            f"{listed(missing)} {'is' if len(missing) == 1 else 'are'} missing"
            if missing
            else f"found {listed(strange)}"
        )
        raise ProtocolError(f"this protocol needs exactly the ten EmoDB speakers, but {told}; use --protocol loso")
    _, validation, test = _EMODB_AUTRAINER
    return [speaker_fold("1", manifest, validation=validation, test=test)]


def _require_actors(manifest: Manifest, first: int, last: int) -> None:
    missing = [actor for actor in _actors(first, last) if actor not in manifest.speaker_ids]
    if missing:
        raise ProtocolError(
            f"this protocol needs the RAVDESS actors {first:02d} to {last:02d} as speakers, but {', '.join(missing)} "
            f"are missing; add them, or use --protocol loso"
        )
    known_speakers(manifest)


def _actors(first: int, last: int) -> list[str]:
    return [f"{actor:02d}" for actor in range(first, last + 1)]


def _random_5fold(manifest: Manifest, target: str) -> list[Fold]:
    order = sorted(manifest.utterance_ids)
    random.Random(0).shuffle(order)
    drawn = {utterance_id: str(i % 5 + 1) for i, utterance_id in enumerate(order)}
    return rotated({utterance_id: drawn[utterance_id] for utterance_id in manifest.utterance_ids}, "12345")


def _iemocap_loso_session(manifest: Manifest, target: str) -> list[Fold]:
    return rotated(_sessions(manifest, 5), "12345", SESSION_5_VALIDATES)


def _iemocap_superb(manifest: Manifest, target: str) -> list[Fold]:
    sessions = _sessions(manifest, 5)
    folds = []
    for test in "12345":
        others = {u.utterance_id: u.labels[target] for u in manifest if sessions[u.utterance_id] != test}
        parts = dict.fromkeys(sessions, "test") | dict.fromkeys(others, "train")
        folds.append(make_fold(test, parts | dict.fromkeys(even_share(others, 0.2), "validation")))
    return folds


def _iemocap_issa(manifest: Manifest, target: str) -> list[Fold]:
    return _random_5fold(manifest.select(**SPONTANEOUS), target)


def _msp_improv_6fold(manifest: Manifest, target: str) -> list[Fold]:
    return rotated(_sessions(manifest, 6), "123456")


def _msp_podcast(test: str) -> Callable[[Manifest, str], list[Fold]]:
    roles = {"train": "train", "development": "validation", test: "test"}

    def folds(manifest: Manifest, target: str) -> list[Fold]:
        partitions = manifest.labels("partition")
        missing = [partition for partition in roles if partition not in partitions.values()]
        if missing:
            raise ProtocolError(
                f"this protocol needs the partitions train, development and {test} of MSP-Podcast, but "
                f"{listed(missing)} are missing; add them, or use --protocol split"
            )
        return [make_fold(test, {i: roles[partition] for i, partition in partitions.items() if partition in roles})]

    return folds


def _sessions(manifest: Manifest, number: int) -> dict[str, str]:
    sessions = dict.fromkeys(manifest.utterance_ids, "") | manifest.labels("session")
    wanted = [str(session) for session in range(1, number + 1)]
    if sorted(set(sessions.values())) != wanted:
        found = ", ".join(sorted({session or "none" for session in sessions.values()}))
        raise ProtocolError(
            f"this protocol needs the sessions 1 to {number}, found {found}; add what is missing, "
            "or use --protocol group-kfold"
        )
    return sessions


def _cremad_5fold(manifest: Manifest, target: str) -> list[Fold]:
    strangers = [speaker for speaker in known_speakers(manifest) if speaker not in ACTORS]
    if strangers:
        raise ProtocolError(
            f"this protocol needs the CREMA-D actors 1001 to 1091 as speakers, found {listed(strangers)}; "
            "use --protocol group-kfold"
        )
    groups = {u.utterance_id: str((int(u.speaker_id) - 1001) % 5 + 1) for u in manifest}
    return rotated(groups, "12345")


PUBLISHED = (
    Protocol(
        name="pepino2021",
        description="RAVDESS speech and song, 7 classes: actors 01–20 train, 21 and 22 validate, 23 and 24 test.",
        speaker_independent=True,
        folds=_pepino2021,
        target="emotion_7",
        published_sizes=(2036, 208, 208),
    ),
    Protocol(
        name="pepino2021-speech",
        description="The same actors as pepino2021, without the songs.",
        speaker_independent=True,
        folds=_pepino2021_speech,
        select=SPEECH,
        target="emotion_7",
        published_sizes=(1200, 120, 120),
    ),
    Protocol(
        name="ravdess-6fold",
        description="RAVDESS in six folds of two men and two women; the next fold validates.",
        speaker_independent=True,
        folds=_ravdess_6fold,
    ),
    Protocol(
        name="issa-random-5fold",
        description="RAVDESS, 8 classes, in five random folds that mix speakers, as in the comparison of Pepino et al. "
        "2021 with Issa et al. 2020; the next fold validates.",
        speaker_independent=False,
        folds=_random_5fold,
        target="emotion",
    ),
    Protocol(
        name="iemocap-loso-session",
        description="IEMOCAP, 4 classes: each session tests once; session 5 validates, and session 4 when session 5 "
        "tests. Pepino et al. 2021 used 5473 of the 5531 utterances: their reader leaves out utterances without a "
        "forced alignment. --select aligned=yes does this, too; it is not verified that the same 5473 remain.",
        speaker_independent=True,
        folds=_iemocap_loso_session,
        partners_apart=True,
        target="emotion_4",
    ),
    Protocol(
        name="iemocap-superb",
        description="IEMOCAP, 4 classes, as in SUPERB: each session tests once; 20 % of the other sessions' utterances "
        "validate, drawn evenly from the classes. Training and validation share speakers.",
        speaker_independent=True,
        folds=_iemocap_superb,
        partners_apart=True,
        target="emotion_4",
    ),
    Protocol(
        name="iemocap-issa",
        description="IEMOCAP, 4 classes: improvised turns to which all evaluators gave the same single label (861 in "
        "Pepino et al. 2021), in five random folds that mix speakers; the next fold validates.",
        speaker_independent=False,
        folds=_iemocap_issa,
        select=SPONTANEOUS,
        target="emotion_4",
    ),
    Protocol(
        name="emodb-autrainer",
        description="EmoDB as in the toolkit autrainer (Rampp et al. 2024): speakers 03 and 08–12 train, 13 and 14 "
        "validate, 15 and 16 test.",
        speaker_independent=True,
        folds=_emodb_autrainer,
    ),
    Protocol(
        name="cremad-5fold",
        description="CREMA-D in five folds of actors: 1001 tests in the first, 1002 in the second, …, 1006 in the "
        "first again; the next fold validates. The corpus has no official split.",
        speaker_independent=True,
        folds=_cremad_5fold,
    ),
    Protocol(
        name="msp-improv-6fold",
        description="MSP-IMPROV: each of the six sessions tests once; the next one validates.",
        speaker_independent=True,
        folds=_msp_improv_6fold,
        partners_apart=True,
    ),
    Protocol(
        name="msp-podcast-test1",
        description="MSP-Podcast: Train trains, Development validates and Test1 tests. Podcasts of Test1 are also in "
        "Train or Development ('seen scenarios' in de Oliveira et al. 2023); known speakers are kept apart. Results "
        "are comparable only within one release of the corpus.",
        speaker_independent=True,
        folds=_msp_podcast("test1"),
        select={"partition": ("train", "development", "test1")},
    ),
    Protocol(
        name="msp-podcast-test2",
        description="Like msp-podcast-test1, but Test2 tests, whose podcasts are in no other part ('unseen "
        "scenarios'); --protocol split tests on both together.",
        speaker_independent=True,
        folds=_msp_podcast("test2"),
        partners_apart=True,
        select={"partition": ("train", "development", "test2")},
    ),
)
