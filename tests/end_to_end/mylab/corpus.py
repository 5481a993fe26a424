"""A corpus that is recognised by its file names, and a protocol."""

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
    description="Actors with two emotions.",
    license="free",
    source="https://example.org/lab",
    classes=tuple(EMOTIONS.values()),
    example="spk1_A_02.wav",
    pattern=named(r"(spk\d+)_([AJ])_(\d\d)"),
    utterance=_utterance,
)


def _in_turn(manifest, target):
    """Return one fold per speaker, with this speaker in the test part and the next one in the validation part."""
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
    description="Each speaker is the test part once; the next speaker is the validation part.",
    speaker_independent=True,
    folds=_in_turn,
)
