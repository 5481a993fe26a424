"""A whole fit, from a cache of noise to its run folder."""

import logging

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score

import featcache
from featcache.cache.reader import FeatureStore
from featcache.files.checksums import CHECKSUMS
from featcache.fitting import notes
from featcache.fitting.fit import fit
from featcache.heads import create_head
from featcache.protocols import make_folds
from tests.fitting.fit.noise import FOUR_STORES, bytes_of, files_of

# predictions.csv contains six digits; the features are float32 z-scores with stored float32 statistics.
PROBABILITIES = 1e-5


# Tolerance of float32 weights, with one rounding per layer.
SUM_OF_WEIGHTS = 1e-6


TABLES = (
    "predictions.csv",
    "validation_predictions.csv",
    "metrics.json",
    "history.csv",
    "layer_weights.csv",
    "config.yaml",
)


def test_a_run_folder_holds_all_that_is_promised(make_cache):
    cache = featcache.open(make_cache())
    run = fit(seeds=(1, 2), max_epochs=2, name="first")
    heads = [f"heads/seed-{seed}-fold-{fold}.safetensors" for seed in (1, 2) for fold in (1, 2, 3, 4)]
    pictures = [
        f"{name}.{suffix}"
        for name in ("confusion_matrix", "layer_weights", "reliability", "training_curves")
        for suffix in ("png", "svg", "pdf")
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

    again = fit(seeds=(1, 2), max_epochs=2, name="first", overwrite=True)
    assert bytes_of(again) == bytes_of(run)


def test_metrics_are_those_of_the_predictions(make_cache, train):
    make_cache()
    run = train(seeds=(1, 2, 3))
    predictions = run.predictions
    functions = {
        "uar": balanced_accuracy_score,
        "wa": accuracy_score,
        "macro_f1": lambda target, prediction: f1_score(target, prediction, average="macro"),
    }
    per_seed, validated = (
        {
            name: [100 * score(rows["target"], rows["prediction"]) for _, rows in table.groupby("seed")]
            for name, score in functions.items()
        }
        for table in (predictions, run.validation_predictions)
    )
    assert run.metrics["validation"] == {
        name: {
            "mean": pytest.approx(np.mean(values)),
            "std": pytest.approx(np.std(values, ddof=1)),
            "per_seed": pytest.approx(values),
        }
        for name, values in validated.items()
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
    """Return the input of a head from the frames of all utterances, averaged in pairs."""
    halved = frames[utterance_id].shape[0] == 1
    values = frames[utterance_id].astype("f8")
    if halved:
        padded = np.pad(values, ((0, 0), (0, 2 - values.shape[1] % 2), (0, 0)))
        values = (padded[:, ::2] + padded[:, 1::2]) / 2
    return z_scores(frames, values, norm, utterance_id, speaker_of, train)


def z_scores(frames, values, norm, utterance_id, speaker_of, train):
    """Normalise values of an utterance with statistics that are computed at once over all frames."""
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
    # number of frames of each store that start within the duration of the first store's frames
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
        # statistics of several layers are averaged as statistics
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
        assert "are cut to 4 frames, 0.1 s (--max-frames 0 uses all frames)." in caplog.text
        assert caplog.text.count(told) == noted
        caplog.clear()
