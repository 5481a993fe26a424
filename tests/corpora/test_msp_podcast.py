"""MSP-Podcast: file names, the table of consensus labels, partitions and transcripts, as in its releases."""

import logging

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.io import wavfile

from featcache.corpora import CORPORA, read_corpus
from featcache.corpora.base import NamedCorpus
from featcache.corpora.registered import shipped_descriptions
from featcache.errors import CorpusError, ManifestError, ProtocolError
from featcache.manifest import Manifest, Utterance
from featcache.normalise import check_scope
from featcache.protocols import check_folds, default_protocol, make_folds
from tests.words import BAD, GOOD, make_corpus, make_msp_podcast

HEAD = "FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set\n"
TEST1, TRAIN, UNKNOWN, DEVELOPMENT, TEST2 = (
    f"MSP-PODCAST_{number}" for number in ("0001_0008", "0023_0035", "3469_0114_0006", "0046_0272", "0153_0018")
)
HIDDEN = "MSP-PODCAST_test3_0001"
TABLE = HEAD + "".join(
    f"{row}\n"
    for row in (
        f"{TEST1}.wav,N,2.2,4.0,2.6,30,Male,Test1",
        f"{TRAIN}.wav,H,5.0,7.0,4.5,31,Female,Train",
        f"{UNKNOWN}.wav,X,3.777778,3.555556,3.777778,Unknown,Unknown,Train",
        f"{DEVELOPMENT}.wav,O,4.125,4.75,4.0,32,Male,Development",
        f"{TEST2}.wav,C,1.0,2.0,7.0,33,Female,Test2",
    )
)
TURNS = (TEST1, TRAIN, UNKNOWN, DEVELOPMENT, TEST2)
RELEASE = {f"Audios/{name}.wav": "RIFF" for name in (*TURNS, HIDDEN)} | {
    "Labels/labels_consensus.csv": TABLE,
    f"Transcripts/{TEST1}.txt": "Welcome back,\nit is good to be here.\n",
    f"Transcripts/{TRAIN}.txt": "\ufeffI loved it!",
    "Transcripts/._MSP-PODCAST_0046_0272.txt": "nothing",
}


def test_a_turn_says_all_that_the_release_knows(write):
    files = read_corpus(write(RELEASE))
    assert files.corpus.name == "msp-podcast"
    assert files.missing == ()
    turn = files.manifest[TEST1]
    assert (turn.path, turn.speaker_id) == (f"Audios/{TEST1}.wav", "30")
    assert turn.transcript == "Welcome back, it is good to be here."
    assert turn.labels == {
        "emotion": "neutral",
        "split": "test",
        "podcast": "0001",
        "arousal": "2.2",
        "valence": "4.0",
        "dominance": "2.6",
        "gender": "male",
        "partition": "test1",
    }
    assert files.manifest[TRAIN].transcript == "I loved it!"


def test_turns_without_a_class_keep_their_dimensions_and_unknown_speakers_have_no_name(write):
    manifest = read_corpus(write(RELEASE)).manifest
    assert manifest.labels("emotion") == {TEST1: "neutral", TRAIN: "happiness", TEST2: "contempt"}
    assert set(manifest.labels("arousal")) == set(TURNS)
    assert (manifest[UNKNOWN].speaker_id, manifest[UNKNOWN].labels["gender"]) == ("", "")
    assert manifest[UNKNOWN].labels["podcast"] == "3469"
    assert manifest[UNKNOWN].transcript == manifest[DEVELOPMENT].transcript == ""
    with pytest.raises(ManifestError, match=f"1 utterance has no speaker_id \\('{UNKNOWN}'\\), which --norm speaker"):
        check_scope("speaker", manifest)


def test_every_code_has_its_name(write):
    codes = "ASHUFDCN"
    rows = "".join(f"MSP-PODCAST_0001_{i:04d}.wav,{code},4,4,4,1,Male,Train\n" for i, code in enumerate(codes))
    audio = {f"Audio/MSP-PODCAST_0001_{i:04d}.wav": "" for i in range(len(codes))}
    manifest = read_corpus(write(audio | {"Labels/labels_consensus.csv": HEAD + rows})).manifest
    assert tuple(manifest.labels("emotion").values()) == CORPORA["msp-podcast"].classes
    assert "".join(name[0] for name in manifest.labels("emotion").values()) == "ashsfdcn"  # U means surprise


