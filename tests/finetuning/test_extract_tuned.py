"""``extract --model RUN``: the store of a fine-tuned model has the hidden states that transformers computes."""

import numpy as np
import pytest
import torch
import transformers

import featcache
from featcache.audio import read

# Hidden states of the same model in another program: float32 sums in another order.
HIDDEN = 1e-5
SECOND = "01-joy-2"


@pytest.fixture(scope="module")
def run(place):
    return place.finetune(name="tuned", seeds=(1, 2), blocks_learning_rate=1e-3)


def extracted(place, run, **options):
    report = featcache.extract(
        model=run, corpus="toy", egemaps=False, store="float32", workers=1, home=place.workspace.home, **options
    )
    return featcache.open(report.cache)[report.stores[0]], report


def fold_of(run):
    """Return utterance id → fold that tested it."""
    return dict(run.predictions[["utterance_id", "fold"]].itertuples(index=False))


def by_transformers(place, folder, utterance_id):
    """Return the block outputs that transformers computes for an utterance with the model in a folder."""
    manifest = featcache.open(place.workspace.cache("toy")).manifest
    [utterance] = [one for one in manifest if one.utterance_id == utterance_id]
    signal = read(place.workspace.corpus("toy"), utterance).signal(channel="mean", sampling_rate=16000)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    prepare = transformers.AutoFeatureExtractor.from_pretrained(folder)
    values = prepare(signal.samples, sampling_rate=16000, return_tensors="pt").input_values
    with torch.no_grad():
        return model(values, output_hidden_states=True).hidden_states[1:]


def check_layers(place, run, store, utterance_id, *, seed, fold):
    expected = by_transformers(place, run.path / "models" / "ssl" / f"seed-{seed}-fold-{fold}", utterance_id)
    for number, layer in enumerate(expected, start=1):
        scale = layer.abs().max().item()
        np.testing.assert_allclose(store[utterance_id][number], layer[0], atol=HIDDEN * scale)


def test_each_utterance_is_computed_by_the_model_of_the_fold_that_tested_it(place, run):
    store, report = extracted(place, "tuned")
    assert report.num_extracted == report.num_utterances == len(run.predictions.query("seed == 1"))
    assert store.name == "tuned"
    assert store.layer_names == ("0", "1", "2", "3")
    for utterance_id, fold in list(fold_of(run).items())[::3]:
        check_layers(place, run, store, utterance_id, seed=1, fold=fold)
    assert extracted(place, "tuned")[1].num_extracted == 0


def test_one_fold_and_another_seed(place, run):
    store, _ = extracted(place, run.path, fold=2, seed=2, limit=4)
    assert store.name == "tuned-seed-2-fold-2"
    for utterance_id in store:
        check_layers(place, run, store, utterance_id, seed=2, fold=2)
