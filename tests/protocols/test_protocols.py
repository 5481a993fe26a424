"""Protocols: who trains, validates and tests, and that nothing leaks."""

import itertools
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featcache.cli.listing import print_corpora
from featcache.corpora import CORPORA
from featcache.errors import ManifestError, ProtocolError
from featcache.manifest import Manifest, Utterance
from featcache.protocols import PROTOCOLS, Fold, check_folds, default_of, default_protocol, make_folds
from featcache.protocols.dialogues import acquainted

EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")


def ravdess() -> Manifest:
    """RAVDESS as its authors describe it: 1440 spoken and 1012 sung files."""
    utterances = []
    for channel, emotion, intensity, statement, repetition, actor in itertools.product(
        ("speech", "song"), EMOTIONS, ("normal", "strong"), "12", "12", range(1, 25)
    ):
        never_recorded = (
            (emotion == "neutral" and intensity == "strong")
            or (channel == "song" and emotion in ("disgust", "surprised"))
            or (channel == "song" and actor == 18)
        )
        if never_recorded:
            continue
        utterance_id = f"{channel}-{emotion}-{intensity}-{statement}-{repetition}-{actor:02d}"
        labels = {
            "emotion": emotion,
            "emotion_7": "neutral" if emotion == "calm" else emotion,
            "vocal_channel": channel,
        }
        utterances.append(
            Utterance(utterance_id=utterance_id, path=utterance_id, speaker_id=f"{actor:02d}", labels=labels)
        )
    return Manifest(utterances)


RAVDESS = ravdess()


def made(speakers: list[str], **labels: list[str]) -> Manifest:
    """Utterances 'u0', 'u1', … of these speakers, with these labels beside."""
    columns = labels or {"emotion": ["anger", "fear"] * len(speakers)}
    return Manifest(
        [
            Utterance(
                utterance_id=f"u{i}",
                path=f"{i}.wav",
                speaker_id=speaker,
                labels={name: values[i] for name, values in columns.items()},
            )
            for i, speaker in enumerate(speakers)
        ]
    )


def heard(manifest: Manifest, utterance_ids: tuple[str, ...]) -> list[str]:
    return sorted({manifest[utterance_id].speaker_id for utterance_id in utterance_ids})


def sizes(fold: Fold) -> tuple[int, int, int]:
    return len(fold.train), len(fold.validation), len(fold.test)


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
    assert "2036 / 208 / 208 utterances" in warning
    assert "here they are 1200 / 120 / 120" in warning


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
    with pytest.raises(ProtocolError, match="'split' holds '', 'eval', expected train, validation"):
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
        # drawing every n-th of the sorted labels is off by less than one utterance
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
        ((("u0", "u2"), ("u1",), ("u2",)), "fold 'f' leaks: 'u2' stand in it more than once"),
        ((("u0",), ("u1", "u2"), ("u2",)), "fold 'f' leaks: 'u2'"),
        ((("u0",), ("u0",), ("u2",)), "fold 'f' leaks: 'u0'"),
        ((("u0", "u0"), ("u1",), ("u2",)), "fold 'f' leaks: 'u0'"),
        ((("u0",), ("u1",), ("u9",)), "fold 'f' holds 'u9', which the manifest has not"),
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
        "fold 'f': 1 of 2 test speakers ('a') are heard in training or validation too, with 1 of 2 test utterances"
    )
    assert "1 of 5 utterances have no speaker_id" in unknown


def iemocap() -> Manifest:
    """Five sessions of two talkers; each third turn is improvised, each second one agreed upon by all."""
    utterances = []
    for session, talker, number in itertools.product("12345", "FM", range(12)):
        utterance_id = f"Ses0{session}{talker}_{number}"
        labels = {
            "emotion_4": ("anger", "sadness")[number % 2],
            "session": session,
            "improvised": "yes" if number % 3 else "no",
            "full_agreement": "yes" if number % 4 else "no",
        }
        utterances.append(
            Utterance(utterance_id=utterance_id, path=utterance_id, speaker_id=f"Ses0{session}{talker}", labels=labels)
        )
    return Manifest(utterances)


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
    assert [len(fold.test) for fold in folds] == [491, 491, 490, 490, 490]  # 2452 in five
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
        with pytest.raises(ProtocolError, match=r"'fold' must part all utterances in three folds or more; found '"):
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
    with pytest.raises(ProtocolError, match=r"three folds or more; 1 utterances have none \('u3'\)"):
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
    with pytest.raises(ProtocolError, match="unknown protocol 'lso'; nearest: loso"):
        make_folds("lso", RAVDESS, "emotion")


