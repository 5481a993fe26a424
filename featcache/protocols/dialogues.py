"""Manifest → conversations that folds split, and groups of speakers who talk with each other."""

from collections.abc import Sequence

from featcache.corpora import CORPORA
from featcache.errors import ProtocolError, listed
from featcache.manifest import Manifest
from featcache.protocols.base import Fold


def dialogue_labels() -> tuple[str, ...]:
    """Return the labels that identify a conversation, in all corpora in use."""
    return tuple(dict.fromkeys(corpus.dialogue for corpus in CORPORA.loaded().values() if corpus.dialogue))


def split_dialogues(folds: Sequence[Fold], manifest: Manifest, *, whole: bool) -> list[str]:
    """Return a warning for each of the ``dialogue_labels`` whose conversations are split across the parts of folds.

    Args:
        folds: Folds made by a protocol or by hand.
        manifest: The utterances of the folds.
        whole: Whether a conversation in the training and validation parts counts as split, too.
    """
    labels = [label for label in dialogue_labels() if label in manifest.label_columns]
    return [warning for label in labels for warning in _split_of(label, folds, manifest, whole)]


def _split_of(label: str, folds: Sequence[Fold], manifest: Manifest, whole: bool) -> list[str]:
    dialogue_of = {u.utterance_id: u.labels[label] for u in manifest if u.labels.get(label, "") != ""}
    if len(set(dialogue_of.values())) < 2:
        return []
    faulty: dict[str, list[str]] = {}
    num_leaked = num_tested = 0
    for fold in folds:
        train, validation, test = (
            {dialogue_of[i] for i in part if i in dialogue_of} for part in (fold.train, fold.validation, fold.test)
        )
        leaked = test & (train | validation)
        split = leaked | (train & validation if whole else set())
        if split:
            faulty[fold.name] = sorted(split)
        num_leaked += sum(dialogue_of.get(i) in leaked for i in fold.test)
        num_tested += len(fold.test)
    if not faulty:
        return []
    name, first = next(iter(faulty.items()))
    leak = "validation is not independent of training"
    if num_leaked:
        leak = f"{num_leaked} of {num_tested} test utterances are from one that is also in training or validation"
    return [
        f"{len(faulty)} of {len(folds)} folds split a {label} (fold {name!r}: {listed(first)}): {leak}; "
        f"--protocol session-kfold keeps each {label} in one part"
    ]


def acquainted(manifest: Manifest) -> dict[str, str]:
    """Return utterance id → group of speakers who are connected by conversations.

    Speakers of the same conversation, and conversations with the same speaker, are in the same group.

    Raises:
        ProtocolError: the manifest has no label for conversations, or utterances have no such label or no speaker.
    """
    label = next((label for label in dialogue_labels() if label in manifest.label_columns), None)
    if label is None:
        raise ProtocolError(
            f"this protocol needs one of the labels {', '.join(dialogue_labels())}, but the manifest has none of them; "
            "add one, or use --protocol group-kfold"
        )
    without = [u.utterance_id for u in manifest if u.labels.get(label, "") == "" or u.speaker_id == ""]
    if without:
        raise ProtocolError(
            f"{len(without)} of {len(manifest)} utterances have no {label} or no speaker_id ({listed(without)}), which "
            "this protocol needs; fill them in"
        )
    leader: dict[tuple[str, str], tuple[str, str]] = {}

    def leader_of(node: tuple[str, str]) -> tuple[str, str]:
        while leader.setdefault(node, node) != node:
            leader[node] = leader[leader[node]]
            node = leader[node]
        return node

    for u in manifest:
        leader[leader_of(("speaker_id", u.speaker_id))] = leader_of((label, u.labels[label]))
    return {u.utterance_id: " ".join(leader_of((label, u.labels[label]))) for u in manifest}