DETAILED = {
    "labels_detailed.csv": "FileName,WorkerID,EmoClass_Major,EmoClass_Second,EmoAct\n"
    f'{TRAIN}.wav,WORKER1,Happy,"Happy,Excited",5\n{TRAIN}.wav,WORKER2,Happy,Happy,4\n'
    f"{TRAIN}.wav,WORKER3,Angry,Angry,4\n{TRAIN}.wav,WORKER4,Other-bored,Bored,4\n{TEST1}.wav,W,Sad,Sad,1\n",
    "Labels/labels_detailed.csv": "FileName,EmoDetail\n"
    f'{TRAIN}.wav,"WORKER1; Happy; Happy,Excited; A:5; V:7; D:4;"\n{TRAIN}.wav,WORKER2; Happy; Happy; A:4; V:4; D:4;\n'
    f"{TRAIN}.wav,WORKER3; Angry; Angry; A:4; V:4; D:4;\n{TRAIN}.wav,WORKER4; Other-bored; ; A:4; V:4; D:4;\n"
    f"{TEST1}.wav,WORKER5; Sad; Sad; A:1; V:1; D:1;\n",
    "Labels/labels.txt": f"{TRAIN}.wav; H; A:5.0; V:7.0; D:4.5; \nWORKER1; Happy; Happy,Excited; A:5; V:7; D:4;\n"
    "WORKER2; Happy; Happy; A:4; V:4; D:4;\nWORKER3; Angry; Angry; A:4; V:4; D:4;\n"
    f"WORKER4; Other-bored; ; A:4; V:4; D:4;\n\n{TEST1}.wav; N; A:2.2; V:4.0; D:2.6; \n"
    "WORKER5; Sad; Sad; A:1; V:1; D:1;\n",
}


@pytest.mark.parametrize("file", DETAILED)
def test_each_annotator_has_one_vote_in_every_form_of_the_detailed_labels(write, file):
    manifest = read_corpus(write(RELEASE | {file: DETAILED[file]})).manifest
    prefix = "votes_emotion_"
    found = {
        u.utterance_id: {name.removeprefix(prefix): t for name, t in u.labels.items() if name.startswith(prefix)}
        for u in manifest
    }
    assert set(found[TRAIN]) == set(CORPORA["msp-podcast"].classes)
    assert {name: text for name, text in found[TRAIN].items() if text != "0"} == {"happiness": "2", "anger": "1"}
    assert {name: text for name, text in found[TEST1].items() if text != "0"} == {"sadness": "1"}
    assert set(found[TEST2].values()) == {""}


def test_detailed_labels_with_other_columns_are_refused(write):
    with pytest.raises(CorpusError, match=r"labels_detailed.csv: expected the columns FileName and EmoClass_Major, or"):
        read_corpus(write(RELEASE | {"Labels/labels_detailed.csv": "FileName,Emotion\na.wav,Sad\n"}))


@pytest.mark.parametrize(
    "labels",
    [
        "Labels/labels_consensus.csv",
        "labels_consensus.csv",
        "Labels/labels_concensus.csv",
        "labels/labels_concensus.csv",
    ],
)
@pytest.mark.parametrize("audio", ["Audios", "Audio", "Audios/Audios"])
def test_releases_name_their_folders_differently(write, tmp_path, labels, audio):
    renamed = {
        path.replace("Audios", audio).replace("Labels/labels_consensus.csv", labels): text
        for path, text in RELEASE.items()
    }
    write({f"MSP-PODCAST-Publish-1.10/{path}": text for path, text in renamed.items()})
    manifest = read_corpus(tmp_path / "MSP-PODCAST-Publish-1.10").manifest
    assert len(manifest) == len(TURNS)
    assert manifest[TRAIN].transcript == "I loved it!"


def test_the_folder_above_and_the_audio_folder_do_too(write, tmp_path):
    write({f"MSP-PODCAST-Publish-1.10/{path}": text for path, text in RELEASE.items()})
    for folder in (tmp_path, tmp_path / "MSP-PODCAST-Publish-1.10" / "Audios"):
        assert read_corpus(folder).manifest[TRAIN].transcript == "I loved it!"


def test_older_releases_call_development_validation(write):
    manifest = read_corpus(
        write(RELEASE | {"Labels/labels_consensus.csv": TABLE.replace("Development", "Validation")})
    ).manifest
    assert manifest[DEVELOPMENT].labels["partition"] == "development"
    assert manifest[DEVELOPMENT].labels["split"] == "validation"


