"""RAVDESS: codes of the file names, copies and impossible names."""

import pytest

from featcache.corpora import read_corpus
from featcache.errors import CorpusError, ManifestError


def write(folder, *paths, content=b"RIFF"):
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)


def test_every_code_becomes_a_label(tmp_path):
    write(tmp_path, "Actor_12/03-01-06-01-02-01-12.wav", "Actor_05/03-02-02-02-01-02-05.wav")
    song, speech = read_corpus(tmp_path).manifest
    # This example is explained by the authors of the corpus.
    assert speech.utterance_id == "03-01-06-01-02-01-12"
    assert speech.path == "Actor_12/03-01-06-01-02-01-12.wav"
    assert speech.speaker_id == "12"
    assert speech.transcript == "Dogs are sitting by the door."
    assert speech.labels == {
        "emotion": "fearful",
        "emotion_7": "fearful",
        "vocal_channel": "speech",
        "intensity": "normal",
        "statement": "dogs",
        "repetition": "1",
        "actor": "12",
        "gender": "female",
    }
    assert song.transcript == "Kids are talking by the door."
    assert song.labels == {
        "emotion": "calm",
        "emotion_7": "neutral",
        "vocal_channel": "song",
        "intensity": "strong",
        "statement": "kids",
        "repetition": "2",
        "actor": "05",
        "gender": "male",
    }


def test_the_zips_as_they_unpack(tmp_path):
    write(
        tmp_path,
        "Audio_Speech_Actors_01-24/Actor_02/03-01-01-01-01-01-02.wav",
        "Audio_Speech_Actors_01-24/Actor_01/03-01-01-01-01-01-01.wav",
        "Audio_Song_Actors_01-24/Actor_01/03-02-01-01-01-01-01.wav",
    )
    manifest = read_corpus(tmp_path).manifest
    assert [utterance.path for utterance in manifest] == [
        "Audio_Song_Actors_01-24/Actor_01/03-02-01-01-01-01-01.wav",
        "Audio_Speech_Actors_01-24/Actor_01/03-01-01-01-01-01-01.wav",
        "Audio_Speech_Actors_01-24/Actor_02/03-01-01-01-01-01-02.wav",
    ]


def test_sound_of_the_videos_is_ignored_and_told(tmp_path):
    write(tmp_path, "03-01-01-01-01-01-01.wav", "01-01-01-01-01-01-01.wav")
    assert read_corpus(tmp_path).ignored == ("01-01-01-01-01-01-01.wav",)


def test_a_second_copy_is_ignored_and_told(tmp_path):
    write(tmp_path, "Actor_01/03-01-01-01-01-01-01.wav", "audio_speech_actors_01-24/Actor_01/03-01-01-01-01-01-01.wav")
    found = read_corpus(tmp_path)
    assert [utterance.path for utterance in found.manifest] == ["Actor_01/03-01-01-01-01-01-01.wav"]
    assert found.ignored == ("audio_speech_actors_01-24/Actor_01/03-01-01-01-01-01-01.wav",)


def test_different_files_of_one_name_are_an_error(tmp_path):
    write(tmp_path, "a/03-01-01-01-01-01-01.wav")
    write(tmp_path, "b/03-01-01-01-01-01-01.wav", content=b"RIFF and more")
    with pytest.raises(ManifestError, match=r"'a/03-.*', 'b/03-.*' are different files .*keep one of them"):
        read_corpus(tmp_path)


@pytest.mark.parametrize(
    "impossible",
    [
        "03-03-01-01-01-01-01",
        "03-01-09-01-01-01-01",
        "03-01-01-03-01-01-01",
        "03-01-01-01-03-01-01",
        "03-01-01-01-01-03-01",
        "03-01-01-01-01-01-25",
        "03-01-01-01-01-01-00",
    ],
)
def test_impossible_codes_are_listed(tmp_path, impossible):
    write(tmp_path, "03-01-01-01-01-01-01.wav", f"{impossible}.wav")
    with pytest.raises(CorpusError, match=f"1 file name has codes that RAVDESS does not have: '{impossible}.wav'"):
        read_corpus(tmp_path)
