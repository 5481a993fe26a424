"""Fits that are not possible are refused in one line."""

import pytest

from featcache.errors import FeatcacheError, ManifestError, ModelError, ProtocolError, StoreError
from featcache.runs.reader import finished_runs
from featcache.workspace import Workspace
from tests.fitting.fit.noise import ONE_SPEAKER_EACH, in_parts, manifest_of


def test_a_single_layer_has_no_weights(make_cache, train):
    make_cache()
    run = train(layers="local")
    assert (run.path / "layer_weights.csv").read_text() == "seed,fold,layer,weight,features\n"
    assert not (run.path / "layer_weights.png").exists()
    assert run.layer_weights.empty
    assert run.config["layers"] == "local"
    assert "_local_" in run.name


def test_layers_without_a_number_are_weighed_but_not_drawn(make_cache, train):
    make_cache(stores={"ssl": {"layer_names": ("0", "1", "input")}})
    run = train()
    assert set(run.layer_weights["layer"]) == {"0", "1", "input"}
    assert not (run.path / "layer_weights.png").exists()


def test_the_last_layer_alone_can_be_asked_for_where_it_is_all_there_is(make_cache, train):
    make_cache(num_layers=1, stores={"ssl": {"layer_names": ("12",), "provenance": {"num_blocks": 12}}})
    assert train(layers="last").config["layers"] == "last"


def test_features_without_layers_or_frames(make_cache, train):
    make_cache(stores={"egemaps": {"kind": "egemaps"}, "functionals": {"kind": "functionals"}})
    for name in ("egemaps", "functionals"):
        run = train(features=name)
        assert run.config["features"].keys() == {name}
        assert run.config["layers"] == "-"
        with pytest.raises(ManifestError, match=f"--layers 0 does not apply: {name} has no layers"):
            train(features=[name], layers="0")


EVENLY = [(speaker, {"emotion": emotion}) for speaker in "abcd" for emotion in ("anger", "joy")]


SSL_AND_EGEMAPS = {"ssl": {}, "egemaps": {"kind": "egemaps"}}


@pytest.mark.parametrize(
    ("cache", "options", "error", "message"),
    [
        ({}, {"target": "emotoin"}, ManifestError, "no utterance has a label 'emotoin'; .*columns are: emotion"),
        ({}, {"protocol": "lsoo"}, ProtocolError, "no protocol 'lsoo'; did you mean 'loso'"),
        ({}, {"features": ["sls"]}, StoreError, "no store 'sls'; did you mean 'ssl'"),
        ({}, {"features": "sls"}, StoreError, "no store 'sls'; did you mean 'ssl'"),
        ({}, {"head": "danse"}, ModelError, "no head 'danse'; did you mean 'dense'"),
        (
            {},
            {"norm": "speeker"},
            ModelError,
            "norm takes speaker, global or none, got 'speeker'; did you mean 'speaker'",
        ),
        ({}, {"layer_weighting": "abc"}, ModelError, "--layer-weighting takes abs or softmax, got 'abc'"),
        ({}, {"layers": "1,7"}, ModelError, "no layer '7' among 0, 1, 2; expected all"),
        ({}, {"select": {"emotion": ["jyo"]}}, ManifestError, "has emotion 'jyo'; values of emotion: 'anger', 'joy'"),
        ({}, {"select": {"gender": ["male"]}}, ManifestError, "no utterance has a label 'gender'"),
        ({}, {"select": {"emotion": "joy"}}, ManifestError, "label 'emotion' has one class only, 'joy'"),
        ({}, {"head": "fusion"}, StoreError, "no store 'egemaps'; .*--model egemaps"),
        ({}, {"head": "fusion", "features": ["ssl"]}, ModelError, "takes two or more feature stores, found 1"),
        (
            {"stores": SSL_AND_EGEMAPS},
            {"features": ["ssl", "egemaps"]},
            ModelError,
            "use 'fusion', 'attentive', 'ffn' or 'mlp' for several",
        ),
        ({"stores": {"a": {}, "b": {}}}, {}, StoreError, "has several models: a, b; choose one with --features NAME"),
        (
            {"stores": {"e": {"kind": "egemaps"}}},
            {},
            StoreError,
            "has no model, only e; add --features e, or extract a model",
        ),
        (
            {"stores": {"ssl": {"complete": False}}},
            {},
            StoreError,
            "not finished: it contains 16 of 16 .* extract' again to continue$",
        ),
        (
            {"manifest": manifest_of(*((s, {"emotion": e, "sex": "f"}) for s in "abc" for e in "xy"))},
            {},
            ManifestError,
            r"which label to predict\? choose with --target: emotion, sex$",
        ),
        ({"manifest": manifest_of(*EVENLY[:4])}, {}, ProtocolError, "found 2 speakers .* expected at least 3"),
        (
            {"manifest": manifest_of(*(("", {"emotion": e}) for e in "xyxyxy"))},
            {"protocol": "loso"},
            ProtocolError,
            "6 of 6 utterances have no speaker_id",
        ),
        (
            {"manifest": manifest_of(*((s, {"emotion": e}) for e in "xyxyxyxyxyxy" for s in ("", "a")))},
            {"protocol": "random-80-20"},
            ManifestError,
            "12 utterances have no speaker_id .* which --norm speaker needs; .* use --norm global",
        ),
        (
            {"manifest": in_parts(**{**ONE_SPEAKER_EACH, "train": []})},
            {"target": "emotion"},
            ProtocolError,
            "fold '1' has no train utterances",
        ),
        (
            {"manifest": in_parts(**{**ONE_SPEAKER_EACH, "train": [("s1", "joy")]})},
            {"target": "emotion"},
            ProtocolError,
            "fold '1' trains on one class of 'emotion' only, 'joy'; use another protocol",
        ),
    ],
)
def test_what_cannot_be_fitted_is_told_in_one_line(make_cache, train, cache, options, error, message):
    make_cache(**cache)
    with pytest.raises(error, match=message) as told:
        train(**options)
    assert "\n" not in str(told.value)
    assert isinstance(told.value, FeatcacheError)
    assert finished_runs(Workspace.at()) == []


def test_without_a_cache_or_with_several_the_way_out_is_told(make_cache, resolve):
    with pytest.raises(StoreError, match=r"no cache under .*; make one with 'featcache extract"):
        resolve()
    make_cache("one")
    assert resolve().path.parent.name == "one"
    make_cache("two")
    with pytest.raises(StoreError, match=r"several caches under .*; which corpus\? --corpus one or --corpus two"):
        resolve()
    assert resolve(corpus="two").config["corpus"] == "two"
    with pytest.raises(StoreError, match=r"no cache 'three' under .* \(available: one, two\)"):
        resolve(corpus="three")
