"""Labels that look alike or are missing, and the use of utterances without a label."""

import logging
from dataclasses import replace

import numpy as np
import pytest

import featcache
from featcache.cli.layers import print_layer_scores
from featcache.errors import ManifestError
from featcache.fitting import normalisation
from featcache.fitting.fit import fit
from featcache.fitting.resolve import resolve
from featcache.manifest import Manifest
from featcache.runs.parse import read_table
from featcache.runs.writer import write_rows
from featcache.settings.fits import FitSettings
from tests.fitting.checks.checked_caches import QUICK, SEEDS, manifest_of


def labelled(*labels, column="emotion", speakers="abcd"):
    """Make a manifest in which every speaker has an utterance with each label."""
    return manifest_of((speaker, {column: label}) for speaker in speakers for label in labels)


def test_labels_that_look_alike_are_told_before_training(make_cache, resolved, caplog):
    make_cache(manifest=labelled("W", " W", "f", "F", "1", "1.0", "other"))
    resolved()
    told = [record.getMessage() for record in caplog.records]
    assert told == [
        f"emotion has values that look alike but are different: {pair}; write them the same way"
        for pair in (
            "'W' (utterance 'u0'), ' W' (utterance 'u1')",
            "'f' (utterance 'u2'), 'F' (utterance 'u3')",
            "'1' (utterance 'u4'), '1.0' (utterance 'u5')",
        )
    ]


def test_speakers_and_groups_that_look_alike_are_told(make_cache, resolved, caplog):
    rows = [(speaker, {"emotion": emotion, "half": speaker}) for speaker in ("f1", "F1 ", "b", "c") for emotion in "xy"]
    make_cache(manifest=manifest_of(rows))
    resolved(target="emotion", norm_by="half")
    told = [record.getMessage() for record in caplog.records]
    alike = "has values that look alike but are different: 'f1' (utterance 'u0'), 'F1 ' (utterance 'u2')"
    assert told == [f"{column} {alike}; write them the same way" for column in ("speaker_id", "half")]


def test_blanks_are_no_label(make_cache, resolved, caplog):
    make_cache(manifest=labelled("x", "y", "  "))
    resolved()
    [told] = [record.getMessage() for record in caplog.records]
    assert told.startswith(
        "emotion contains only spaces in 4 utterances ('u2', 'u5', 'u8' and 1 more), which counts as a value"
    )


@pytest.mark.parametrize("label", ["nan", "NaN", "1_000", "1,5", "inf", "１２", "0x1", " ", "joy"])
def test_labels_that_are_no_numbers_are_refused_with_their_place(make_cache, resolved, label):
    """Python reads some of these labels as numbers, but readers of the predictions would not."""
    rows = [(speaker, {"arousal": str(value), "valence": "2"}) for speaker in "abcd" for value in (1, 2, 3)]
    manifest = manifest_of(rows)
    manifest[5].labels["arousal"] = label
    manifest[6].labels["valence"] = "3"
    cache = make_cache(manifest=manifest)
    told = rf"^label 'arousal' of utterance 'u5' \(row 7 of {cache}/manifest.csv\) is '{label}', expected a number"
    with pytest.raises(ManifestError, match=told):
        resolved(target="arousal,valence")


AWKWARD = ("nan", "None", "NA", "null", "a,b", "a/b", "a\nb", "a\rb", "\x1b[31m", "x" * 300, "rest", "0")


def test_any_label_is_written_and_read_as_it_is(tmp_path):
    columns = ["seed", "fold", "utterance_id", "speaker_id", "target", "prediction", *(f"p_{one}" for one in AWKWARD)]
    rows = [[1, 1, f"u{one}", one, one, one, *(0.5 for _ in AWKWARD)] for one in AWKWARD]
    write_rows(tmp_path / "predictions.csv", columns, rows)
    found = read_table(tmp_path / "predictions.csv")
    assert list(found.columns) == columns
    for column in ("speaker_id", "target", "prediction"):
        assert found[column].tolist() == list(AWKWARD)


def test_one_class_may_be_called_as_the_others_are(make_cache, resolved):
    make_cache(manifest=labelled("rest", "joy", "anger"))
    assert resolved(target="emotion=rest").config["classes"] == ["no rest", "rest"]
    assert resolved(target="emotion=joy").config["classes"] == ["rest", "joy"]


