"""The run of a fine-tuning has model folders, and can be used like any other run."""

import shutil
import weakref

import numpy as np
import pytest
import torch
import transformers

import featcache
from featcache.errors import ModelError, StoreError
from featcache.fitting.fit import fit
from featcache.prediction.inputs import AudioRequest
from featcache.prediction.predictor import Predictor
from featcache.runs import heads
from featcache.settings.predictions import PredictSettings
from tests.finetuning.conftest import SHORT

# Probabilities of the same head in another program: float32 sums in another order.
PROBABILITIES = 1e-5
BLOCKS = ("encoder.layers.1.", "encoder.layers.2.")
COLUMNS = ["p_anger", "p_joy"]


@pytest.fixture(scope="module")
def run(place):
    return place.finetune(name="usual", seeds=(1, 2), layers="all")


def test_each_training_has_a_model_folder_that_transformers_opens(place, run):
    folders = sorted((run.path / "models" / "ssl").iterdir())
    assert [folder.name for folder in folders] == [f"seed-{seed}-fold-{fold}" for seed in (1, 2) for fold in (1, 2, 3)]
    tuned = transformers.AutoModel.from_pretrained(folders[0]).state_dict()
    before = transformers.AutoModel.from_pretrained(place.models["ssl"]).state_dict()
    changed = {name for name, values in tuned.items() if not torch.equal(values, before[name])}
    assert changed
    assert all(name.startswith(BLOCKS) for name in changed)
    assert "models/ssl/seed-2-fold-3/model.safetensors" in (run.path / "checksums.sha256").read_text()
    assert set(run.layer_weights["layer"].astype(str)) == {"1", "2", "3"}
    of_blocks = sum(values.numel() for name, values in tuned.items() if name.startswith(BLOCKS))
    head = run.head(seed=1, fold=1).head.inner
    assert run.metrics["head_parameters"] == of_blocks + sum(one.numel() for one in head.parameters())


def test_a_head_of_the_run_takes_the_stored_layer(place, run):
    store = featcache.open(place.workspace.cache("toy"))["ssl"]
    head = run.head(seed=2, fold=3)
    rows = run.predictions.query("seed == 2 and fold == 3")
    logits = head([[torch.from_numpy(store[utterance_id])[1:2] for utterance_id in rows["utterance_id"]]])
    np.testing.assert_allclose(logits.softmax(1).detach(), rows[COLUMNS], atol=PROBABILITIES)


def predict_again(place, run, store):
    """Check that ``predict`` gives the mean predictions of the heads that did not train on an utterance."""
    root = place.workspace.corpus("toy")
    manifest = featcache.open(place.workspace.cache("toy")).manifest.subset(["01-anger-1", "02-joy-2"])
    loaded = featcache.load_run(run.path, home=place.workspace.home)
    predictor = Predictor(loaded, place.workspace, models=[f"{store}={place.models[store]}"], device="cpu")
    request = AudioRequest(
        manifest=manifest, root=root, speakers_known=True, corpus="toy", cache=place.workspace.cache("toy"), failures=()
    )
    found = predictor.predict(request, PredictSettings(workers=1)).table.set_index("utterance_id")
    expected = run.predictions.groupby("utterance_id")[COLUMNS].mean()
    np.testing.assert_allclose(found[COLUMNS], expected.loc[found.index], atol=PROBABILITIES)


def test_predict_gives_the_predictions_of_the_run(place, run):
    predict_again(place, run, "ssl")


def test_whisper_is_trained_with_its_padding(place):
    run = place.finetune(features="whisper", from_layer=2, max_epochs=1)
    predict_again(place, run, "whisper")
    head, store = run.head(seed=1, fold=1), featcache.open(place.workspace.cache("toy"))["whisper"]
    rows = run.predictions.query("fold == 1")
    stored = [[torch.from_numpy(store.view(i, with_padding=True)) for i in rows["utterance_id"]]]
    numbers = store.num_frames(list(rows["utterance_id"]))
    logits = head(stored, num_frames=[numbers])
    np.testing.assert_allclose(logits.softmax(1).detach(), rows[COLUMNS], atol=PROBABILITIES)
    for given in (None, [None], [[0] * len(rows)], [[10**6] * len(rows)], [[1]]):
        with pytest.raises(ModelError, match=r"^the model of whisper reads the padding; give num_frames, the numbers"):
            head(stored, num_frames=given)
    with pytest.raises(ModelError, match=r"have \d+ frames, but .* reads \d+, padding included"):
        head([[values[:, :5] for values in stored[0]]], num_frames=[[5] * len(rows)])


def test_a_head_without_padding_takes_no_numbers_of_frames(run):
    for given in ([[3]], [None, None]):
        with pytest.raises(ModelError, match=r"^num_frames: "):
            run.head(seed=1, fold=1)([[torch.zeros(1, 3, 32)]], num_frames=given)


def test_seeds_together_give_the_results_of_each_alone(place, run):
    alone = place.finetune(name="alone", seeds=(2,), layers="all")
    together = run.predictions.query("seed == 2").reset_index(drop=True)
    assert alone.predictions.equals(together)


def test_layers_can_be_counted_from_the_end(place, run):
    found = place.finetune(name="from-the-end", from_layer=-2, seeds=(1,), layers="all")
    assert found.config["from_layer"] == run.config["from_layer"] == [1]
    assert found.predictions.equals(run.predictions.query("seed == 1").reset_index(drop=True))