@pytest.mark.parametrize("row", ["", f"{HIDDEN}.wav,X,4.0,4.0,4.0,Unknown,Unknown,Test3\n"])
def test_the_hidden_test_set_is_left_out_whether_the_table_names_it_or_not(write, row):
    files = read_corpus(write(RELEASE | {"Labels/labels_consensus.csv": TABLE + row}))
    assert files.ignored == (f"Audios/{HIDDEN}.wav",)
    assert HIDDEN not in files.manifest.utterance_ids
    assert files.missing == ()


def test_turns_without_sound_are_told(write, caplog):
    with caplog.at_level(logging.WARNING):
        files = read_corpus(write({path: text for path, text in RELEASE.items() if TEST2 not in path}))
    assert files.missing == (TEST2,)
    assert f"the labels of MSP-Podcast name 1 utterance whose audio is missing: '{TEST2}'" in caplog.text


def test_transcripts_may_be_missing_and_packed_ones_are_told(write, caplog):
    folder = write({path: text for path, text in RELEASE.items() if "Transcripts" not in path})
    with caplog.at_level(logging.WARNING):
        assert {utterance.transcript for utterance in read_corpus(folder).manifest} == {""}
    assert caplog.text == ""
    write(["Transcripts.zip"])
    with caplog.at_level(logging.WARNING):
        read_corpus(folder)
    assert "Transcripts.zip is not unpacked, so utterances have no transcript; unpack it" in caplog.text


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (",H,5.0", ",Q,5.0", f"'{TRAIN}.wav' has EmoClass 'Q', expected A, S, H, U, F, D, C, N, O, X; fetch"),
        ("Female,Train", "Female,Tran", f"'{TRAIN}.wav' has Split_Set 'Tran', expected Train, Development, Test1"),
        (",Train", ",", f"'{TRAIN}.wav' has Split_Set '', expected .* \\(and 1 more row\\)"),
        ("31,Female,Train", "31", f"'{TRAIN}.wav' has Split_Set '', expected"),
        ("EmoVal", "Valence", "expected the columns FileName, .*, but 'EmoVal' are missing"),
        ("H,5.0", "H,7.1", f"'{TRAIN}' has arousal '7.1', expected a number from 1 to 7; fetch the label files again"),
        ("7.0,4.5", "0.9,4.5", f"'{TRAIN}' has valence '0.9', expected a number from 1 to 7"),
        ("7.0,4.5", "7.0,nan", f"'{TRAIN}' has dominance 'nan', expected a number from 1 to 7"),
        ("7.0,4.5", "x,y", f"'{TRAIN}' has valence 'x', expected a number from 1 to 7 \\(and 1 more\\)"),
    ],
)
def test_tables_that_say_what_cannot_be(write, old, new, told):
    folder = write(RELEASE | {"Labels/labels_consensus.csv": TABLE.replace(old, new)})
    with pytest.raises(CorpusError, match=told):
        read_corpus(folder)


def test_a_missing_table_is_told(write):
    folder = write({path: text for path, text in RELEASE.items() if "Labels" not in path})
    with pytest.raises(
        CorpusError, match=r"Labels/labels_consensus.csv with the labels of MSP-Podcast is missing; add"
    ):
        read_corpus(folder)


@pytest.mark.parametrize("name", ["MSP-PODCAST_0133_0459_snr2_IPb6u22cLIo.wav", "MSP-PODCAST_0133.wav"])
def test_other_names_are_not_its_own(name):
    assert CORPORA["msp-podcast"].match(name) is None


def test_a_dimension_that_is_not_there_is_no_fault(write):
    folder = write(RELEASE | {"Labels/labels_consensus.csv": TABLE.replace("7.0,4.5", ",4.5")})
    assert TRAIN not in read_corpus(folder).manifest.labels("valence")


WITH_NUMBERS = [
    corpus
    for name, corpus in CORPORA.items()
    if isinstance(corpus, NamedCorpus) and corpus.dimensions and name not in shipped_descriptions()
]


def test_corpora_with_numbers():
    assert {corpus.name for corpus in WITH_NUMBERS} == {"iemocap", "msp-improv", "msp-podcast"}
    assert all({"arousal", "valence", "dominance"} <= set(corpus.dimensions) for corpus in WITH_NUMBERS)


