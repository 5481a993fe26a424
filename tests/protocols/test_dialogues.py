"""Corpora of dialogues: speakers and their partners stay in one part, and the listing reports it."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featcache.cli.listing import print_corpora
from featcache.corpora import CORPORA
from featcache.corpora.registered import shipped_descriptions
from featcache.errors import ProtocolError
from featcache.manifest import Manifest, Utterance
from featcache.protocols import PROTOCOLS, Fold, check_folds, default_of, default_protocol, make_folds
from featcache.protocols.dialogues import acquainted
from tests.protocols.manifests import RAVDESS, iemocap, made


def of_sessions(number, *, column="session", talkers=2, **labels):
    """Make separate conversations with different speakers, and four turns of each speaker."""
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
    """Make podcasts in partitions; a podcast of test1 is also in train, and one speaker is unknown."""
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


# Plain audio has neither labels nor speakers; corpora described in YAML have no protocols of their own.
@pytest.mark.parametrize("name", sorted({*CORPORA} - {"audio", *shipped_descriptions()}))
def test_the_default_of_every_corpus_keeps_speakers_and_their_partners_apart(name):
    manifest, expected = DEFAULTS[name]
    corpus = CORPORA[name]
    protocol = default_protocol(manifest, corpus, corpus.target)
    assert protocol == expected
    for fold in make_folds(protocol, manifest, corpus.target):
        tested = [manifest[i] for i in fold.test]
        others = [manifest[i] for i in (*fold.train, *fold.validation)]
        if name != "meld":  # in its published split, speakers overlap
            assert not {u.speaker_id for u in tested} & {u.speaker_id for u in others}
        if corpus.dialogue:
            assert not {u.labels[corpus.dialogue] for u in tested} & {u.labels[corpus.dialogue] for u in others}
    assert protocol in default_of(corpus)


def test_protocols_of_dialogues_say_whether_they_keep_partners_apart():
    """``partners_apart`` of each protocol is compared with the sessions and podcasts in its folds."""
    for name, corpus in CORPORA.items():
        if not corpus.dialogue:
            continue
        manifest, _ = DEFAULTS[name]
        for protocol in (*corpus.protocols, "loso", "group-kfold", "session-kfold", "random-80-20"):
            try:
                folds = make_folds(protocol, manifest, corpus.target)
            except ProtocolError:  # the manifest has unknown speakers
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
    assert default_protocol(two, CORPORA["iemocap"], "emotion_4") == "loso"  # there is no third session for validation
    assert default_protocol(msp_podcast(*ALL_PARTITIONS[:3]), CORPORA["msp-podcast"], "emotion") == "split"
    labelled = Manifest(
        [replace(u, labels={**u.labels, "emotion": "" if u.labels["session"] == "6" else "x"}) for u in of_sessions(6)]
    )
    assert default_protocol(labelled, CORPORA["msp-improv"], "emotion") == "session-kfold"


def test_sessions_that_are_split_are_told_in_one_line():
    manifest = iemocap()
    [told] = check_folds(make_folds("loso", manifest, "emotion_4"), manifest, "loso")
    assert told == (
        "10 of 10 folds split a session (fold 'Ses01F': '1', '2'): 120 of 120 test utterances are from one that is "
        "also in training or validation; --protocol session-kfold keeps each session in one part"
    )
    fold = Fold(name="f", train=("u0",), validation=("u1",), test=("u2",))
    of_two = made(["a", "b", "c"], dialogue=["1", "1", "2"])
    [told] = check_folds([fold], of_two)
    assert told.startswith("1 of 1 folds split a dialogue (fold 'f': '1'): validation is not independent of training; ")
    assert check_folds([fold], made(["a", "b", "c"], session=["1", "1", "1"])) == []  # a single session does not count
    assert check_folds([fold], made(["a", "b", "c"], session=["", "1", "2"])) == []


@given(
    pairs=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=40),
)
def test_whole_sessions_with_all_their_speakers_stay_in_one_part(pairs):
    manifest = made([f"s{speaker}" for speaker, _ in pairs], session=[str(session) for _, session in pairs])
    if len(set(acquainted(manifest).values())) < 3:
        with pytest.raises(ProtocolError, match="groups of speakers without shared sessions"):
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
    with pytest.raises(ProtocolError, match="needs one of the labels session, dialogue, podcast, but the manifest has"):
        make_folds("session-kfold", made(["a", "b", "c"]), "emotion")
    manifest = made(["a", "b", ""], session=["1", "", "3"], emotion=["x"] * 3)
    with pytest.raises(ProtocolError, match=r"2 of 3 utterances have no session or no speaker_id \('u1', 'u2'\)"):
        make_folds("session-kfold", manifest, "emotion")


def test_the_listing_says_which_protocol_is_the_default(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    for name, told in (
        ("iemocap", "iemocap-loso-session, which keeps speakers and their partners apart (change it with --protocol)"),
        ("emodb", "the manifest's split or fold if it has one, otherwise loso for up to 12 speakers, group-kfold for"),
        ("tess", "two-speakers (change it with --protocol)"),
    ):
        print_corpora(name)
        assert told in " ".join(capsys.readouterr().out.split())
