"""A training that continues from any of its checkpoints gives the bits of one that was never interrupted."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from featcache.errors import DiskError, StoreError
from featcache.heads.ffn import FFNOptions
from featcache.runs.checkpoints import CheckpointFile, TrainingState
from featcache.settings.finetunings import BlockSettings
from featcache.settings.training_loop import LoopSettings
from featcache.targets.losses import CLASSIFICATION
from featcache.training.auxiliary import Auxiliary, AuxiliaryTask
from featcache.training.batches import LoadedUtterances
from featcache.training.together import train_together
from featcache.training.train import Training, TrainingConfig
from tests.training.plain_loop import FOLD, IDS, TARGETS, InMemory
from tests.training.test_blocks import first_layers, make_tuned

CONFIG = TrainingConfig(max_epochs=4, patience=3, batch_size=4, learning_rate=0.05)
SECONDS = {utterance_id: 1 + i % 3 for i, utterance_id in enumerate(IDS)}


class InWindows(InMemory):
    """Source with three windows, whose order depends on the epoch."""

    holds_all = False

    def windows(self, utterance_ids, *, epoch=None):
        order = range(3) if epoch is None else np.random.default_rng(epoch).permutation(3)
        for window in order:
            wanted = {i: self.window.utterances[i] for i in IDS[window::3] if i in set(utterance_ids)}
            yield LoadedUtterances(utterances=wanted)


class Recorded(CheckpointFile):
    """File that also keeps all earlier states, in memory."""

    def __init__(self, path):
        super().__init__(path, "run seed-5-fold-1")
        self.all = []

    def write(self, checkpoint):
        super().write(checkpoint)
        self.all.append(self.path.read_bytes())


def make(file, *, rate=0.3, loop=None, config=CONFIG, also=False, **options):
    head = make_tuned(rate=rate, options=FFNOptions(dropout=0.2))
    blocks = BlockSettings(from_layer=(0,), **{"blocks_learning_rate": 0.01, **options})
    auxiliary = None
    if also:
        task = AuxiliaryTask(weight=0.5, num_outputs=3, loss=CLASSIFICATION.loss, targets=TARGETS)
        size = head.pooled([[torch.zeros(1, 2, 4)]]).shape[1]
        auxiliary = Auxiliary([task], size, 5)
    return Training(
        head,
        5,
        FOLD,
        TARGETS,
        config,
        loop=loop or LoopSettings(),
        blocks=blocks,
        lengths=SECONDS,
        checkpoint=file,
        auxiliary=auxiliary,
    )


CASES = {
    "usual": {},
    "sgd": {"loop": LoopSettings(optimizer="sgd")},
    "frozen": {"blocks_learning_rate": 0},
    "plateau": {"loop": LoopSettings(optimizer="adamw", schedule="plateau"), "rate": 0.6},
    "cosine": {"loop": LoopSettings(schedule="cosine", warmup=3, mixup=0.4, evaluate_every=2)},
    "steps": {"loop": LoopSettings(evaluate_every=2, sampler="balanced"), "accumulate": 2},
    "lengths": {"loop": LoopSettings(evaluate_every=1, stop_on="uar"), "batch_seconds": 6},
    "changes": {"loop": LoopSettings(crop=3, mask_dims="1x2", feature_noise=0.1), "also": True},
}


@pytest.mark.parametrize("source", [InMemory, InWindows])
@pytest.mark.parametrize("case", CASES)
def test_from_every_checkpoint_the_result_is_the_same(tmp_path, case, source):
    options, file = CASES[case], Recorded(tmp_path / "one.safetensors")
    features = source(first_layers())
    [whole] = train_together([make(file, **options)], features, workers=1)
    [without] = train_together([make(None, **options)], features, workers=1)
    assert whole.history == without.history
    assert file.all
    # Every evaluation is kept; in windows, those of an epoch are complete at its end.
    if source is InMemory:
        assert len(file.all) == len(whole.history)
    for content in (file.all[0], file.all[len(file.all) // 2], file.all[-1]):
        file.path.write_bytes(content)
        again = make(file, **options)
        assert again.go_on()
        [again] = train_together([again], features, workers=1)
        assert again.history == whole.history
        assert again.predictions == whole.predictions
        for name, values in whole.head.state_dict().items():
            assert torch.equal(values, again.head.state_dict()[name])


def test_without_a_file_a_training_begins(tmp_path):
    one = make(Recorded(tmp_path / "one.safetensors"))
    assert not one.go_on()
    assert one.next_epoch == 1


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Return a file with the state after an epoch that was not the best one."""
    file = Recorded(tmp_path_factory.mktemp("kept") / "one.safetensors")
    config = replace(CONFIG, learning_rate=5.0)
    [trained] = train_together([make(file, config=config)], InMemory(first_layers()), workers=1)
    assert trained._best.place == 2
    file.path.write_bytes(file.all[2])
    return file.path


