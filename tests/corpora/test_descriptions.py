"""Descriptions that come with featcache, on files named as the authors of the corpora name them."""

import pytest

from featcache.corpora import CORPORA, read_corpus
from featcache.corpora.registered import shipped_descriptions
from featcache.errors import CorpusError
from featcache.protocols import PROTOCOLS, default_protocol, make_folds, own_protocol

# Corpus → files with their contents, and id, speaker, transcript and labels of some utterances. Names and label files
# are those of public lists and readers of the corpora. Videos and compressed audio are converted to WAV.
EXAMPLES = {
    "aesdd": (
        [
            "anger/a06 (5)b.wav",
            "fear/f10 (01).wav",
            "sadness/s02 (3).wav",
            "disgust/d03 (2).wav",
            "happiness/h01 (4).wav",
        ],
        {
            "a06 (5)b": ("5", "", {"emotion": "anger", "utterance": "06"}),
            "f10 (01)": ("1", "", {"emotion": "fear", "utterance": "10"}),
        },
    ),
    "ased": (
        [
            "05Angry/a5-03-01-02-50.wav",
            "04Sad/S4-04-02-01-29.wav",
            "01Neutral/n1-01-01-01-01.wav",
            "03Happy/h3-05-01-01-62.wav",
        ],
        {
            "a5-03-01-02-50": (
                "50",
                "",
                {"emotion": "anger", "sentence": "5-03", "repetition": "01", "gender": "male"},
            ),
            "S4-04-02-01-29": (
                "29",
                "",
                {"emotion": "sadness", "sentence": "4-04", "repetition": "02", "gender": "female"},
            ),
        },
    ),
    "cafe": (
        ["Colère/Fort/01-C-2-1.wav", "Neutre/12-N-1-6.wav", "Joie/Faible/09-J-1-4.aiff"],
        {
            "01-C-2-1": (
                "01",
                "Un cheval fou dans mon jardin",
                {"emotion": "anger", "intensity": "high", "sentence": "1", "gender": "male"},
            ),
            "12-N-1-6": (
                "12",
                "Six ours aimants domestiqués",
                {"emotion": "neutral", "intensity": "low", "sentence": "6", "gender": "female"},
            ),
        },
    ),
    "casia": (
        ["liuchanhg/angry/201.wav", "liuchanhg/happy/201.wav", "ZhaoZuoxiang/surprise/250.wav"],
        {
            "liuchanhg_happy_201": ("liuchanhg", "", {"emotion": "happiness", "sentence": "201"}),
            "ZhaoZuoxiang_surprise_250": ("ZhaoZuoxiang", "", {"emotion": "surprise", "sentence": "250"}),
        },
    ),
    "cmu-mosei": (
        {
            "Audio/Full/WAV_16000/-3g5yACwYnA.wav": "",
            "Audio/Full/WAV_16000/-9YyBTjo1zo.wav": "",
            "CMU_MOSEI_Labels.csv": ",file,index,start,end,label2a,label2b,label6,label7,split\n"
            "5,-3g5yACwYnA,4,26.541,41.3,1,1,0,1,0\n6,-3g5yACwYnA,5,74.083,82.776,1,1,1,1,0\n"
            "16,-9YyBTjo1zo,0,-0.457596371882,1.77959183673,0,-1,2,-1,3\n",
        },
        {
            "-3g5yACwYnA_5": (
                "",
                "",
                {
                    "emotion": "sadness",
                    "polarity": "positive",
                    "sentiment": "1",
                    "video": "-3g5yACwYnA",
                    "split": "train",
                },
            ),
            "-9YyBTjo1zo_0": (
                "",
                "",
                {"emotion": "anger", "polarity": "negative", "sentiment": "-1", "video": "-9YyBTjo1zo", "split": ""},
            ),
        },
    ),
    "emns": (
        {
            "cleaned_webm/recorded_audio_RF6OuQ4.wav": "",
            "cleaned_webm/recorded_audio.wav": "",
            "metadata.csv": "id|utterance|description|emotion|date_created|status|gender|age|level|audio_recording|"
            "user_id\n"
            "7|Who, me?|Surprise!|Surprised|x|Complete|Female|20s|8|wavs/recorded_audio_RF6OuQ4.webm|3\n"
            "8|Oh.|Sad|Sad|x|Complete|Female|20s|5|wavs/recorded_audio.webm|3\n",
        },
        {
            "recorded_audio_RF6OuQ4": (
                "3",
                "Who, me?",
                {"emotion": "surprise", "level": "8", "gender": "Female", "age": "20s"},
            ),
        },
    ),
    "emov-db": (
        [
            "bea_Angry/anger_1-28_0011.wav",
            "bea_Neutral/Neutral_1-28_0001.wav",
            "sam_Disgusted/disgust_1-28_0001.wav",
            "josh/Sleepy/sleepiness_113_140_0113.wav",
            "jenie/Amused/amused_57-84_0057.wav",
        ],
        {
            "bea_anger_1-28_0011": ("bea", "", {"emotion": "anger", "sentence": "0011", "gender": "female"}),
            "josh_sleepiness_113_140_0113": (
                "josh",
                "",
                {"emotion": "sleepiness", "sentence": "0113", "gender": "male"},
            ),
        },
    ),
    "emozionalmente": (
        {
            "audio/1613655062436.wav": "",
            "audio/1614023322500.wav": "",
            "metadata/samples.csv": "timestamp,file_name,sentence,emotion_expressed,actor,audio_quality\n"
            "1,1613655062436.wav,Vorrei il numero.,joy,anna,ok\n2,1614023322500.wav,Sono qui.,neutrality,bruno,ok\n",
            "metadata/users.csv": "username,age,gender,mother_tongue\nanna,31,f,italiano\n",
        },
        {
            "1613655062436": ("anna", "Vorrei il numero.", {"emotion": "happiness", "gender": "f", "age": "31"}),
            "1614023322500": ("bruno", "Sono qui.", {"emotion": "neutral", "gender": "", "age": ""}),
        },
    ),
    "enterface": (
        [
            "subject 1/anger/sentence 1/s1_an_1.wav",
            "subject 2/anger/sentence 1/s2_an_2.wav",
            "subject 3/fear/sentence 5/s_3_fe_5.wav",
            "subject 6/sadness/s6_sa.wav",
            "subject 11/disgust/sentence 3/s12_di_3.wav",
            "subject 12/disgust/sentence 3/s12_di_3.wav",
            "subject 16/surprise/sentence 3/s16_su_3avi.wav",
            "subject 16/happiness/sentence 3/s16_ha_3.wav",
        ],
        {
            "s3_fe_5": ("3", "", {"emotion": "fear", "sentence": "5"}),
            "s6_sa_": ("6", "", {"emotion": "sadness", "sentence": ""}),
            "s11_di_3": ("11", "", {"emotion": "disgust", "sentence": "3"}),
            "s16_su_3": ("16", "", {"emotion": "surprise", "sentence": "3"}),
        },
    ),
    "esd": (
        [
            "0001/Neutral/0001_000001.wav",
            "0011/Angry/train/0011_000351.wav",
            "Emotion Speech Dataset/0020/Surprise/evaluation/0020_001401.wav",
        ],
        {
            "0001_000001": (
                "0001",
                "",
                {"emotion": "neutral", "language": "Mandarin", "gender": "female", "part": ""},
            ),
            "0020_001401": (
                "0020",
                "",
                {"emotion": "surprise", "language": "English", "gender": "male", "part": "evaluation"},
            ),
        },
    ),
    "fau-aibo": (
        {
            "wav/Ohm_01_015_00.wav": "",
            "wav/Mont_01_071_00.wav": "",
            "labels/IS2009EmotionChallenge/chunk_labels_5cl_corpus.txt": "Ohm_01_015_00 N 1\nMont_01_071_00 A 0.667\n",
            "labels/IS2009EmotionChallenge/chunk_labels_2cl_corpus.txt": "Ohm_01_015_00 IDL 1\n"
            "Mont_01_071_00 NEG 0.7\n",
        },
        {
            "Mont_01_071_00": (
                "Mont_01",
                "",
                {
                    "emotion": "anger",
                    "emotion_2": "negative",
                    "confidence": "0.667",
                    "confidence_2": "0.7",
                    "school": "Mont",
                    "split": "test",
                },
            ),
        },
    ),
    "jl-corpus": (
        ["JL(wav+txt)/female1_angry_10a_1.wav", "JL(wav+txt)/male2_concerned_6b_2.wav"],
        {
            "female1_angry_10a_1": (
                "female1",
                "",
                {"emotion": "anger", "kind": "primary", "sentence": "10", "gender": "female"},
            ),
            "male2_concerned_6b_2": (
                "male2",
                "",
                {"emotion": "concerned", "kind": "secondary", "sentence": "6", "gender": "male"},
            ),
        },
    ),
    "mead": (
        ["M003/audio/angry/level_1/001.wav", "W019/audio/neutral/level_1/001.wav"],
        {
            "M003_angry_level_1_001": ("M003", "", {"emotion": "anger", "level": "1", "gender": "male"}),
            "W019_neutral_level_1_001": ("W019", "", {"emotion": "neutral", "level": "1", "gender": "female"}),
        },
    ),
    "mesd": (
        ["Anger_C_A_abajo.wav", "Happiness_M_B_por_favor.wav"],
        {"Anger_C_A_abajo": ("", "abajo", {"emotion": "anger", "voice": "child", "words": "A"})},
    ),
    "nemo": (
        {
            "samples/MP0_sadness_79.wav": "",
            "samples/WR0_surprised_64.wav": "",
            "data.tsv": "file_id\temotion\traw_text\tnormalized_text\tspeaker_id\tgender\tage\n"
            "MP0_sadness_79.wav\tsadness\tMleko jest źródłem wapnia.\tmleko jest źródłem wapnia\t        MP0\t"
            "male\t24\n",
        },
        {
            "MP0_sadness_79": (
                "MP0",
                "Mleko jest źródłem wapnia.",
                {"emotion": "sadness", "sentence": "79", "gender": "male", "age": "24"},
            ),
            "WR0_surprised_64": ("WR0", "", {"emotion": "surprise", "sentence": "64", "gender": "", "age": ""}),
        },
    ),
    "subesco": (
        ["F_01_OISHI_S_1_ANGRY_1.wav", "F_02_MONIKA_S_2_SURPRISE_3].wav", "M_10_EVAN_S_10_SAD_5.wav"],
        {
            "F_01_S_1_ANGRY_1": (
                "F_01",
                "",
                {"emotion": "anger", "sentence": "1", "take": "1", "gender": "female"},
            ),
            "F_02_S_2_SURPRISE_3": (
                "F_02",
                "",
                {"emotion": "surprise", "sentence": "2", "take": "3", "gender": "female"},
            ),
        },
    ),
}


