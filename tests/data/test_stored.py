"""A cache and runs of an earlier format open as they did, and fitting that cache again gives the same results."""

import os
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

import featcache
from featcache.errors import StoreError
from featcache.fitting.ensemble import ensemble
from featcache.fitting.fit import fit
from featcache.runs.file_names import HEADS, PREDICTIONS
from featcache.runs.identity import ENVIRONMENT, differences

HOME = Path(__file__).parent / "home"
FITTED = ("dense", "linear", "arousal")
# Where the stored runs were made. There results are the same bit for bit; another CPU, release of torch or number of
# threads adds float32 numbers in another order. Weights then differed by 8e-6 at most (torch without AVX2).
MADE_ON, OTHER_MACHINE = "AMD EPYC", 1e-4
# featcache.fit(...) of each run, as tests/data/make.py has it.
SHORT = {"max_epochs": 2, "learning_rate": 0.01}
EMOTION = {**SHORT, "protocol": "random-80-20", "target": "emotion", "seeds": (1, 2)}
SETTINGS = {
    "dense": {**EMOTION, "head": "dense", "norm": "speaker"},
    "linear": {**EMOTION, "head": "linear", "norm": "none"},
    "arousal": {
        **SHORT,
        "head": "linear",
        "norm": "global",
        "protocol": "loso",
        "target": "arousal",
        "task": "regression",
        "label_range": (1, 5),
        "seeds": (1,),
    },
}


@pytest.fixture
def home(tmp_path):
    """A copy, so that no lock and no run is ever written beside the stored files."""
    return shutil.copytree(HOME, tmp_path / "home")


def test_the_store_opens_with_the_numbers_that_were_written(home):
    cache = featcache.open(home / "cache" / "toy")
    store = cache["ssl"]
    assert (len(cache.manifest), cache.manifest.speaker_ids) == (16, ("01", "02", "03", "04"))
    assert (store.layer_names, store.frame_shift, store.hidden_size) == (("0", "1", "2"), 0.02, 4)
    assert store.complete
    assert cache.manifest["03-anger-1"].labels["emotion"] == "anger"
    values = store["03-anger-1"]
    assert values.shape == (3, 5, 4)
    assert values[1, 0].tolist() == [-1.17578125, 2.45703125, -0.344970703125, 1.35546875]
    mean, std = store.mean_and_std(store.utterance_ids)
    np.testing.assert_allclose(mean[0], [0.51702535, 3.02083358, -0.04255601, -0.19260800], rtol=1e-6)
    np.testing.assert_allclose(std[0], [1.02043393, 1.69938742, 0.82366828, 0.86561348], rtol=1e-6)


def test_the_runs_open_with_the_results_that_were_written(home):
    run = featcache.load_run(home / "runs" / "toy" / "dense")
    assert (run.name, run.config["head"], run.config["norm"]) == ("dense", "dense", "speaker")
    assert run.metrics["uar"]["per_seed"] == [75.0, 100.0]
    assert list(run.predictions["utterance_id"].unique()) == ["03-anger-1", "04-joy-1", "04-joy-2"]
    assert run.predictions["p_anger"].tolist() == [0.563466, 0.570719, 0.372076, 0.59475, 0.497036, 0.344434]
    assert list(run.layer_weights["layer"]) == ["0", "1", "2"] * 2
    assert run.layer_weights.groupby("seed")["weight"].sum().tolist() == pytest.approx([1, 1])
    assert len(run.history) == 4
    regression = featcache.load_run("arousal", home=home)
    assert regression.metrics["num_folds"] == 4
    assert regression.predictions["prediction_arousal"].iloc[0] == 1.961201
    vote = featcache.load_run("vote", home=home)
    assert (vote.config["vote"], vote.config["members"]) == ("hard", ["dense", "linear"])
    assert vote.layer_weights.empty


def test_the_heads_load_and_need_statistics_that_were_not_saved_then(home):
    cache = featcache.open(home / "cache" / "toy")
    plain = featcache.load_run("linear", home=home)
    for row in plain.predictions.itertuples():
        with torch.inference_mode():
            found = plain.head(seed=row.seed, fold=row.fold)([[cache["ssl"][row.utterance_id]]]).softmax(dim=1)
        np.testing.assert_allclose(found[0], [row.p_anger, row.p_joy], atol=1e-5)
    head = featcache.load_run("dense", home=home).head(seed=2, fold=1)
    with pytest.raises(
        StoreError,
        match=r"has no normalisation.safetensors, which its heads need and earlier .* write; fit it",
    ):
        head([[cache["ssl"]["03-anger-1"]]], groups=["03"])


@pytest.mark.parametrize("name", FITTED)
def test_the_same_settings_are_the_same_run(home, name, monkeypatch):
    monkeypatch.setattr("featcache.fitting.job.FitJob.train", None)  # nothing is trained
    before = featcache.load_run(name, home=home)
    assert fit(**SETTINGS[name], name=name, home=home).config == before.config


def is_same_machine(run, before):
    cpu = Path("/proc/cpuinfo")
    named = cpu.is_file() and re.search(r"^model name\s*: (.*)$", cpu.read_text(), re.MULTILINE)
    one_thread = os.environ["OMP_NUM_THREADS"] == "1"
    return one_thread and named and named[1] == MADE_ON and run.config[ENVIRONMENT] == before.config[ENVIRONMENT]


@pytest.mark.usefixtures("quick_reports")
@pytest.mark.parametrize("name", FITTED)
def test_fitting_again_gives_the_same_predictions_and_heads(home, name):
    before = featcache.load_run(name, home=home)
    again = fit(**SETTINGS[name], name="again", home=home)
    assert differences(before.config, again.config) == []
    heads = sorted(path.relative_to(before.path) for path in (before.path / HEADS).iterdir())
    assert heads == sorted(path.relative_to(again.path) for path in (again.path / HEADS).iterdir())
    if is_same_machine(again, before):
        for file in (PREDICTIONS, *heads):
            assert (again.path / file).read_bytes() == (before.path / file).read_bytes(), file
    pd.testing.assert_frame_equal(again.predictions, before.predictions, rtol=0, atol=OTHER_MACHINE)
    for file in heads:
        found, expected = load_file(again.path / file), load_file(before.path / file)
        assert found.keys() == expected.keys()
        for key in expected:
            torch.testing.assert_close(found[key], expected[key], rtol=0, atol=OTHER_MACHINE)


@pytest.mark.usefixtures("quick_reports")
def test_voting_again_gives_the_same_predictions(home):
    before = featcache.load_run("vote", home=home)
    again = ensemble(runs=["dense", "linear"], name="again", home=home)
    for file in (PREDICTIONS, "combinations.csv", "config.yaml"):
        assert (again.path / file).read_bytes() == (before.path / file).read_bytes(), file
