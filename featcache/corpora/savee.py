"""SAVEE file names → utterances."""

import re

from featcache.corpora.base import NamedCorpus, named
from featcache.manifest import Utterance

EMOTIONS = {
    "a": "anger",
    "d": "disgust",
    "f": "fear",
    "h": "happiness",
    "n": "neutral",
    "sa": "sadness",
    "su": "surprise",
}


def _utterance(path: str, match: re.Match[str]) -> Utterance:
    speaker, emotion, sentence = match.groups()
    return Utterance(
        utterance_id=f"{speaker}_{emotion}{sentence}",
        path=path,
        speaker_id=speaker,
        labels={"emotion": EMOTIONS[emotion], "sentence": sentence, "gender": "male"},
    )


SAVEE = NamedCorpus(
    name="savee",
    title="SAVEE",
    description="4 British men speak 15 sentences in each of 7 emotions, 30 in neutral (Haq & Jackson 2010).",
    license="free for research; registration required",
    source="http://kahlan.eps.surrey.ac.uk/savee (AudioData/DC/a01.wav, or DC_a01.wav in one folder)",
    classes=tuple(EMOTIONS.values()),
    published_counts=dict.fromkeys(EMOTIONS.values(), 60) | {"neutral": 120},
    example="DC_a01.wav",
    pattern=named(r"(DC|JE|JK|KL)[/_](a|d|f|h|n|sa|su)(\d\d)"),
    utterance=_utterance,
)
