"""Protocols for any corpus: speakers of each part, and absence of leaks."""

import itertools
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featcache.errors import ManifestError, ProtocolError
from featcache.manifest import Manifest, Utterance
from featcache.protocols import PROTOCOLS, Fold, check_folds, default_protocol, make_folds
from tests.protocols.manifests import EMOTIONS, RAVDESS, heard, made, sizes


@pytest.mark.parametrize(("num_speakers", "num_validation"), [(3, 1), (7, 1), (8, 2), (10, 2), (24, 5)])
def test_loso_validates_on_the_next_speakers(num_speakers, num_validation):
    speakers = [f"{i:02d}" for i in range(num_speakers)]
    manifest = made(speakers[::-1] * 2)
    folds = make_folds("loso", manifest, "emotion")
    assert [fold.name for fold in folds] == speakers
    for i, fold in enumerate(folds):
        assert heard(manifest, fold.test) == [speakers[i]]
        following = [speakers[(i + k) % num_speakers] for k in range(1, num_validation + 1)]
        assert heard(manifest, fold.validation) == sorted(following)
        assert sum(sizes(fold)) == len(manifest)


@pytest.mark.parametrize(("num_speakers", "num_folds"), [(3, 3), (5, 5), (13, 5)])
def test_group_kfold_validates_on_the_next_fold(num_speakers, num_folds):
    manifest = made([f"{i % num_speakers:02d}" for i in range(5 * num_speakers)])
    folds = make_folds("group-kfold", manifest, "emotion")
    assert [fold.name for fold in folds] == [str(k + 1) for k in range(num_folds)]
    assert sorted(itertools.chain(*(heard(manifest, fold.test) for fold in folds))) == list(manifest.speaker_ids)
    for fold, following in zip(folds, folds[1:] + folds[:1], strict=True):
        assert fold.validation == following.test


@pytest.mark.parametrize("protocol", ["loso", "group-kfold"])
def test_speakers_must_be_known_and_three(protocol):
    with pytest.raises(ProtocolError, match=r"2 of 5 utterances have no speaker_id; .*random-80-20"):
        make_folds(protocol, made(["a", "b", "", "c", ""]), "emotion")
    with pytest.raises(ProtocolError, match=r"found 2 speakers \('a', 'b'\), expected at least 3"):
        make_folds(protocol, made(["a", "b", "b"]), "emotion")


def test_actors_must_be_known():
    manifest = Manifest([*RAVDESS, Utterance(utterance_id="x", path="x", labels={"emotion": "sad"})])
    with pytest.raises(ProtocolError, match="1 of 2453 utterances have no speaker_id"):
        make_folds("ravdess-6fold", manifest, "emotion")


def test_split_is_the_one_of_the_manifest():
    split = ["Train", "DEV", "test", "val", "validation", " train ", "Valid", "development", "TEST"]
    manifest = made(["a"] * 9, split=split, emotion=["x"] * 9)
    (fold,) = make_folds("split", manifest, "emotion")
    assert fold.train == ("u0", "u5")
    assert fold.validation == ("u1", "u3", "u4", "u6", "u7")
    assert fold.test == ("u2", "u8")
    (warning,) = check_folds([fold], manifest, "split")
    assert "1 of 1 test speakers ('a')" in warning
    assert "2 of 2 test utterances" in warning
    assert warning.endswith("protocol 'split' does not keep speakers apart")


def test_split_without_validation_sets_speakers_aside():
    speakers = [f"s{i}" for i in range(10)] * 3 + ["t"]
    manifest = made(speakers, split=["train"] * 30 + ["test"], emotion=["x"] * 31)
    (fold,) = make_folds("split", manifest, "emotion")
    assert len(heard(manifest, fold.validation)) == 2
    assert not set(heard(manifest, fold.validation)) & set(heard(manifest, fold.train))
    assert fold.test == ("u30",)
    (small,) = make_folds(
        "split", made(["a", "b", "c"], split=["train", "train", "test"], emotion=["x"] * 3), "emotion"
    )
    assert sizes(small) == (1, 1, 1)


@pytest.mark.parametrize("speakers", [["a"] * 26, [""] * 26, ["a", ""] * 13])
def test_split_without_validation_and_speakers_sets_utterances_aside(speakers):
    manifest = made(speakers, split=["train"] * 25 + ["test"], emotion=["x"] * 20 + ["y"] * 6)
    (fold,) = make_folds("split", manifest, "emotion")
    assert Counter(manifest[i].labels["emotion"] for i in fold.validation) == {"x": 4, "y": 1}


