"""Protocols of papers: the published folds, and messages if actors or sessions are missing."""

import itertools
from collections import Counter

import pytest

from featcache.errors import ManifestError, ProtocolError
from featcache.manifest import Manifest
from featcache.protocols import PROTOCOLS, check_folds, make_folds
from tests.protocols.manifests import RAVDESS, heard, iemocap, made, sizes


def test_ravdess_is_the_published_one():
    assert len(RAVDESS) == 2452
    assert len(RAVDESS.select(vocal_channel=["song"])) == 1012


@pytest.mark.parametrize(
    ("protocol", "expected"), [("pepino2021", (2036, 208, 208)), ("pepino2021-speech", (1200, 120, 120))]
)
def test_pepino_splits_the_actors(protocol, expected):
    (fold,) = make_folds(protocol, RAVDESS, "emotion_7")
    assert sizes(fold) == expected == PROTOCOLS[protocol].published_sizes
    assert heard(RAVDESS, fold.train) == [f"{actor:02d}" for actor in range(1, 21)]
    assert heard(RAVDESS, fold.validation) == ["21", "22"]
    assert heard(RAVDESS, fold.test) == ["23", "24"]
    assert check_folds([fold], RAVDESS, protocol) == []


def test_pepino_has_the_published_classes():
    (fold,) = make_folds("pepino2021", RAVDESS, PROTOCOLS["pepino2021"].target)
    classes = Counter(RAVDESS[utterance_id].labels["emotion_7"] for utterance_id in fold.test)
    common = dict.fromkeys(("happy", "sad", "angry", "fearful"), 32)
    assert classes == {"neutral": 48, **common, "disgust": 16, "surprised": 16}


def test_pepino_on_a_part_of_ravdess_is_told():
    speech = RAVDESS.select(vocal_channel=["speech"])
    folds = make_folds("pepino2021", speech, "emotion_7")
    (warning,) = check_folds(folds, speech, "pepino2021")
    assert "2036 / 208 / 208 utterances for training, validation and test" in warning
    assert "found 1200 / 120 / 120; results are not comparable" in warning


@pytest.mark.parametrize("protocol", ["pepino2021", "pepino2021-speech", "ravdess-6fold"])
def test_missing_actors_are_named(protocol):
    some = Manifest([utterance for utterance in RAVDESS if utterance.speaker_id in ("01", "02", "20", "21", "23")])
    with pytest.raises(ProtocolError, match=r"22, 24 are missing; .*--protocol loso"):
        make_folds(protocol, some, "emotion_7")
    with pytest.raises(ProtocolError, match=r"21, 22, 23, 24 are missing"):
        make_folds(protocol, made(["03", "08", "09"]), "emotion")


def test_six_folds_of_two_men_and_two_women():
    folds = make_folds("ravdess-6fold", RAVDESS, "emotion")
    tests = [heard(RAVDESS, fold.test) for fold in folds]
    assert [fold.name for fold in folds] == ["01-04", "05-08", "09-12", "13-16", "17-20", "21-24"]
    assert tests[4] == ["17", "18", "19", "20"]
    assert list(itertools.chain(*tests)) == list(RAVDESS.speaker_ids)
    for k, fold in enumerate(folds):
        assert Counter(int(actor) % 2 for actor in tests[k]) == {0: 2, 1: 2}
        assert heard(RAVDESS, fold.validation) == tests[(k + 1) % 6]
        assert len(heard(RAVDESS, fold.train)) == 16


def test_iemocap_sessions_test_once_and_the_fifth_validates():
    manifest = iemocap()
    folds = make_folds("iemocap-loso-session", manifest, "emotion_4")
    parts = [
        tuple({manifest[i].labels["session"] for i in part} for part in (fold.test, fold.validation)) for fold in folds
    ]
    assert parts == [({"1"}, {"5"}), ({"2"}, {"5"}), ({"3"}, {"5"}), ({"4"}, {"5"}), ({"5"}, {"4"})]
    assert all(sum(sizes(fold)) == len(manifest) for fold in folds)
    assert check_folds(folds, manifest, "iemocap-loso-session") == []


def test_a_fifth_of_the_other_sessions_validates_in_superb():
    manifest = iemocap()
    folds = make_folds("iemocap-superb", manifest, "emotion_4")
    assert [{manifest[i].labels["session"] for i in fold.test} for fold in folds] == [{k} for k in "12345"]
    for fold in folds:
        others = [u.utterance_id for u in manifest if u.labels["session"] != fold.name]
        assert sorted(fold.train + fold.validation) == sorted(others)
        assert len(fold.validation) == round(0.2 * len(others))
        assert {manifest[i].speaker_id for i in fold.validation} <= {manifest[i].speaker_id for i in fold.train}
    assert check_folds(folds, manifest, "iemocap-superb") == []


