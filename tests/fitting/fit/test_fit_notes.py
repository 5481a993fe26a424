"""Notes of a run, and default settings of corpora and papers."""

import json
import logging
import math

import pandas as pd
import pytest

import featcache
from featcache.errors import StoreError
from featcache.fitting import normalisation, notes, results
from featcache.manifest import Manifest, Utterance
from featcache.settings.types import SEEDS, first_seeds
from tests.fitting.fit.noise import ONE_SPEAKER_EACH, in_parts, manifest_of


def test_unknown_speakers_are_no_obstacle_to_other_normalisations(make_cache, train, caplog):
    make_cache(manifest=manifest_of(*(("", {"emotion": emotion}) for emotion in 10 * ("joy", "anger"))))
    run = train(protocol="random-80-20", norm="global")
    assert run.metrics["bootstrap"]["unit"] == "utterances"
    assert "20 of 20 utterances have no speaker_id" in caplog.text
    assert "20 of 20 utterances have no speaker_id" in (run.path / "report.html").read_text(encoding="utf-8")


AWKWARD = ["NA", "a,b", 'say "a"', "é/ü", "none", "[red]", "$x$", "<b>", "03"]


def test_awkward_names_survive(make_cache, train, write_store):
    manifest = Manifest(
        [
            Utterance(utterance_id=f"{speaker}|{label}", path="x.wav", speaker_id=speaker, labels={"emo,tion": label})
            for speaker in AWKWARD
            for label in AWKWARD
        ]
    )
    make_cache("corpus [1]", manifest=manifest)
    run = train(protocol="group-kfold")
    assert run.config["classes"] == sorted(AWKWARD)
    predictions = run.predictions
    found = predictions.query("seed == 1").set_index("utterance_id")
    assert set(found.index) == set(manifest.utterance_ids)
    for utterance in manifest:
        assert found.loc[utterance.utterance_id, "target"] == utterance.labels["emo,tion"]
        assert found.loc[utterance.utterance_id, "speaker_id"] == utterance.speaker_id
    assert set(predictions["prediction"]) <= set(AWKWARD)
    assert run.metrics["recall"].keys() == set(AWKWARD)
    assert train(protocol="group-kfold").path == run.path


def test_the_corpus_orders_its_classes_and_cuts_its_utterances(make_cache, resolve):
    labels = ("sadness", "neutral", "surprise")
    folder = make_cache(manifest=manifest_of(*((s, {"emotion": e, "text": "a"}) for s in "abcd" for e in labels)))
    (folder / "corpus.json").write_text(json.dumps({"corpus": "emodb"}))
    run = resolve()
    assert run.config["classes"] == [
        "sadness",
        "neutral",
        "surprise",
    ]  # the order of EmoDB, then classes that it does not have
    assert run.config["max_frames"] == 400
    (folder / "corpus.json").write_text(json.dumps({"corpus": "ravdess"}))
    assert resolve().config["max_frames"] == 250
    (folder / "corpus.json").write_text('{"corpus": "unheard-of"}')
    assert resolve(target="emotion").config["classes"] == ["neutral", "sadness", "surprise"]


def test_published_protocols_bring_their_target(make_cache, train):
    rows = [
        (f"{actor:02d}", {"emotion": emotion, "emotion_7": "neutral" if emotion == "calm" else emotion})
        for actor in range(19, 25)
        for emotion in ("calm", "neutral", "happy")
    ]
    make_cache(manifest=manifest_of(*rows))
    run = train(protocol="pepino2021")
    assert run.config["target"] == "emotion_7"
    assert run.config["classes"] == ["happy", "neutral"]
    assert run.config["folds"] == [{"fold": 1, "name": "1", "train": 6, "validation": 6, "test": 6}]
    assert "results are not comparable" in (run.path / "report.html").read_text(encoding="utf-8")


def test_only_selected_utterances_take_part(make_cache, train):
    manifest = manifest_of(
        *((s, {"emotion": e, "sex": x}) for s in "abcd" for e in ("anger", "joy") for x in ("f", "m"))
    )
    make_cache(manifest=manifest)
    run = train(select={"sex": ["f"]}, target="emotion")
    assert run.config["select"] == {"sex": ["f"]}
    assert set(run.predictions["utterance_id"]) == {u.utterance_id for u in manifest if u.labels["sex"] == "f"}
    assert train(select={"sex": "f"}, target="emotion").path == run.path


