"""EmoDB file names → utterances."""

import re
from pathlib import PurePosixPath

from featcache.corpora.base import NamedCorpus, named
from featcache.corpora.downloads import RemoteFile
from featcache.manifest import Utterance

# The letters abbreviate Wut, Langeweile, Ekel, Angst, Freude, Trauer and neutral.
EMOTIONS = {
    "W": "anger",
    "L": "boredom",
    "E": "disgust",
    "A": "fear",
    "F": "happiness",
    "T": "sadness",
    "N": "neutral",
}
TRANSCRIPTS = {
    "a01": "Der Lappen liegt auf dem Eisschrank.",
    "a02": "Das will sie am Mittwoch abgeben.",
    "a04": "Heute Abend könnte ich es ihm sagen.",
    "a05": "Das schwarze Stück Papier befindet sich da oben neben dem Holzstück.",
    "a07": "In sieben Stunden wird es soweit sein.",
    "b01": "Was sind denn das für Tüten, die da unter dem Tisch stehen?",
    "b02": "Sie haben es gerade hochgetragen und jetzt gehen sie wieder runter.",
    "b03": "An den Wochenenden bin ich jetzt immer nach Hause gefahren und habe Agnes besucht.",
    "b09": "Ich will das eben wegbringen und dann mit Karl was trinken gehen.",
    "b10": "Die wird auf dem Platz sein, wo wir sie immer hinlegen.",
}
MEN = ("03", "10", "11", "12", "15")
WOMEN = ("08", "09", "13", "14", "16")
GENDERS = dict.fromkeys(MEN, "male") | dict.fromkeys(WOMEN, "female")


def _utterance(path: str, match: re.Match[str]) -> Utterance:
    speaker, text, emotion = match.groups()
    return Utterance(
        utterance_id=PurePosixPath(path).stem,
        path=path,
        speaker_id=speaker,
        transcript=TRANSCRIPTS[text],
        labels={"emotion": EMOTIONS[emotion], "text": text, "gender": GENDERS[speaker]},
    )


EMODB = NamedCorpus(
    name="emodb",
    title="EmoDB",
    description="10 German actors speak ten sentences in 7 emotions (Burkhardt et al. 2005).",
    license="free for research; cite Burkhardt et al. 2005",
    source="http://emodb.bilderbar.info",
    download=(RemoteFile(address="http://emodb.bilderbar.info/download/download.zip", checked="public readers"),),
    classes=tuple(EMOTIONS.values()),
    published_counts={
        "anger": 127,
        "boredom": 81,
        "disgust": 46,
        "fear": 69,
        "happiness": 71,
        "sadness": 62,
        "neutral": 79,
    },
    protocols=("emodb-autrainer",),
    example="03a01Fa.wav",
    pattern=named(r"(\d\d)([a-z]\d\d)([A-Z])[a-z]"),
    utterance=_utterance,
)