@pytest.fixture
def partly_labelled(make_cache):
    """Make a cache in which the first utterance of every speaker has no label."""
    manifest = make_manifest("")
    return featcache.open(make_cache(manifest=manifest))


def make_manifest(first):
    return manifest_of((speaker, {"emotion": label}) for speaker in "abcd" for label in (first, "x", "y", "x", "y"))


def test_they_count_in_their_speakers_statistics_and_are_told(partly_labelled, monkeypatch, caplog, quick_reports):
    caplog.set_level(logging.INFO, "featcache")
    cache, seen, unwatched = partly_labelled, [], normalisation.fit_normaliser
    monkeypatch.setattr(normalisation, "fit_normaliser", lambda *a, **k: seen.append(unwatched(*a, **k)) or seen[-1])
    run = fit(**QUICK)
    [normaliser] = seen
    for speaker in "abcd":
        frames = np.concatenate(
            [cache["ssl"][u.utterance_id] for u in cache.manifest if u.speaker_id == speaker], axis=1
        )
        # tolerance of stored and merged float32 statistics
        np.testing.assert_allclose(normaliser.mean_[speaker], frames.mean(axis=1, dtype="f8"), atol=1e-5)
        np.testing.assert_allclose(normaliser.std_[speaker], frames.std(axis=1, dtype="f8"), rtol=1e-5)
    told = "4 of 20 utterances have no label 'emotion'; they are not used for training, validation or testing."
    assert told in caplog.text
    assert told.replace("'", "&#39;") in (run.path / "report.html").read_text(encoding="utf-8")
    assert set(run.predictions["utterance_id"]) == {u.utterance_id for u in cache.manifest if u.labels["emotion"]}
    print_layer_scores([], corpus=None, protocol=None, target=None, task=None, select={}, out=run.path / "probe")
    assert caplog.text.count(told) == 2


def test_what_they_are_is_part_of_the_run(partly_labelled, write_store, resolved):
    cache, runs = partly_labelled, {}
    runs["with"] = resolved()
    assert "unlabelled_sha256" in runs["with"].config
    for norm in ("global", "none"):
        assert "unlabelled_sha256" not in resolved(norm=norm).config
    rows = list(cache.manifest)
    Manifest([replace(u, speaker_id="a") if u.utterance_id == "u5" else u for u in rows]).write(
        cache.path / "manifest.csv"
    )
    runs["other speaker"] = resolved()
    Manifest([u for u in rows if u.utterance_id != "u5"]).write(cache.path / "manifest.csv")
    runs["one less"] = resolved()
    runs["none"] = resolved(select={"emotion": ["x", "y"]})
    assert "unlabelled_sha256" not in runs["none"].config
    assert len({run.path for run in runs.values()}) == 4


def test_where_all_have_a_label_nothing_changes(make_cache, resolved, caplog):
    caplog.set_level(logging.INFO, "featcache")
    make_cache(manifest=make_manifest("y"))
    assert "unlabelled_sha256" not in resolved().config
    assert "have no label" not in caplog.text


def test_utterances_without_a_label_nor_a_speaker_are_no_obstacle(make_cache, resolved):
    rows = [("", {"emotion": ""}), *((speaker, {"emotion": e}) for speaker in "abcd" for e in "xy")]
    make_cache(manifest=manifest_of(rows))
    assert "unlabelled_sha256" not in resolved().config


def test_a_protocol_of_a_part_takes_the_unlabelled_of_that_part_only(make_cache, caplog):
    caplog.set_level(logging.INFO, "featcache")
    rows = [
        (f"{actor:02d}", {"emotion_7": emotion, "vocal_channel": channel})
        for actor in range(19, 25)
        for emotion in ("happy", "sad", "")
        for channel in ("speech", "song")
    ]
    cache = featcache.open(make_cache(manifest=manifest_of(rows)))
    setup = resolve(cache, FitSettings(protocol="pepino2021-speech", **SEEDS))
    assert {u.labels["vocal_channel"] for u in setup.measured} == {"speech"}
    assert (len(setup.manifest), len(setup.measured)) == (12, 18)
    assert [note for note in setup.notes if "of 36" in note] == [
        "12 of 36 utterances have no label 'emotion_7'; they are not used for training, validation or testing.",
        "12 of 36 utterances are not part of protocol 'pepino2021-speech'.",
    ]