def test_split_with_other_values():
    with pytest.raises(ManifestError, match="no utterance has a label 'split'"):
        make_folds("split", made(["a", "b", "c"]), "emotion")
    manifest = made(["a"] * 4, split=["train", "eval", "", "test"], emotion=["x"] * 4)
    with pytest.raises(ProtocolError, match="'split' contains '', 'eval', expected train, validation"):
        make_folds("split", manifest, "emotion")
    for values, empty in ((["test", "test"], "train"), (["train", "val"], "test"), (["train", "test"], "train")):
        with pytest.raises(ProtocolError, match=f"fold '1' has no {empty} utterances"):
            make_folds("split", made(["a", "b"], split=values, emotion=["x"] * 2), "emotion")


@given(classes=st.lists(st.sampled_from("abcde"), min_size=10, max_size=60))
def test_random_parts_have_their_share_of_every_class(classes):
    manifest = made([""] * len(classes), emotion=classes)
    (fold,) = make_folds("random-80-20", manifest, "emotion")
    num_test, num_validation = round(0.2 * len(classes)), max(1, round(0.125 * (len(classes) - len(fold.test))))
    assert sizes(fold) == (len(classes) - num_test - num_validation, num_validation, num_test)
    in_test = Counter(manifest[i].labels["emotion"] for i in fold.test)
    for label, count in Counter(classes).items():
        # Drawing every n-th of the sorted labels differs from the exact share by less than one utterance.
        assert abs(in_test[label] - count * num_test / len(classes)) < 1


def test_random_folds_do_not_depend_on_the_order_or_the_day():
    (fold,) = make_folds("random-80-20", RAVDESS, "emotion")
    (turned,) = make_folds("random-80-20", Manifest(list(RAVDESS)[::-1]), "emotion")
    assert set(fold.test) == set(turned.test)
    assert set(fold.validation) == set(turned.validation)
    assert sizes(fold) == (1717, 245, 490)
    (warning,) = check_folds([fold], RAVDESS, "random-80-20")
    assert "24 of 24 test speakers ('01', '02', '03' and 21 more)" in warning


@pytest.mark.parametrize("num_utterances", [1, 2])
def test_too_few_for_three_parts(num_utterances):
    with pytest.raises(ProtocolError, match="fold '1' has no"):
        make_folds("random-80-20", made(["a"] * num_utterances), "emotion")


@given(speakers=st.lists(st.sampled_from("abcdefgh"), min_size=3, max_size=40))
def test_speaker_independent_protocols_never_share_speakers(speakers):
    manifest = made(speakers)
    for protocol in ("loso", "group-kfold"):
        if len(set(speakers)) < 3:
            continue
        folds = make_folds(protocol, manifest, "emotion")
        assert check_folds(folds, manifest, protocol) == []
        tested = Counter(utterance_id for fold in folds for utterance_id in fold.test)
        assert tested == dict.fromkeys(manifest.utterance_ids, 1)
        for fold in folds:
            parts = [set(heard(manifest, part)) for part in (fold.train, fold.validation, fold.test)]
            assert sum(map(len, parts)) == len(set.union(*parts))


def test_only_labelled_utterances_take_part():
    manifest = made(["a", "b", "c", "a", ""], emotion=["x", "x", "y", "", ""])
    folds = make_folds("loso", manifest, "emotion")
    assert {utterance_id for fold in folds for utterance_id in fold.train + fold.test} == {"u0", "u1", "u2"}
    with pytest.raises(ManifestError, match="no utterance has a label 'arousal'"):
        make_folds("loso", manifest, "arousal")


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (((), ("u1",), ("u2",)), "fold 'f' has no train utterances"),
        ((("u0",), (), ("u2",)), "fold 'f' has no validation utterances"),
        ((("u0",), ("u1",), ()), "fold 'f' has no test utterances"),
        ((("u0", "u2"), ("u1",), ("u2",)), "fold 'f' leaks: 'u2' occur more than once"),
        ((("u0",), ("u1", "u2"), ("u2",)), "fold 'f' leaks: 'u2'"),
        ((("u0",), ("u0",), ("u2",)), "fold 'f' leaks: 'u0'"),
        ((("u0", "u0"), ("u1",), ("u2",)), "fold 'f' leaks: 'u0'"),
        ((("u0",), ("u1",), ("u9",)), "fold 'f' contains 'u9', not in the manifest"),
    ],
)
def test_folds_that_are_refused(parts, message):
    train, validation, test = parts
    with pytest.raises(ProtocolError, match=message):
        check_folds([Fold(name="f", train=train, validation=validation, test=test)], made(["a", "b", "c"]))


