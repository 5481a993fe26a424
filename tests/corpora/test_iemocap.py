"""IEMOCAP: names, evaluations, transcriptions and alignments, as in the real corpus."""

import logging

import pytest

from featcache.corpora import read_corpus
from featcache.errors import CorpusError

CODES = {
    "ang": "Anger",
    "hap": "Happiness",
    "exc": "Excited",
    "neu": "Neutral",
    "sad": "Sadness",
    "fru": "Frustration",
    "fea": "Fear",
    "sur": "Surprise",
    "dis": "Disgust",
    "oth": "Other",
    "xxx": "",
}
HEAD = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"
IMPRO = """[6.2901 - 8.2357]\tSes01F_impro01_F000\tneu\t[2.5000, 2.5000, 2.5000]
C-E2:\tNeutral;\t()
C-E3:\tNeutral;\t()
C-E4:\tNeutral;\t()
C-F1:\tAnger;\t(curious)
A-E3:\tval 3; act 2; dom  2;\t()
A-F1:\tval 3; act 2; dom  1;\t()

[10.0100 - 11.3925]\tSes01F_impro01_M001\texc\t[4.5000, 4.0000, 3.5000]
C-E2:\tExcited;\t()
C-E3:\tHappiness; Excited;\t()
C-E4:\tSurprise;\t(loud)
C-M1:\tExcited;\t()
A-E3:\tval 5; act 4; dom  3;\t()

[14.8872 - 18.0175]\tSes01F_impro01_F002\txxx\t[2.0000, 3.0000, 3.0000]
C-E2:\tNeutral;\t()
C-E3:\tFrustration;\t()
C-E4:\tAnger;\t()
"""
SCRIPT = """[1.0000 - 2.0000]\tSes01M_script01_1b_F000\tsad\t[1.6667, 2.3333, 2.0000]
C-E1:\tSadness;\t()
C-E2:\tSadness;\t()
C-E3:\tSadness; Neutral;\t()
"""
WORDS = "\t SFrm  EFrm  SegAScr Word\n\t    0    51   -1234 <s>\n\t   52   100  -23456 EXCUSE\n Total score:  -24690\n"
SILENCE = "\t SFrm  EFrm  SegAScr Word\n\t    0    51   -1234 <s>\n\t   52   100  -23456 <sil>\n"
RELEASE = {
    "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav": "RIFF",
    "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_M001.wav": "RIFF",
    "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F002.wav": "RIFF",
    "Session1/sentences/wav/Ses01M_script01_1b/Ses01M_script01_1b_F000.wav": "RIFF",
    "Session1/dialog/wav/Ses01F_impro01.wav": "RIFF",
    "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt": HEAD + IMPRO,
    "Session1/dialog/EmoEvaluation/Ses01M_script01_1b.txt": HEAD + SCRIPT,
    "Session1/dialog/EmoEvaluation/._Ses01F_impro01.txt": "[0 - 1]\tnonsense\tnonsense\t[1, 1, 1]",
    "Session1/dialog/EmoEvaluation/Categorical/Ses01F_impro01_e2_cat.txt": "Ses01F_impro01_F000 :Anger; ()",
    "Session1/dialog/transcriptions/Ses01F_impro01.txt": (
        "Ses01F_impro01_F000 [006.2901-008.2357]: Excuse me.\nM: [1.0-2.0]: hm\n"
        "Ses01F_impro01_M001 [010.0100-011.3925]: Do you have your forms?\n"
    ),
}
F000, M001, F002 = (f"Ses01F_impro01_{turn}" for turn in ("F000", "M001", "F002"))
SCRIPTED = "Ses01M_script01_1b_F000"


def test_a_turn_says_all_that_the_release_knows(write):
    files = read_corpus(write(RELEASE))
    assert files.corpus.name == "iemocap"
    assert files.ignored == ("Session1/dialog/wav/Ses01F_impro01.wav",)
    assert files.missing == ()
    turn = files.manifest[F000]
    assert turn.path == f"Session1/sentences/wav/Ses01F_impro01/{F000}.wav"
    assert turn.transcript == "Excuse me."
    assert turn.start is turn.end is None  # times in the evaluation refer to the dialogue
    assert {name: label for name, label in turn.labels.items() if not name.startswith("votes_")} == {
        "emotion": "neutral",
        "emotion_4": "neutral",
        "valence": "2.5000",
        "arousal": "2.5000",
        "dominance": "2.5000",
        "agreement": "3/3",
        "full_agreement": "yes",
        "session": "1",
        "dialogue_half": "Ses01F",
        "improvised": "yes",
        "gender": "female",
        "aligned": "",
    }


def test_the_speaker_is_who_talks_not_who_wears_the_markers(write):
    manifest = read_corpus(write(RELEASE)).manifest
    talkers = {u.utterance_id: (u.speaker_id, u.labels["dialogue_half"], u.labels["gender"]) for u in manifest}
    assert talkers == {
        F000: ("Ses01F", "Ses01F", "female"),
        F002: ("Ses01F", "Ses01F", "female"),
        M001: ("Ses01M", "Ses01F", "male"),
        SCRIPTED: ("Ses01F", "Ses01M", "female"),
    }


def test_excitement_counts_as_happiness_among_four(write):
    manifest = read_corpus(write(RELEASE)).manifest
    assert manifest.labels("emotion") == {F000: "neutral", M001: "excitement", SCRIPTED: "sadness"}
    assert manifest.labels("emotion_4") == {F000: "neutral", M001: "happiness", SCRIPTED: "sadness"}
    assert manifest.labels("improvised") == {F000: "yes", M001: "yes", F002: "yes", SCRIPTED: "no"}
    assert len(set(manifest.labels("arousal"))) == 4


