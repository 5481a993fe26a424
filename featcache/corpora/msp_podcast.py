"""MSP-Podcast file names, its table of consensus labels and its transcripts → utterances.

Public readers of releases 1.6 to 2.0 agree on these files:

- ``Labels/labels_consensus.csv`` (up to 1.8: ``labels_concensus.csv``), with rows such as
  ``MSP-PODCAST_0001_0008.wav,N,2.2,4.0,2.6,30,Male,Test1``. The speaker is ``Unknown`` if not identified. Up to 1.8,
  ``Development`` is called ``Validation``.
- ``Labels/labels_detailed.csv``, or ``Labels/labels.txt``: the choice of each annotator. The table has a column
  ``EmoClass_Major`` with a word such as ``Angry`` (1.6, 2.0), or a column ``EmoDetail`` (between them) with the line of
  ``labels.txt``: ``WORKER00014325; Angry; Annoyed,Disgust; A:5.0; V:2.0; D:5.0;``.
- ``Audios/`` or ``Audio/``, and ``Transcripts/`` with a text file per speaking turn.
- For the third test set, from 1.11 on, only the audio: ``MSP-PODCAST_test3_0001.wav``.

Source: https://ecs.utdallas.edu/research/researchlabs/msp-lab/MSP-Podcast.html
"""

import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

from featcache.corpora.base import NamedCorpus, named
from featcache.corpora.folder_contents import files_below, label_file, visible
from featcache.corpora.votes import vote_labels
from featcache.errors import CorpusError, listed
from featcache.files.regular import resolved
from featcache.files.spreadsheets import read_csv, read_text
from featcache.manifest import Utterance
from featcache.units import counted

EMOTIONS = {
    "A": "anger",
    "S": "sadness",
    "H": "happiness",
    "U": "surprise",
    "F": "fear",
    "D": "disgust",
    "C": "contempt",
    "N": "neutral",
}
# Words of annotators that are other forms of the name of a class.
WORDS = {"angry": "anger", "sad": "sadness", "happy": "happiness"}
NO_CLASS = {"O": "other", "X": "no agreement"}
CLASSES = tuple(EMOTIONS.values())
HIDDEN = "test3"
PARTITIONS = {
    "train": "train",
    "development": "development",
    "validation": "development",
    "test1": "test1",
    "test2": "test2",
    HIDDEN: HIDDEN,
}
SPLITS = {"train": "train", "development": "validation", "test1": "test", "test2": "test"}
DIMENSIONS = {"EmoAct": "arousal", "EmoVal": "valence", "EmoDom": "dominance"}
UNKNOWN = "Unknown"
COLUMNS = ("FileName", "EmoClass", *DIMENSIONS, "SpkrID", "Gender", "Split_Set")
LABEL_FILES = ("labels_consensus.csv", "labels_concensus.csv")
DETAILED_FILES = ("labels_detailed.csv", "labels.txt", "Labels.txt")
ANNOTATION = re.compile(r"\s*WORKER\w*\s*;\s*([^;]*?)\s*;")
TRANSCRIPTS = "Transcripts"

log = logging.getLogger(__name__)


def _utterance(path: str, match: re.Match[str]) -> Utterance:
    return Utterance(
        utterance_id=PurePosixPath(path).stem, path=path, labels={"emotion": "", "split": "", "podcast": match[1]}
    )


def _labelled(folder: Path, utterances: list[Utterance]) -> tuple[list[Utterance], list[str]]:
    """Return the speaking turns in the table of labels; the third test set has no public labels and is left out."""
    rows = _rows(folder)
    transcripts = _transcripts(folder)
    votes = _votes(folder)
    none = dict.fromkeys(vote_labels("emotion", CLASSES, {}), "") if votes else {}
    labelled = [
        replace(
            utterance,
            speaker_id=_known(rows[utterance.utterance_id]["SpkrID"]),
            transcript=_text(transcripts.get(utterance.utterance_id)),
            labels=utterance.labels | _labels(rows[utterance.utterance_id]) | votes.get(utterance.utterance_id, none),
        )
        for utterance in utterances
        if utterance.utterance_id in rows
    ]
    found = {utterance.utterance_id for utterance in labelled}
    return labelled, [utterance_id for utterance_id in rows if utterance_id not in found]


def _labels(row: Mapping[str, str]) -> dict[str, str]:
    partition = PARTITIONS[row["Split_Set"].lower()]
    return {
        "emotion": EMOTIONS.get(row["EmoClass"], ""),
        **{name: row[column] for column, name in DIMENSIONS.items()},
        "gender": _known(row["Gender"]).lower(),
        "partition": partition,
        "split": SPLITS[partition],
    }


def _known(name: str) -> str:
    return "" if name == UNKNOWN else name