def of_sessions(number, *, column="session", talkers=2, **labels):
    """Conversations of people who speak with nobody else, each with four turns of everybody."""
    return Manifest(
        [
            Utterance(
                utterance_id=f"{session}-{talker}-{turn}",
                path="x.wav",
                speaker_id=f"s{session}{talker}",
                labels={"emotion": "xy"[turn % 2], column: str(session + 1), **labels},
            )
            for session in range(number)
            for talker in range(talkers)
            for turn in range(4)
        ]
    )


def msp_podcast(*partitions):
    """Podcasts of two speakers each; those of the first test set train, too, and one speaker is not known."""
    parts = {"train": "train", "development": "validation", "test1": "test", "test2": "test"}
    rows = [("train", "1", "a"), ("train", "2", "b"), ("train", "3", ""), ("development", "4", "c")]
    rows += [("test1", "1", "d"), ("test2", "5", "e")]
    return Manifest(
        [
            Utterance(
                utterance_id=f"{partition}-{podcast}-{number}",
                path="x.wav",
                speaker_id=speaker,
                labels={
                    "emotion": "xy"[number % 2],
                    "podcast": podcast,
                    "partition": partition,
                    "split": parts[partition],
                    "arousal": str(number + 1),
                },
            )
            for partition, podcast, speaker in rows
            if partition in partitions
            for number in range(4)
        ]
    )


ALL_PARTITIONS = ("train", "development", "test1", "test2")
DEFAULTS = {
    "cremad": (made([str(actor) for actor in range(1001, 1092)]), "group-kfold"),
    "emodb": (made([f"{speaker:02d}" for speaker in range(10)] * 2), "loso"),
    "emovo": (made([f"{speaker:02d}" for speaker in range(6)] * 2), "loso"),
    "iemocap": (iemocap(), "iemocap-loso-session"),
    "meld": (
        made(
            ["a", "b", "a", "b", "a", "c"],
            emotion=["x", "y"] * 3,
            split=["train", "train", "dev", "dev", "test", "test"],
            dialogue=["t0", "t0", "d0", "d0", "e0", "e0"],
        ),
        "split",
    ),
    "msp-improv": (of_sessions(6), "msp-improv-6fold"),
    "msp-podcast": (msp_podcast(*ALL_PARTITIONS), "msp-podcast-test2"),
    "ravdess": (RAVDESS, "group-kfold"),
    "savee": (made(["DC", "JE", "JK", "KL"] * 2), "loso"),
    "shemo": (made([f"F{speaker:02d}" for speaker in range(87)]), "group-kfold"),
    "tess": (made(["OAF", "YAF"] * 8), "two-speakers"),
    "folder": (made(["a", "b", "c"] * 2), "loso"),
}


@pytest.mark.parametrize("name", CORPORA)
def test_the_default_of_every_corpus_keeps_speakers_and_their_partners_apart(name):
    manifest, expected = DEFAULTS[name]
    corpus = CORPORA[name]
    protocol = default_protocol(manifest, corpus, corpus.target)
    assert protocol == expected
    for fold in make_folds(protocol, manifest, corpus.target):
        tested = [manifest[i] for i in fold.test]
        others = [manifest[i] for i in (*fold.train, *fold.validation)]
        if name != "meld":  # its published split, whose speakers overlap
            assert not {u.speaker_id for u in tested} & {u.speaker_id for u in others}
        if corpus.dialogue:
            assert not {u.labels[corpus.dialogue] for u in tested} & {u.labels[corpus.dialogue] for u in others}
    assert protocol in default_of(corpus)


