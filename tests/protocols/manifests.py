"""Manifests without audio, and helpers for the parts of a fold."""

import itertools

from featcache.manifest import Manifest, Utterance
from featcache.protocols import Fold

EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")


def ravdess() -> Manifest:
    """Make the manifest of RAVDESS as described by its authors: 1440 spoken and 1012 sung utterances."""
    utterances = []
    for channel, emotion, intensity, statement, repetition, actor in itertools.product(
        ("speech", "song"), EMOTIONS, ("normal", "strong"), "12", "12", range(1, 25)
    ):
        never_recorded = (
            (emotion == "neutral" and intensity == "strong")
            or (channel == "song" and emotion in ("disgust", "surprised"))
            or (channel == "song" and actor == 18)
        )
        if never_recorded:
            continue
        utterance_id = f"{channel}-{emotion}-{intensity}-{statement}-{repetition}-{actor:02d}"
        labels = {
            "emotion": emotion,
            "emotion_7": "neutral" if emotion == "calm" else emotion,
            "vocal_channel": channel,
        }
        utterances.append(
            Utterance(utterance_id=utterance_id, path=utterance_id, speaker_id=f"{actor:02d}", labels=labels)
        )
    return Manifest(utterances)


RAVDESS = ravdess()


def made(speakers: list[str], **labels: list[str]) -> Manifest:
    """Make a manifest of utterances 'u0', 'u1', … with these speakers and labels."""
    columns = labels or {"emotion": ["anger", "fear"] * len(speakers)}
    return Manifest(
        [
            Utterance(
                utterance_id=f"u{i}",
                path=f"{i}.wav",
                speaker_id=speaker,
                labels={name: values[i] for name, values in columns.items()},
            )
            for i, speaker in enumerate(speakers)
        ]
    )


def heard(manifest: Manifest, utterance_ids: tuple[str, ...]) -> list[str]:
    """Return the sorted speakers of utterances."""
    return sorted({manifest[utterance_id].speaker_id for utterance_id in utterance_ids})


def sizes(fold: Fold) -> tuple[int, int, int]:
    """Return the numbers of training, validation and test utterances."""
    return len(fold.train), len(fold.validation), len(fold.test)


def iemocap() -> Manifest:
    """Make five sessions of two speakers; two of three turns are improvised, three of four have full agreement."""
    utterances = []
    for session, talker, number in itertools.product("12345", "FM", range(12)):
        utterance_id = f"Ses0{session}{talker}_{number}"
        labels = {
            "emotion_4": ("anger", "sadness")[number % 2],
            "session": session,
            "improvised": "yes" if number % 3 else "no",
            "full_agreement": "yes" if number % 4 else "no",
        }
        utterances.append(
            Utterance(utterance_id=utterance_id, path=utterance_id, speaker_id=f"Ses0{session}{talker}", labels=labels)
        )
    return Manifest(utterances)
