"""CREMA-D file names, VideoDemographics.csv and votes of listeners → utterances."""

import re
from dataclasses import replace
from pathlib import Path, PurePosixPath

from featcache.corpora.base import NamedCorpus, named
from featcache.corpora.folder_contents import label_file
from featcache.corpora.votes import vote_labels
from featcache.errors import CorpusError, ManifestError
from featcache.files.spreadsheets import read_csv
from featcache.manifest import Utterance

EMOTIONS = {
    "ANG": "anger",
    "DIS": "disgust",
    "FEA": "fear",
    "HAP": "happiness",
    "NEU": "neutral",
    "SAD": "sadness",
}
# One X instead of XX: the corpus contains 1040_ITH_SAD_X.wav.
INTENSITIES = {"LO": "low", "MD": "medium", "HI": "high", "XX": "unspecified", "X": "unspecified"}
TRANSCRIPTS = {
    "IEO": "It's eleven o'clock.",
    "TIE": "That is exactly what happened.",
    "IOM": "I'm on my way to the meeting.",
    "IWW": "I wonder what this is about.",
    "TAI": "The airplane is almost full.",
    "MTI": "Maybe tomorrow it will be cold.",
    "IWL": "I would like a new alarm clock.",
    "ITH": "I think I have a doctor's appointment.",
    "DFA": "Don't forget a jacket.",
    "ITS": "I think I've seen this before.",
    "TSI": "The surface is slick.",
    "WSI": "We'll stop in a couple of minutes.",
}
ACTORS = tuple(str(actor) for actor in range(1001, 1092))
DEMOGRAPHICS = "VideoDemographics.csv"
VOTES = "tabulatedVotes.csv"
# Numbers of the rows of this table with the votes of listeners who only heard the voice; rows from 200000 on are
# votes on the face, and from 300000 on on both.
VOICE_ONLY = range(100000, 200000)


def _utterance(path: str, match: re.Match[str]) -> Utterance:
    actor, sentence, emotion, intensity = match.groups()
    if actor not in ACTORS:
        raise KeyError(actor)
    return Utterance(
        utterance_id=PurePosixPath(path).stem,
        path=path,
        speaker_id=actor,
        transcript=TRANSCRIPTS[sentence],
        labels={
            "emotion": EMOTIONS[emotion],
            "intensity": INTENSITIES[intensity],
            "sentence": sentence,
            "gender": "",
            "age": "",
        },
    )


def _labelled(folder: Path, utterances: list[Utterance]) -> tuple[list[Utterance], list[str]]:
    found, missing = _with_demographics(folder, utterances)
    table = label_file(folder, VOTES, f"processedResults/{VOTES}")
    if table is None:
        return found, missing
    votes = _votes(table)
    none = dict.fromkeys(vote_labels("emotion", tuple(EMOTIONS.values()), {}), "")
    return [replace(u, labels=u.labels | votes.get(u.utterance_id, none)) for u in found], missing


def _votes(table: Path) -> dict[str, dict[str, str]]:
    """Return utterance id → votes of the listeners."""
    classes = {code[0]: name for code, name in EMOTIONS.items()}  # the columns are A, D, F, H, N and S
    try:
        columns, rows = read_csv(table, ("fileName",))
        return {
            row["fileName"]: vote_labels(
                "emotion", tuple(classes.values()), {name: float(row[code]) for code, name in classes.items()}
            )
            for _, row in rows
            if int(row[columns[0]]) in VOICE_ONLY
        }
    except (KeyError, TypeError, ValueError, ManifestError) as error:
        raise CorpusError(
            f"{table}: expected a CSV table with the number of each row, and the columns {', '.join(classes)} and "
            f"fileName ({error!r}); fetch it again"
        ) from error


def _with_demographics(folder: Path, utterances: list[Utterance]) -> tuple[list[Utterance], list[str]]:
    """Add gender and age of the actors; they stay empty if the table is missing."""
    table = label_file(folder, DEMOGRAPHICS)
    if table is None:
        return utterances, []
    try:
        _, rows = read_csv(table, ("ActorID",))
        people = {row["ActorID"]: {"gender": row["Sex"].lower(), "age": row["Age"]} for _, row in rows}
    except (KeyError, AttributeError, ManifestError) as error:
        raise CorpusError(
            f"{table}: expected a CSV table with the columns ActorID, Age and Sex ({error!r}); fetch it again"
        ) from error
    return [replace(u, labels=u.labels | people.get(u.speaker_id, {})) for u in utterances], []


CREMAD = NamedCorpus(
    name="cremad",
    title="CREMA-D",
    description="91 American actors speak twelve sentences in 6 emotions, some in three intensities (Cao et al. 2014).",
    license="Open Database License (ODbL) 1.0, contents under the Database Contents License",
    # An archive of the repository contains pointers to the audio only.
    source="https://github.com/CheyneyComputerScience/CREMA-D with Git LFS: 'git lfs install', then 'git clone "
    f"https://github.com/CheyneyComputerScience/CREMA-D' (AudioWAV; {DEMOGRAPHICS} gives gender and age, "
    f"processedResults/{VOTES} the votes of listeners)",
    classes=tuple(EMOTIONS.values()),
    published_counts=dict.fromkeys(EMOTIONS.values(), 1271) | {"neutral": 1087},
    protocols=("cremad-5fold",),
    max_frames=250,
    example="1001_DFA_ANG_XX.wav",
    pattern=named(r"(1\d\d\d)_([A-Z]{3})_([A-Z]{3})_(LO|MD|HI|XX?)"),
    utterance=_utterance,
    complete=_labelled,
)
