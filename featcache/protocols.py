"""Manifest → folds: which utterances train, validate and test, and the check that nothing leaks."""

import random
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from featcache.errors import ProtocolError, listed, unknown_name
from featcache.manifest import Manifest

MOST_SPEAKERS_FOR_LOSO = 12
PARTS = {
    "train": "train",
    "validation": "validation",
    "val": "validation",
    "valid": "validation",
    "dev": "validation",
    "development": "validation",
    "test": "test",
}
"""What may stand in the label ``split``, in any case."""


@dataclass(frozen=True, kw_only=True)
class Fold:
    """The utterances of one training, by id: it learns from ``train``, chooses by ``validation``, reports ``test``."""

    name: str
    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """A way to make folds.

    Attributes:
        name: What the command line calls it.
        description: One sentence.
        speaker_independent: Whether no test speaker is ever heard in training or validation.
        folds: Manifest and target label → folds. Every utterance of the manifest carries that label.
        target: The label that it was published with, if any.
        published_sizes: Utterances in train, validation and test, where it was published with a single fold.
    """

    name: str
    description: str
    speaker_independent: bool
    folds: Callable[[Manifest, str], list[Fold]]
    target: str | None = None
    published_sizes: tuple[int, int, int] | None = None


def default_protocol(manifest: Manifest) -> str:
    """The protocol for a manifest when none is asked for: its own split, or one by speakers."""
    if len({utterance.labels.get("split", "") for utterance in manifest} - {""}) > 1:
        return "split"
    return "loso" if len(manifest.speaker_ids) <= MOST_SPEAKERS_FOR_LOSO else "group-kfold"


def make_folds(protocol: str, manifest: Manifest, target: str) -> list[Fold]:
    """Make the folds of a protocol from the utterances that carry a label, and check them.

    Raises:
        ProtocolError: an unknown protocol, one that does not fit the manifest, or folds that ``check_folds`` refuses.
        ManifestError: no utterance carries the label, or another that the protocol needs.
    """
    if protocol not in PROTOCOLS:
        raise ProtocolError(unknown_name("protocol", protocol, PROTOCOLS))
    labelled = manifest.subset(tuple(manifest.labels(target)))
    folds = PROTOCOLS[protocol].folds(labelled, target)
    check_folds(folds, labelled)
    return folds


def check_folds(folds: Sequence[Fold], manifest: Manifest, protocol: str | None = None) -> list[str]:
    """Refuse folds that leak, and tell what a reader of their results should know.

    Args:
        folds: Made by a protocol or by hand.
        manifest: Where their utterances stand.
        protocol: The protocol that made them, which the warnings then name.

    Returns:
        Warnings, one line each: test speakers that are heard in training or validation, utterances without a
        speaker, sizes other than the published ones.

    Raises:
        ProtocolError: an empty part, an utterance that stands twice in a fold, or an id that the manifest has not.
    """
    speakers = {utterance.utterance_id: utterance.speaker_id for utterance in manifest}
    warnings = []
    for fold in folds:
        _refuse_faulty(fold, speakers)
        warnings += _shared_speakers(fold, speakers)
    known = PROTOCOLS[protocol] if protocol else None
    if known and not known.speaker_independent:
        warnings = [f"{warning}; protocol {protocol!r} does not keep speakers apart" for warning in warnings]
    if known and known.published_sizes:
        sizes = [(len(fold.train), len(fold.validation), len(fold.test)) for fold in folds]
        if sizes != [known.published_sizes]:
            warnings.append(
                f"protocol {protocol!r} was published with {_written(known.published_sizes)} utterances to train, "
                f"validate and test, here they are {', '.join(map(_written, sizes))}; results do not compare"
            )
    unknown = sum(speaker == "" for speaker in speakers.values())
    if unknown:
        warnings.append(f"{unknown} of {len(speakers)} utterances have no speaker_id: speakers that leak go unnoticed")
    return warnings