def test_msp_improv_sessions_test_once_and_the_next_validates():
    manifest = made([f"s{i % 12}" for i in range(36)], session=[str(i % 6 + 1) for i in range(36)], emotion=["x"] * 36)
    folds = make_folds("msp-improv-6fold", manifest, "emotion")
    parts = [tuple(manifest[i].labels["session"] for i in (fold.test[0], fold.validation[0])) for fold in folds]
    assert parts == [("1", "2"), ("2", "3"), ("3", "4"), ("4", "5"), ("5", "6"), ("6", "1")]
    assert check_folds(folds, manifest, "msp-improv-6fold") == []


@pytest.mark.parametrize(
    ("protocol", "number"), [("iemocap-loso-session", 5), ("iemocap-superb", 5), ("msp-improv-6fold", 6)]
)
def test_sessions_that_are_missing_are_told(protocol, number):
    manifest = made(["a", "b", "c"], session=["1", "2", ""], emotion=["x"] * 3)
    with pytest.raises(ProtocolError, match=f"needs the sessions 1 to {number}, found 1, 2, none; add what is missing"):
        make_folds(protocol, manifest, "emotion")
    with pytest.raises(ManifestError, match="no utterance has a label 'session'"):
        make_folds(protocol, made(["a", "b", "c"]), "emotion")


def test_iemocap_as_issa_had_it_takes_improvised_turns_of_full_agreement():
    manifest = iemocap()
    folds = make_folds("iemocap-issa", manifest, "emotion_4")
    tested = [i for fold in folds for i in fold.test]
    assert len(tested) == len(set(tested)) == sum(number % 3 and number % 4 and 1 for number in range(12)) * 10
    assert all(manifest[i].labels["improvised"] == manifest[i].labels["full_agreement"] == "yes" for i in tested)
    assert any("does not keep speakers apart" in warning for warning in check_folds(folds, manifest, "iemocap-issa"))
    with pytest.raises(ManifestError, match="no utterance has a label 'improvised'"):
        make_folds("iemocap-issa", made(["a", "b", "c"]), "emotion")


def test_random_folds_hold_all_ravdess_and_do_not_depend_on_its_order():
    folds = make_folds("issa-random-5fold", RAVDESS, PROTOCOLS["issa-random-5fold"].target)
    turned = make_folds("issa-random-5fold", Manifest(list(RAVDESS)[::-1]), "emotion")
    assert [set(fold.test) for fold in folds] == [set(fold.test) for fold in turned]
    assert sorted(itertools.chain(*(fold.test for fold in folds))) == sorted(RAVDESS.utterance_ids)
    assert [len(fold.test) for fold in folds] == [491, 491, 490, 490, 490]  # 2452 utterances in total
    for fold, following in zip(folds, folds[1:] + folds[:1], strict=True):
        assert fold.validation == following.test
        assert heard(RAVDESS, fold.test) == list(RAVDESS.speaker_ids)


def test_cremad_actors_are_dealt_to_five_folds():
    manifest = made([str(actor) for actor in range(1001, 1092)] * 2)
    folds = make_folds("cremad-5fold", manifest, "emotion")
    tests = [heard(manifest, fold.test) for fold in folds]
    assert tests[0][:2] == ["1001", "1006"]
    assert [len(test) for test in tests] == [19, 18, 18, 18, 18]
    assert heard(manifest, folds[4].validation) == tests[0]
    assert check_folds(folds, manifest, "cremad-5fold") == []
    with pytest.raises(ProtocolError, match=r"actors 1001 to 1091 as speakers, found '1092', 'x'; use"):
        make_folds("cremad-5fold", made(["1001", "1092", "x"]), "emotion")


def test_the_ten_speakers_of_emodb_are_split_as_in_autrainer():
    speakers = ["03", "08", "09", "10", "11", "12", "13", "14", "15", "16"]
    manifest = made(speakers * 2)
    [fold] = make_folds("emodb-autrainer", manifest, "emotion")
    assert [heard(manifest, part) for part in (fold.train, fold.validation, fold.test)] == [
        ["03", "08", "09", "10", "11", "12"],
        ["13", "14"],
        ["15", "16"],
    ]
    with pytest.raises(ProtocolError, match=r"the ten EmoDB speakers, but '16' is missing; use --protocol loso"):
        make_folds("emodb-autrainer", made(speakers[:-1]), "emotion")
    with pytest.raises(ProtocolError, match=r"the ten EmoDB speakers, but found '17'; use --protocol loso"):
        make_folds("emodb-autrainer", made([*speakers, "17"]), "emotion")
