"""TESS file names → utterances."""

import re

from featcache.corpora.base import NamedCorpus, named
from featcache.corpora.downloads import RemoteFile
from featcache.manifest import Utterance

EMOTIONS = {
    "angry": "anger",
    "disgust": "disgust",
    "fear": "fear",
    "happy": "happiness",
    "neutral": "neutral",
    "ps": "pleasant surprise",
    "sad": "sadness",
}
LONG_CODES = {"pleasant_surprise": "ps", "pleasant_surprised": "ps"}
# OA instead of OAF: the corpus contains OA_bite_neutral.wav.
SPEAKERS = {"OAF": "OAF", "OA": "OAF", "YAF": "YAF"}
AGES = {"OAF": "64", "YAF": "26"}


def _utterance(path: str, match: re.Match[str]) -> Utterance:
    speaker, word, emotion = SPEAKERS[match[1].upper()], match[2].lower(), match[3].lower()
    code = LONG_CODES.get(emotion, emotion)
    return Utterance(
        utterance_id=f"{speaker}_{word}_{code}",
        path=path,
        speaker_id=speaker,
        transcript=f"Say the word {word}.",
        labels={"emotion": EMOTIONS[code], "word": word, "gender": "female", "age": AGES[speaker]},
    )


TESS = NamedCorpus(
    name="tess",
    title="TESS",
    description="2 Canadian women, 26 and 64 years old, say 200 words in one carrier phrase in 7 emotions "
    "(Pichora-Fuller & Dupuis 2020). With only two speakers, utterances of the training speaker validate.",
    license="CC BY-NC-ND 4.0",
    source="https://doi.org/10.5683/SP2/E8H2MF",
    download=(
        RemoteFile(
            address="https://borealisdata.ca/api/access/dataset/:persistentId/?persistentId=doi:10.5683/SP2/E8H2MF",
            name="tess.zip",
            checked="public readers",
        ),
    ),
    classes=tuple(EMOTIONS.values()),
    published_counts=dict.fromkeys(EMOTIONS.values(), 400),
    protocols=("two-speakers",),
    max_frames=250,
    example="OAF_back_angry.wav",
    pattern=named(
        r"(OAF?|YAF)_([a-z'-]+)_(angry|disgust|fear|happy|neutral|ps|pleasant_surprised?|sad)", re.IGNORECASE
    ),
    utterance=_utterance,
)