@pytest.mark.parametrize("name", shipped_descriptions())
def test_names_of_the_authors_are_read(write, name):
    content, expected = EXAMPLES[name]
    folder = write(content)
    files = read_corpus(folder)
    assert files.reference == name
    assert files.ignored == files.missing == ()
    found = {u.utterance_id: (u.speaker_id, u.transcript, u.labels) for u in files.manifest}
    assert {utterance_id: found[utterance_id] for utterance_id in expected} == expected
    sound = [path for path in content if path.endswith((".wav", ".aiff"))]
    assert {u.path for u in files.manifest} == set(sound)


@pytest.mark.parametrize("name", shipped_descriptions())
def test_descriptions_are_complete(name):
    corpus = CORPORA[name]
    assert corpus.name == name
    assert corpus.match(corpus.example) is not None
    assert corpus.citation
    assert corpus.checked in ("authors", "public readers")
    assert not corpus.published_counts or set(corpus.published_counts) == set(corpus.classes)
    assert all(protocol in PROTOCOLS for protocol in corpus.protocols)
    # Without protocols and dialogues of its own, the manifest's split or the number of speakers decides.
    assert own_protocol(corpus) is None
    assert not corpus.dialogue


def test_segments_of_mosei_begin_inside_the_file(write):
    manifest = read_corpus(write(EXAMPLES["cmu-mosei"][0])).manifest
    assert (manifest["-3g5yACwYnA_4"].start, manifest["-3g5yACwYnA_4"].end) == (26.541, 41.3)
    assert manifest["-9YyBTjo1zo_0"].start == 0


def test_the_school_of_aibo_is_the_split(write):
    chunks = [f"{school}_0{child}_00{n}_00" for school in ("Ohm", "Mont") for child in (1, 2, 3) for n in range(2)]
    labels = "".join(f"{chunk} {'AN'[i % 2]} 1\n" for i, chunk in enumerate(chunks))
    folder = write({**{f"wav/{chunk}.wav": "" for chunk in chunks}, "chunk_labels_5cl_corpus.txt": labels})
    manifest = read_corpus(folder).manifest
    assert default_protocol(manifest, CORPORA["fau-aibo"], "emotion") == "split"
    (fold,) = make_folds("split", manifest, "emotion")
    assert set(fold.test) == {chunk for chunk in chunks if chunk.startswith("Mont")}
    assert manifest.labels("school")["Mont_01_000_00"] == "Mont"


@pytest.mark.parametrize("name", ["cmu-mosei", "emns", "emozionalmente", "fau-aibo"])
def test_label_files_that_are_missing_are_named(write, name):
    folder = write([path for path in EXAMPLES[name][0] if path.endswith(".wav")])
    with pytest.raises(CorpusError, match=r"with the labels of .* is missing; add it to the folder"):
        read_corpus(folder)
