"""RAVDESS file names → utterances."""

import re
from pathlib import PurePosixPath

from featcache.corpora.base import NamedCorpus, named
from featcache.corpora.downloads import RemoteFile
from featcache.manifest import Utterance

CHANNELS = {"01": "speech", "02": "song"}
EMOTIONS = {
    "01": "neutral",
    "02": "calm",
    "03": "happy",
    "04": "sad",
    "05": "angry",
    "06": "fearful",
    "07": "disgust",
    "08": "surprised",
}
INTENSITIES = {"01": "normal", "02": "strong"}
STATEMENTS = {"01": "kids", "02": "dogs"}
TRANSCRIPTS = {"01": "Kids are talking by the door.", "02": "Dogs are sitting by the door."}
REPETITIONS = {"01": "1", "02": "2"}
GENDERS = {f"{actor:02d}": "male" if actor % 2 else "female" for actor in range(1, 25)}
# There are no songs of actor 18, and none in disgust or surprise.
COUNTS = {
    "speech": dict.fromkeys(EMOTIONS.values(), 192) | {"neutral": 96},
    "song": dict.fromkeys(("neutral", "calm", "happy", "sad", "angry", "fearful"), 184) | {"neutral": 92},
}


def _utterance(path: str, match: re.Match[str]) -> Utterance:
    channel, emotion, intensity, statement, repetition, actor = match.groups()
    return Utterance(
        utterance_id=PurePosixPath(path).stem,
        path=path,
        speaker_id=actor,
        transcript=TRANSCRIPTS[statement],
        labels={
            "emotion": EMOTIONS[emotion],
            "emotion_7": "neutral" if EMOTIONS[emotion] == "calm" else EMOTIONS[emotion],
            "vocal_channel": CHANNELS[channel],
            "intensity": INTENSITIES[intensity],
            "statement": STATEMENTS[statement],
            "repetition": REPETITIONS[repetition],
            "actor": actor,
            "gender": GENDERS[actor],
        },
    )


RAVDESS = NamedCorpus(
    name="ravdess",
    title="RAVDESS",
    description="24 North American actors speak and sing two sentences in 8 emotions (Livingstone & Russo 2018).",
    license="CC BY-NC-SA 4.0",
    source="https://zenodo.org/records/1188976 (Audio_Speech_Actors_01-24.zip, Audio_Song_Actors_01-24.zip)",
    download=(
        RemoteFile(
            address="https://zenodo.org/records/1188976/files/Audio_Speech_Actors_01-24.zip",
            size=208_468_073,
            checksum="md5:bc696df654c87fed845eb13823edef8a",
            checked="public readers",
        ),
        RemoteFile(
            address="https://zenodo.org/records/1188976/files/Audio_Song_Actors_01-24.zip",
            size=225_505_317,
            checksum="md5:5411230427d67a21e18aa4d466e6d1b9",
            checked="public readers",
        ),
    ),
    classes=tuple(EMOTIONS.values()),
    published_counts={name: sum(counts.get(name, 0) for counts in COUNTS.values()) for name in EMOTIONS.values()},
    part="vocal_channel",
    part_counts=COUNTS,
    protocols=("pepino2021", "pepino2021-speech", "ravdess-6fold", "issa-random-5fold"),
    max_frames=250,
    example="03-01-06-01-02-01-12.wav",
    # 03 is audio only. Sound extracted from the videos (01) is left out, because it has the same utterances again.
    pattern=named("03" + r"-(\d\d)" * 6),
    utterance=_utterance,
)
