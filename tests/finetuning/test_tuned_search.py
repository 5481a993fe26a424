"""A search over settings of a fine-tuning gives a run with the models of the chosen setting."""

import numpy as np
import pandas as pd
import pytest
import torch

import featcache
from featcache.errors import ModelError
from featcache.extractors.upper import loading
from featcache.fitting import upper_models
from tests.finetuning.test_finetune import COLUMNS, PROBABILITIES


@pytest.fixture
def loads(monkeypatch):
    """Return the first layers of the models that are loaded."""
    found = []

    def load(*arguments, **options):
        found.append(options["from_layer"])
        return loading.load_upper(*arguments, **options)

    monkeypatch.setattr(upper_models, "load_upper", load)
    return found


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_combination_is_tried_and_the_best_one_is_the_run(place, loads):
    sweep = {"from_layer": ["1", "2"], "blocks_learning_rate": [1e-5, 1e-2]}
    found = place.finetune(from_layer=None, sweep=sweep, name="swept")
    assert sorted(loads) == [1, 2]  # settings share the pretrained blocks
    tried = pd.read_csv(found.path / "sweep.csv")
    assert tried[["from_layer", "blocks_learning_rate"]].to_numpy().tolist() == [
        [1, 1e-5],
        [1, 1e-2],
        [2, 1e-5],
        [2, 1e-2],
    ]
    best = tried.iloc[int(np.argmax(tried["validation_uar"]))]
    assert tried["chosen_for_folds"].notna().sum() == 1
    assert best["chosen_for_folds"] == "1 2 3"
    rate = float(best["blocks_learning_rate"])
    alone = place.finetune(from_layer=int(best["from_layer"]), blocks_learning_rate=rate, name="chosen")
    assert found.predictions.equals(alone.predictions)
    assert files(found.path / "models") == files(alone.path / "models")
    assert "models/ssl/seed-1-fold-3/model.safetensors" in (found.path / "checksums.sha256").read_text()
    store = featcache.open(place.workspace.cache("toy"))["ssl"]
    rows = found.predictions.query("fold == 2")
    stored = [torch.from_numpy(store[i])[[int(best["from_layer"])]] for i in rows["utterance_id"]]
    logits = found.head(seed=1, fold=2)([stored])
    np.testing.assert_allclose(logits.softmax(1).detach(), rows[COLUMNS], atol=PROBABILITIES)


def test_each_fold_has_the_model_of_its_own_setting(place):
    sweep = {"blocks_learning_rate": [1e-5, 3e-2], "set.hidden_units": [8, 16]}
    found = place.finetune(from_layer=2, sweep=sweep, choose="per-fold", name="per-fold")
    tried = pd.read_csv(found.path / "sweep.csv")
    trials = place.workspace.runs("toy").parent / ".trials" / "toy"
    for fold in (1, 2, 3):
        chosen = tried[[str(fold) in str(one).split() for one in tried["chosen_for_folds"]]]
        [run] = chosen["run"]
        name = f"models/ssl/seed-1-fold-{fold}"
        assert files(found.path / name) == files(trials / run / name)
        assert found.head(seed=1, fold=fold).head.inner.hidden.out_features == int(chosen["set.hidden_units"].iloc[0])


def test_each_rank_has_its_own_adapters(place):
    pytest.importorskip("peft")
    found = place.finetune(from_layer=2, sweep={"lora": [1, 2]}, lora_modules="q_proj", max_epochs=1, name="ranks")
    trials = place.workspace.runs("toy").parent / ".trials" / "toy"
    runs = [featcache.RunFolder(trials / name) for name in pd.read_csv(found.path / "sweep.csv")["run"]]
    added = [one.metrics["head_parameters"] for one in runs]
    assert added[1] - added[0] == 2 * 32  # one more row of A and column of B of one projection


def test_settings_are_drawn(place):
    pytest.importorskip("optuna")
    found = place.finetune(from_layer=2, sweep={"blocks_learning_rate": "log:1e-6..1e-3"}, trials=2, max_epochs=1)
    rates = pd.read_csv(found.path / "sweep.csv")["blocks_learning_rate"]
    assert len(set(rates)) == 2
    assert rates.between(1e-6, 1e-3).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sweep": {"norm_by": ["a", "b"]}}, "--sweep norm_by: no option 'norm_by'"),
        ({"sweep": {"gradient_checkpointing": [True]}}, "--sweep gradient_checkpointing: no option"),
        ({"sweep": {"from_layer": ["1", "7"]}}, "--from-layer 7: the model of ssl has 3 blocks"),
        (
            {"sweep": {"from_layer": ["1", "2"]}, "choose": "per-fold"},
            "--sweep from_layer: --choose per-fold needs the",
        ),
        ({"sweep": {"seeds": ["1", "2"]}}, "--sweep seeds: expected an option of features, head or training"),
    ],
)
def test_what_cannot_be_tried_is_refused_in_one_line(place, options, message):
    with pytest.raises(ModelError) as refused:
        place.finetune(name="refused", **options)
    assert str(refused.value).startswith(message)
    assert "\n" not in str(refused.value)
