"""MELD: three splits with the same file names, and their label tables."""

import logging

import numpy as np
import pytest

from featcache import audio
from featcache.corpora import base, read_corpus
from featcache.errors import CorpusError
from tests.media_files import write_media

HEAD = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime\n"
TIMES = '8,21,"00:16:16,059","00:16:21,731"\n'
TABLES = {
    "train_sent_emo.csv": HEAD
    + f'1,"also I was the point person, on it.",Chandler,neutral,neutral,0,0,{TIMES}'
    + f"2,You must’ve had your hands full.,The Interviewer,surprise,positive,0,1,{TIMES}",
    "dev_sent_emo.csv": HEAD + f"1,Oh my God!,Phoebe,sadness,negative,0,0,{TIMES}",
    "test_sent_emo.csv": HEAD + f"1,Why?,Mark,anger,negative,0,0,{TIMES}",
}
CLIPS = {
    "train_splits/dia0_utt0.wav": "train",
    "train_splits/dia0_utt1.wav": "train, second",
    "dev_splits_complete/dia0_utt0.wav": "dev",
    "output_repeated_splits_test/dia0_utt0.wav": "test, longer",
}


def test_one_name_in_three_parts_is_three_utterances(write):
    files = read_corpus(write(TABLES | CLIPS))
    assert files.corpus.name == "meld"
    assert files.manifest.utterance_ids == ("dev_dia0_utt0", "test_dia0_utt0", "train_dia0_utt0", "train_dia0_utt1")
    first = files.manifest["train_dia0_utt0"]
    assert first.path == "train_splits/dia0_utt0.wav"
    assert (first.speaker_id, first.transcript) == ("Chandler", "also I was the point person, on it.")
    assert first.labels == {
        "emotion": "neutral",
        "sentiment": "neutral",
        "split": "train",
        "dialogue": "train_dia0",
    }
    assert files.manifest["train_dia0_utt1"].transcript == "You must’ve had your hands full."
    assert set(files.manifest.labels("split").values()) == {"train", "dev", "test"}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("train/train_splits/dia0_utt0.wav", "train"),
        ("train_wav/dia0_utt0.wav", "train"),
        ("MELD.Raw/train/audio/dia0_utt0.wav", "train"),
        ("wav/train_dia0_utt0.wav", "train"),
        ("wav/test_dia0_utt0.wav", "test"),
        ("test/dev/dia0_utt0.wav", "dev"),  # the nearest folder decides
    ],
)
def test_folders_and_prefixes_name_the_part(write, path, expected):
    (utterance,) = read_corpus(write(TABLES | {path: "RIFF"})).manifest
    assert utterance.utterance_id == f"{expected}_dia0_utt0"


def test_tables_may_lie_with_the_clips(write):
    tables = {f"{name.split('_')[0]}/{name}": text for name, text in TABLES.items()}
    clips = {f"{split}/wav/dia0_utt0.wav": "RIFF" for split in ("train", "dev", "test")}
    assert len(read_corpus(write(tables | clips)).manifest) == 3


def test_clips_without_a_row_and_rows_without_a_clip_are_told(write, caplog):
    clips = {path: text for path, text in CLIPS.items() if path != "train_splits/dia0_utt1.wav"}
    with caplog.at_level(logging.WARNING):
        files = read_corpus(write(TABLES | clips | {"output_repeated_splits_test/dia279_utt0.wav": ""}))
    assert files.ignored == ("output_repeated_splits_test/dia279_utt0.wav",)
    assert files.missing == ("train_dia0_utt1",)
    assert "the labels of MELD name 1 utterance whose audio is missing: 'train_dia0_utt1'" in caplog.text


def test_what_cannot_be_labelled(write):
    folder = write(CLIPS)
    with pytest.raises(CorpusError, match=r"train_sent_emo.csv with the labels of MELD's train clips is missing; add"):
        read_corpus(folder)
    write(TABLES | {"train_sent_emo.csv": TABLES["train_sent_emo.csv"].replace("surprise", "awe")})
    with pytest.raises(CorpusError, match=r"train_sent_emo.csv: unknown emotions 'awe', expected anger, disgust"):
        read_corpus(folder)
    write({"train_sent_emo.csv": "Utterance,Speaker\nHi,Ross\n"})
    with pytest.raises(CorpusError, match=r"expected the columns .*, but 'Emotion', 'Sentiment', 'Dialogue_ID' and 1"):
        read_corpus(folder)
    write({"train_sent_emo.csv": HEAD + f"1,Hi,Ross,joy,positive,7,7,{TIMES}"})
    (folder / "output_repeated_splits_test" / "dia0_utt0.wav").unlink()
    (folder / "dev_splits_complete" / "dia0_utt0.wav").unlink()
    with pytest.raises(CorpusError, match="the label files of MELD contain none of the 2 utterances found; check"):
        read_corpus(folder)


def test_clips_of_an_unknown_part(write):
    with pytest.raises(CorpusError, match=r"'wav/dia0_utt0.wav' is in no folder named after train, dev or test"):
        read_corpus(write(TABLES | {"wav/dia0_utt0.wav": ""}))


def test_videos_as_distributed(write, monkeypatch):
    folder = write(TABLES | CLIPS)
    for number, path in enumerate(CLIPS):
        (folder / path).unlink()
        sound = np.full((2, 1600), number, np.int16)
        write_media((folder / path).with_suffix(".mp4"), sound, 16000, "alac", form="mp4", video=True)
    write({"Extras.mkv": "film", "train_splits/final_videos_dia0.mp4": "film"})
    files = read_corpus(folder)
    assert [u.path for u in files.manifest] == sorted(path.replace(".wav", ".mp4") for path in CLIPS)
    assert files.ignored == ()
    for number, path in enumerate(CLIPS):
        (utterance,) = (u for u in files.manifest if u.path == path.replace(".wav", ".mp4"))
        np.testing.assert_array_equal(audio.read(folder, utterance).channels, np.full((2, 1600), number / 2**15))
    monkeypatch.setattr(base, "find_spec", lambda name: None)
    with pytest.raises(CorpusError, match=r"4 of the 4 files of MELD are like '.*mp4', which needs PyAV: pip inst"):
        read_corpus(folder)


@pytest.mark.parametrize("folder", ["train_splits", "wav/train"])
def test_sound_is_preferred_to_the_video_of_the_same_clip(write, folder):
    files = read_corpus(
        write(TABLES | {"train_splits/dia0_utt0.mp4": "film, longer", f"{folder}/dia0_utt0.wav": "RIFF"})
    )
    assert [u.path for u in files.manifest] == [f"{folder}/dia0_utt0.wav"]
