"""ShEMO file names → utterances."""

import re
from pathlib import PurePosixPath

from featcache.corpora.base import NamedCorpus, named
from featcache.manifest import Utterance

EMOTIONS = {
    "A": "anger",
    "F": "fear",
    "H": "happiness",
    "N": "neutral",
    "S": "sadness",
    "W": "surprise",
}
GENDERS = {"F": "female", "M": "male"}
# Numbers of the names in the authors' transcripts (transcript.zip, shemo.json), one archive of audio for each gender.
# The article has other numbers of each class (anger 1059, fear 38, …), also 3000 in total.
COUNTS = {
    "female": {"anger": 450, "fear": 20, "happiness": 113, "neutral": 345, "sadness": 225, "surprise": 110},
    "male": {"anger": 592, "fear": 12, "happiness": 90, "neutral": 815, "sadness": 137, "surprise": 91},
}


def _utterance(path: str, match: re.Match[str]) -> Utterance:
    speaker, emotion = match.groups()
    return Utterance(
        utterance_id=PurePosixPath(path).stem,
        path=path,
        speaker_id=speaker,
        labels={"emotion": EMOTIONS[emotion], "gender": GENDERS[speaker[0]]},
    )


SHEMO = NamedCorpus(
    name="shemo",
    title="ShEMO",
    description="87 speakers of Persian radio plays, 3000 utterances labelled by twelve listeners in 6 emotions "
    "(Mohamad Nezami et al. 2019).",
    license="free for academic use",
    source="https://github.com/mansourehk/ShEMO",
    classes=tuple(EMOTIONS.values()),
    published_counts={name: sum(counts[name] for counts in COUNTS.values()) for name in EMOTIONS.values()},
    part="gender",
    part_counts=COUNTS,
    example="F21N05.wav",
    pattern=named(r"([FM]\d\d)([A-Z])\d\d\d?"),
    utterance=_utterance,
)
