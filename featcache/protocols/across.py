"""Manifest of several corpora → folds in which the test corpora do not train.

The label ``corpus`` of an utterance is its corpus. The label ``split`` is ``test`` for the test corpora.
"""

from featcache.errors import ProtocolError
from featcache.manifest import Manifest
from featcache.protocols.base import Fold, Protocol, held_out_fifth, make_fold

LEAVE_ONE_OUT, CROSS = "leave-one-corpus-out", "cross-corpus"
CORPUS = "corpus"
"""Label of utterances of several corpora: the name of their corpus."""


def _cross_corpus(manifest: Manifest, target: str) -> list[Fold]:
    corpora = _corpora(manifest, CROSS)
    tested = manifest.labels("split") if "split" in manifest.label_columns else {}
    tests = sorted({corpora[i] for i in manifest.utterance_ids if tested.get(i) == "test"})
    return [_fold("+".join(tests) or "all", manifest, target, tests)]


def _leave_one_out(manifest: Manifest, target: str) -> list[Fold]:
    names = sorted(set(_corpora(manifest, LEAVE_ONE_OUT).values()))
    if len(names) < 2:
        raise ProtocolError(f"{LEAVE_ONE_OUT} needs at least two corpora, found {', '.join(names)}; name more: --train")
    return [_fold(name, manifest, target, [name]) for name in names]


def _corpora(manifest: Manifest, protocol: str) -> dict[str, str]:
    found = manifest.labels(CORPUS) if CORPUS in manifest.label_columns else {}
    if len(found) < len(manifest):
        raise ProtocolError(
            f"protocol {protocol!r} is for several corpora; name them with --train, and the test corpora with --test"
        )
    return found


def _fold(name: str, manifest: Manifest, target: str, tests: list[str]) -> Fold:
    """Return the fold in which some corpora test, and a fifth of the speakers of every other corpus validates."""
    training: dict[str, list[int]] = {}
    parts = dict.fromkeys(manifest.utterance_ids, "test")
    for position, utterance in enumerate(manifest):
        if utterance.labels[CORPUS] not in tests:
            training.setdefault(utterance.labels[CORPUS], []).append(position)
            parts[utterance.utterance_id] = "train"
    for positions in training.values():
        parts |= dict.fromkeys(held_out_fifth([manifest[i] for i in positions], target), "validation")
    return make_fold(name, parts)


ACROSS = (
    Protocol(
        name=CROSS,
        description="For several corpora: those of --test test, those of --train train; of each of these, a fifth of "
        "the speakers validates.",
        speaker_independent=True,
        folds=_cross_corpus,
        partners_apart=True,
    ),
    Protocol(
        name=LEAVE_ONE_OUT,
        description="For several corpora: each tests once; of each of the others, a fifth of the speakers validates.",
        speaker_independent=True,
        folds=_leave_one_out,
        partners_apart=True,
    ),
)