def _rows(folder: Path) -> dict[str, dict[str, str]]:
    """Return utterance id → row of the label table, without the third test set."""
    table = label_file(folder, *(place for name in LABEL_FILES for place in (name, f"Labels/{name}")))
    if table is None:
        raise CorpusError(f"{folder}: Labels/{LABEL_FILES[0]} with the labels of MSP-Podcast is missing; add it")
    columns, rows = read_csv(table, COLUMNS)
    lacking = [column for column in COLUMNS if column not in columns]
    if lacking:
        raise CorpusError(f"{table}: expected the columns {', '.join(COLUMNS)}, but {listed(lacking)} are missing")
    known = {"EmoClass": (*EMOTIONS, *NO_CLASS), "Split_Set": ("Train", "Development", "Test1", "Test2", "Test3")}
    labelled, faults = {}, []
    for _, fields in rows:
        row = {column: (fields[column] or "").strip() for column in COLUMNS}
        if row["Split_Set"].lower() not in PARTITIONS:
            faults.append((row, "Split_Set"))
        elif row["EmoClass"] not in known["EmoClass"]:
            faults.append((row, "EmoClass"))
        elif PARTITIONS[row["Split_Set"].lower()] != HIDDEN:
            labelled[PurePosixPath(row["FileName"]).stem] = row
    if faults:
        row, column = faults[0]
        others = f" (and {counted(len(faults) - 1, 'more row')})" if faults[1:] else ""
        raise CorpusError(
            f"{table}: {row['FileName']!r} has {column} {row[column]!r}, expected {', '.join(known[column])}{others}; "
            "fetch the table again"
        )
    return labelled


def _votes(folder: Path) -> dict[str, dict[str, str]]:
    """Return utterance id → votes of the annotators; empty if their choices are missing.

    An annotator has one vote, for the primary emotion. Votes for other emotions are left out.
    """
    table = label_file(folder, *(place for name in DETAILED_FILES for place in (name, f"Labels/{name}")))
    if table is None:
        return {}
    found: dict[str, dict[str, float]] = {}
    for name, word in _choices(table):
        counts = found.setdefault(PurePosixPath(name).stem, {})
        emotion = WORDS.get(word.lower(), word.lower())
        counts[emotion] = counts.get(emotion, 0) + 1
    return {utterance_id: vote_labels("emotion", CLASSES, counts) for utterance_id, counts in found.items()}


def _choices(table: Path) -> Iterator[tuple[str, str]]:
    """Yield the file name of a speaking turn and the primary emotion of one annotator."""
    if table.suffix == ".csv":
        columns, rows = read_csv(table, ("FileName",))
        if "FileName" not in columns or not {"EmoClass_Major", "EmoDetail"} & set(columns):
            raise CorpusError(
                f"{table}: expected the columns FileName and EmoClass_Major, or FileName and EmoDetail, found "
                f"{listed(columns)}; fetch the table again"
            )
        for _, row in rows:
            line = ANNOTATION.match(row.get("EmoDetail") or "")
            yield row["FileName"] or "", line[1] if line else (row.get("EmoClass_Major") or "").strip()
        return
    name = ""
    for text in read_text(table, lenient=True).splitlines():
        line = ANNOTATION.match(text)
        if line:
            yield name, line[1]
        elif text.startswith("MSP-PODCAST"):
            name = text.partition(";")[0].strip()


def _transcripts(folder: Path) -> dict[str, Path]:
    """Return utterance id → text file; empty if the transcripts are missing."""
    for place in (
        folder / TRANSCRIPTS,
        *visible(folder.glob(f"*/{TRANSCRIPTS}"), folder),
        resolved(folder).parent / TRANSCRIPTS,
    ):
        if place.is_dir():
            paths = files_below(place, (".txt",))
            return {PurePosixPath(path).stem: place / path for path in paths}
    packed = label_file(folder, f"{TRANSCRIPTS}.zip")
    if packed:
        log.warning("%s is not unpacked, so utterances have no transcript; unpack it", packed)
    return {}


def _text(path: Path | None) -> str:
    return "" if path is None else " ".join(read_text(path, lenient=True).split())


MSP_PODCAST = NamedCorpus(
    name="msp-podcast",
    title="MSP-Podcast",
    description="Speaking turns of English podcasts, rated by at least five listeners each: 8 emotions, and arousal, "
    "valence and dominance from 1 to 7 (Lotfian & Busso 2019). The third test set has no public labels and is left "
    "out. Turns with another emotion, or without agreement, keep their dimensional labels. Some speakers are unknown.",
    license="academic or commercial licence on request",
    source="https://ecs.utdallas.edu/research/researchlabs/msp-lab/MSP-Podcast.html (Audios, "
    "Labels/labels_consensus.csv; Labels/labels_detailed.csv for the votes of annotators, and unpacked Transcripts for "
    "the text)",
    classes=CLASSES,
    protocols=("msp-podcast-test1", "msp-podcast-test2"),
    dimensions=dict.fromkeys(DIMENSIONS.values(), (1.0, 7.0)),
    # Turns last 2.75 to 11 s, so none is cut.
    max_frames=550,
    dialogue="podcast",
    example="MSP-PODCAST_0001_0008.wav",
    pattern=named(r"MSP-PODCAST_(\d+|test3)(?:_\d+)+"),
    utterance=_utterance,
    complete=_labelled,
)
