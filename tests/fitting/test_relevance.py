"""Layers per target: trainings and probes, existing runs, refusals; equal layers show no peak."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import featcache
from featcache.cli.layers import print_layer_relevance
from featcache.corpora import CORPORA
from featcache.errors import FeatcacheError, ModelError, ProtocolError, StoreError
from featcache.fitting import job
from featcache.fitting.fit import fit
from featcache.fitting.probe import probe_layers
from featcache.fitting.relevance import layer_relevance, relevance_of
from featcache.fitting.resolve import resolve
from featcache.manifest import Manifest, Utterance
from featcache.report.layer_figures import layer_weight_summary
from featcache.runs.reader import finished_runs
from featcache.settings.fits import FitSettings
from featcache.training import batches as windows
from featcache.workspace import Workspace

QUICK = {"seeds": (1, 2), "protocol": "group-kfold", "max_epochs": 2, "learning_rate": 0.01}


@pytest.fixture(autouse=True)
def _wide_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "250")


@pytest.fixture
def manifest(rng):
    labels = ((emotion, rng.uniform(1, 7, 2)) for emotion in ("anger", "joy", "fear") * 8)
    return Manifest(
        [
            Utterance(
                utterance_id=f"u{number}",
                path="x.wav",
                speaker_id="abcd"[number // 6],
                labels={"emotion": emotion, "arousal": f"{values[0]:.2f}", "valence": f"{values[1]:.2f}"},
            )
            for number, (emotion, values) in enumerate(labels)
        ]
    )


@pytest.fixture
def cache(make_cache, manifest, quick_reports):
    return featcache.open(make_cache(manifest=manifest))


@pytest.fixture
def trained(monkeypatch):
    """Record the runs that are written, and the number of times that features are loaded."""
    found = {"runs": [], "copies": 0}
    write_results, load = job.write_results, windows.FeatureWindows.load

    def count(source, ids):
        found["copies"] += 1
        return load(source, ids)

    monkeypatch.setattr(
        job, "write_results", lambda run, setup: found["runs"].append(run.path.name) or write_results(run, setup)
    )
    monkeypatch.setattr(windows.FeatureWindows, "load", count)
    return found


def test_targets_that_train_in_one_pass_learn_what_they_learn_alone(cache, trained):
    [found] = layer_relevance(target="arousal,valence", **QUICK)
    assert (len(trained["runs"]), trained["copies"]) == (2, 1)
    assert list(found.runs) == ["arousal", "valence"]
    assert (found.score, found.chance) == ("ccc", 0)
    for name, run in found.runs.items():
        alone = fit(target=name, task="regression", name=f"alone-{name}", **QUICK)
        pd.testing.assert_frame_equal(run.layer_weights, alone.layer_weights)
        assert run.config["target"] == name


def test_probes_are_of_the_folds_that_the_runs_were_trained_on(cache):
    [found] = layer_relevance(target="arousal,valence", **QUICK | {"protocol": None})
    for name, run in found.runs.items():
        assert run.config["protocol"] == "loso"
        request = FitSettings(target=name, task="regression", seeds=(1,))
        alone = resolve(cache, request)
        expected = probe_layers(cache["ssl"], [alone.target], alone.manifest, alone.folds)
        probes = found.probes[found.probes["target"] == name].reset_index(drop=True)
        pd.testing.assert_frame_equal(probes, expected, rtol=1e-4)  # float32 products in another order


def test_each_class_is_told_from_all_others(cache):
    [found] = layer_relevance(target="emotion", **QUICK)
    assert {name: run.config["target"] for name, run in found.runs.items()} == {
        name: f"emotion={name}" for name in ("anger", "fear", "joy")
    }
    assert (found.score, found.chance) == ("uar", 50)
    assert list(dict.fromkeys(found.probes["target"])) == ["anger", "fear", "joy"]


def test_two_classes_are_one_target(cache):
    [found] = layer_relevance(target="emotion", select={"emotion": ["joy", "fear"]}, **QUICK)
    assert list(found.runs) == ["emotion"]
    assert found.runs["emotion"].config["select"] == {"emotion": ["joy", "fear"]}


def test_dimensions_of_the_corpus_come_before_its_classes(cache, monkeypatch):
    known = replace(CORPORA["emodb"], dimensions={"dominance": (1, 7), "valence": (1, 7)}, classes=("joy", "fear"))
    monkeypatch.setattr(CORPORA, "find", lambda reference: known)
    (cache.path / "corpus.json").write_text(json.dumps({"corpus": "emodb"}))
    assert list(layer_relevance(**QUICK)[0].runs) == ["valence"]
    assert list(layer_relevance(target="emotion", **QUICK)[0].runs) == ["joy", "fear", "anger"]
    monkeypatch.setattr(CORPORA, "find", lambda reference: replace(known, dimensions={}))
    assert list(layer_relevance(**QUICK)[0].runs) == ["joy", "fear", "anger"]


def test_what_is_there_is_not_trained_again_and_what_was_interrupted_goes_on(cache, trained, monkeypatch):
    mine = fit(target="arousal", task="regression", **QUICK)
    [first] = layer_relevance(target="arousal,valence", **QUICK)
    assert first.runs["arousal"].path == mine.path
    assert len(trained["runs"]) == 2
    layer_relevance(target="arousal,valence", **QUICK)
    assert len(trained["runs"]) == 2

    keep = job.UnfinishedRun.keep

    def interrupting(run, seed, *rest):
        keep(run, seed, *rest)
        if seed == 3:
            raise KeyboardInterrupt

    more = QUICK | {"seeds": (1, 3)}
    monkeypatch.setattr(job.UnfinishedRun, "keep", interrupting)
    with pytest.raises(KeyboardInterrupt):
        layer_relevance(target="valence", task="regression", **more)
    kept = []
    monkeypatch.setattr(job.UnfinishedRun, "keep", lambda run, *rest: kept.append(rest[:2]) or keep(run, *rest))
    [found] = layer_relevance(target="valence", task="regression", **more)
    assert 0 < len(kept) < 2 * 4
    assert found.runs["valence"].config["seeds"] == [1, 3]


def test_layers_without_a_number_are_left_out(make_cache, manifest, quick_reports):
    make_cache(manifest=manifest, num_layers=4, stores={"ssl": {"layer_names": ("input", "0", "1", "2")}})
    [found] = layer_relevance(target="arousal,valence", **QUICK)
    assert set(found.runs["arousal"].layer_weights["layer"]) == {"0", "1", "2"}
    assert found.runs["arousal"].config["layers"] == "0,1,2"


def test_pooled_stores_take_the_linear_head(make_cache, manifest, quick_reports):
    make_cache(manifest=manifest, stores={"ssl": {"pool": True}})
    told = r"^ssl contains only statistics \(--pool\), but head 'dense' is trained on frames; use --head linear$"
    with pytest.raises(StoreError, match=told):
        layer_relevance(target="arousal,valence", **QUICK)
    [found] = layer_relevance(target="arousal,valence", head="linear", **QUICK)
    assert len(found.runs["valence"].layer_weights) == 3 * 2 * 4


ONE_LAYER = (
    "^ssl contains only layer 0, and a single layer has no weight to learn; score it with "
    "'featcache probe', or extract all layers into a store with another --name$"
)


@pytest.mark.parametrize(
    ("cache", "names", "options", "error", "told"),
    [
        ({"num_layers": 1}, [], {}, StoreError, ONE_LAYER),
        (
            {"stores": {"egemaps": {"kind": "egemaps"}}},
            ["egemaps"],
            {},
            StoreError,
            "^egemaps has no layers to weight; name a store with the layers of a model$",
        ),
        (
            {"stores": {"egemaps": {"kind": "egemaps"}}},
            [],
            {},
            StoreError,
            "toy has no layers of a model; extract some with 'featcache extract --model NAME'$",
        ),
        (
            {},
            [],
            {"head": "svm"},
            ModelError,
            "^head 'svm' learns no layer weights; use another one, such as --head dense$",
        ),
        ({}, [], {"head": "dens"}, ModelError, "^no head 'dens'; did you mean 'dense'\\?$"),
        (
            {},
            ["ssl", "sll"],
            {},
            StoreError,
            "^no store 'sll'; did you mean 'ssl'\\? \\('featcache extract' with --model or --text makes one in ",
        ),
        ({}, [], {"target": "arousal,emotion"}, FeatcacheError, "is 'anger', expected a number"),
        ({}, [], {"protocol": "los"}, ProtocolError, "no protocol 'los'; did you mean 'loso'"),
    ],
)
def test_what_cannot_be_is_told_before_anything_is_trained(make_cache, manifest, cache, names, options, error, told):
    make_cache(manifest=manifest, **cache)
    with pytest.raises(error, match=told) as raised:
        layer_relevance(names, **{"target": "emotion", **QUICK, **options})
    assert "\n" not in str(raised.value)
    assert finished_runs(Workspace.at()) == []


def test_scores_without_a_common_scale_share_no_figure(cache):
    runs, setups = {}, {}
    for label, request in {
        "numbers": FitSettings(target="arousal", task="regression", seeds=(1,)),
        "classes": FitSettings(target="emotion", seeds=(1,)),
    }.items():
        runs[label], setups[label] = None, resolve(cache, request)
    with pytest.raises(
        StoreError,
        match=r"^'numbers', 'classes' have different scores: expected CCC for all, .*; draw them in separate figures$",
    ):
        relevance_of(runs, setups)


def test_several_stores_get_a_figure_each_and_untrained_ones_are_called_so(
    make_cache, manifest, quick_reports, capsys, tmp_path
):
    make_cache(manifest=manifest, stores={"one": {}, "two": {"weights": "random"}})
    print_layer_relevance([], out=tmp_path / "new" / "layers", target="arousal,valence", **QUICK)
    out = capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        f"layers_{name}.{suffix}" for name in ("one", "two") for suffix in ("csv", "pdf", "png", "svg")
    ]
    assert re.findall("^(.+): dense, speaker normalisation, group-kfold$", out, re.MULTILINE) == [
        "one",
        "two (untrained)",
    ]
    table = pd.read_csv(tmp_path / "new" / "layers_two.csv")
    assert set(table["store"]) == {"two (untrained)"}
    for row in table.itertuples():
        assert f"{row.weight:.4f} ± {row.weight_std:.4f}" in out
        assert f"{row.ccc:.3f} ± {row.ccc_std:.3f}" in out
        assert (Path(tmp_path) / "data" / "runs" / "toy" / row.run / "metrics.json").exists()


def test_many_targets_are_told_by_their_means(make_cache, manifest, quick_reports, capsys):
    emotions = [f"e{number % 5}" for number in range(len(manifest))]
    many = [replace(u, labels={"emotion": emotion}) for u, emotion in zip(manifest, emotions, strict=True)]
    make_cache(manifest=Manifest(many))
    print_layer_relevance(["ssl"], out=None, target="emotion", **QUICK | {"protocol": "random-80-20"})
    out = capsys.readouterr().out
    assert "±" not in out
    path = re.search(r"^(.+layer_relevance_ssl)\.png  \.svg  \.pdf  \.csv$", out, re.MULTILINE)[1]
    table = pd.read_csv(f"{path}.csv")
    assert table["uar_std"].isna().all()  # a single fold
    for row in table.itertuples():
        assert re.search(rf"^{row.layer} .*{row.weight:.4f}", out, re.MULTILINE)
        assert re.search(rf"^{row.layer} .* {row.uar:.1f}", out, re.MULTILINE)


# Five seeds have the mean m and the standard deviation s (ddof = 0): 2 (m - 1/N) / s follows Student's t with four
# degrees of freedom if only the seeds cause differences between layers, and exceeds 6 in one of 250 draws.
BARS = 3
LAYERS, SIZE = 5, 10


@pytest.fixture
def equal_and_unequal(write_store, make_cache, quick_reports):
    """Make untrained stores: layers of ``equal`` have the same dimensions, only layer 3 of ``peak`` has information."""
    rng = np.random.default_rng(5)
    manifest = Manifest(
        [
            Utterance(
                utterance_id=f"{speaker}-{number}",
                path="x.wav",
                speaker_id=speaker,
                labels={name: f"{rng.uniform(1, 7):.3f}" for name in ("arousal", "valence")},
            )
            for speaker in "abc"
            for number in range(16)
        ]
    )
    folder = make_cache(manifest=manifest)
    stores = {"equal": {}, "peak": {}}
    for utterance in manifest:
        values = rng.normal(size=(rng.integers(4, 9), SIZE))
        for column, label in enumerate(utterance.labels.values()):
            values[:, column] += 2 * (float(label) - 4)
        noise = rng.normal(size=(LAYERS, *values.shape))
        noise[3] = values
        stores["peak"][utterance.utterance_id] = noise.astype(np.float32)
        turned = [np.roll(values, 2 * layer, axis=1) for layer in range(LAYERS)]
        stores["equal"][utterance.utterance_id] = np.stack(turned).astype(np.float32)
    for name, features in stores.items():
        write_store(folder / name, features, weights="random")


def test_layers_that_all_carry_a_target_alike_show_no_peak_beyond_the_error_bars(equal_and_unequal):
    """Heads start with equal dimensions, so over seeds, differences between layers of ``equal`` are random."""
    training = {"learning_rate": 0.005, "max_epochs": 40, "batch_size": 8}
    found = layer_relevance(
        ["equal", "peak"], target="arousal,valence", **training, seeds=(1, 2, 3, 4, 5), task="regression"
    )
    for store, one in zip(("equal", "peak"), found, strict=True):
        for run in one.runs.values():
            assert run.metrics["ccc"]["mean"] > 0.1  # the head has learned
            summary = layer_weight_summary(run.layer_weights.astype({"layer": int}))
            bars = (summary["mean"] - 1 / LAYERS) / summary["std"]
            assert (summary["std"] > 0).all()
            if store == "equal":
                assert bars.abs().max() < BARS
            else:
                assert bars.idxmax() == 3
                assert bars[3] > BARS
