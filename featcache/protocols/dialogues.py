"""Manifest → who speaks with whom: conversations that folds split, and groups of speakers that may be kept apart."""

from collections.abc import Sequence

from featcache.corpora import CORPORA
from featcache.errors import ProtocolError, listed
from featcache.manifest import Manifest
from featcache.protocols.base import Fold


def dialogue_labels() -> tuple[str, ...]:
    """Return the labels that the utterances of one conversation have in common, in all corpora that are in use."""
    return tuple(dict.fromkeys(corpus.dialogue for corpus in CORPORA.loaded().values() if corpus.dialogue))


def split_dialogues(folds: Sequence[Fold], manifest: Manifest, *, whole: bool) -> list[str]:
    """Return a warning for each of the ``dialogue_labels`` whose conversations are split across the parts of folds.

    Args:
        folds: Made by a protocol or by hand.
        manifest: Their utterances.
        whole: Whether a conversation that is only in training and validation counts as split, too.
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
        leak = f"{num_leaked} of {num_tested} test utterances have theirs in training or validation too"
    return [
        f"{len(faulty)} of {len(folds)} folds split a {label} (fold {name!r}: {listed(first)}): {leak}; "
        f"--protocol session-kfold keeps each {label} in one part"
    ]


def acquainted(manifest: Manifest) -> dict[str, str]:
    """Return utterance id → the group of those who met: speakers with all their conversations, partners with theirs.

    Raises:
        ProtocolError: no label says what a conversation is, or utterances without it or without a speaker.
    """
    label = next((label for label in dialogue_labels() if label in manifest.label_columns), None)
    if label is None:
        raise ProtocolError(
            f"this protocol needs one of the labels {', '.join(dialogue_labels())}, and the manifest has none of them; "
            "add it, or use --protocol group-kfold"
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
