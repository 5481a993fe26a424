"""EmoDB: codes of the file names."""

import pytest

from featcache.corpora import read_corpus
from featcache.errors import CorpusError


def write(folder, *names):
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"RIFF")


def test_every_code_becomes_a_label(tmp_path):
    write(tmp_path / "wav", "03a01Fa.wav", "16b10Wb.flac")
    first, second = read_corpus(tmp_path).manifest
    assert (first.utterance_id, first.path, first.speaker_id) == ("03a01Fa", "wav/03a01Fa.wav", "03")
    assert first.labels == {"emotion": "happiness", "text": "a01", "gender": "male"}
    assert first.transcript == "Der Lappen liegt auf dem Eisschrank."
    assert (second.utterance_id, second.path, second.speaker_id) == ("16b10Wb", "wav/16b10Wb.flac", "16")
    assert second.labels == {"emotion": "anger", "text": "b10", "gender": "female"}


def test_the_letters_of_the_german_words(tmp_path):
    write(tmp_path, *(f"03a01{letter}a.wav" for letter in "WLEAFTN"))
    found = read_corpus(tmp_path)
    letters = {utterance_id[5]: emotion for utterance_id, emotion in found.manifest.labels("emotion").items()}
    wut, langeweile, ekel, angst, freude, trauer, neutral = (letters[letter] for letter in "WLEAFTN")
    assert (wut, langeweile, ekel, angst) == ("anger", "boredom", "disgust", "fear")
    assert (freude, trauer, neutral) == ("happiness", "sadness", "neutral")
    assert found.corpus.classes == (wut, langeweile, ekel, angst, freude, trauer, neutral)


def test_five_men_and_five_women(tmp_path):
    speakers = ("03", "08", "09", "10", "11", "12", "13", "14", "15", "16")
    write(tmp_path, *(f"{speaker}a01Na.wav" for speaker in speakers))
    manifest = read_corpus(tmp_path).manifest
    assert manifest.speaker_ids == speakers
    assert sorted(manifest.labels("gender").values()) == ["female"] * 5 + ["male"] * 5


@pytest.mark.parametrize("impossible", ["04a01Fa", "03a03Fa", "03c01Fa", "03a01Xa"])
def test_impossible_codes_are_listed(tmp_path, impossible):
    write(tmp_path, "03a01Fa.wav", f"{impossible}.wav")
    with pytest.raises(CorpusError, match=f"codes that EmoDB does not have: '{impossible}.wav'; rename them, like '03"):
        read_corpus(tmp_path)
