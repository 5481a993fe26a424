"""Loaded heads reproduce predictions.csv from the run folder alone."""

import shutil

import numpy as np
import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file

import featcache
from featcache.cache.identity import StoreIdentity
from featcache.files.checksums import recorded_checksums
from featcache.fitting.fit import fit, sweep
from featcache.manifest import Manifest, Utterance
from featcache.prediction.loaded_run import load_run
from featcache.runs.file_names import NORMALISATION
from featcache.runs.identity import HEAD_INPUTS, STORE_SETTINGS, identity
from tests.runs.saved import SHORT, train

pytestmark = pytest.mark.usefixtures("quick_reports")


# predictions.csv contains six digits of probabilities and seven of values; features and heads are float32.
PREDICTED = 1e-5


# Tolerance of float32 statistics, which are merged from float32 statistics of utterances.
STATISTICS = 1e-5


def features_of(stores, head, utterance_id):
    """Return the layers and frames of each store that the inputs of the head describe."""
    found = []
    for one in head.inputs:
        store = stores[one.store]
        values = store[utterance_id][[store.layer_names.index(name) for name in one.layers]]
        if one.averaged_frames == 2:
            values = np.pad(values, ((0, 0), (0, 2 - values.shape[1] % 2), (0, 0)))
            values = (values[:, ::2] + values[:, 1::2]) / 2
        found.append(values[:, : one.max_frames])
    if any(one.averaged_frames == 2 for one in head.inputs):  # frames of the stores are paired
        shortest = min(values.shape[1] for values in found)
        found = [values[:, :shortest] for values in found]
    return found


def groups_of(cache, head, utterance_ids, by="speaker_id"):
    if head.norm != "speaker":
        return {}
    utterances = [cache.manifest[i] for i in utterance_ids]
    return {"groups": [u.speaker_id if by == "speaker_id" else u.labels[by] for u in utterances]}


def outputs_of(run, cache, head, utterance_ids):
    """Return the outputs of the head as in predictions.csv: (num_utterances, num_outputs)."""
    stores = {one.store: cache[one.store] for one in head.inputs}  # each store is opened once
    features = [list(of_store) for of_store in zip(*(features_of(stores, head, i) for i in utterance_ids), strict=True)]
    by = run.config["norm_by"]
    with torch.inference_mode():
        outputs = head(features, **groups_of(cache, head, utterance_ids, by))
    return outputs.softmax(dim=1) if run.config["task"] == "classification" else outputs


def check_predictions(run, cache):
    """Compare all predictions of a run with the outputs of its loaded heads, one call per fold."""
    classification = run.config["task"] == "classification"
    for (seed, fold), rows in run.predictions.groupby(["seed", "fold"]):
        head = run.head(seed=seed, fold=fold)
        columns = [f"p_{name}" if classification else f"prediction_{name}" for name in head.outputs]
        found = outputs_of(run, cache, head, list(rows["utterance_id"]))
        np.testing.assert_allclose(found, rows[columns].to_numpy("f8"), rtol=PREDICTED, atol=PREDICTED)


HEADS, NORMS = ("dense", "lstm", "fusion", "ffn", "linear"), ("none", "global", "speaker")


@pytest.mark.parametrize(
    ("name", "norm", "task"),
    [
        *((name, norm, "classification") for name in HEADS for norm in NORMS),
        # The outputs are scaled back after the head, so each head and each normalisation occurs once or twice.
        *((name, NORMS[number % 3], "regression") for number, name in enumerate(HEADS)),
    ],
)
def test_loaded_heads_give_the_numbers_of_predictions_csv(cache, name, norm, task):
    stores = ["ssl", "egemaps"] if name == "fusion" else ["ssl"]
    target = "emotion" if task == "classification" else "arousal,valence"
    seeds = (1, 2) if norm == "global" else (2,)
    run = train(head=name, norm=norm, features=stores, target=target, seeds=seeds)
    assert run.config["task"] == task
    check_predictions(load_run(run.path), cache)