def test_utterances_without_features_are_left_out_and_told(make_cache, write_store, train, caplog):
    folder = make_cache()
    store = featcache.open(folder)["ssl"]
    some = [utterance_id for utterance_id in store if not utterance_id.endswith("-2")]
    write_store(folder / "some", {utterance_id: store[utterance_id] for utterance_id in some})
    run = train(features=["some"])
    assert set(run.predictions["utterance_id"]) == set(some)
    assert "8 of 16 utterances have no features and are left out ('01-anger-2', " in caplog.text
    write_store(folder / "others", {"elsewhere": store["01-joy-1"]})
    with pytest.raises(StoreError, match="no utterance has features in some and others"):
        train(features=["some", "others"], head="fusion")


def test_notes_say_what_a_reader_must_know(make_cache, train, caplog):
    caplog.set_level(logging.INFO, "featcache")
    cache = featcache.open(make_cache(stores={"ssl": {"weights": "random"}, "egemaps": {"kind": "egemaps"}}))
    run = train(head="fusion", max_frames=4)
    report = (run.path / "report.html").read_text(encoding="utf-8")
    lengths = cache["ssl"].num_frames(cache.manifest.utterance_ids)
    for note in (
        notes.SPEAKER_NOTE,
        notes.UNTRAINED_NOTE.format("ssl"),
        notes.EGEMAPS_NOTE,
        f"{(lengths > 4).sum()} of 16 utterances are cut to 4 frames, 0.1 s (--max-frames 0 uses all frames).",
    ):
        assert note in report
        assert note in caplog.text
    assert run.config["untrained"] == ["ssl"]
    report = (train(features="ssl", norm="global", max_frames=0).path / "report.html").read_text(encoding="utf-8")
    assert notes.SPEAKER_NOTE not in report
    assert "are longer" not in report


def test_what_is_tested_but_never_trained_is_told(make_cache, train, caplog):
    parts = {**ONE_SPEAKER_EACH, "test": [("s3", "disgust"), ("s1", "joy")]}
    make_cache(manifest=in_parts(**parts))
    train(target="emotion")
    assert "fold '1' tests classes that are not in its training part: 'disgust'" in caplog.text
    assert "1 of 2 test speakers ('s1') are also in the training" in caplog.text
    assert {record.levelname for record in caplog.records} == {"WARNING"}


def test_a_training_that_diverges_is_told(make_cache, train, caplog):
    make_cache(manifest=in_parts(**ONE_SPEAKER_EACH))
    run = train(target="emotion", norm="none", learning_rate=1e30, max_epochs=10)
    warning = results.DIVERGED.format(2, "1", "lower --learning-rate (1e+30)")
    assert warning in caplog.text
    assert warning.replace("'", "&#39;") in (run.path / "report.html").read_text(encoding="utf-8")
    history = pd.read_csv(run.path / "history.csv")
    assert history.groupby("seed").size().tolist() == [4, 4]
    assert all(math.isnan(loss) for loss in history["validation_loss"])


def test_seeds_are_those_of_the_paper():
    assert first_seeds(5) == SEEDS == (123, 1234, 2345, 3456, 4567)
    assert first_seeds(7) == (*SEEDS, 5678, 6789)
    assert first_seeds(1) == (123,)


def test_the_batch_size_is_the_papers(make_cache, resolve):
    make_cache()
    assert resolve().config["training"]["batch_size"] == 32
    assert resolve(head="lstm").config["training"]["batch_size"] == 16
    assert resolve(head="lstm", batch_size=4).config["training"]["batch_size"] == 4


@pytest.mark.parametrize(("norm", "times"), [("speaker", 1), ("none", 1), ("global", 4)])
def test_statistics_are_merged_once_unless_they_depend_on_the_fold(make_cache, train, monkeypatch, norm, times):
    make_cache()
    calls = []
    unwatched = normalisation.fit_normaliser
    monkeypatch.setattr(normalisation, "fit_normaliser", lambda *a, **k: calls.append(a) or unwatched(*a, **k))
    train(norm=norm)
    assert len(calls) == times