def test_protocols_of_dialogues_say_whether_they_keep_partners_apart():
    """Against the sessions and podcasts themselves."""
    for name, corpus in CORPORA.items():
        if not corpus.dialogue:
            continue
        manifest, _ = DEFAULTS[name]
        for protocol in (*corpus.protocols, "loso", "group-kfold", "session-kfold", "random-80-20"):
            try:
                folds = make_folds(protocol, manifest, corpus.target)
            except ProtocolError:  # speakers that are not known
                continue
            apart = all(
                not {manifest[i].labels[corpus.dialogue] for i in fold.test}
                & {manifest[i].labels[corpus.dialogue] for i in (*fold.train, *fold.validation)}
                for fold in folds
            )
            assert apart == PROTOCOLS[protocol].partners_apart, (name, protocol)
            told = [warning for warning in check_folds(folds, manifest, protocol) if corpus.dialogue in warning]
            assert bool(told) == (not apart), (name, protocol)


def test_a_part_of_a_corpus_of_dialogues_is_still_kept_apart():
    three = Manifest([u for u in iemocap() if u.labels["session"] in "123"])
    assert default_protocol(three, CORPORA["iemocap"], "emotion_4") == "session-kfold"
    two = Manifest([u for u in iemocap() if u.labels["session"] in "12"])
    assert default_protocol(two, CORPORA["iemocap"], "emotion_4") == "loso"  # no third session to validate
    assert default_protocol(msp_podcast(*ALL_PARTITIONS[:3]), CORPORA["msp-podcast"], "emotion") == "split"
    labelled = Manifest(
        [replace(u, labels={**u.labels, "emotion": "" if u.labels["session"] == "6" else "x"}) for u in of_sessions(6)]
    )
    assert default_protocol(labelled, CORPORA["msp-improv"], "emotion") == "session-kfold"


def test_sessions_that_are_split_are_told_in_one_line():
    manifest = iemocap()
    [told] = check_folds(make_folds("loso", manifest, "emotion_4"), manifest, "loso")
    assert told == (
        "10 of 10 folds split a session (fold 'Ses01F': '1', '2'): 120 of 120 test utterances have theirs in training "
        "or validation too; --protocol session-kfold keeps each session in one part"
    )
    fold = Fold(name="f", train=("u0",), validation=("u1",), test=("u2",))
    of_two = made(["a", "b", "c"], dialogue=["1", "1", "2"])
    [told] = check_folds([fold], of_two)
    assert told.startswith("1 of 1 folds split a dialogue (fold 'f': '1'): validation is not independent of training; ")
    assert check_folds([fold], made(["a", "b", "c"], session=["1", "1", "1"])) == []  # one session is none
    assert check_folds([fold], made(["a", "b", "c"], session=["", "1", "2"])) == []


@given(
    pairs=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=40),
)
def test_whole_sessions_with_all_their_speakers_stay_in_one_part(pairs):
    manifest = made([f"s{speaker}" for speaker, _ in pairs], session=[str(session) for _, session in pairs])
    if len(set(acquainted(manifest).values())) < 3:
        with pytest.raises(ProtocolError, match="groups of speakers who share no session"):
            make_folds("session-kfold", manifest, "session")
        return
    folds = make_folds("session-kfold", manifest, "session")
    assert check_folds(folds, manifest, "session-kfold") == []
    tested = Counter(i for fold in folds for i in fold.test)
    assert tested == dict.fromkeys(manifest.utterance_ids, 1)
    for fold in folds:
        for of in (lambda u: u.speaker_id, lambda u: u.labels["session"]):
            parts = [{of(manifest[i]) for i in part} for part in (fold.train, fold.validation, fold.test)]
            assert sum(map(len, parts)) == len(set.union(*parts))


def test_sessions_and_speakers_must_be_known():
    with pytest.raises(ProtocolError, match="needs one of the labels session, dialogue, podcast, and the manifest has"):
        make_folds("session-kfold", made(["a", "b", "c"]), "emotion")
    manifest = made(["a", "b", ""], session=["1", "", "3"], emotion=["x"] * 3)
    with pytest.raises(ProtocolError, match=r"2 of 3 utterances have no session or no speaker_id \('u1', 'u2'\)"):
        make_folds("session-kfold", manifest, "emotion")


def test_the_listing_says_which_protocol_is_the_default(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    for name, told in (
        ("iemocap", "iemocap-loso-session, which keeps speakers and their partners apart, unless --protocol says"),
        ("emodb", "the manifest's split or fold where there is one, else loso for up to 12 speakers, group-kfold for"),
        ("tess", "two-speakers, unless --protocol says otherwise"),
    ):
        print_corpora(name)
        assert told in " ".join(capsys.readouterr().out.split())
