"""Protocols that cannot be used for a corpus or a selection give one line that names the selection."""

import json

import numpy as np
import pytest

import featcache
from featcache.cli import app as cli
from featcache.cli.layers import print_layer_scores
from featcache.corpora import CORPORA
from featcache.errors import FeatcacheError, FeatureError, ManifestError, ProtocolError, StoreError
from featcache.fitting.relevance import layer_relevance
from featcache.fitting.resolve import resolve
from featcache.protocols import make_folds
from featcache.settings.fits import FitSettings
from tests.fitting.checks.checked_caches import SEEDS, manifest_of


def corpus_is(cache, name):
    (cache / "corpus.json").write_text(json.dumps({"corpus": name}))


def test_a_protocol_of_another_corpus_says_so(make_cache, resolved, caplog):
    manifest = manifest_of(
        (f"{actor:02d}", {"emotion": e, "emotion_7": e}) for actor in range(1, 5) for e in ("happy", "sad")
    )
    cache = make_cache(manifest=manifest)
    for name in ("ravdess", "folder"):
        corpus_is(cache, name)
        for protocol, owner in (
            ("iemocap-superb", "IEMOCAP"),
            ("cremad-5fold", "CREMA-D"),
            ("msp-podcast-test1", "MSP-Podcast"),
        ):
            told = f"protocol '{protocol}' was published for {owner}"
            more = (
                ", but this is RAVDESS; choose among: pepino2021, .*, loso, group-kfold" if name == "ravdess" else "$"
            )
            with pytest.raises(ProtocolError, match=told + more) as found:
                resolved(protocol=protocol, target=None if name == "ravdess" else "emotion")
            assert "\n" not in str(found.value)
    corpus_is(cache, "ravdess")
    with pytest.raises(ProtocolError, match=r"^this protocol needs the RAVDESS actors 21 to 24"):
        resolved(protocol="pepino2021")
    corpus_is(cache, "emodb")
    resolved(protocol="issa-random-5fold")
    assert (
        "protocol 'issa-random-5fold' was published for RAVDESS, not for EmoDB; results are not comparable"
        in caplog.text
    )


def test_what_is_missing_because_of_a_choice_names_the_choice(make_cache, write_store, resolved):
    manifest = manifest_of(
        (f"{actor:02d}", {"emotion_7": e, "sex": "mf"[actor % 2]}) for actor in range(1, 25) for e in ("happy", "sad")
    )
    cache = featcache.open(make_cache(manifest=manifest))
    with pytest.raises(ProtocolError, match=r"are missing; .* only 4 of 48 utterances take part: --limit 4$"):
        resolve(cache, FitSettings(protocol="pepino2021", limit=4, **SEEDS))
    with pytest.raises(ProtocolError, match=r"21, 23 are missing; .* only 24 of 48 .* part: --select sex=m$"):
        resolved(protocol="pepino2021", select={"sex": ["m"]})
    some = {i: np.array(cache["ssl"][i]) for i in cache.manifest.utterance_ids[:6]}
    write_store(cache.path / "some", some)
    told = r"only 6 of 48 utterances take part: 42 have no features, for example after 'featcache extract --limit'$"
    with pytest.raises(ProtocolError, match=told):
        resolved(protocol="pepino2021", features=["some"])
    with pytest.raises(ManifestError, match=r"has one class only, 'sad'; .* only 24 of 48 .*: --select emotion_7=sad$"):
        resolved(features=["ssl"], target="emotion_7", select={"emotion_7": ["sad"]})


SESSIONS = [
    (f"{session}{talker}", {"emotion_4": e, "session": session}) for session in "12345" for talker in "FM" for e in "xy"
]


def test_probes_and_fits_have_the_same_default(make_cache, resolved, capsys, monkeypatch):
    cache = make_cache(manifest=manifest_of(SESSIONS))
    corpus_is(cache, "iemocap")
    run = resolved()
    assert run.config["protocol"] == "iemocap-loso-session"
    monkeypatch.setattr("sys.argv", ["x", "probe"])
    with pytest.raises(SystemExit) as exited:
        cli.main()
    assert exited.value.code == 0
    assert "Linear probes of utterance means, iemocap-loso-session, 5 folds" in capsys.readouterr().out
    [found] = layer_relevance(seeds=(1,), norm="global", max_epochs=1)
    assert {one.config["protocol"] for one in found.runs.values()} == {"iemocap-loso-session"}


def test_msp_podcast_can_be_probed_although_some_speakers_are_unknown(make_cache, capsys, monkeypatch):
    parts = {"train": "train", "development": "validation", "test1": "test", "test2": "test"}
    rows = [
        ("", {"emotion": e, "split": split, "partition": partition, "podcast": partition})
        for partition, split in parts.items()
        for e in ("anger", "joy")
    ]
    cache = make_cache(manifest=manifest_of(rows))
    for corpus, protocol in (("msp-podcast", "msp-podcast-test2"), ("folder", "split")):
        corpus_is(cache, corpus)
        monkeypatch.setattr("sys.argv", ["x", "probe", "--target", "emotion"])
        with pytest.raises(SystemExit) as exited:
            cli.main()
        assert exited.value.code == 0
        assert f"Linear probes of utterance means, {protocol}, 1 fold;" in capsys.readouterr().out


def test_a_session_that_is_split_is_told_by_fits_and_probes(make_cache, resolved, caplog):
    corpus_is(make_cache(manifest=manifest_of(SESSIONS)), "iemocap")
    resolved(protocol="loso")
    assert "10 of 10 folds split a session" in caplog.text
    caplog.clear()
    print_layer_scores([], corpus=None, protocol="group-kfold", target=None, task=None, select={}, out=None)
    assert "folds split a session" in caplog.text


def test_every_error_of_these_checks_is_one_that_a_user_can_mend():
    assert all(issubclass(kind, FeatcacheError) for kind in (FeatureError, StoreError, ManifestError, ProtocolError))
    assert {corpus.dialogue for corpus in CORPORA.values()} == {"", "session", "dialogue", "podcast"}
    assert make_folds("loso", manifest_of(SESSIONS), "emotion_4")