@pytest.mark.parametrize(
    "options",
    [
        {"head": "dense", "pooling": "mean", "max_frames": None},
        {"head": "dense", "pooling": "sum", "max_frames": None, "norm": "global"},
        {"head": "lstm", "pooling": "max", "max_frames": None},
        {"head": "dense", "pooling": "mean+max", "max_frames": None, "norm": "none"},
        {"head": "ffn", "layers": "last", "max_frames": None},
        {"head": "ffn", "features": ["text", "egemaps"]},
        {"head": "attentive", "features": ["text", "egemaps"], "norm": "global"},
        {"head": "attentive", "target": "arousal,valence", "norm": "none"},
        {"head": "mlp", "features": ["ssl", "functionals"], "max_frames": None},
        {"head": "fusion", "features": ["ssl", "text"]},
        {"head": "fusion", "features": ["functionals", "egemaps", "ssl"], "layers": "0,2"},
        {"head": "fusion", "features": ["ssl", "functionals"], "pooling": "mean"},
        {"head": "dense", "features": ["functionals"], "norm": "global"},
        {"head": "dense", "features": ["egemaps"], "max_frames": 0},
        {"head": "dense", "layers": "0,2", "layer_weighting": "softmax", "scalar_norm": True},
        {"head": "dense", "norm_by": "half"},
        {"head": "dense", "target": "emotion=joy", "norm": "global"},
        {"head": "svm", "layers": "last"},
        {"head": "svm", "layers": "last", "target": "sex", "norm": "global"},
        {"head": "logistic", "layers": "last"},
        {"head": "logistic", "layers": "last", "target": "sex", "norm": "global"},
        {"head": "svm", "layers": "last", "pooling": "mean+max", "norm": "none"},
        {"head": "svm", "features": ["functionals"], "target": "arousal,valence"},
    ],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_so_do_heads_of_pooled_and_of_several_stores(cache, options):
    check_predictions(train(**{"features": ["ssl"], "seeds": (2,), **options}), cache)


def test_classes_that_were_never_trained_on_are_never_predicted_by_a_loaded_svm(make_cache):
    labels = {"01": "anger", "02": "joy", "03": "sadness", "04": "anger"}
    manifest = Manifest(
        [
            Utterance(
                utterance_id=f"{s}-{n}", path="x.wav", speaker_id=s, labels={"emotion": labels[s] if n else "joy"}
            )
            for s in labels
            for n in range(3)
        ]
    )
    cache = featcache.open(make_cache(manifest=manifest))
    run = fit(head="svm", layers="last", norm="global", protocol="loso", seeds=(1,))
    check_predictions(run, cache)


def test_a_head_is_loaded_ready_for_new_features(cache):
    run = train(norm="speaker", features=["ssl"])
    head = run.head(seed=1, fold=2)
    assert isinstance(head, torch.nn.Module)
    assert not any(module.training for module in head.modules())
    assert {values.device.type for values in head.state_dict().values()} == {"cpu"}
    assert head.outputs == ("anger", "joy", "sadness")
    assert head.groups == ("01", "02", "03", "04")
    [one] = head.inputs
    assert (one.store, one.layers, one.hidden_size, one.frame_shift) == ("ssl", ("0", "1", "2"), 4, 0.02)
    assert (one.max_frames, one.averaged_frames) == (5, 1)


def test_a_run_folder_is_all_that_a_head_needs(cache, tmp_path):
    run = train(features=["ssl"])
    ids = cache.manifest.utterance_ids[:3]
    expected = outputs_of(run, cache, run.head(seed=1, fold=1), ids)
    moved = load_run(shutil.copytree(run.path, tmp_path / "elsewhere"))
    head = moved.head(seed=1, fold=1)
    features = [features_of(cache, head, i)[0] for i in ids]
    shutil.rmtree(tmp_path / "data")
    with torch.inference_mode():
        found = head([features], groups=[i[:2] for i in ids]).softmax(dim=1)
    assert torch.equal(found, expected)


def test_features_are_not_changed_and_utterances_do_not_matter_to_each_other(cache):
    run = train(features=["ssl"])
    head = run.head(seed=1, fold=1)
    ids = list(cache.manifest.utterance_ids)
    features = [features_of(cache, head, i)[0] for i in ids]
    before = [values.copy() for values in features]
    together = outputs_of(run, cache, head, ids)
    with torch.inference_mode():
        alone = torch.cat([head([[x]], groups=[i[:2]]).softmax(dim=1) for x, i in zip(features, ids, strict=True)])
    np.testing.assert_allclose(together, alone, atol=1e-6)  # the order of summation depends on matrix sizes
    assert all(np.array_equal(*pair) for pair in zip(features, before, strict=True))


@pytest.mark.parametrize("norm", ["global", "speaker"])
def test_statistics_of_a_new_speaker_may_be_given(cache, norm):
    run = train(norm=norm, features=["ssl"])
    head = run.head(seed=1, fold=1)
    values = torch.tensor(cache["ssl"]["02-joy-1"][:, :5])
    mean, std = 2 * torch.ones(3, 4), 3 * torch.ones(3, 4)
    with torch.inference_mode():
        found = head([[values]], normalisation=[(mean, std)])
        expected = head.head([[(values - 2) / 3]])
        saved = head([[values]], **({"groups": ["02"]} if norm == "speaker" else {}))
    assert torch.equal(found, expected)
    assert not torch.equal(found, saved)


def plain_statistics(cache, store, utterance_ids):
    together = np.concatenate([cache[store][i].astype("f8") for i in utterance_ids], axis=1)
    return together.mean(axis=1), together.std(axis=1)


@pytest.mark.parametrize("norm", ["global", "speaker"])
def test_the_saved_statistics_are_those_of_the_frames(cache, norm):
    run = train(head="fusion", norm=norm, features=["ssl", "egemaps"], layers="0,2")
    with safe_open(run.path / NORMALISATION, framework="numpy") as tensors:
        groups = yaml.safe_load(tensors.metadata()["groups"])
        found = {name: tensors.get_tensor(name) for name in tensors.keys()}  # noqa: SIM118
    assert groups == (["1", "2", "3", "4"] if norm == "global" else ["01", "02", "03", "04"])
    assert {name: values.shape for name, values in found.items()} == {
        **dict.fromkeys(("ssl.mean", "ssl.std"), (4, 2, 4)),
        **dict.fromkeys(("egemaps.mean", "egemaps.std"), (4, 1, 4)),
    }
    tested = run.predictions.query("seed == 1").groupby("fold")["utterance_id"].agg(set)
    validated = run.validation_predictions.query("seed == 1").groupby("fold")["utterance_id"].agg(set)
    for position, group in enumerate(groups):
        if norm == "global":
            of_group = [i for i in cache.manifest.utterance_ids if i not in tested[int(group)] | validated[int(group)]]
        else:
            of_group = [i for i in cache.manifest.utterance_ids if i.startswith(group)]
        for store, layers in (("ssl", [0, 2]), ("egemaps", [0])):
            for name, expected in zip(("mean", "std"), plain_statistics(cache, store, of_group), strict=True):
                np.testing.assert_allclose(
                    found[f"{store}.{name}"][position], expected[layers], rtol=STATISTICS, atol=STATISTICS
                )


def test_values_that_never_change_become_zero(make_cache, write_store):
    cache = featcache.open(make_cache())
    values = {i: np.array(x) for i, x in cache["ssl"].items()}
    for x in values.values():
        x[:, :, 1] = 7
    write_store(cache.path / "constant", values)
    cache = featcache.open(cache.path)
    run = fit(features=["constant"], norm="global", seeds=(1,), max_epochs=1, protocol="loso")
    check_predictions(run, cache)
    assert np.isinf(load_file(run.path / NORMALISATION)["constant.std"][:, :, 1]).all()


def test_without_normalisation_there_is_no_file(cache):
    run = train(norm="none", features=["ssl"])
    assert not (run.path / NORMALISATION).exists()
    assert NORMALISATION in recorded_checksums(train(features=["ssl"]).path)


def test_how_runs_are_trained_does_not_change_the_saved_statistics(cache):
    options = {**SHORT, "features": ["ssl"], "target": "emotion", "protocol": "loso"}
    alone = fit(**options, norm="global", layers="0,1", name="alone")
    together = sweep(heads=["dense"], norms=["global", "speaker"], layers=["all", "0,1"], **options)
    in_processes = fit(**options, norm="global", layers="0,1", name="jobs", jobs=2)
    [same] = [run for run in together if (run.config["norm"], run.config["layers"]) == ("global", "0,1")]
    contents = {(run.path / NORMALISATION).read_bytes() for run in (alone, same, in_processes)}
    assert len(contents) == 1


def test_what_is_recorded_of_the_inputs_makes_no_other_run(cache):
    run = train(features=["ssl"])
    for key in (HEAD_INPUTS, STORE_SETTINGS):
        assert key in run.config
        assert key not in identity(run.config)
        assert key not in (run.path / "report.html").read_text(encoding="utf-8")


def test_the_settings_of_a_store_have_the_checksum_that_the_run_records(cache):
    run = train(features=["ssl"])
    [settings] = run.config[STORE_SETTINGS].values()
    assert StoreIdentity(settings=settings).fingerprint == run.config["features"]["ssl"]
