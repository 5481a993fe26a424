"""Labels of several corpora → common labels, by usual names or by a YAML file of the user."""

import pytest

from featcache.corpora import CORPORA
from featcache.corpora.common_labels import NAMES, common_label, in_order
from featcache.errors import FeatcacheError, ManifestError
from featcache.fitting.label_map import MOST_BYTES, described, map_labels, read_label_map

# Few lines whose aliases stand for 2 · 9⁸ values.
BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{f'*a{i - 1}, ' * 9}]\n" for i in range(1, 9))
EMOTIONS = {"anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise"}
FURTHER = {"boredom", "calm", "contempt", "excitement", "frustration", "sarcasm", "amusement", "sleepiness"}
FURTHER |= {"apologetic", "assertive", "concerned", "encouraging", "emphatic", "positive", "rest"}


def test_usual_names_cover_the_classes_of_all_corpora():
    """Every class of every built-in corpus is a known emotion, and emotions are told apart."""
    for corpus in (CORPORA[name] for name in CORPORA):
        common = [common_label(label) for label in corpus.classes]
        assert set(common) <= EMOTIONS | FURTHER, corpus.name
        assert len(set(common)) == len(common), corpus.name
    every = [name for common, names in NAMES.items() for name in (common, *names)]
    assert len(set(every)) == len(every)
    assert set(NAMES) == EMOTIONS | FURTHER


def test_labels_that_are_no_emotion_stay_or_are_left_out():
    assert [common_label(label) for label in (" Happy", "FEARFUL", "female", "3", "other", "no  agreement")] == [
        *("happiness", "fear", "female", "3", None, None)
    ]
    assert in_order({"sadness", "b", "anger", "a"}) == ("anger", "sadness", "a", "b")


def test_without_a_file_only_labels_of_all_corpora_are_kept():
    labels = {"a": ("anger", "joy", "calm"), "b": ("Angry", "happy", "happiness", "boredom"), "c": ("hap", "ang")}
    assert map_labels(labels, None) == {
        "a": {"anger": "anger", "joy": "happiness", "calm": None},
        "b": {"Angry": "anger", "happy": "happiness", "happiness": "happiness", "boredom": None},
        "c": {"hap": "happiness", "ang": "anger"},
    }
    told = described("b", map_labels(labels, None)["b"], {"Angry": 3, "happiness": 1, "boredom": 2})
    assert told == "Labels of 'b': Angry → anger, happiness; left out: boredom 2 (2 of 6 utterances)."


def test_a_file_says_which_labels_are_used(tmp_path):
    path = tmp_path / "labels.yaml"
    path.write_text("a: {anger: ' negative', joy: positive, calm: null, else: x}\nb: {'1': negative, '2': positive}\n")
    labels = {"a": ("anger", "joy", "calm"), "b": ("1", "2")}
    assert map_labels(labels, read_label_map(path)) == {
        "a": {"anger": "negative", "joy": "positive", "calm": None},
        "b": {"1": "negative", "2": "positive"},
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: {anger: x, joy: y}\n", "no labels of the corpus 'b': expected CORPUS: .* found nothing"),
        ("a: {anger: x, joy: y}\nb: 7\n", "no labels of the corpus 'b': .* found 7"),
        ("a: {anger: x}\nb: {anger: x}\n", "label map of 'a' has no entry for 'joy'; give each label a common label"),
        ("a: {anger: x, joy: y, 1: z}\nb: {anger: x}\n", "'a': 1 is no text; write the label in quotes"),
        ("a: {anger: x, joy: no}\nb: {anger: x}\n", "common label of 'joy' is False, expected a text"),
        ("a: {anger: x, joy: [y]}\nb: {anger: x}\n", r"common label of 'joy' is \['y'\], expected a text"),
        ("a: {anger: x, joy: ' '}\nb: {anger: x}\n", "common label of 'joy' is ' ', expected a text"),
        ("a: {anger: x, joy: null}\nb: {anger: x}\n", "gives fewer than two common labels"),
        ("a: {anger: x, joy: y}\na: {anger: y, joy: x}\nb: {anger: x}\n", "line 2: 'a' is given twice; keep one"),
        ("a: {anger: x, joy: x, anger: y}\nb: {anger: x}\n", "line 1: 'anger' is given twice; keep one"),
        ("1: {anger: x}\n", "1 is no text; write the corpus in quotes"),
        ("[a, b]\n", "found no mapping"),
        ("", "found no mapping"),
        ("a: {anger: x", "line 1: not YAML"),
        ("a: !!python/object/apply:os.system [ls]\n", "not YAML: could not determine a constructor"),
        ("a: &a {anger: *a}\n", "an alias refers to a value that contains it"),
        (
            "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{f'*a{i - 1}, ' * 9}]\n" for i in range(1, 9)),
            "more than 100000",
        ),
        ("a: " + "[" * 9999, "too many levels of nesting|not YAML"),
        (" " * (MOST_BYTES + 1), "more than 1 MiB"),
        (b"a: \xff\n", "not UTF-8"),
    ],
)
def test_a_faulty_file_is_refused_in_one_line(tmp_path, text, message):
    path = tmp_path / "labels.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(ManifestError, match=message) as caught:
        map_labels({"a": ("anger", "joy"), "b": ("anger",)}, read_label_map(path))
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_refused_in_one_line(tmp_path):
    with pytest.raises(ManifestError, match="no such file"):
        read_label_map(tmp_path / "missing.yaml")
    with pytest.raises(FeatcacheError, match=r"folder|directory"):
        read_label_map(tmp_path)


def test_labels_without_common_ones_are_refused():
    with pytest.raises(
        ManifestError, match=r"fewer than two common labels \(a: anger, joy; b: sad, joy\); name common"
    ):
        map_labels({"a": ("anger", "joy"), "b": ("sad", "joy")}, None)
