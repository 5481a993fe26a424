"""A plain training loop, and features in memory."""

import numpy as np
import torch

from featcache.heads import create_head
from featcache.heads.packed import pack
from featcache.protocols import Fold
from featcache.training.batches import LoadedUtterances
from featcache.training.together import train_together
from featcache.training.train import Training

NUM_LAYERS, SIZE, NUM_CLASSES = 3, 4, 3


HEADS = [("dense", 1), ("lstm", 1), ("fusion", 2), ("ffn", 2), ("attentive", 2)]


IDS = [f"u{i}" for i in range(22)]


FOLD = Fold(name="1", train=tuple(IDS[:11]), validation=tuple(IDS[11:17]), test=tuple(IDS[17:]))


TARGETS = {utterance_id: i % NUM_CLASSES for i, utterance_id in enumerate(IDS)}
# Values of two dimensions; a batch of one utterance has constant targets.
VALUES = {i: list(row) for i, row in zip(IDS, np.random.default_rng(2).normal(size=(len(IDS), 2)), strict=True)}


class InMemory:
    """Source with all utterances in memory, which records the requested parts and epochs."""

    holds_all = True

    def __init__(self, features, dtype=torch.float32):
        self.window = LoadedUtterances(
            utterances={i: tuple(pack(store[i], dtype) for store in features) for i in features[0]}
        )
        self.asked = []

    def windows(self, utterance_ids, *, epoch=None):
        self.asked.append((frozenset(utterance_ids), epoch))
        yield self.window


def make_features(stores=1):
    """Return one mapping per store, utterance id → tensor; the frames of the stores pair."""
    rng = np.random.default_rng(0)
    features = []
    for _ in range(stores):
        lengths = np.random.default_rng(1).integers(2, 9, len(IDS))
        values = [rng.normal(size=(NUM_LAYERS, length, SIZE)) for length in lengths]
        features.append({i: torch.tensor(value, dtype=torch.float32) for i, value in zip(IDS, values, strict=True)})
    return features


def make_head(name="dense", stores=1, seed=1, num_outputs=NUM_CLASSES):
    sizes = {"num_layers": [NUM_LAYERS] * stores, "hidden_sizes": [SIZE] * stores}
    return create_head(name, **sizes, num_outputs=num_outputs, seed=seed)


def train_head(head, source, seed, config, *, fold=FOLD):
    """Run one training alone, with one worker, and return it when it is finished."""
    [training] = train_together([Training(head, seed, fold, TARGETS, config)], source, workers=1)
    return training


def probabilities_of(head, features, utterance_ids):
    """Predict one utterance at a time."""
    with torch.no_grad():
        return torch.cat([head.eval()([[store[i]] for store in features]).softmax(1) for i in utterance_ids]).numpy()


def same_weights(head, state):
    return all(torch.equal(values, state[name]) for name, values in head.state_dict().items())