def _refuse_faulty(fold: Fold, known: Collection[str]) -> None:
    for part in ("train", "validation", "test"):
        if not getattr(fold, part):
            raise ProtocolError(f"fold {fold.name!r} has no {part} utterances; choose another protocol or add data")
    counts = Counter(fold.train + fold.validation + fold.test)
    twice = [utterance_id for utterance_id, count in counts.items() if count > 1]
    if twice:
        raise ProtocolError(f"fold {fold.name!r} leaks: {listed(twice)} stand in it more than once; it must part them")
    strangers = [utterance_id for utterance_id in counts if utterance_id not in known]
    if strangers:
        raise ProtocolError(f"fold {fold.name!r} holds {listed(strangers)}, which the manifest has not; use its ids")


def _shared_speakers(fold: Fold, speakers: Mapping[str, str]) -> list[str]:
    heard = {speakers[i] for i in fold.train + fold.validation} - {""}
    tested = {speakers[i] for i in fold.test} - {""}
    shared = heard & tested
    if not shared:
        return []
    num_leaked = sum(speakers[i] in shared for i in fold.test)
    return [
        f"fold {fold.name!r}: {len(shared)} of {len(tested)} test speakers ({listed(sorted(shared))}) are heard in "
        f"training or validation too, with {num_leaked} of {len(fold.test)} test utterances"
    ]


def _written(sizes: Iterable[int]) -> str:
    return " / ".join(map(str, sizes))


def _fold(name: str, parts: Mapping[str, str]) -> Fold:
    """Utterance id → part, as a fold."""
    train, validation, test = (
        tuple(utterance_id for utterance_id, part in parts.items() if part == wanted)
        for wanted in ("train", "validation", "test")
    )
    return Fold(name=name, train=train, validation=validation, test=test)


def _speaker_fold(name: str, manifest: Manifest, validation: Collection[str], test: Collection[str]) -> Fold:
    """The fold in which some speakers validate, some test, and all others train."""
    part = dict.fromkeys(manifest.speaker_ids, "train") | dict.fromkeys(validation, "validation")
    part |= dict.fromkeys(test, "test")
    return _fold(name, {utterance.utterance_id: part[utterance.speaker_id] for utterance in manifest})


def _speakers(manifest: Manifest) -> tuple[str, ...]:
    """All speakers, if every utterance has one and they suffice for three parts."""
    unknown = sum(utterance.speaker_id == "" for utterance in manifest)
    if unknown:
        raise ProtocolError(
            f"{unknown} of {len(manifest)} utterances have no speaker_id; fill in that column of the manifest, "
            f"or use --protocol random-80-20, which does not keep speakers apart"
        )
    speakers = manifest.speaker_ids
    if len(speakers) < 3:
        raise ProtocolError(
            f"found {len(speakers)} speakers ({listed(speakers)}), expected at least 3 to train, validate and test; "
            f"add speakers, or use --protocol random-80-20, which does not keep them apart"
        )
    return speakers


def _require_actors(manifest: Manifest, first: int, last: int) -> None:
    missing = [actor for actor in _actors(first, last) if actor not in manifest.speaker_ids]
    if missing:
        raise ProtocolError(
            f"this protocol needs the RAVDESS actors {first:02d} to {last:02d} as speakers, but {', '.join(missing)} "
            f"are missing; add them, or use --protocol loso"
        )
    _speakers(manifest)


def _actors(first: int, last: int) -> list[str]:
    return [f"{actor:02d}" for actor in range(first, last + 1)]


def _even_share(labels: Mapping[str, str], share: float) -> set[str]:
    """About a share of the keys, at least one, drawn so that each label gives its part to within one key.

    Every n-th key is taken in the order of the labels, and by chance within a label. Numbers as labels work too.
    """
    count = min(max(1, round(share * len(labels))), len(labels))
    chance = random.Random(0)
    draws = {key: chance.random() for key in sorted(labels)}
    order = sorted(draws, key=lambda key: (labels[key], draws[key]))
    return {order[int((i + 0.5) * len(order) / count)] for i in range(count)}


