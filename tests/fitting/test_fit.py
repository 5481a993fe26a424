"""A whole fit, from a cache of noise to its run folder: what it promises, what it refuses, what must not matter."""

import json
import logging
import math
import os
import threading
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score

import featcache
from featcache.cache.reader import FeatureStore
from featcache.errors import FeatcacheError, ManifestError, ModelError, ProtocolError, StoreError
from featcache.files.checksums import CHECKSUMS
from featcache.fitting import fit as fitting
from featcache.fitting import job, normalisation, notes, results
from featcache.fitting.fit import first_seeds, fit
from featcache.heads import create_head
from featcache.heads.packed import packed_bytes
from featcache.manifest import Manifest, Utterance
from featcache.protocols import make_folds
from featcache.runs.file_names import METRICS
from featcache.runs.identity import COMPUTED
from featcache.runs.reader import RunFolder, finished_runs
from featcache.runs.writer import write_json
from featcache.training.memory import DTYPES
from featcache.training.train import Training
from featcache.workspace import Workspace

# predictions.csv has six digits; the features behind them are z-scores in float32 of stored float32 statistics.
PROBABILITIES = 1e-5
# float32 weights, and as many roundings as there are layers.
SUM_OF_WEIGHTS = 1e-6

TABLES = (
    "predictions.csv",
    "validation_predictions.csv",
    "metrics.json",
    "history.csv",
    "layer_weights.csv",
    "config.yaml",
)


@pytest.fixture
def train(quick_reports):
    """Fit with two seeds and two epochs, unless told otherwise."""

    def run(*, seeds=(1, 2), training=None, **options):
        return fit(seeds=seeds, training={"max_epochs": 2, "learning_rate": 0.01, **(training or {})}, **options)

    return run


@pytest.fixture
def resolve(train, monkeypatch):
    """Fit without training, for what only the settings tell."""
    monkeypatch.setattr(job.FitJob, "train", lambda *_: (_ for _ in ()))
    monkeypatch.setattr(job, "write_results", lambda run, setup: write_json(run.folder / METRICS, {}))
    return train


def manifest_of(*rows):
    """From (speaker, labels)."""
    return Manifest(
        [
            Utterance(utterance_id=f"u{number}", path=f"{number}.wav", speaker_id=speaker, labels=labels)
            for number, (speaker, labels) in enumerate(rows)
        ]
    )


def in_parts(**parts):
    """A manifest with a split: part → (speaker, emotion) pairs."""
    return manifest_of(
        *((speaker, {"emotion": emotion, "split": part}) for part, rows in parts.items() for speaker, emotion in rows)
    )


ONE_SPEAKER_EACH = {
    "train": [("s1", "anger"), ("s1", "joy"), ("s1", "joy")],
    "validation": [("s2", "anger"), ("s2", "joy")],
    "test": [("s3", "anger"), ("s3", "joy")],
}


