"""Manifest and speakers → fold: base classes and helpers of all protocols, and the checks of a fold."""

import random
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from featcache.errors import ProtocolError, listed
from featcache.manifest import Manifest, Utterance


@dataclass(frozen=True, kw_only=True)
class Fold:
    """Utterance ids of one training.

    Attributes:
        name: Name of the fold, unique among the folds of a protocol.
        train: Utterances that the head learns from.
        validation: Utterances for early stopping and model selection.
        test: Utterances that are predicted and scored.
    """

    name: str
    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """A protocol: a function that makes folds, and its properties.

    To use your own protocol, write a module or a file with an instance, and name it:
    ``--protocol mylab.protocols:PAIRS`` or ``--protocol ./pairs.py:PAIRS``. A package can offer the protocol under a
    short name with an entry point in the group ``featcache.protocols``. Its folds are checked like all others.

    Attributes:
        name: Name on the command line.
        description: One sentence.
        speaker_independent: Whether test speakers never occur in the training or validation part.
        folds: Function that receives the manifest and the name of the target label, and returns the folds. Every
            utterance of the manifest has that label. It may raise a ProtocolError if the manifest does not fit.
        target: Label that the protocol was published with; None for any label.
        partners_apart: Whether sessions or dialogues of the test part never occur in the training or validation part.
        select: Label → values of the utterances that the protocol uses; empty for all utterances.
        published_sizes: Numbers of training, validation and test utterances, if published with a single fold.

    Example:
        >>> from featcache.protocols import Fold, Protocol
        >>> def last_speaker_tests(manifest, target):
        ...     *others, validation, test = manifest.speaker_ids
        ...     ids = {speaker: () for speaker in manifest.speaker_ids}
        ...     for utterance in manifest:  # all of them have the target label
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
    """Check the types of what a protocol returned; ``check_folds`` checks the contents.

    Args:
        folds: Items that the protocol returned.

    Returns:
        The folds.

    Raises:
        ProtocolError: the list is empty, an item is not a fold, an id is not text, or two folds have the same name.
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
        raise ProtocolError(f"the protocol made several folds named {listed(twice)}; give each a different name")
    return made


def refuse_faulty(fold: Fold, known: Collection[str], *, tested: bool = True) -> None:
    """Refuse a fold with an empty part, a repeated utterance, or an unknown utterance.

    Args:
        fold: The fold.
        known: Utterance ids of the manifest.
        tested: Whether the fold needs a test part.

    Raises:
        ProtocolError: the fold is faulty.
    """
    for part in ("train", "validation", *(["test"] if tested else [])):
        if not getattr(fold, part):
            raise ProtocolError(f"fold {fold.name!r} has no {part} utterances; choose another protocol or add data")
    counts = Counter(fold.train + fold.validation + fold.test)
    twice = [utterance_id for utterance_id, count in counts.items() if count > 1]
    if twice:
        raise ProtocolError(
            f"fold {fold.name!r} leaks: {listed(twice)} occur more than once; put each utterance into one part only"
        )
    strangers = [utterance_id for utterance_id in counts if utterance_id not in known]
    if strangers:
        raise ProtocolError(
            f"fold {fold.name!r} contains {listed(strangers)}, not in the manifest; use ids of the manifest"
        )


def shared_speakers(fold: Fold, speakers: Mapping[str, str]) -> list[str]:
    """Return a warning if test speakers also occur in the training or validation part.

    Args:
        fold: The fold.
        speakers: Utterance id → speaker; empty for an unknown speaker.
    """
    heard = {speakers[i] for i in fold.train + fold.validation} - {""}
    tested = {speakers[i] for i in fold.test} - {""}
    shared = heard & tested
    if not shared:
        return []
    num_leaked = sum(speakers[i] in shared for i in fold.test)
    return [
        f"fold {fold.name!r}: {len(shared)} of {len(tested)} test speakers ({listed(sorted(shared))}) are also in the "
        f"training or validation part, with {num_leaked} of {len(fold.test)} test utterances"
    ]


def make_fold(name: str, parts: Mapping[str, str]) -> Fold:
    """Make a fold from utterance id → part."""
    train, validation, test = (
        tuple(utterance_id for utterance_id, part in parts.items() if part == wanted)
        for wanted in ("train", "validation", "test")
    )
    return Fold(name=name, train=train, validation=validation, test=test)


def speaker_fold(name: str, manifest: Manifest, validation: Collection[str], test: Collection[str]) -> Fold:
    """Make a fold in which some speakers validate, some test, and all others train."""
    part = dict.fromkeys(manifest.speaker_ids, "train") | dict.fromkeys(validation, "validation")
    part |= dict.fromkeys(test, "test")
    return make_fold(name, {utterance.utterance_id: part[utterance.speaker_id] for utterance in manifest})


def rotated(groups: Mapping[str, str], names: Sequence[str], validation: Mapping[str, str] | None = None) -> list[Fold]:
    """Make one fold per group: each group tests once, and the next one validates.

    Args:
        groups: Utterance id → group.
        names: The groups, in order.
        validation: Group that tests → group that validates; by default, the next group in order.
    """
    validation = validation or dict(zip(names, [*names[1:], *names[:1]], strict=True))
    roles = [{test: "test", validation[test]: "validation"} for test in names]
    return [
        make_fold(test, {utterance_id: role.get(group, "train") for utterance_id, group in groups.items()})
        for test, role in zip(names, roles, strict=True)
    ]


def known_speakers(manifest: Manifest, at_least: int = 3) -> tuple[str, ...]:
    """Return all speakers, and check that every utterance has one.

    Args:
        manifest: The utterances.
        at_least: Minimum number of speakers; by default, one for each part.

    Raises:
        ProtocolError: an utterance has no speaker, or there are too few speakers.
    """
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
    """Draw about a share of the keys, at least one, so that each label has the same share to within one key.

    Keys are sorted by label, in random order within a label, and every n-th key is taken. Numeric labels work, too.

    Args:
        labels: Key → label.
        share: Share to draw, in (0, 1].
    """
    count = min(max(1, round(share * len(labels))), len(labels))
    chance = random.Random(0)
    draws = {key: chance.random() for key in sorted(labels)}
    order = sorted(draws, key=lambda key: (labels[key], draws[key]))
    return {order[int((i + 0.5) * len(order) / count)] for i in range(count)}


def held_out_fifth(utterances: Sequence[Utterance], target: str) -> set[str]:
    """Return the ids of utterances of a fifth of the speakers, which validate.

    If there is only one speaker, or speakers are unknown, they are a fifth of the utterances, drawn evenly from the
    labels.

    Args:
        utterances: Utterances that would train.
        target: The label to predict.
    """
    speakers = {utterance.speaker_id for utterance in utterances}
    if "" in speakers or len(speakers) < 2:
        return even_share({u.utterance_id: u.labels[target] for u in utterances}, 0.2)
    validating = even_share(dict.fromkeys(speakers, ""), 0.2)
    return {u.utterance_id for u in utterances if u.speaker_id in validating}