def test_agreement_is_that_of_the_evaluators_without_the_actors_own(write):
    manifest = read_corpus(write(RELEASE)).manifest
    assert manifest.labels("agreement") == {F000: "3/3", M001: "2/3", SCRIPTED: "3/3"}
    # A second label of an evaluator, beside the common one, prevents full agreement.
    assert manifest.labels("full_agreement") == {F000: "yes", M001: "no", F002: "no", SCRIPTED: "no"}


def votes_of(utterance, label):
    prefix = f"votes_{label}_"
    found = {name.removeprefix(prefix): text for name, text in utterance.labels.items() if name.startswith(prefix)}
    return {name: text for name, text in found.items() if text not in ("", "0") and not name.startswith("4_")}


def test_each_evaluator_has_one_vote_which_several_emotions_share(write):
    manifest = read_corpus(write(RELEASE)).manifest
    assert votes_of(manifest[F000], "emotion") == {"neutral": "3"}
    assert votes_of(manifest[M001], "emotion") == {"excitement": "1.5", "happiness": "0.5", "surprise": "1"}
    assert votes_of(manifest[F002], "emotion") == {"neutral": "1", "frustration": "1", "anger": "1"}
    # Among four emotions, excitement is happiness; votes for other emotions do not count.
    assert votes_of(manifest[M001], "emotion_4") == {"happiness": "2"}
    assert votes_of(manifest[F002], "emotion_4") == {"neutral": "1", "anger": "1"}
    assert len([name for name in manifest.label_columns if name.startswith("votes_")]) == 10 + 4


def test_every_code_has_its_name(write):
    turns = "".join(
        f"[1.0 - 2.0]\tSes02F_impro01_F{i:03d}\t{code}\t[3.0, 3.0, 3.0]\nC-E1:\t{word};\t()\n\n"
        for i, (code, word) in enumerate(CODES.items())
    )
    clips = {f"Session2/sentences/wav/Ses02F_impro01/Ses02F_impro01_F{i:03d}.wav": "" for i in range(len(CODES))}
    manifest = read_corpus(write(clips | {"Session2/dialog/EmoEvaluation/Ses02F_impro01.txt": HEAD + turns})).manifest
    names = {code: u.labels["emotion"] for code, u in zip(CODES, manifest, strict=True)}
    assert names.pop("xxx") == ""
    assert names == {code: "excitement" if code == "exc" else word.lower() for code, word in CODES.items() if word}
    # The evaluators' own words are mapped to the same labels.
    assert set(manifest.labels("agreement").values()) == {"1/1"}


def test_an_alignment_without_words_is_none(write):
    alignments = "Session1/sentences/ForcedAlignment/Ses01F_impro01"
    folder = write(RELEASE | {f"{alignments}/{F000}.wdseg": WORDS, f"{alignments}/{M001}.wdseg": SILENCE})
    assert read_corpus(folder).manifest.labels("aligned") == {F000: "yes", M001: "no", F002: "no", SCRIPTED: "no"}


@pytest.mark.parametrize("below", ["", "IEMOCAP_full_release/", "data/IEMOCAP/"])
def test_the_release_may_lie_deeper(write, below):
    folder = write({below + path: text for path, text in RELEASE.items()})
    assert len(read_corpus(folder).manifest) == 4
    assert len(read_corpus(folder / below / "Session1").manifest) == 4


def test_turns_without_sound_are_told(write, caplog):
    path = f"Session1/sentences/wav/Ses01F_impro01/{M001}.wav"
    with caplog.at_level(logging.WARNING):
        files = read_corpus(write({name: text for name, text in RELEASE.items() if name != path}))
    assert files.missing == (M001,)
    assert f"the labels of IEMOCAP name 1 utterance whose audio is missing: '{M001}'" in caplog.text


def test_label_files_that_are_missing_or_strange(write):
    evaluation = "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"
    folder = write({name: text for name, text in RELEASE.items() if name != evaluation})
    with pytest.raises(CorpusError, match=rf"no evaluation of '.*/{F000}.wav', .*keep IEMOCAP's folders"):
        read_corpus(folder)
    write({evaluation: IMPRO.replace("\tneu\t", "\tbor\t")})
    with pytest.raises(CorpusError, match=rf"Ses01F_impro01.txt: {F000} has the label 'bor', expected ang, hap, exc"):
        read_corpus(folder)


def test_means_may_lie_half_a_point_outside_the_scale_and_no_farther(write):
    evaluation = "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"
    folder = write(RELEASE | {evaluation: HEAD + IMPRO.replace("[4.5000, 4.0000, 3.5000]", "[5.5000, 4.0000, 0.5000]")})
    turn = read_corpus(folder).manifest[M001]
    assert [turn.labels[name] for name in ("valence", "arousal", "dominance")] == ["5.5000", "4.0000", "0.5000"]
    write({evaluation: HEAD + IMPRO.replace("[4.5000, 4.0000, 3.5000]", "[4.5000, 45.000, 3.5000]")})
    with pytest.raises(CorpusError, match=f"'{M001}' has arousal '45.000', expected a number from 0.5 to 5.5; fetch"):
        read_corpus(folder)


def test_sound_out_of_its_folders_has_no_evaluation(write):
    with pytest.raises(CorpusError, match=r"no evaluation of 'wav/Ses01F_impro01_F000.wav'"):
        read_corpus(write([f"wav/{F000}.wav"]))