def files_of(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def bytes_of(run, *names):
    return {name: (run.path / name).read_bytes() for name in names or files_of(run.path)}


def test_a_run_folder_holds_all_that_is_promised(make_cache):
    cache = featcache.open(make_cache())
    run = fit(seeds=(1, 2), training={"max_epochs": 2}, name="first")
    heads = [f"heads/seed-{seed}-fold-{fold}.safetensors" for seed in (1, 2) for fold in (1, 2, 3, 4)]
    pictures = [
        f"{name}.{suffix}"
        for name in ("confusion_matrix", "layer_weights", "training_curves")
        for suffix in ("png", "svg")
    ]
    classes = [f"classification_report.{suffix}" for suffix in ("csv", "txt")]
    classes += ["confusion_matrix.csv", "confusion_matrix_normalised.csv"]
    others = ["report.html", "layer_weights_summary.csv", "normalisation.safetensors", CHECKSUMS]
    assert files_of(run.path) == sorted([*heads, *pictures, *TABLES, *classes, *others])
    assert (run.path / "confusion_matrix.png").read_bytes().startswith(b"\x89PNG")
    assert "first" in (run.path / "report.html").read_text(encoding="utf-8")
    assert run.path.name == "first"

    predictions = pd.read_csv(run.path / "predictions.csv", dtype={"speaker_id": str})
    columns = ["seed", "fold", "utterance_id", "speaker_id", "target", "prediction", "p_anger", "p_joy"]
    assert list(predictions.columns) == columns
    assert sorted(predictions["utterance_id"]) == sorted(2 * cache.manifest.utterance_ids)
    np.testing.assert_allclose(predictions[["p_anger", "p_joy"]].sum(axis=1), 1, atol=PROBABILITIES)
    assert (predictions["prediction"] == np.where(predictions["p_anger"] > 0.5, "anger", "joy")).all()
    assert (predictions["utterance_id"] == predictions["speaker_id"] + predictions["utterance_id"].str[2:]).all()

    validation = pd.read_csv(run.path / "validation_predictions.csv", dtype={"speaker_id": str})
    assert list(validation.columns) == columns
    folds = make_folds("loso", cache.manifest, "emotion")
    for table, part in ((predictions, "test"), (validation, "validation")):
        found = list(table[["fold", "seed", "utterance_id"]].itertuples(index=False, name=None))
        ids = [(number, list(getattr(fold, part))) for number, fold in enumerate(folds, start=1)]
        assert found == [(number, seed, i) for number, of_fold in ids for seed in (1, 2) for i in of_fold]

    history = pd.read_csv(run.path / "history.csv")
    assert list(history.columns) == ["seed", "fold", "epoch", "train_loss", "validation_loss", "validation_uar"]
    assert len(history) == 2 * 4 * 2
    weights = pd.read_csv(run.path / "layer_weights.csv")
    assert list(weights.columns) == ["seed", "fold", "layer", "weight", "features"]
    assert weights["layer"].tolist() == 8 * [0, 1, 2]
    np.testing.assert_allclose(weights.groupby(["seed", "fold"])["weight"].sum(), 1, rtol=SUM_OF_WEIGHTS)

    again = fit(seeds=(1, 2), training={"max_epochs": 2}, name="first", overwrite=True)
    assert bytes_of(again) == bytes_of(run)


def test_metrics_are_those_of_the_predictions(make_cache, train):
    make_cache()
    run = train(seeds=(1, 2, 3))
    predictions = run.predictions
    per_seed = {
        name: [100 * score(rows["target"], rows["prediction"]) for _, rows in predictions.groupby("seed")]
        for name, score in {
            "uar": balanced_accuracy_score,
            "wa": accuracy_score,
            "macro_f1": lambda target, prediction: f1_score(target, prediction, average="macro"),
        }.items()
    }
    for name, values in per_seed.items():
        found = run.metrics[name]
        assert found["per_seed"] == pytest.approx(values)
        assert found["mean"] == pytest.approx(np.mean(values))
        assert found["std"] == pytest.approx(np.std(values, ddof=1))
        assert 0 <= found["ci95"][0] <= found["ci95"][1] <= 100
    by_fold = predictions.groupby(["seed", "fold"])
    assert run.metrics["uar"]["mean_over_folds"] == pytest.approx(
        100 * np.mean([balanced_accuracy_score(rows["target"], rows["prediction"]) for _, rows in by_fold])
    )
    assert (run.metrics["num_folds"], run.metrics["num_seeds"]) == (4, 3)


def plain_features(frames, norm, utterance_id, speaker_of, train):
    """What a head sees, from the frames of all utterances, halved."""
    halved = frames[utterance_id].shape[0] == 1
    values = frames[utterance_id].astype("f8")
    if halved:
        padded = np.pad(values, ((0, 0), (0, 2 - values.shape[1] % 2), (0, 0)))
        values = (padded[:, ::2] + padded[:, 1::2]) / 2
    return z_scores(frames, values, norm, utterance_id, speaker_of, train)


def z_scores(frames, values, norm, utterance_id, speaker_of, train):
    """Some values of an utterance, normalised with statistics in one go, of every frame."""
    if norm != "none":
        group = train if norm == "global" else [i for i in frames if speaker_of[i] == speaker_of[utterance_id]]
        together = np.concatenate([frames[i].astype("f8") for i in group], axis=1)
        values = (values - together.mean(axis=1, keepdims=True)) / together.std(axis=1, keepdims=True)
    return torch.tensor(values, dtype=torch.float32)


@pytest.mark.parametrize(
    ("head", "norm", "layers"),
    [
        ("dense", "speaker", "all"),
        ("dense", "global", "all"),
        ("dense", "none", "0,2"),
        ("lstm", "global", "last"),
        ("fusion", "global", "local"),
        ("fusion", "speaker", "all"),
    ],
)
def test_saved_heads_give_the_probabilities_of_predictions_csv(make_cache, train, head, norm, layers):
    cache = featcache.open(make_cache(stores={"ssl": {}, "egemaps": {"kind": "egemaps"}}))
    stores = ["ssl", "egemaps"] if head == "fusion" else ["ssl"]
    run = train(head=head, norm=norm, layers=layers, max_frames=5, layer_weighting="softmax")
    chosen = [{"all": [0, 1, 2], "local": [0], "last": [2], "0,2": [0, 2]}[layers], [0]][: len(stores)]
    frames = [{i: cache[store][i] for i in cache.manifest.utterance_ids} for store in stores]
    speaker_of = {utterance.utterance_id: utterance.speaker_id for utterance in cache.manifest}
    rows = run.predictions.set_index(["seed", "fold", "utterance_id"])
    learned = run.layer_weights
    folds = make_folds("loso", cache.manifest, "emotion")
    for number, fold in enumerate(folds, start=1):
        for seed in (1, 2):
            model = create_head(
                head,
                num_layers=[len(positions) for positions in chosen],
                hidden_sizes=[4] * len(stores),
                num_outputs=2,
                layer_weighting="softmax",
                seed=0,
            ).eval()
            model.load_state_dict(load_file(run.path / "heads" / f"seed-{seed}-fold-{number}.safetensors"))
            for utterance_id in fold.test:
                inputs = [
                    plain_features(of_store, norm, utterance_id, speaker_of, fold.train)[positions, :5]
                    for of_store, positions in zip(frames, chosen, strict=True)
                ]
                shortest = min(values.shape[1] for values in inputs)
                with torch.no_grad():
                    probabilities = model([[values[:, :shortest]] for values in inputs])[0].softmax(0)
                row = rows.loc[(seed, number, utterance_id)]
                np.testing.assert_allclose(
                    row[["p_anger", "p_joy"]].to_numpy("f8"), probabilities, atol=PROBABILITIES, err_msg=utterance_id
                )
            weights = learned.query("seed == @seed and fold == @number")["weight"]
            in_model = model.layer_weights()[0]
            expected = [] if in_model is None else in_model.tolist()
            assert weights.tolist() == pytest.approx(expected, rel=SUM_OF_WEIGHTS)


def test_two_models_can_be_fused_and_weigh_their_layers_apart(make_cache, train):
    make_cache(stores={"first": {}, "second": {}})
    run = train(head="fusion", features=["first", "second"])
    sums = run.layer_weights.groupby(["features", "seed", "fold"])["weight"].sum()
    assert set(sums.index.get_level_values("features")) == {"first", "second"}
    np.testing.assert_allclose(sums, 1, rtol=SUM_OF_WEIGHTS)


FOUR_STORES = {
    "ssl": {},
    "egemaps": {"kind": "egemaps"},
    "text": {"kind": "text"},
    "functionals": {"kind": "functionals"},
}


@pytest.mark.parametrize(
    ("head", "stores", "options", "pooling"),
    [
        ("ffn", ["ssl"], {}, None),
        ("ffn", ["ssl"], {"layers": "last"}, "mean+max"),
        ("ffn", ["ssl"], {"layers": "last", "max_frames": 4}, None),
        ("ffn", ["ssl"], {"layers": "0,2", "pooling": "mean+max"}, "mean+max"),
        ("ffn", ["egemaps"], {"max_frames": 0}, "mean+max"),
        ("ffn", ["functionals"], {}, None),
        ("ffn", ["ssl", "text"], {"max_frames": 4}, None),
        ("ffn", ["text", "functionals"], {"layers": "last", "norm": "global"}, "mean+max"),
        ("ffn", ["text", "egemaps"], {"max_frames": 4}, None),
        ("fusion", ["ssl", "text"], {"max_frames": 4}, None),
        ("fusion", ["text", "functionals"], {"norm": "global"}, None),
        ("fusion", ["functionals", "egemaps", "ssl"], {"layers": "0,2", "max_frames": 8}, None),
        ("fusion", ["ssl", "functionals"], {"pooling": "mean"}, "mean"),
    ],
)
def test_stores_are_pooled_each_over_its_own_frames(make_cache, train, monkeypatch, head, stores, options, pooling):
    cache = featcache.open(make_cache(stores=FOUR_STORES))
    if pooling:
        monkeypatch.setattr(FeatureStore, "view", None)  # no frame is read
    run = train(head=head, features=stores, layer_weighting="softmax", seeds=(1,), **options)
    monkeypatch.undo()
    assert run.config["pooling"] == pooling
    paired = head == "fusion" and pooling is not None
    assert run.config.get("fused") == (("frames" if paired else "pooled") if len(stores) > 1 else None)
    positions = {"last": [2], "0,2": [0, 2]}.get(options.get("layers"), [0, 1, 2])
    # how many frames of each store begin in the time that the first of them may take
    shifts = {"ssl": 0.02, "egemaps": 0.01}
    first = next((shifts[name] for name in stores if name in shifts), 1)
    most = (options.get("max_frames") or 1000) * first
    frames, cuts = [], [round(most / shifts[name]) if name in shifts else None for name in stores]
    for name in stores:
        chosen = positions if name in ("ssl", "text") else [0]
        frames.append({i: cache[name][i][chosen] for i in cache.manifest.utterance_ids})
    speaker_of = {utterance.utterance_id: utterance.speaker_id for utterance in cache.manifest}
    rows = run.predictions.set_index(["seed", "fold", "utterance_id"])
    for number, fold in enumerate(make_folds("loso", cache.manifest, "emotion"), start=1):
        # statistics of several layers are mixed as statistics
        explicit = options.get("pooling")
        model = create_head(
            head,
            num_layers=[len(of_store[fold.test[0]]) for of_store in frames],
            hidden_sizes=[4] * len(stores),
            num_outputs=2,
            layer_weighting="softmax",
            pooling=explicit,
            paired=False,
            seed=0,
        ).eval()
        model.load_state_dict(load_file(run.path / "heads" / f"seed-1-fold-{number}.safetensors"))
        for utterance_id in fold.test:
            inputs = []
            for of_store, cut in zip(frames, cuts, strict=True):
                values = z_scores(
                    of_store, of_store[utterance_id], run.config["norm"], utterance_id, speaker_of, fold.train
                )[:, :cut]
                if explicit == "mean+max":
                    values = torch.cat([values.mean(1, keepdim=True), values.amax(1, keepdim=True)], dim=2)
                elif explicit:
                    values = values.mean(1, keepdim=True)
                inputs.append([values])
            with torch.no_grad():
                probabilities = model(inputs)[0].softmax(0)
            found = rows.loc[(1, number, utterance_id)][["p_anger", "p_joy"]].to_numpy("f8")
            np.testing.assert_allclose(found, probabilities, atol=PROBABILITIES, err_msg=utterance_id)


def test_what_becomes_of_frames_that_do_not_pair_is_told(make_cache, train, caplog):
    caplog.set_level(logging.INFO, "featcache")
    make_cache(stores=FOUR_STORES)
    told = notes.FUSED_NOTE.format("text and ssl")
    for head, features, noted in (("fusion", ["text", "ssl"], 1), ("ffn", ["text", "ssl"], 0), ("fusion", None, 0)):
        run = train(head=head, features=features or ["ssl", "egemaps"], max_frames=4)
        assert (run.path / "report.html").read_text(encoding="utf-8").count(told) == noted
        assert "longer and only their first 4 frames (0.1 s) count." in caplog.text
        assert caplog.text.count(told) == noted
        caplog.clear()


@pytest.mark.parametrize("head", ["dense", "lstm"])
def test_results_do_not_depend_on_threads(make_cache, train, monkeypatch, head):
    # large enough that torch would share the products among threads
    make_cache(hidden_size=96)
    found = []
    started = set()
    unwatched = Training.learn

    def watched(*arguments):
        started.add(threading.current_thread().name)
        assert torch.get_num_threads() == 1
        return unwatched(*arguments)

    monkeypatch.setattr(Training, "learn", watched)
    before = torch.get_num_threads()
    try:
        for workers, threads in ((1, 1), (3, 1), (2, 4)):
            monkeypatch.setattr(job, "available_cores", lambda workers=workers: workers)
            torch.set_num_threads(threads)
            run = train(head=head, overwrite=True)
            assert torch.get_num_threads() == threads
            found.append(bytes_of(run))
    finally:
        torch.set_num_threads(before)
    assert len(started) > 1
    assert found[0] == found[1] == found[2]


def test_seeds_train_alike_alone_and_together(make_cache, train):
    make_cache()
    together = train(seeds=(1, 2, 3)).predictions
    alone = train(seeds=(2,)).predictions
    pd.testing.assert_frame_equal(together.query("seed == 2").reset_index(drop=True), alone)


def test_a_seed_named_twice_is_trained_once(make_cache, train):
    make_cache()
    run = train(seeds=np.array([2, 2]))
    assert run.config["seeds"] == [2]
    assert run.metrics["num_utterances"] == len(run.predictions)


def test_memory_does_not_matter_where_all_fits(make_cache, train):
    make_cache(stores={"ssl": {}, "egemaps": {"kind": "egemaps"}})
    half = train(head="fusion", norm="global")
    assert half.config[COMPUTED] == {"device": "cpu", "working_copy": "float32", "compute": "float32"}
    for memory in ("64GiB", "1TB"):
        assert bytes_of(train(head="fusion", norm="global", memory=memory, overwrite=True)) == bytes_of(half)


@pytest.mark.parametrize(("head", "layers"), [("fusion", "all"), ("ffn", "all"), ("ffn", "last")])
@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_memory_is_planned_for_the_bytes_that_are_held(make_cache, train, monkeypatch, head, layers, dtype):
    make_cache(stores=FOUR_STORES)
    planned, held = [], []
    plan, load = job.plan_working_copy, job.FeatureWindows.load

    def planning(memory, num_values, *, num_steps, **rest):
        planned.append(packed_bytes(DTYPES[dtype], num_values, num_steps))
        return plan(memory, num_values, num_steps=num_steps, **rest)

    def loading(source, ids):
        load(source, ids)
        [window] = source.windows(ids)
        parts = [part for packed in window.utterances.values() for one in packed for part in (one.values, one.step)]
        held.append(sum(part.nbytes for part in parts if part is not None))

    monkeypatch.setattr(job, "plan_working_copy", planning)
    monkeypatch.setattr(job.FeatureWindows, "load", loading)
    train(head=head, layers=layers, features=list(FOUR_STORES), memory=dtype)
    assert planned == held


def test_the_working_dtype_is_a_setting_and_what_it_made_is_told(make_cache, train):
    make_cache()
    exact, rounded = train(), train(memory="int8")
    assert exact.path != rounded.path
    assert rounded.config["working_dtype"] == "int8"
    assert rounded.config[COMPUTED]["working_copy"] == "int8"
    weights = [load_file(run.path / "heads" / "seed-1-fold-1.safetensors")["output.weight"] for run in (exact, rounded)]
    assert not torch.equal(*weights)


@pytest.mark.parametrize("norm", ["global", "none"])
def test_test_utterances_change_no_weight(make_cache, write_store, train, norm):
    manifest = in_parts(**ONE_SPEAKER_EACH)
    cache = featcache.open(make_cache(manifest=manifest))
    features = {i: cache["ssl"][i] for i in manifest.utterance_ids}
    heads = "heads/seed-1-fold-1.safetensors", "heads/seed-2-fold-1.safetensors"
    first = train(norm=norm, target="emotion")
    before = bytes_of(first, *heads, "history.csv", "layer_weights.csv"), first.predictions
    altered = {
        i: 100 - 7 * values if manifest[i].labels["split"] == "test" else values for i, values in features.items()
    }
    write_store(cache.path / "altered", altered)
    second = train(norm=norm, target="emotion", features=["altered"])
    after = bytes_of(second, *heads, "history.csv", "layer_weights.csv"), second.predictions
    assert {name: content.replace(b"altered", b"ssl") for name, content in after[0].items()} == before[0]
    assert not after[1]["p_joy"].equals(before[1]["p_joy"])


@pytest.mark.parametrize("norm", ["global", "none"])
def test_test_utterances_change_no_weight_where_folds_train_together(make_cache, write_store, train, norm):
    cache = featcache.open(make_cache())
    whole = {i: cache["ssl"][i] for i in cache.manifest.utterance_ids}
    altered = {i: 100 - 7 * values if i.startswith("02-") else values for i, values in whole.items()}
    write_store(cache.path / "altered", altered)
    before, after = (train(norm=norm, features=[name]) for name in ("ssl", "altered"))
    for number, fold in enumerate(make_folds("loso", cache.manifest, "emotion"), start=1):
        name = f"heads/seed-1-fold-{number}.safetensors"
        tests_it = all(i.startswith("02-") for i in fold.test)
        assert ((before.path / name).read_bytes() == (after.path / name).read_bytes()) == tests_it


def test_global_statistics_are_those_of_each_folds_training_part(make_cache, train, monkeypatch):
    cache = featcache.open(make_cache())
    seen, unwatched = [], normalisation.fit_normaliser

    def watched(*arguments, **options):
        seen.append((arguments[3], unwatched(*arguments, **options)))
        return seen[-1][1]

    monkeypatch.setattr(normalisation, "fit_normaliser", watched)
    train(norm="global")
    folds = make_folds("loso", cache.manifest, "emotion")
    assert [train for train, _ in seen] == [fold.train for fold in folds]
    for fold, (_, normaliser) in zip(folds, seen, strict=True):
        frames = np.concatenate([cache["ssl"][i].astype("f8") for i in fold.train], axis=1)
        # float32 statistics that were stored and merged
        np.testing.assert_allclose(normaliser.mean_[""], frames.mean(axis=1), atol=1e-5)
        np.testing.assert_allclose(normaliser.std_[""], frames.std(axis=1), rtol=1e-5)


def test_the_same_settings_give_the_finished_run_back(make_cache, train, monkeypatch):
    make_cache()
    first = train(norm="global")
    monkeypatch.setattr(Training, "learn", None)
    again = train(norm="global")
    assert again.path == first.path
    assert again.config == first.config


def test_the_same_command_elsewhere_gives_the_same_bytes(make_cache, train, monkeypatch, tmp_path):
    make_cache()
    first = train()
    monkeypatch.setenv("FEATCACHE_HOME", str(tmp_path / "elsewhere"))
    make_cache()
    second = train()
    assert second.path != first.path
    assert bytes_of(second) == bytes_of(first)


def test_other_settings_get_another_folder_unless_it_is_named(make_cache, resolve):
    make_cache()
    runs = [
        resolve(),
        resolve(norm="none"),
        resolve(seeds=(1,)),
        resolve(layers="0"),
        resolve(layer_weighting="softmax"),
        resolve(max_frames=4),
        resolve(training={"patience": 1}),
        resolve(select={"emotion": ["joy", "anger"]}),
        resolve(protocol="group-kfold"),
    ]
    assert len({run.path for run in runs}) == len(runs)
    resolve(name="mine")
    told = r"mine is a run with other settings \(max_frames, norm, norm_by differ\); give this"
    with pytest.raises(StoreError, match=told):
        resolve(name="mine", norm="none", max_frames=4)
    assert RunFolder(runs[0].path.with_name("mine")).config["norm"] == "speaker"
    assert resolve(name="mine", norm="none", overwrite=True).config["norm"] == "none"


@pytest.mark.parametrize("change", ["label", "speaker", "audio"])
def test_changed_data_are_other_settings(make_cache, write_store, resolve, monkeypatch, change):
    folder = make_cache(manifest=in_parts(**ONE_SPEAKER_EACH), corpus="toy")
    resolve(name="mine", norm="none", target="emotion")
    rows = list(featcache.open(folder).manifest)
    if change == "label":
        rows[0] = replace(rows[0], labels={**rows[0].labels, "emotion": "joy"})
        rows[1] = replace(rows[1], labels={**rows[1].labels, "emotion": "anger"})
    elif change == "speaker":
        rows[0] = replace(rows[0], speaker_id="s4")
    else:
        monkeypatch.setattr(
            featcache.FeatureStore, "audio_sha256", lambda store, utterance_ids: ["changed" for _ in utterance_ids]
        )
    Manifest(rows).write(folder / "manifest.csv")
    changed = "labels_sha256" if change == "label" else "utterances_sha256"
    with pytest.raises(StoreError, match=rf"other settings \({changed} differ\)"):
        resolve(name="mine", norm="none", target="emotion")


@pytest.mark.parametrize(("owner", "when"), [(Training, "end_epoch"), (job, "write_results")])
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_an_interrupted_fit_leaves_no_run_and_keeps_the_older_one(make_cache, train, monkeypatch, owner, when, error):
    make_cache()
    older = train(name="mine")
    before = bytes_of(older)
    monkeypatch.setattr(job, "available_cores", lambda: 1)
    left = threading.Semaphore(7)  # three trainings of two epochs, and one epoch
    uninterrupted = getattr(owner, when)

    def interrupted(*arguments, **options):
        if when == "end_epoch" and left.acquire(blocking=False):
            return uninterrupted(*arguments, **options)
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(owner, when, interrupted)
        with pytest.raises(error):
            train(name="mine", norm="none", overwrite=True)
        with pytest.raises(error):
            train(name="new")
    assert bytes_of(older) == before
    assert [run.name for run in finished_runs(Workspace.at())] == ["mine"]
    kept = {".mine.unfinished"} if when == "end_epoch" else {".mine.unfinished", ".new.unfinished"}
    assert set(os.listdir(older.path.parent)) == {"mine"} | kept
    number = len(list((older.path.parent / ".mine.unfinished").glob("finished/*.json")))
    assert number == (3 if when == "end_epoch" else 8)
    train(name="mine", norm="none", overwrite=True)
    train(name="new", resume=True)
    assert sorted(os.listdir(older.path.parent)) == ["mine", "new"]


def test_a_folder_that_is_no_run_is_not_replaced_unasked(make_cache, resolve):
    make_cache()
    folder = Workspace.at().runs("toy") / "notes"
    folder.mkdir(parents=True)
    (folder / "mine.txt").touch()
    with pytest.raises(StoreError, match=r"notes is not a finished run: .*; give this one another --name, or replace"):
        resolve(name="notes")
    assert (folder / "mine.txt").exists()
    resolve(name="notes", overwrite=True)
    assert not (folder / "mine.txt").exists()


@pytest.mark.parametrize("name", ["..", ".", ".hidden", "a/b", "/tmp/a", "a/"])
def test_a_name_is_that_of_a_folder_beside_the_other_runs(make_cache, train, name):
    make_cache()
    with pytest.raises(StoreError, match=f"run name '{name}': .*; choose another with --name"):
        train(name=name)


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
        ({}, {"protocol": "lsoo"}, ProtocolError, "unknown protocol 'lsoo'; nearest: loso"),
        ({}, {"features": ["sls"]}, StoreError, "unknown feature store 'sls'; nearest: ssl .*featcache extract"),
        ({}, {"features": "sls"}, StoreError, "unknown feature store 'sls'; nearest: ssl"),
        ({}, {"head": "danse"}, ModelError, "unknown head 'danse'; nearest: dense"),
        ({}, {"norm": "speeker"}, ManifestError, "unknown normalisation 'speeker'; nearest: speaker"),
        ({}, {"layer_weighting": "abc"}, ModelError, "unknown layer weighting 'abc'; nearest: abs"),
        ({}, {"layers": "1,7"}, ModelError, "no layer '7' among 0, 1, 2; expected all"),
        ({}, {"select": {"emotion": ["jyo"]}}, ManifestError, "no utterance has emotion in 'jyo'"),
        ({}, {"select": {"gender": ["male"]}}, ManifestError, "no utterance has a label 'gender'"),
        ({}, {"select": {"emotion": "joy"}}, ManifestError, "label 'emotion' has one class only, 'joy'"),
        ({}, {"head": "fusion"}, StoreError, "unknown feature store 'egemaps'; .*--model egemaps"),
        ({}, {"head": "fusion", "features": ["ssl"]}, ModelError, "takes two or more feature stores, found 1"),
        (
            {"stores": SSL_AND_EGEMAPS},
            {"features": ["ssl", "egemaps"]},
            ModelError,
            "use 'fusion' or 'ffn' for several",
        ),
        ({"stores": {"a": {}, "b": {}}}, {}, StoreError, "holds several models: a, b; choose with --features NAME"),
        ({"stores": {"e": {"kind": "egemaps"}}}, {}, StoreError, "holds no model, but e; choose with --features"),
        ({"stores": {"ssl": {"complete": False}}}, {}, StoreError, "not finished: it holds 16 of 16 .* extract' again"),
        (
            {"manifest": manifest_of(*((s, {"emotion": e, "sex": "f"}) for s in "abc" for e in "xy"))},
            {},
            ManifestError,
            r"which label is to be predicted\? choose with --target: emotion, sex$",
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
    with pytest.raises(StoreError, match=r"several caches under .*: one, two; choose with --corpus NAME"):
        resolve()
    assert resolve(corpus="two").config["corpus"] == "two"
    with pytest.raises(StoreError, match=r"no cache 'three' under .* \(there: one, two\)"):
        resolve(corpus="three")


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
    assert run.config["classes"] == ["sadness", "neutral", "surprise"]  # EmoDB's own order, then what it has not
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
    assert "results do not compare" in (run.path / "report.html").read_text(encoding="utf-8")


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
        f"{(lengths > 4).sum()} of 16 utterances are longer and only their first 4 frames (0.1 s) count.",
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
    assert "fold '1' tests classes that it never trains on: 'disgust'" in caplog.text
    assert "1 of 2 test speakers ('s1') are heard in training" in caplog.text
    assert {record.levelname for record in caplog.records} == {"WARNING"}


def test_a_training_that_diverges_is_told(make_cache, train, caplog):
    make_cache(manifest=in_parts(**ONE_SPEAKER_EACH))
    run = train(target="emotion", norm="none", training={"learning_rate": 1e30, "max_epochs": 10})
    warning = results.DIVERGED.format(2, "1")
    assert warning in caplog.text
    assert warning.replace("'", "&#39;") in (run.path / "report.html").read_text(encoding="utf-8")
    history = pd.read_csv(run.path / "history.csv")
    assert history.groupby("seed").size().tolist() == [4, 4]
    assert all(math.isnan(loss) for loss in history["validation_loss"])


def test_seeds_are_those_of_the_paper():
    assert first_seeds(5) == fitting.SEEDS == (123, 1234, 2345, 3456, 4567)
    assert first_seeds(7) == (*fitting.SEEDS, 5678, 6789)
    assert first_seeds(1) == (123,)


def test_the_batch_size_is_the_papers(make_cache, resolve):
    make_cache()
    assert resolve().config["training"]["batch_size"] == 32
    assert resolve(head="lstm").config["training"]["batch_size"] == 16
    assert resolve(head="lstm", training={"batch_size": 4}).config["training"]["batch_size"] == 4


@pytest.mark.parametrize(("norm", "times"), [("speaker", 1), ("none", 1), ("global", 4)])
def test_statistics_are_merged_once_unless_they_depend_on_the_fold(make_cache, train, monkeypatch, norm, times):
    make_cache()
    calls = []
    unwatched = normalisation.fit_normaliser
    monkeypatch.setattr(normalisation, "fit_normaliser", lambda *a, **k: calls.append(a) or unwatched(*a, **k))
    train(norm=norm)
    assert len(calls) == times