def _loso(manifest: Manifest, target: str) -> list[Fold]:
    speakers = _speakers(manifest)
    num_validation = max(1, round(len(speakers) / 5))
    rounds = [speakers[i:] + speakers[:i] for i in range(len(speakers))]
    return [_speaker_fold(test, manifest, others[:num_validation], [test]) for test, *others in rounds]


def _group_kfold(manifest: Manifest, target: str) -> list[Fold]:
    from sklearn.model_selection import GroupKFold

    num_folds = min(5, len(_speakers(manifest)))
    speakers = [utterance.speaker_id for utterance in manifest]
    splits = GroupKFold(num_folds).split(speakers, groups=speakers)
    tests = [{speakers[i] for i in test} for _, test in splits]
    return [_speaker_fold(str(k + 1), manifest, tests[(k + 1) % num_folds], tests[k]) for k in range(num_folds)]


def _split(manifest: Manifest, target: str) -> list[Fold]:
    values = dict.fromkeys(manifest.utterance_ids, "") | manifest.labels("split")
    strange = sorted({value for value in values.values() if value.strip().lower() not in PARTS})
    if strange:
        raise ProtocolError(f"the label 'split' holds {listed(strange)}, expected {', '.join(PARTS)}; fix the manifest")
    parts = {utterance_id: PARTS[value.strip().lower()] for utterance_id, value in values.items()}
    if "validation" not in parts.values():
        training = [utterance for utterance in manifest if parts[utterance.utterance_id] == "train"]
        speakers = {utterance.speaker_id for utterance in training}
        if "" in speakers or len(speakers) < 2:
            chosen = _even_share({u.utterance_id: u.labels[target] for u in training}, 0.2)
        else:
            validating = _even_share(dict.fromkeys(speakers, ""), 0.2)
            chosen = {u.utterance_id for u in training if u.speaker_id in validating}
        parts |= dict.fromkeys(chosen, "validation")
    return [_fold("1", parts)]


def _pepino2021(manifest: Manifest, target: str) -> list[Fold]:
    _require_actors(manifest, 21, 24)
    return [_speaker_fold("1", manifest, validation=_actors(21, 22), test=_actors(23, 24))]


def _pepino2021_speech(manifest: Manifest, target: str) -> list[Fold]:
    _require_actors(manifest, 21, 24)
    return _pepino2021(manifest.select(vocal_channel=["speech"]), target)


def _ravdess_6fold(manifest: Manifest, target: str) -> list[Fold]:
    _require_actors(manifest, 1, 24)
    tests = [_actors(first, first + 3) for first in range(1, 25, 4)]
    return [_speaker_fold(f"{tests[k][0]}-{tests[k][-1]}", manifest, tests[(k + 1) % 6], tests[k]) for k in range(6)]


def _random_80_20(manifest: Manifest, target: str) -> list[Fold]:
    labels = {utterance.utterance_id: utterance.labels[target] for utterance in manifest}
    test = _even_share(labels, 0.2)
    others = {utterance_id: label for utterance_id, label in labels.items() if utterance_id not in test}
    validation = _even_share(others, 0.1 / 0.8)
    parts = dict.fromkeys(labels, "train") | dict.fromkeys(validation, "validation") | dict.fromkeys(test, "test")
    return [_fold("1", parts)]


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            name="loso",
            description="Leave one speaker out: each tests once; the next fifth of the speakers validates.",
            speaker_independent=True,
            folds=_loso,
        ),
        Protocol(
            name="group-kfold",
            description="Five folds of whole speakers, or as many as there are; the next fold validates, much as "
            "Pepino et al. 2021 use the sessions of IEMOCAP.",
            speaker_independent=True,
            folds=_group_kfold,
        ),
        Protocol(
            name="split",
            description="The manifest's label 'split': train, validation, test; without validation, 20 % of the "
            "training speakers validate, or of its utterances when speakers are unknown or only one.",
            speaker_independent=False,
            folds=_split,
        ),
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
            name="random-80-20",
            description="20 % of the utterances test and 10 % validate, drawn evenly from the classes.",
            speaker_independent=False,
            folds=_random_80_20,
        ),
    )
}
