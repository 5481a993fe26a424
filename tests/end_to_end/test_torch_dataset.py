"""A store as a torch Dataset: items, labels, batches and workers; and the featurizer of SUPERB on its batches."""

import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import featcache
from featcache.errors import ManifestError, StoreError
from featcache.heads.layer_weights import LayerWeights
from featcache.manifest import Manifest, Utterance


@pytest.fixture
def manifest():
    return Manifest(
        [
            Utterance(
                utterance_id=f"{speaker}-{emotion}",
                path=f"{speaker}-{emotion}.wav",
                speaker_id=speaker,
                labels={"emotion": emotion, "arousal": str(len(emotion) / 2), "rating": "" if speaker == "1" else "x"},
            )
            for speaker in "123"
            for emotion in ("joy", "anger", "fear")
        ]
    )


@pytest.fixture
def store(make_cache, manifest):
    return featcache.open(make_cache(manifest=manifest))["ssl"]


def test_items_are_layers_length_and_label(store, manifest):
    dataset = store.dataset()
    assert dataset.classes == ("anger", "fear", "joy")
    assert len(dataset) == len(manifest)
    for number, utterance in enumerate(manifest):
        layers, length, label = dataset[number]
        assert layers.dtype == torch.float32
        np.testing.assert_array_equal(layers.numpy(), store[utterance.utterance_id])
        assert length == store.num_frames([utterance.utterance_id])[0] == layers.shape[1]
        assert dataset.classes[label] == utterance.labels["emotion"]
    assert isinstance(dataset, torch.utils.data.Dataset)


def test_parts_of_a_corpus_agree_about_classes(store):
    one, other = store.dataset(["1-joy"]), store.dataset(["2-fear", "2-joy"])
    assert one.classes == other.classes
    assert one[0][2] == other[1][2] == 2
    assert store.dataset(["1-joy"], classes=["joy", "fear"])[0][2] == 0


def test_numbers_and_missing_labels(store):
    dataset = store.dataset(["1-joy", "1-anger"], target="arousal", task="regression")
    assert dataset.classes == ()
    assert [dataset[0][2], dataset[1][2]] == [1.5, 2.5]
    assert dataset.collate([dataset[0], dataset[1]])[2].dtype == torch.float32
    assert len(store.dataset(target="rating")) == 6  # utterances with this label
    with pytest.raises(ManifestError, match="'1-joy' have no label 'rating'"):
        store.dataset(["1-joy"], target="rating")
    with pytest.raises(ManifestError, match="has emotion 'joy', expected a number"):
        store.dataset(["1-joy"], task="regression")
    with pytest.raises(ManifestError, match="'joy', which is not a given class"):
        store.dataset(["1-joy"], classes=["fear"])
    with pytest.raises(StoreError, match="has no features of 'gone'"):
        store.dataset(["gone"])


def test_a_store_of_statistics_has_no_items(make_cache):
    cache = make_cache(stores={"ssl": {"pool": True}})
    with pytest.raises(StoreError, match="contains only statistics"):
        featcache.open(cache)["ssl"].dataset()


@pytest.mark.parametrize("workers", [0, 2])
def test_loaders_give_padded_batches(store, workers):
    dataset = store.dataset()
    loader = DataLoader(dataset, batch_size=4, collate_fn=dataset.collate, num_workers=workers)
    number = 0
    for layers, lengths, labels in loader:
        assert layers.shape[2] == lengths.max()
        assert labels.dtype == lengths.dtype == torch.int64
        for row, length, label in zip(layers, lengths, labels, strict=True):
            expected, _, expected_label = dataset[number]
            torch.testing.assert_close(row[:, :length], expected, rtol=0, atol=0)
            assert not row[:, length:].any()
            assert label == expected_label
            number += 1
    assert number == len(dataset)


def test_a_copy_in_another_process_opens_the_store_itself(store):
    dataset = store.dataset()
    copy = pickle.loads(pickle.dumps(dataset))
    torch.testing.assert_close(copy[3][0], dataset[3][0], rtol=0, atol=0)
    assert copy[3][1:] == dataset[3][1:]


def featurizer(hidden_states, weights):
    """Return the weighted sum over layers of SUPERB, copied from s3prl.

    Args:
        hidden_states: One tensor (batch, num_frames, hidden_size) per layer.
        weights: (num_layers,), before the softmax.

    Source: Yang et al. 2021, SUPERB, section 3.2; s3prl/upstream/interfaces.py, Featurizer._weighted_sum.
    """
    stacked = torch.stack(hidden_states, dim=0)
    _, *origin_shape = stacked.shape
    norm_weights = torch.nn.functional.softmax(weights, dim=-1)
    weighted = (norm_weights.unsqueeze(-1) * stacked.view(len(hidden_states), -1)).sum(dim=0)
    return weighted.view(*origin_shape)


def test_the_featurizer_of_superb_gives_our_weighted_average(store):
    dataset = store.dataset()
    layers, lengths, _ = dataset.collate([dataset[i] for i in range(len(dataset))])
    weights = torch.randn(layers.shape[1], generator=torch.Generator().manual_seed(0))
    ours = LayerWeights(layers.shape[1], "softmax")
    with torch.no_grad():
        ours.scalars.copy_(weights)
        average = ours([dataset[i][0] for i in range(len(dataset))])
    theirs = featurizer(list(layers.unbind(dim=1)), weights)
    valid = [frames[:length] for frames, length in zip(theirs, lengths, strict=True)]  # without padding
    torch.testing.assert_close(average, torch.cat(valid))
    assert theirs.shape == (len(dataset), int(lengths.max()), store.hidden_size)
