"""Corpora with all labels in the file names: CREMA-D, SAVEE, TESS, EMOVO, ShEMO."""

import pytest

from featcache.corpora import CORPORA, read_corpus
from featcache.errors import CorpusError

# Corpus → path, id, speaker, transcript and labels, according to the corpora's own descriptions of file names.
EXAMPLES = {
    "cremad": [
        (
            "AudioWAV/1001_DFA_ANG_XX.wav",
            "1001_DFA_ANG_XX",
            "1001",
            "Don't forget a jacket.",
            {"emotion": "anger", "intensity": "unspecified", "sentence": "DFA", "gender": "", "age": ""},
        ),
        (
            "AudioWAV/1091_IEO_SAD_LO.wav",
            "1091_IEO_SAD_LO",
            "1091",
            "It's eleven o'clock.",
            {"emotion": "sadness", "intensity": "low", "sentence": "IEO", "gender": "", "age": ""},
        ),
        (
            "AudioWAV/1040_ITH_SAD_X.wav",  # the corpus contains this irregular name
            "1040_ITH_SAD_X",
            "1040",
            "I think I have a doctor's appointment.",
            {"emotion": "sadness", "intensity": "unspecified", "sentence": "ITH", "gender": "", "age": ""},
        ),
    ],
    "savee": [
        ("AudioData/DC/a01.wav", "DC_a01", "DC", "", {"emotion": "anger", "sentence": "01", "gender": "male"}),
        ("ALL/KL_sa15.wav", "KL_sa15", "KL", "", {"emotion": "sadness", "sentence": "15", "gender": "male"}),
        ("AudioData/JE/su02.wav", "JE_su02", "JE", "", {"emotion": "surprise", "sentence": "02", "gender": "male"}),
        ("AudioData/JK/n30.wav", "JK_n30", "JK", "", {"emotion": "neutral", "sentence": "30", "gender": "male"}),
    ],
    "tess": [
        (
            "OAF_angry/OAF_back_angry.wav",
            "OAF_back_angry",
            "OAF",
            "Say the word back.",
            {"emotion": "anger", "word": "back", "gender": "female", "age": "64"},
        ),
        (
            "YAF_pleasant_surprised/YAF_germ_ps.wav",
            "YAF_germ_ps",
            "YAF",
            "Say the word germ.",
            {"emotion": "pleasant surprise", "word": "germ", "gender": "female", "age": "26"},
        ),
        (
            "OAF_Pleasant_surprise/OAF_germ_pleasant_surprise.wav",
            "OAF_germ_ps",
            "OAF",
            "Say the word germ.",
            {"emotion": "pleasant surprise", "word": "germ", "gender": "female", "age": "64"},
        ),
        (
            "OAF_neutral/OA_bite_neutral.wav",  # the corpus contains this irregular name
            "OAF_bite_neutral",
            "OAF",
            "Say the word bite.",
            {"emotion": "neutral", "word": "bite", "gender": "female", "age": "64"},
        ),
    ],
    "emovo": [
        (
            "f1/dis-f1-b1.wav",
            "dis-f1-b1",
            "f1",
            "Gli operai si alzano presto.",
            {"emotion": "disgust", "sentence": "b1", "gender": "female"},
        ),
        (
            "m3/tri-m3-n5.wav",
            "tri-m3-n5",
            "m3",
            "Uno quarantatré dieci mille cinquantasette venti.",
            {"emotion": "sadness", "sentence": "n5", "gender": "male"},
        ),
    ],
    "shemo": [
        ("female/F21N05.wav", "F21N05", "F21", "", {"emotion": "neutral", "gender": "female"}),
        ("male/M02W112.wav", "M02W112", "M02", "", {"emotion": "surprise", "gender": "male"}),
    ],
}
NUMBER_OF_UTTERANCES = {
    "cremad": 7442,
    "emodb": 535,
    "emovo": 588,
    "iemocap": 5531,
    "meld": 13708,
    "msp-improv": 7798,
    "ravdess": 2452,
    "savee": 480,
    "shemo": 3000,
    "tess": 2800,
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_code_becomes_a_label(write, name):
    folder = write([path for path, *_ in EXAMPLES[name]])
    files = read_corpus(folder)
    assert files.corpus.name == name
    assert files.ignored == files.missing == ()
    found = {u.path: (u.utterance_id, u.speaker_id, u.transcript, u.labels) for u in files.manifest}
    assert found == {path: tuple(rest) for path, *rest in EXAMPLES[name]}


@pytest.mark.parametrize(
    ("codes", "name", "expected"),
    [
        ("1001_IEO_{}_HI", ["ANG", "DIS", "FEA", "HAP", "NEU", "SAD"], "cremad"),
        ("DC_{}01", ["a", "d", "f", "h", "n", "sa", "su"], "savee"),
        ("YAF_back_{}", ["angry", "disgust", "fear", "happy", "neutral", "ps", "sad"], "tess"),
        ("{}-m1-d2", ["dis", "gio", "neu", "pau", "rab", "sor", "tri"], "emovo"),
        ("M01{}01", ["A", "F", "H", "N", "S", "W"], "shemo"),
    ],
)
def test_the_codes_are_those_of_the_classes(write, codes, name, expected):
    files = read_corpus(write([f"{codes.format(code)}.wav" for code in name]))
    assert files.corpus.name == expected
    assert sorted(files.manifest.labels("emotion").values()) == sorted(files.corpus.classes)


@pytest.mark.parametrize("name", NUMBER_OF_UTTERANCES)
def test_published_counts_add_up(name):
    assert sum(CORPORA[name].published_counts.values()) == NUMBER_OF_UTTERANCES[name]


@pytest.mark.parametrize(
    ("possible", "impossible"),
    [
        ("1001_DFA_ANG_XX", "1092_DFA_ANG_XX"),
        ("1001_DFA_ANG_XX", "1001_DFA_SUR_XX"),
        ("1001_DFA_ANG_XX", "1001_ABC_ANG_XX"),
        ("dis-f1-b1", "boh-f1-b1"),
        ("dis-f1-b1", "dis-f1-b4"),
        ("F21N05", "F21X05"),
    ],
)
def test_impossible_codes_are_listed(write, possible, impossible):
    folder = write([f"{possible}.wav", f"{impossible}.wav"])
    with pytest.raises(CorpusError, match=f"1 file name has codes that .* does not have: '{impossible}.wav'"):
        read_corpus(folder)


@pytest.mark.parametrize("place", ["", "AudioWAV/", "../"])
def test_cremad_demographics_are_found_where_people_put_them(write, tmp_path, place):
    folder = write(["AudioWAV/1001_DFA_ANG_XX.wav", "AudioWAV/1002_DFA_ANG_XX.wav"], tmp_path / "corpus")
    write(
        {f"{place}VideoDemographics.csv": "ActorID,Age,Sex,Race,Ethnicity\n1001,51,Male,Caucasian,Not Hispanic\n"},
        folder,
    )
    first, second = read_corpus(folder).manifest
    assert (first.labels["gender"], first.labels["age"]) == ("male", "51")
    assert (second.labels["gender"], second.labels["age"]) == ("", "")


CREMAD_VOTES = (
    '"","A","D","F","H","N","S","fileName","numResponses"\n'
    '"100001",5,1,0,0,4,0,"1001_DFA_ANG_XX",10\n"200001",9,0,0,0,0,0,"1001_DFA_ANG_XX",9\n'
    '"300001",0,0,0,0,0,9,"1001_DFA_ANG_XX",9\n"200002",0,0,0,0,0,9,"1002_DFA_ANG_XX",9\n'
)


@pytest.mark.parametrize("place", ["processedResults/", "", "../processedResults/"])
def test_cremad_votes_are_those_of_listeners_who_only_heard_the_voice(write, tmp_path, place):
    folder = write(["AudioWAV/1001_DFA_ANG_XX.wav", "AudioWAV/1002_DFA_ANG_XX.wav"], tmp_path / "corpus")
    write({f"{place}tabulatedVotes.csv": CREMAD_VOTES}, folder)
    first, second = (
        {name.removeprefix("votes_emotion_"): u.labels[name] for name in u.labels if name.startswith("votes_")}
        for u in read_corpus(folder).manifest
    )
    assert first == {"anger": "5", "disgust": "1", "fear": "0", "happiness": "0", "neutral": "4", "sadness": "0"}
    assert second == dict.fromkeys(first, "")


@pytest.mark.parametrize(
    "table",
    [CREMAD_VOTES.replace('"A"', '"B"'), CREMAD_VOTES.replace("5,1", "five,1"), CREMAD_VOTES.replace('"1000', '"x')],
)
def test_cremad_votes_that_are_another_table(write, table):
    folder = write({"1001_DFA_ANG_XX.wav": "", "tabulatedVotes.csv": table})
    with pytest.raises(CorpusError, match=r"tabulatedVotes.csv: expected a CSV table with the number of each row, and"):
        read_corpus(folder)


def test_cremad_demographics_that_are_another_table(write):
    folder = write({"1001_DFA_ANG_XX.wav": "", "VideoDemographics.csv": "Actor,Age\n1001,51\n"})
    with pytest.raises(CorpusError, match=r"VideoDemographics.csv: expected .* the columns ActorID, Age and Sex"):
        read_corpus(folder)


def test_other_formats_of_an_utterance_are_neither_read_nor_ignored(write):
    folder = write(
        {"AudioMP3/1001_DFA_ANG_XX.mp3": "other", "AudioWAV/1001_DFA_ANG_XX.wav": "", "a/1002_DFA_ANG_XX.aiff": ""}
    )
    write({"VideoFlash/1001_DFA_ANG_XX.flv": "video", "AudioMP3/1002_DFA_ANG_XX.mp3": "other"}, folder)
    files = read_corpus(folder)
    assert [u.path for u in files.manifest] == ["AudioWAV/1001_DFA_ANG_XX.wav", "a/1002_DFA_ANG_XX.aiff"]
    assert files.ignored == ()
