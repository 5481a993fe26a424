"""MELD file names and its three label tables → utterances."""

import re
from dataclasses import replace
from pathlib import Path

from featcache.corpora.base import NamedCorpus, named
from featcache.corpora.folder_contents import label_file
from featcache.errors import CorpusError, listed
from featcache.files.spreadsheets import read_csv
from featcache.manifest import Utterance

EMOTIONS = ("anger", "disgust", "fear", "joy", "neutral", "sadness", "surprise")
SPLITS = ("train", "dev", "test")
COUNTS = {
    split: dict(zip(EMOTIONS, counts, strict=True))
    for split, counts in {
        "train": (1109, 271, 268, 1743, 4710, 683, 1205),
        "dev": (153, 22, 40, 163, 470, 111, 150),
        "test": (345, 68, 50, 402, 1256, 208, 281),
    }.items()
}
COLUMNS = ("Utterance", "Speaker", "Emotion", "Sentiment", "Dialogue_ID", "Utterance_ID")
# The folders are called train_splits, dev_splits_complete and output_repeated_splits_test.
SPLIT_IN_FOLDER = re.compile(r"(?<![a-z])(train|dev|test)(?![a-z])", re.IGNORECASE)


def _utterance(path: str, match: re.Match[str]) -> Utterance:
    split, dialogue, number = match.groups()
    if split is None:
        folders = SPLIT_IN_FOLDER.findall(path.rpartition("/")[0])
        if not folders:
            raise CorpusError(
                f"{path!r} is in no folder named after train, dev or test, but MELD uses the same file names in all "
                "three; keep its folders, or name files like 'train_dia0_utt0.wav'"
            )
        split = folders[-1].lower()
    return Utterance(
        utterance_id=f"{split}_dia{dialogue}_utt{number}",
        path=path,
        labels={"emotion": "", "split": split, "dialogue": f"{split}_dia{dialogue}"},
    )


def _labelled(folder: Path, utterances: list[Utterance]) -> tuple[list[Utterance], list[str]]:
    """Return the clips in the label tables; the folder of the test clips contains further ones without labels."""
    rows: dict[str, dict[str, str]] = {}
    for split in SPLITS:
        if any(utterance.labels["split"] == split for utterance in utterances):
            rows |= _rows(folder, split)
    labelled = []
    for utterance in utterances:
        row = rows.get(utterance.utterance_id)
        if row is None:
            continue
        labels = utterance.labels | {"emotion": row["Emotion"], "sentiment": row["Sentiment"]}
        labelled.append(replace(utterance, speaker_id=row["Speaker"], transcript=row["Utterance"], labels=labels))
    found = {utterance.utterance_id for utterance in labelled}
    return labelled, [utterance_id for utterance_id in rows if utterance_id not in found]


def _rows(folder: Path, split: str) -> dict[str, dict[str, str]]:
    name = f"{split}_sent_emo.csv"
    table = label_file(folder, name)
    if table is None:
        raise CorpusError(f"{folder}: {name} with the labels of MELD's {split} clips is missing; add it")
    columns, placed = read_csv(table, COLUMNS, lenient=True)
    rows = [row for _, row in placed]
    lacking = [column for column in COLUMNS if column not in columns or any(row[column] is None for row in rows[:1])]
    if lacking:
        raise CorpusError(f"{table}: expected the columns {', '.join(COLUMNS)}, but {listed(lacking)} are missing")
    strange = [row["Emotion"] for row in rows if row["Emotion"] not in EMOTIONS]
    if strange:
        raise CorpusError(f"{table}: unknown emotions {listed(strange)}, expected {', '.join(EMOTIONS)}")
    return {f"{split}_dia{row['Dialogue_ID']}_utt{row['Utterance_ID']}": row for row in rows}


MELD = NamedCorpus(
    name="meld",
    title="MELD",
    description="Utterances of dialogues from the series Friends in 7 emotions, with a fixed split whose speakers "
    "overlap (Poria et al. 2019); --protocol split, the default, is the published one.",
    license="GPL 3.0 for the annotations; the audio is cut from a television series",
    source="https://affective-meld.github.io (MELD.Raw: train_splits, dev_splits_complete and "
    "output_repeated_splits_test with the clips as .mp4, or their sound as .wav, beside train_sent_emo.csv, "
    "dev_sent_emo.csv and test_sent_emo.csv)",
    classes=EMOTIONS,
    published_counts={name: sum(counts[name] for counts in COUNTS.values()) for name in EMOTIONS},
    part="split",
    part_counts=COUNTS,
    dialogue="dialogue",
    example="train_splits/dia0_utt0.mp4",
    pattern=named(r"(?:(train|dev|test)_)?dia(\d+)_utt(\d+)"),
    utterance=_utterance,
    complete=_labelled,
)
