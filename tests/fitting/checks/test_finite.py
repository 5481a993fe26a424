"""Features that are not finite are refused before anything is trained."""

import re
from dataclasses import replace

import h5py
import numpy as np
import pytest

import featcache
from featcache.cache import layout
from featcache.cache.seal import seal
from featcache.cache.statistics import of_frames
from featcache.cache.writer import Record, StoreWriter
from featcache.cli import app as cli
from featcache.cli.layers import print_layer_scores
from featcache.errors import FeatureError
from featcache.features import Description
from featcache.fitting import job
from featcache.fitting.common_options import options_for
from featcache.fitting.fit import fit
from featcache.manifest import Manifest
from featcache.training import finite
from tests.fitting.checks.checked_caches import BAD, QUICK


def write_as_it_is(folder, features, storage_dtype="float32"):
    """Write a store with correct checksums and any features, also those that an extraction refuses."""
    layers = next(iter(features.values())).shape[0]
    description = Description(
        dataset="hidden_states",
        layer_names=tuple(map(str, range(layers))),
        hidden_size=4,
        frame_shift=0.02,
        sampling_rate=16000,
        channel="mean",
        settings={"extractor": "ssl", "weights": "pretrained"},
        provenance={"num_blocks": layers - 1},
    )
    writer = StoreWriter(folder, description, storage_dtype)
    given = {"duration": 1.0, "audio_sha256": "", "start": None, "end": None}
    with np.errstate(all="ignore"):
        records = [
            Record(utterance_id=i, features=values.astype(storage_dtype), statistics=of_frames(values), **given)
            for i, values in features.items()
        ]
    writer.write_shard(records)
    writer.finish(list(features), failed=[])


def spoil(cache, value, *, layer=1, name="bad"):
    """Copy the store of a cache, and change one value in one frame of one utterance."""
    features = {i: np.array(cache["ssl"][i]) for i in cache.manifest.utterance_ids}
    features[BAD][layer, 1, 2] = value
    write_as_it_is(cache.path / name, features)


TOLD = (
    r"bad: the features of 1 of 16 utterances are NaN, infinite or too large to be normalised \('02-joy-1'\); extract"
)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "options",
    [
        {"head": "dense"},
        {"head": "dense", "norm": "none"},
        {"head": "lstm", "norm": "global"},
        {"head": "linear", "layers": "1"},
        {"head": "svm", "layers": "1"},
        {"head": "ffn", "layers": "1"},
        {"head": "ffn"},
        {"head": "fusion", "features": ["ssl", "bad"]},
    ],
)
def test_features_that_are_not_finite_are_refused_before_training(make_cache, monkeypatch, value, options):
    cache = featcache.open(make_cache())
    spoil(cache, value)
    monkeypatch.setattr(job.FitJob, "carry_out", lambda *_, **__: pytest.fail("something was trained"))
    with pytest.raises(FeatureError, match=TOLD) as told:
        fit(**{"features": ["bad"], **options_for(options.get("head", ""), QUICK), **options})
    assert "\n" not in str(told.value)


def test_layers_and_utterances_that_take_no_part_may_be_anything(make_cache, quick_reports):
    cache = featcache.open(make_cache())
    spoil(cache, np.nan)
    fit(features=["bad"], layers="0", **QUICK)
    print_layer_scores(["ssl"], corpus=None, protocol=None, target=None, task=None, select={}, out=None)
    manifest = [replace(u, labels={"emotion": ""}) if u.utterance_id == BAD else u for u in cache.manifest]
    Manifest(manifest).write(cache.path / "manifest.csv")
    fit(features=["bad"], norm="global", **QUICK)
    with pytest.raises(FeatureError, match=TOLD):  # an utterance without a label is part of the speaker's statistics
        fit(features=["bad"], norm="speaker", **QUICK)


@pytest.mark.parametrize("command", ["probe", "relevance"])
def test_probes_refuse_them_too(make_cache, monkeypatch, capsys, command):
    cache = featcache.open(make_cache())
    spoil(cache, np.nan)
    monkeypatch.setattr("sys.argv", ["x", command, "bad"])
    with pytest.raises(SystemExit) as exited:
        cli.main()
    assert exited.value.code == 1
    assert re.search(f"^error: .*{TOLD}", capsys.readouterr().err, re.MULTILINE)


@pytest.mark.parametrize(("norm", "value"), [("speaker", 1e25), ("global", 1e25), ("none", 1e38)])
def test_features_whose_statistics_overflow_are_refused(make_cache, norm, value):
    """A standard deviation that overflows float32 would silently turn a dimension into zeros."""
    cache = featcache.open(make_cache())
    features = {i: np.array(cache["ssl"][i]) for i in cache.manifest.utterance_ids}
    features[BAD][1, :, 2] = [value * (-1) ** i for i in range(features[BAD].shape[1])]
    if norm == "none":
        features[BAD][1, :, :] = 3e38
    write_as_it_is(cache.path / "bad", features)
    with pytest.raises(FeatureError, match=TOLD):
        fit(features=["bad"], norm=norm, **QUICK)


def test_frames_that_do_not_fit_their_statistics_are_refused_when_they_are_read(make_cache):
    """The frames have correct checksums, but the statistics belong to other frames."""
    cache = featcache.open(make_cache())
    path = cache.path / "ssl" / "shard-00000.h5"
    with h5py.File(path, "r+") as file:
        stored = file["hidden_states"]
        values = stored[()]
        first = file["utterances"]["first_frame"][list(cache["ssl"]).index(BAD)]
        values[1, first, 0] = np.nan
        stored[...] = values
        stored.attrs["crc32"] = layout.crc32([values])
    seal(path, [])
    with pytest.raises(FeatureError, match=r"ssl: the features of 1 of 16 utterances are NaN, .* \('02-joy-1'\)"):
        fit(**QUICK)


def test_what_a_working_copy_cannot_hold_is_refused(make_cache, quick_reports):
    cache = featcache.open(make_cache())
    features = {i: np.array(cache["ssl"][i]) for i in cache.manifest.utterance_ids}
    features[BAD][1, :, 2] = 1e6
    write_as_it_is(cache.path / "bad", features)
    with pytest.raises(FeatureError, match=rf"{TOLD}.*; features fit in memory as float16"):
        fit(features=["bad"], norm="none", memory="float16", **QUICK)
    fit(features=["bad"], norm="none", memory="float32", **QUICK)


def test_statistics_are_looked_at_in_chunks(make_cache, monkeypatch):
    monkeypatch.setattr(finite, "CHUNK", 3)
    cache = featcache.open(make_cache())
    spoil(cache, np.nan)
    with pytest.raises(FeatureError, match=TOLD):
        fit(features=["bad"], **QUICK)
