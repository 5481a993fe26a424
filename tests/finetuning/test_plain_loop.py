"""Ten steps from the cache are ten steps of a plain loop of transformers with the lower part frozen."""

import numpy as np
import pytest
import soundfile
import torch
import transformers

import featcache
from featcache.heads import create_head
from featcache.heads.ffn import FFNOptions

# Relative difference of losses and trained weights: float32 sums in another order, which ten steps of AdamW carry on.
AFTER_TEN_STEPS = 1e-4
RATES = {"learning_rate": 1e-3, "blocks_learning_rate": 3e-4}
# The bias of the keys has no effect on attention. Its gradient is rounding, which Adam scales to steps of usual size.
WITHOUT_EFFECT = ("k_proj.bias", "key.bias")
EPOCHS, BATCH, SEED = 5, 2, 7
_COMMON = {
    "seeds": (SEED,),
    "optimizer": "adamw",
    "epsilon": 1e-8,
    "blocks_dropout": 0,
    "set": {"dropout": 0},
    "clip_norm": 1,
    "batch_size": BATCH,
    "max_epochs": EPOCHS,
    "patience": EPOCHS,
    **RATES,
}
# Kind of model → options of a run of ten steps.
TEN_STEPS = {"ssl": {"layer_dropout": 0, **_COMMON}, "text": _COMMON}


def signal_of(place, utterance, extractor):
    samples, rate = soundfile.read(place.workspace.corpus("toy") / utterance.path, dtype="float32")
    return extractor(samples, sampling_rate=rate, return_tensors="pt")["input_values"]


def hidden_states(model, inputs, kind):
    if kind == "ssl":
        return model(inputs).last_hidden_state[0]
    return model(**inputs).last_hidden_state[0]


class PlainLoop:
    """Whole model and head; each utterance is computed alone, and the losses of a batch are averaged."""

    def __init__(self, place, kind, from_layer):
        self.kind = kind
        dropout = dict.fromkeys(("hidden_dropout", "attention_dropout", "activation_dropout", "layerdrop"), 0.0)
        dropout |= dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), 0.0)
        dropout |= {"apply_spec_augment": False}
        known = transformers.AutoConfig.from_pretrained(place.models[kind]).to_dict()
        changes = {name: value for name, value in dropout.items() if name in known}
        self.model = transformers.AutoModel.from_pretrained(place.models[kind], **changes).train()
        self.model.requires_grad_(False)
        blocks = self.model.encoder.layers if kind == "ssl" else self.model.encoder.layer
        self.tuned = [parameter for block in blocks[from_layer:] for parameter in block.parameters()]
        if kind == "ssl" and from_layer == 0:
            self.tuned = list(self.model.encoder.parameters())
        for parameter in self.tuned:
            parameter.requires_grad_(True)
        self.head = create_head(
            "ffn",
            num_layers=[1],
            hidden_sizes=[32],
            num_outputs=2,
            pooling="mean+max",
            options=FFNOptions(dropout=0.0),
            seed=SEED,
        )
        self.inputs = {}
        cache = featcache.open(place.workspace.cache("toy"))
        if kind == "ssl":
            extractor = transformers.AutoFeatureExtractor.from_pretrained(place.models[kind])
            self.inputs = {one.utterance_id: signal_of(place, one, extractor) for one in cache.manifest}
        else:
            tokenizer = transformers.AutoTokenizer.from_pretrained(place.models[kind])
            for one in cache.manifest:
                self.inputs[one.utterance_id] = tokenizer(one.transcript, return_tensors="pt")
        self.targets = {one.utterance_id: int(one.labels["emotion"] == "joy") for one in cache.manifest}

    def loss(self, ids):
        logits = []
        for utterance_id in ids:
            frames = hidden_states(self.model, self.inputs[utterance_id], self.kind)
            pooled = torch.cat([frames.mean(0), frames.amax(0)])
            logits.append(self.head([[pooled[None, None]]])[0])
        targets = torch.tensor([self.targets[utterance_id] for utterance_id in ids])
        return torch.nn.functional.cross_entropy(torch.stack(logits), targets)

    def train(self, train, validation):
        """Return training and validation loss after each epoch, and the weights of the epoch with the best one."""
        groups = [{"params": [one for one in self.head.parameters() if one.requires_grad]}]
        groups += [{"params": self.tuned, "lr": RATES["blocks_learning_rate"]}]
        optimiser = torch.optim.AdamW(groups, lr=RATES["learning_rate"], eps=1e-8, weight_decay=0.01)
        shuffling, history, weights = np.random.default_rng(SEED), [], []
        for _ in range(EPOCHS):
            order = [train[i] for i in shuffling.permutation(len(train))]
            losses = []
            for first in range(0, len(order), BATCH):
                loss = self.loss(order[first : first + BATCH])
                optimiser.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_([one for group in groups for one in group["params"]], 1.0)
                optimiser.step()
                losses.append(loss.item())
            with torch.no_grad():
                history.append((np.mean(losses), float(self.loss(validation))))
            weights.append(self.state())
        return np.array(history), weights[int(np.argmin([loss for _, loss in history]))]

    def state(self):
        """Return a copy of the weights of the model."""
        return {name: values.clone() for name, values in self.model.state_dict().items()}


def parts_of(place, run):
    """Return the number of the first fold, its training part and its validation part."""
    cache = featcache.open(place.workspace.cache("toy"))
    fold = run.history["fold"].min()
    tested = set(run.predictions.query("fold == @fold")["utterance_id"])
    validation = list(run.validation_predictions.query("fold == @fold")["utterance_id"])
    return fold, [i for i in cache.manifest.utterance_ids if i not in tested and i not in validation], validation


@pytest.mark.parametrize(("kind", "from_layer"), [("ssl", 0), ("ssl", 2), ("text", 1)])
def test_ten_steps(place, kind, from_layer):
    run = place.finetune(features=kind, from_layer=from_layer, name=f"ten-{kind}-{from_layer}", **TEN_STEPS[kind])
    fold, train, validation = parts_of(place, run)
    history, weights = PlainLoop(place, kind, from_layer).train(train, validation)
    found = run.history.query("fold == @fold")[["train_loss", "validation_loss"]].to_numpy()
    np.testing.assert_allclose(found, history, rtol=AFTER_TEN_STEPS)
    assert np.ptp(history[:, 0]) > 100 * AFTER_TEN_STEPS  # the steps changed something
    folder = run.path / "models" / kind / f"seed-{SEED}-fold-{fold}"
    for name, values in transformers.AutoModel.from_pretrained(folder).state_dict().items():
        if not name.endswith(WITHOUT_EFFECT) and not name.startswith("pooler."):  # no layer depends on the pooler
            torch.testing.assert_close(values, weights[name], rtol=AFTER_TEN_STEPS, atol=AFTER_TEN_STEPS * 0.1)