def test_shared_and_unknown_speakers_are_told():
    manifest = made(["a", "b", "a", "c", ""])
    fold = Fold(name="f", train=("u0", "u4"), validation=("u1",), test=("u2", "u3"))
    shared, unknown = check_folds([fold], manifest)
    assert shared == (
        "fold 'f': 1 of 2 test speakers ('a') are also in the training or validation part, with 1 of 2 test utterances"
    )
    assert "1 of 5 utterances have no speaker_id" in unknown


@given(emotions=st.lists(st.sampled_from("xyz"), min_size=4, max_size=40))
def test_two_speakers_test_once_each(emotions):
    manifest = made(["a", "b"] * len(emotions), emotion=[emotion for emotion in emotions for _ in "ab"])
    folds = make_folds("two-speakers", manifest, "emotion")
    assert [fold.name for fold in folds] == ["a", "b"]
    for fold in folds:
        assert heard(manifest, fold.test) == [fold.name]
        assert sum(sizes(fold)) == len(manifest)
        assert len(fold.validation) == max(1, round(0.2 * len(emotions)))
    assert check_folds(folds, manifest, "two-speakers") == []


def test_other_numbers_of_speakers_have_other_protocols():
    with pytest.raises(ProtocolError, match="found 3 speakers, expected 2; use --protocol loso or group-kfold"):
        make_folds("two-speakers", made(["a", "b", "c"]), "emotion")
    with pytest.raises(ProtocolError, match=r"found 1 speakers \('a'\), expected at least 2 .*random-80-20"):
        make_folds("two-speakers", made(["a", "a", "a"]), "emotion")
    with pytest.raises(ProtocolError, match=r"expected at least 3 .*--protocol two-speakers"):
        make_folds("loso", made(["a", "b", "b"]), "emotion")


@given(folds=st.lists(st.sampled_from(["1", "2", "3", "10"]), min_size=3, max_size=30))
def test_folds_of_the_manifest_test_once_in_their_order(folds):
    manifest = made([""] * len(folds), fold=folds, emotion=["x"] * len(folds))
    names = sorted(set(folds), key=int)
    if len(names) < 3:
        with pytest.raises(ProtocolError, match=r"'fold' must assign all utterances to three or more folds; found '"):
            make_folds("folds", manifest, "emotion")
        return
    made_folds = make_folds("folds", manifest, "emotion")
    assert [fold.name for fold in made_folds] == names
    for fold, following in zip(made_folds, made_folds[1:] + made_folds[:1], strict=True):
        assert {manifest[i].labels["fold"] for i in fold.test} == {fold.name}
        assert fold.validation == following.test
        assert sum(sizes(fold)) == len(manifest)


def test_utterances_without_a_fold_are_told():
    manifest = made(["a"] * 4, fold=["1", "2", "3", ""], emotion=["x"] * 4)
    with pytest.raises(ProtocolError, match=r"three or more folds; 1 utterance has none \('u3'\)"):
        make_folds("folds", manifest, "emotion")


@pytest.mark.parametrize("protocol", ["loso", "group-kfold", "random-80-20"])
def test_general_protocols_serve_four_actors(protocol):
    some = Manifest([u for u in RAVDESS if u.speaker_id in ("01", "02", "03", "04")])
    folds = make_folds(protocol, some, "emotion")
    assert len(folds) == (1 if protocol == "random-80-20" else 4)
    for fold in folds:
        assert {some[i].labels["emotion"] for i in fold.train} == set(EMOTIONS)
        if PROTOCOLS[protocol].speaker_independent:
            parts = (fold.train, fold.validation, fold.test)
            assert [len(heard(some, part)) for part in parts] == [2, 1, 1]


def test_the_default():
    assert default_protocol(made(["a", "b", "c"], fold=["1", "2", "3"])) == "folds"
    assert default_protocol(made(["a", "b", "c"], fold=["1", "2", ""])) == "loso"
    assert default_protocol(made([f"{i:02d}" for i in range(12)])) == "loso"
    assert default_protocol(made([f"{i:02d}" for i in range(13)])) == "group-kfold"
    assert default_protocol(made(["a", "b", "c"], split=["train", "", "test"])) == "split"
    assert default_protocol(made(["a", "b", "c"], split=["train", "", "train"])) == "loso"


def test_an_unknown_protocol():
    with pytest.raises(ProtocolError, match="no protocol 'lso'; did you mean 'loso'"):
        make_folds("lso", RAVDESS, "emotion")
