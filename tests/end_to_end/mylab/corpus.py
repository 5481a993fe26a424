"""A corpus, known by the names of its files, and a protocol."""

from featcache.corpora.base import NamedCorpus, named
from featcache.manifest import Utterance
from featcache.protocols import Fold, Protocol

EMOTIONS = {"A": "anger", "J": "joy"}


def _utterance(path, match):
    speaker, emotion, number = match.groups()
    return Utterance(
        utterance_id=f"{speaker}-{emotion}-{number}",
        path=path,
        speaker_id=speaker,
        labels={"emotion": EMOTIONS[emotion]},
    )


LAB = NamedCorpus(
    name="lab",
    title="Lab corpus",
    description="Speakers who act two emotions.",
    license="free",
    source="https://example.org/lab",
    classes=tuple(EMOTIONS.values()),
    example="spk1_A_02.wav",
    pattern=named(r"(spk\d+)_([AJ])_(\d\d)"),
    utterance=_utterance,
)


def _in_turn(manifest, target):
    """Each speaker tests once, the next one validates."""
    speakers = list(manifest.speaker_ids)
    folds = []
    for number, test in enumerate(speakers):
        validation = speakers[(number + 1) % len(speakers)]
        parts = {"train": [], "validation": [], "test": []}
        for utterance in manifest:
            part = {test: "test", validation: "validation"}.get(utterance.speaker_id, "train")
            parts[part].append(utterance.utterance_id)
        folds.append(Fold(name=test, **{name: tuple(ids) for name, ids in parts.items()}))
    return folds


IN_TURN = Protocol(
    name="in-turn",
    description="Each speaker tests once, the next one validates.",
    speaker_independent=True,
    folds=_in_turn,
)