def test_masked_frames_change_the_training(place):
    options = {"from_layer": 0, "fold": 1, "max_epochs": 1, "blocks_learning_rate": 1e-3}
    masked, whole = place.finetune(time_mask=0.5, **options), place.finetune(**options)
    assert not masked.history["train_loss"].equals(whole.history["train_loss"])


def test_without_training_of_the_blocks_it_is_a_fit_on_the_last_layer(place):
    common = {**SHORT, "corpus": "toy", "home": place.workspace.home, "features": "ssl", "norm": "none"}
    frozen = fit(layers="last", max_frames=0, **common)
    found = place.finetune(blocks_learning_rate=0)
    assert found.metrics["head_parameters"] == frozen.metrics["head_parameters"]
    np.testing.assert_allclose(found.predictions[COLUMNS], frozen.predictions[COLUMNS], atol=PROBABILITIES)
    trained = place.finetune(blocks_learning_rate=1e-3)
    assert np.abs(trained.predictions[COLUMNS] - frozen.predictions[COLUMNS]).to_numpy().max() > 100 * PROBABILITIES


def test_speech_and_text_are_trained_together(place):
    run = place.finetune(
        features=["ssl", "text"], from_layer=(0, 1), batch_seconds=2, accumulate=2, clip_norm=1, evaluate_every=1
    )
    assert sorted(path.name for path in (run.path / "models").iterdir()) == ["ssl", "text"]
    assert run.history["step"].max() == 2
    store = [featcache.open(place.workspace.cache("toy"))[name] for name in ("ssl", "text")]
    [row, *_] = run.predictions.to_dict("records")
    stored = [[torch.from_numpy(one[row["utterance_id"]])[[k]]] for one, k in zip(store, (0, 1), strict=True)]
    found = run.head(seed=1, fold=row["fold"])(stored).softmax(1).detach()
    np.testing.assert_allclose(found[0], [row[name] for name in COLUMNS], atol=PROBABILITIES)


def test_notes_and_warnings_of_a_training_that_diverges(place, caplog):
    caplog.set_level("INFO")
    place.finetune(name="diverged", blocks_learning_rate=1e30, learning_rate=1e30, max_epochs=1)
    assert "The blocks of ssl after layer 1 are trained from its stored layer 1, together with the head." in caplog.text
    assert "lower --blocks-learning-rate (1e+30) or --learning-rate (1e+30), or use --clip-norm 1" in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"norm": "speaker"}, "--norm speaker: the blocks need stored layers as they are; use --norm none"),
        ({"head": "svm"}, "head 'svm' is fitted by a solver, which cannot train blocks; use a network, such as ffn"),
        (
            {"from_layer": (1, 2)},
            "--from-layer 1,2: expected the number of a stored layer for each store (ssl: 0, 1, 2)",
        ),
        (
            {"from_layer": None},
            "--from-layer is missing: expected the number of a stored layer for each store (ssl: 0, 1, 2)",
        ),
        ({"from_layer": 3}, "--from-layer 3: the model of ssl has 3 blocks; expected 0 to 2, or -1 (the last"),
        ({"from_layer": -4}, "--from-layer -4: the model of ssl has 3 blocks; expected 0 to 2, or -1"),
        ({"layers": "0"}, "--layers 0: no layer '0' among 1, 2, 3; expected all, local, last, or a list such as 0,4-8"),
        ({"time_mask": 0.1}, "ssl: time masking replaces frames of layer 0, but --from-layer is 1; use 0, or no"),
        ({"features": "text", "batch_seconds": 3}, "--batch-seconds 3: text has tokens, which have no duration"),
        ({"features": "unpadded", "from_layer": 2}, "unpadded: Whisper attends to the silence after an utterance"),
        ({"features": "unpadded"}, "--from-layer is 1, but unpadded contains the layers 2; extract with"),
        ({"model": "nowhere/none"}, "ssl: "),
        ({"model": ()}, "ssl: its model was a folder named 'wav2vec20', whose path is not recorded; if"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_one_line(place, options, message):
    with pytest.raises(ModelError) as refused:
        place.finetune(name="refused", **options)
    assert str(refused.value).startswith(message)
    assert "\n" not in str(refused.value)
    assert not (place.workspace.runs("toy") / "refused").exists()


def test_other_weights_are_refused(place, tiny_model):
    with pytest.raises(ModelError, match="are not those of the store"):
        place.finetune(model=tiny_model("hubert"))


def test_a_config_is_used_by_its_own_command_only(place, run):
    again = featcache.finetune(config=run.path, name="usual", home=place.workspace.home)
    assert again.path == run.path
    with pytest.raises(StoreError, match="is of 'featcache finetune'; use it with this command"):
        fit(config=run.path, home=place.workspace.home)


def test_a_damaged_model_is_refused(run, tmp_path):
    copied = shutil.copytree(run.path, tmp_path / "copied")
    shutil.rmtree(copied / "models" / "ssl" / "seed-1-fold-1")
    with pytest.raises(StoreError, match="seed-1-fold-1"):
        featcache.RunFolder(copied).head(seed=1, fold=1)


def test_predict_loads_one_model_at_a_time(place, run, monkeypatch):
    """A model that computed an utterance is released before the next one is loaded."""
    alive, most, load = weakref.WeakSet(), [], heads.load_upper

    def counted(*arguments, **options):
        upper = load(*arguments, **options)
        alive.add(upper)
        most.append(len(alive))
        return upper

    monkeypatch.setattr(heads, "load_upper", counted)
    predict_again(place, run, "ssl")
    assert len(most) == 4  # two seeds of two folds, whose heads did not train on one of the utterances
    assert max(most) == 1