@given(share=st.floats(-1, 2), number=st.integers(0, 2))
def test_numbers_count_within_their_bounds_and_on_them(tmp_path_factory, share, number):
    """Values of dimensional labels are accepted within the declared range of the corpus, bounds included."""
    name, (low, high) = list(CORPORA["msp-podcast"].dimensions.items())[number]
    value = low + share * (high - low)
    fields = ["4", "4", "4"]
    fields[number] = repr(value)
    folder = tmp_path_factory.mktemp("turn")
    (folder / f"{TRAIN}.wav").touch()
    (folder / "labels_consensus.csv").write_text(f"{HEAD}{TRAIN}.wav,N,{','.join(fields)},1,Male,Train\n")
    if low <= value <= high:
        assert float(read_corpus(folder).manifest[TRAIN].labels[name]) == value
    else:
        with pytest.raises(CorpusError, match=f"'{TRAIN}' has {name} '.*', expected a number from {low:g} to {high:g}"):
            read_corpus(folder)


# Protocols


def test_each_test_set_has_its_protocol_and_the_split_has_both(write):
    manifest = read_corpus(write(RELEASE)).manifest
    for protocol, tested in (("msp-podcast-test1", (TEST1,)), ("msp-podcast-test2", (TEST2,))):
        (fold,) = make_folds(protocol, manifest, "arousal")
        assert set(fold.train) == {TRAIN, UNKNOWN}
        assert (fold.validation, fold.test) == ((DEVELOPMENT,), tested)
        assert check_folds([fold], manifest, protocol) == [
            "1 of 5 utterances have no speaker_id: leaking speakers stay undetected"
        ]
    assert default_protocol(manifest) == "split"
    (fold,) = make_folds("split", manifest, "arousal")
    assert set(fold.test) == {TEST1, TEST2}


def test_partitions_that_are_missing_are_told(write):
    manifest = read_corpus(write({path: text for path, text in RELEASE.items() if TEST2 not in path})).manifest
    with pytest.raises(
        ProtocolError, match=r"needs the partitions train, development and test2 .*, but 'test2' are mis"
    ):
        make_folds("msp-podcast-test2", manifest, "arousal")
    other = Manifest([Utterance(utterance_id="a", path="a.wav", labels={"emotion": "x"})])
    with pytest.raises(ManifestError, match="no utterance has a label 'partition'"):
        make_folds("msp-podcast-test1", other, "emotion")


# The synthetic corpus of words and voices, which other tests use


def test_words_carry_valence_and_voices_arousal(tmp_path, speech_like):
    manifest = make_corpus(tmp_path, speech_like, num_speakers=8, num_utterances=12)
    labels = {name: np.array([float(u.labels[name]) for u in manifest]) for name in ("arousal", "valence", "dominance")}
    words = [u.transcript.split() for u in manifest]
    polarity = np.array([sum(w in GOOD for w in said) - sum(w in BAD for w in said) for said in words])
    loudness = np.array([np.log(np.std(wavfile.read(tmp_path / u.path)[1].astype(float))) for u in manifest])
    told = {name: (correlation(values, polarity), correlation(values, loudness)) for name, values in labels.items()}
    # For 96 utterances, independent values have a correlation below 3 / sqrt(96).
    assert told["valence"][0] > 0.95
    assert told["arousal"][1] > 0.95
    assert max(abs(told["valence"][1]), abs(told["arousal"][0])) < 0.3
    assert min(told["dominance"]) > 0.5
    (fold,) = make_folds("split", manifest, "arousal")
    assert check_folds([fold], manifest) == []


def test_the_same_turns_as_msp_podcast(tmp_path, speech_like):
    plain = make_corpus(tmp_path / "plain", speech_like, num_speakers=5, num_utterances=2)
    make_msp_podcast(tmp_path / "podcast", speech_like, num_speakers=5, num_utterances=2)
    files = read_corpus(tmp_path / "podcast")
    assert (files.corpus.name, files.ignored, files.missing) == ("msp-podcast", (), ())
    for mine, its in zip(plain, files.manifest, strict=True):
        assert (mine.utterance_id, mine.speaker_id, mine.transcript) == (
            its.utterance_id,
            its.speaker_id,
            its.transcript,
        )
        assert mine.labels == {name: its.labels[name] for name in mine.labels}
    assert len(make_folds("msp-podcast-test2", files.manifest, "valence")[0].train) == 4


def correlation(a, b):
    return np.corrcoef(a, b)[0, 1]
