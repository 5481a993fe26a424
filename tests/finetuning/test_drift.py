"""``layers RUN`` of a fine-tuned run: linear CKA and mean cosine of fine-tuned and pretrained layers."""

import numpy as np
import pandas as pd
import pytest
import torch
import transformers

import featcache
from featcache.audio import read
from featcache.cache.reader import FeatureStore
from featcache.cli.layers import print_layers
from featcache.errors import FeatcacheError, StoreError
from featcache.extraction import extract
from featcache.fitting.drift import LayerSimilarity, layer_drift

# float32 products of centred frames; hidden states of the same model in another program.
CLOSE = 1e-5


def plain_cka(one, other):
    """Return linear CKA as Kornblith et al. 2019 define it, from Gram matrices of all frames in float64."""
    grams = []
    for values in (one, other):
        centred = values.astype(np.float64) - values.mean(axis=0, dtype=np.float64)
        grams.append(centred @ centred.T)
    hsic = [(grams[i] * grams[j]).sum() for i, j in ((0, 1), (0, 0), (1, 1))]
    return hsic[0] / np.sqrt(hsic[1] * hsic[2])


def cosine(one, other):
    one, other = one.astype(np.float64), other.astype(np.float64)
    return np.mean((one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1))


def test_similarities_are_those_of_all_frames_together():
    rng = np.random.default_rng(0)
    one = rng.normal(size=(90, 6)).astype(np.float32) + 50  # far from 0, as some values of real models
    other = (one @ rng.normal(size=(6, 6)) + rng.normal(size=(90, 6))).astype(np.float32)
    for pair in ((one, other), (one, one), (one, one[:, ::-1].copy() * 3)):
        found = LayerSimilarity()
        for part in (slice(0, 20), slice(20, 21), slice(21, 90)):
            found.add(*(torch.from_numpy(values[part]) for values in pair))
        assert found.cka == pytest.approx(plain_cka(*pair), abs=CLOSE)
        assert found.cosine == pytest.approx(cosine(*pair), abs=CLOSE)
    assert np.isnan(LayerSimilarity().cka)


@pytest.fixture(scope="module")
def run(place):
    return place.finetune(name="moved", seeds=(1, 2), layers="all", blocks_learning_rate=1e-3)


def test_the_drift_is_that_between_two_models_of_transformers(place, run):
    found = layer_drift(run, place.workspace)
    assert list(found.columns) == ["features", "seed", "fold", "layer", "cka", "cosine", "num_frames"]
    assert len(found) == 2 * 3 * 2  # seeds, folds, layers
    seed, fold = 2, 3
    ids = run.validation_predictions.query("seed == @seed and fold == @fold")["utterance_id"]
    manifest = featcache.open(place.workspace.cache("toy")).manifest.subset(list(ids))
    folders = (place.models["ssl"], run.path / "models" / "ssl" / f"seed-{seed}-fold-{fold}")
    prepare = transformers.AutoFeatureExtractor.from_pretrained(folders[0])
    layers = []
    for folder in folders:
        model, states = transformers.AutoModel.from_pretrained(folder).eval(), []
        for utterance in manifest:
            signal = read(place.workspace.corpus("toy"), utterance).signal(channel="mean", sampling_rate=16000)
            values = prepare(signal.samples, sampling_rate=16000, return_tensors="pt").input_values
            with torch.no_grad():
                states.append(torch.stack(model(values, output_hidden_states=True).hidden_states)[:, 0].numpy())
        layers.append(np.concatenate(states, axis=1))
    rows = found.query("seed == @seed and fold == @fold").set_index("layer")
    for layer in (2, 3):
        pair = [of_model[layer] for of_model in layers]
        assert rows.loc[layer, "cka"] == pytest.approx(plain_cka(*pair), abs=CLOSE)
        assert rows.loc[layer, "cosine"] == pytest.approx(cosine(*pair), abs=CLOSE)
        assert rows.loc[layer, "num_frames"] == len(pair[0])
    assert found["cosine"].max() < 1 - CLOSE


def test_models_that_were_not_trained_have_not_moved(place):
    control = place.finetune(name="control", blocks_learning_rate=0, max_epochs=1)
    found = layer_drift(control, place.workspace)
    np.testing.assert_allclose(found[["cka", "cosine"]], 1, atol=CLOSE)


def test_layers_that_are_not_stored_are_computed_by_the_pretrained_blocks(place, run):
    common = {"corpus": "toy", "egemaps": False, "workers": 1, "home": place.workspace.home, "store": "float32"}
    extract(model=place.models["ssl"], name="first", layers="0,1", **common)
    place.models["first"] = place.models["ssl"]
    lower = place.finetune(features="first", seeds=(1,), layers="all", blocks_learning_rate=1e-3)
    with pytest.raises(FeatcacheError, match=r"^first: its model was a folder .*; .* --model FOLDER$"):
        layer_drift(lower, place.workspace)
    found = layer_drift(lower, place.workspace, [place.models["ssl"]])
    whole = layer_drift(run, place.workspace).query("seed == 1").reset_index(drop=True)
    pd.testing.assert_frame_equal(
        found.drop(columns="features"), whole.drop(columns="features"), check_exact=False, atol=CLOSE, rtol=0
    )


def test_utterances_that_are_not_stored_are_told(place, run, monkeypatch, caplog):
    ids = list(dict.fromkeys(run.validation_predictions["utterance_id"]))
    contains, gone = FeatureStore.__contains__, {ids[0]}
    monkeypatch.setattr(FeatureStore, "__contains__", lambda store, one: one not in gone and contains(store, one))
    found = layer_drift(run, place.workspace)
    assert f"ssl: 1 of {len(ids)} validation utterances of moved are not in the store and are left out" in caplog.text
    assert found["num_frames"].sum() < layer_drift_of_all(place, run, monkeypatch)["num_frames"].sum()
    gone.update(ids)
    monkeypatch.setattr(FeatureStore, "__contains__", lambda store, one: one not in gone and contains(store, one))
    with pytest.raises(StoreError, match=rf"{len(ids)} of {len(ids)} validation utterances of moved are not in the"):
        layer_drift(run, place.workspace)


def layer_drift_of_all(place, run, monkeypatch):
    monkeypatch.undo()
    return layer_drift(run, place.workspace)


def test_padding_of_whisper_is_left_out(place):
    whisper = place.finetune(features="whisper", from_layer=2, max_epochs=1, name="padded")
    ids = whisper.validation_predictions.query("fold == 1")["utterance_id"]
    store = featcache.open(place.workspace.cache("toy"))["whisper"]
    found = layer_drift(whisper, place.workspace, [place.models["whisper"]])
    assert found.query("fold == 1")["num_frames"].iloc[0] == store.num_frames(list(ids)).sum()


def test_the_command_draws_and_prints_both(place, run, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("FEATCACHE_HOME", str(place.workspace.home))
    out = tmp_path / "figure"
    print_layers([str(run.path)], corpus=None, out=out)
    printed = capsys.readouterr().out
    assert "CKA" in printed
    assert "cosine" in printed
    assert {f"figure_drift.{suffix}" for suffix in ("png", "svg", "pdf", "csv")} <= {p.name for p in tmp_path.iterdir()}
    drawn = pd.read_csv(f"{out}_drift.csv")
    assert len(drawn) == 12
    last = place.finetune(name="last-only", max_epochs=1)
    print_layers([str(last.path)], corpus=None, out=None)
    assert "CKA" in capsys.readouterr().out
    assert (last.path / "layer_drift.csv").is_file()