def rewritten(path, change):
    """Change the state of a file and give it a correct checksum again, as an attacker may."""
    with safe_open(path, framework="pt") as opened:
        values = json.loads(opened.metadata()["values"])
    tensors = load_file(path)
    path.unlink()
    change(tensors, values)
    CheckpointFile(path, "run seed-5-fold-1").write(TrainingState(tensors=tensors, values=values))


HOSTILE = {
    "another shape": lambda tensors, values: tensors.update(generator=torch.zeros(3, dtype=torch.uint8)),
    "another dtype": lambda tensors, values: tensors.update(train_loss=torch.zeros((), dtype=torch.float64)),
    "a bad generator": lambda tensors, values: tensors.update(generator=torch.full_like(tensors["generator"], 255)),
    "a missing weight": lambda tensors, values: tensors.pop(next(n for n in tensors if n.startswith("weights."))),
    "a missing best": lambda tensors, values: tensors.pop(next(n for n in tensors if n.startswith("best."))),
    "more weights": lambda tensors, values: tensors.update({"weights.x": torch.zeros(3)}),
    "other sums": lambda tensors, values: tensors.update({"optimiser.9999.exp_avg": torch.zeros(3)}),
    "no parts": lambda tensors, values: values.pop("parts"),
    "parts as text": lambda tensors, values: values.update(parts="x"),
    "no order": lambda tensors, values: values["parts"].pop("order"),
    "another generator": lambda tensors, values: values["parts"]["order"]["generator"].update(bit_generator="MT19937"),
    "a huge number": lambda tensors, values: values["parts"]["order"]["generator"]["state"].update(state=10**400),
    "a negative count": lambda tensors, values: values["counts"].update(steps=-1),
    "a text as count": lambda tensors, values: values["counts"].update(epochs="3"),
    "no history": lambda tensors, values: values.update(history=None),
    "a long row": lambda tensors, values: values.update(history=[[1] * 9]),
    "a text in a row": lambda tensors, values: values.update(history=[[1, "x", 1, 1]]),
    "endless seconds": lambda tensors, values: values.update(seconds=float("inf")),
    "rates": lambda tensors, values: values["parts"]["rate"].update(rates=[1.0] * 3),
}


@pytest.mark.parametrize("fault", HOSTILE)
def test_a_hostile_state_is_refused_in_one_line(kept, tmp_path, fault):
    path = tmp_path / "one.safetensors"
    path.write_bytes(kept.read_bytes())
    rewritten(path, lambda tensors, values: None)
    assert make(CheckpointFile(path, "run seed-5-fold-1")).go_on()
    rewritten(path, HOSTILE[fault])
    with pytest.raises(StoreError, match=r"is damaged .*; this training starts again") as refused:
        make(CheckpointFile(path, "run seed-5-fold-1")).go_on()
    assert "\n" not in str(refused.value)


def damage(path, kind):
    content = path.read_bytes()
    if kind == "a changed bit":
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    if kind == "the beginning only":
        path.write_bytes(content[: len(content) // 2])
    if kind == "empty":
        path.write_bytes(b"")
    if kind == "a pickle":
        torch.save({"a": torch.zeros(3)}, path)
    if kind == "no header":
        save_file({"a": torch.zeros(0)}, path)
    if kind in ("a pipe", "a folder", "a lost link"):
        path.unlink()
        {"a pipe": os.mkfifo, "a folder": os.mkdir, "a lost link": lambda p: p.symlink_to("nowhere")}[kind](path)


@pytest.mark.parametrize(
    "kind",
    ["a changed bit", "the beginning only", "empty", "a pickle", "no header", "a pipe", "a folder", "a lost link"],
)
def test_a_damaged_file_is_refused(kept, tmp_path, kind):
    path = tmp_path / "one.safetensors"
    path.write_bytes(kept.read_bytes())
    damage(path, kind)
    with pytest.raises((StoreError, DiskError)) as refused:
        make(CheckpointFile(path, "run seed-5-fold-1")).go_on()
    assert "\n" not in str(refused.value)


def test_the_file_of_another_training_is_refused(kept):
    with pytest.raises(StoreError, match="it belongs to another training"):
        make(CheckpointFile(kept, "run seed-6-fold-1")).go_on()
