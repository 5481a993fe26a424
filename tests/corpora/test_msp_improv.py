"""MSP-IMPROV: file names, and the label file, which contains names of videos."""

import logging

import pytest

from featcache.corpora import read_corpus
from featcache.errors import CorpusError

LABELS = """UTD-IMPROV-S01A-F01-P-FM01.avi; N; A:2.800000; V:3.200000; D:2.800000; N:3.400000;
PS-28; Neutral; Neutral; A:3.000000; V:3.000000; D:3.000000; N:3.000000;
WK-02; Anger; Anger, Frustrated; A:3.000000; V:3.000000; D:3.000000; N:3.000000;

UTD-IMPROV-S01A-F01-P-MF02.avi; H; A:2.000000 ; V:4.000000 ; D:NaN ; N:4.500000 ;

UTD-IMPROV-S20S-M06-R-MM01.avi; X; A:2.000000; V:2.000000; D:2.000000; N:3.000000;

UTD-IMPROV-S20S-M06-T-MF01.avi; O; A:2.000000; V:2.000000; D:2.000000; N:3.000000;
"""
NATURAL, ANSWER = "MSP-IMPROV-S01A-F01-P-FM01", "MSP-IMPROV-S01A-F01-P-MF02"
READ, TARGET = "MSP-IMPROV-S20S-M06-R-MM01", "MSP-IMPROV-S20S-M06-T-MF01"
CLIPS = {
    f"Audio/session1/S01A/P/{NATURAL}.wav": "RIFF",
    f"Audio/session1/S01A/P/{ANSWER}.wav": "RIFF",
    f"Audio/session6/S20S/R/{READ}.wav": "RIFF",
    f"Audio/session6/S20S/T/{TARGET}.wav": "RIFF",
}


@pytest.mark.parametrize("name", ["Evalution.txt", "Evaluation.txt", "Labels/Evalution.txt"])
def test_names_and_labels(write, name):
    files = read_corpus(write(CLIPS | {name: LABELS}))
    assert files.corpus.name == "msp-improv"
    assert files.missing == files.ignored == ()
    natural = files.manifest[NATURAL]
    assert natural.speaker_id == "F01"
    assert natural.labels == {
        "emotion": "neutral",
        "session": "1",
        "scenario": "natural",
        "target_actor": "F01",
        "target_sentence": "01",
        "intended_emotion": "anger",
        "gender": "female",
        "arousal": "2.800000",
        "valence": "3.200000",
        "dominance": "2.800000",
        "naturalness": "3.400000",
    }
    assert files.manifest.labels("emotion") == {NATURAL: "neutral", ANSWER: "happiness"}  # the other two have no class
    assert set(files.manifest.labels("scenario").values()) == {"natural", "target read", "target improvised"}
    assert ANSWER not in files.manifest.labels("dominance")


def test_the_speaker_is_who_talks(write):
    manifest = read_corpus(write(CLIPS | {"Evalution.txt": LABELS})).manifest
    assert (manifest[ANSWER].speaker_id, manifest[ANSWER].labels["gender"]) == ("M01", "male")
    assert manifest[ANSWER].labels["target_actor"] == "F01"
    assert manifest[READ].speaker_id == "M06"


def test_labels_beside_the_audio_folder(write, tmp_path):
    write(CLIPS | {"Evalution.txt": LABELS})
    assert len(read_corpus(tmp_path / "Audio").manifest) == 4


def test_labels_that_are_missing_or_strange(write, caplog):
    folder = write(CLIPS)
    with pytest.raises(CorpusError, match=r"Evalution.txt with the labels of MSP-IMPROV is missing; add it"):
        read_corpus(folder)
    write({"Evalution.txt": LABELS.partition("\n")[0]})
    with pytest.raises(CorpusError, match=f"Evalution.txt has no line for '{ANSWER}', .*check that it is complete"):
        read_corpus(folder)
    write({"Evalution.txt": LABELS.replace("; X;", "; Q;")})
    with pytest.raises(CorpusError, match=r"UTD-IMPROV-S20S-M06-R-MM01.avi has the label 'Q', expected A, H, N"):
        read_corpus(folder)
    write({"Evalution.txt": LABELS.replace("V:3.2", "V:7.2")})
    with pytest.raises(CorpusError, match=f"'{NATURAL}' has valence '7.200000', expected a number from 1 to 5; fetch"):
        read_corpus(folder)
    (folder / f"Audio/session1/S01A/P/{ANSWER}.wav").unlink()
    write({"Evalution.txt": LABELS})
    with caplog.at_level(logging.WARNING):
        assert read_corpus(folder).missing == (ANSWER,)
    assert f"1 utterance whose audio is missing: '{ANSWER}'" in caplog.text
