"""Manifest and speakers → fold: what every protocol is made of, and the checks of a fold."""

import random
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from featcache.errors import ProtocolError, listed
from featcache.manifest import Manifest


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

    To use one of your own, write a module or a file with an instance, and name it: ``--protocol mylab.protocols:PAIRS``
    or ``--protocol ./pairs.py:PAIRS``. A package can offer it under a name with an entry point in the group
    ``featcache.protocols``. Its folds are checked like all others.

    Attributes:
        name: What the command line calls it.
        description: One sentence.
        speaker_independent: Whether no test speaker is ever heard in training or validation.
        folds: Manifest and target label → folds. Every utterance of the manifest carries that label.
        target: The label that it was published with, if any.
        partners_apart: Whether no session or dialogue of the test part is in training or validation.
        select: Labels and their values, where the protocol is about a part of its corpus only.
        published_sizes: Utterances in train, validation and test, where it was published with a single fold.

    Example:
        >>> from featcache.protocols import Fold, Protocol
        >>> def last_speaker_tests(manifest, target):
        ...     *others, validation, test = manifest.speaker_ids
        ...     ids = {speaker: () for speaker in manifest.speaker_ids}
        ...     for utterance in manifest:  # all that carry the target label
        ...         ids[utterance.speaker_id] += (utterance.utterance_id,)
        ...     train = sum((ids[speaker] for speaker in others), ())
        ...     return [Fold(name="1", train=train, validation=ids[validation], test=ids[test])]
        >>> LAST_SPEAKER = Protocol(
        ...     name="last-speaker",
        ...     description="The last speaker tests, the one before validates, all others train.",
        ...     speaker_independent=True,
        ...     folds=last_speaker_tests,
        ... )
    """

    name: str
    description: str
    speaker_independent: bool
    folds: Callable[[Manifest, str], list[Fold]]
    target: str | None = None
    partners_apart: bool = False
    select: Mapping[str, Sequence[str]] = field(default_factory=dict)
    published_sizes: tuple[int, int, int] | None = None


def check_made(folds: Sequence[object]) -> list[Fold]:
    """Return what a protocol made if it is folds; their contents are checked by ``check_folds``.

    Raises:
        ProtocolError: no folds at all, something else than folds, ids that are no text, or two folds of one name.
    """
    made = [fold for fold in folds if isinstance(fold, Fold)]
    if not made or len(made) < len(folds):
        found = "no folds" if not folds else f"{next(x for x in folds if not isinstance(x, Fold))!r:.60}"
        raise ProtocolError(f"the protocol made {' '.join(found.split())}, expected a list of featcache.protocols.Fold")
    for fold in made:
        ids = [i for part in (fold.train, fold.validation, fold.test) for i in part]
        if not isinstance(fold.name, str) or not all(isinstance(i, str) for i in ids):
            raise ProtocolError(f"fold {fold.name!r}: expected a name and utterance ids that are text")
    twice = [name for name, count in Counter(fold.name for fold in made).items() if count > 1]
    if twice:
        raise ProtocolError(f"the protocol made several folds named {listed(twice)}; give each a name of its own")
    return made


def refuse_faulty(fold: Fold, known: Collection[str]) -> None:
    """Refuse a fold with an empty part, an utterance that stands twice, or one that is not known."""
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


def shared_speakers(fold: Fold, speakers: Mapping[str, str]) -> list[str]:
    """A warning where test speakers are heard in training or validation too, given utterance id → speaker."""
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


def make_fold(name: str, parts: Mapping[str, str]) -> Fold:
    """Utterance id → part, as a fold."""
    train, validation, test = (
        tuple(utterance_id for utterance_id, part in parts.items() if part == wanted)
        for wanted in ("train", "validation", "test")
    )
    return Fold(name=name, train=train, validation=validation, test=test)


def speaker_fold(name: str, manifest: Manifest, validation: Collection[str], test: Collection[str]) -> Fold:
    """The fold in which some speakers validate, some test, and all others train."""
    part = dict.fromkeys(manifest.speaker_ids, "train") | dict.fromkeys(validation, "validation")
    part |= dict.fromkeys(test, "test")
    return make_fold(name, {utterance.utterance_id: part[utterance.speaker_id] for utterance in manifest})


def rotated(groups: Mapping[str, str], names: Sequence[str], validation: Mapping[str, str] | None = None) -> list[Fold]:
    """Utterance id → group, as folds: each group tests once, and the next one validates.

    Args:
        groups: Every utterance's group.
        names: The groups, in order.
        validation: Group that tests → group that validates, where it is not the next.
    """
    validation = validation or dict(zip(names, [*names[1:], *names[:1]], strict=True))
    roles = [{test: "test", validation[test]: "validation"} for test in names]
    return [
        make_fold(test, {utterance_id: role.get(group, "train") for utterance_id, group in groups.items()})
        for test, role in zip(names, roles, strict=True)
    ]


def known_speakers(manifest: Manifest, at_least: int = 3) -> tuple[str, ...]:
    """All speakers, if every utterance has one and they are enough; by default, for three parts."""
    unknown = sum(utterance.speaker_id == "" for utterance in manifest)
    if unknown:
        raise ProtocolError(
            f"{unknown} of {len(manifest)} utterances have no speaker_id; fill in that column of the manifest, "
            f"or use --protocol random-80-20, which does not keep speakers apart"
        )
    speakers = manifest.speaker_ids
    if len(speakers) < at_least:
        other = "two-speakers" if len(speakers) == 2 else "random-80-20, which does not keep them apart"
        raise ProtocolError(
            f"found {len(speakers)} speakers ({listed(speakers)}), expected at least {at_least} to train, validate and "
            f"test; add speakers, or use --protocol {other}"
        )
    return speakers


def even_share(labels: Mapping[str, str], share: float) -> set[str]:
    """About a share of the keys, at least one, drawn so that each label gives its part to within one key.

    Every n-th key is taken in the order of the labels, and by chance within a label. Numbers as labels work too.
    """
    count = min(max(1, round(share * len(labels))), len(labels))
    chance = random.Random(0)
    draws = {key: chance.random() for key in sorted(labels)}
    order = sorted(draws, key=lambda key: (labels[key], draws[key]))
    return {order[int((i + 0.5) * len(order) / count)] for i in range(count)}
