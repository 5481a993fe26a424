"""An epoch of fine-tuning from a stored layer, compared with its floor, and with a plain loop over the whole model.

All three train the same blocks and the same head on the same batches, with all cores, and alternate in one process.
"""

import copy
import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from featcache import audio
from featcache.corpora import read_corpus
from featcache.extractors.models import SAMPLING_RATE, load
from featcache.extractors.padding import valid_mask
from featcache.extractors.upper import TuningOptions, load_upper
from featcache.extractors.upper.training_options import set_dropout
from featcache.heads import create_head
from featcache.heads.ffn import FFNOptions
from featcache.heads.tuned import TunedHead
from featcache.normalise import Normaliser
from featcache.settings.finetunings import BlockSettings
from featcache.settings.fits import TrainingConfig
from featcache.threads import available_cores, threads_each
from featcache.training.batch_sizes import EqualNumbers
from featcache.training.batches import FeatureWindows
from featcache.training.memory import WorkingCopy
from featcache.training.sampling import Shuffled
from featcache.training.store_features import StoreFeatures
from featcache.training.train import Training
from tests.benchmarks.extraction import Cached
from tests.benchmarks.table import Table, promised
from tests.benchmarks.task import Task

# Largest ratio of an epoch to its floor.
MOST = 1.15
HEAD, POOLING, SEED = "ffn", "mean+max", 1
RATES = 1e-4, 1e-5
# GFLOP of the forward pass of wav2vec2-base per second of audio: convolutions, positional convolution, one block. A
# training step of a part costs three times its forward pass.
CONVOLUTIONS, POSITIONS, BLOCK, NUM_BLOCKS = 4.9, 0.5, 0.71, 12


def bound(from_layer: int) -> float:
    """Return the operations of the plain loop, divided by those from a stored layer, for wav2vec2-base."""
    trained = 3 * BLOCK * (NUM_BLOCKS - from_layer) + (3 * POSITIONS if from_layer == 0 else 0)
    frozen = CONVOLUTIONS + BLOCK * from_layer + (POSITIONS if from_layer else 0)
    return (frozen + trained) / trained


@dataclass(frozen=True, kw_only=True)
class Epochs:
    """Seconds of an epoch, the fastest of several.

    Attributes:
        from_layer: Number of the stored layer.
        ours: Seconds of featcache.
        floor: Seconds of the forward and backward passes of the trained blocks and the head alone.
        plain: Seconds of the plain loop.
        losses: Mean training loss of the first epoch, of featcache and of the plain loop.
    """

    from_layer: int
    ours: float
    floor: float
    plain: float
    losses: tuple[float, float]

    @property
    def ratio(self) -> float:
        return self.ours / self.floor


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Measurements of several layers."""

    epochs: Sequence[Epochs]
    num_utterances: int
    batch_size: int
    rounds: int

    def table(self) -> Table:
        return Table(
            title="Fine-tuning from a stored layer",
            text=f"An epoch with {self.num_utterances} training utterances in batches of {self.batch_size}, followed "
            f"by the validation part, with all cores; the blocks have random weights. The floor is the forward and "
            "backward passes of the trained blocks and the head alone (for the validation part forward only), on "
            "padded batches in memory. The plain loop also computes the frozen part of the model, from waveforms in "
            "memory, without gradients. All use the same batches, dropout, Adam and head. The bound is the ratio of "
            "operations of wav2vec2-base without validation. The epochs alternate in one process, and the fastest of "
            f"{self.rounds} counts.",
            columns=("from layer", "featcache", "floor", "ratio", "target", "plain loop", "speed-up", "bound"),
            rows=[
                (
                    f"{one.from_layer}",
                    *(f"{seconds:.2f} s" for seconds in (one.ours, one.floor)),
                    f"{one.ratio:.2f}",
                    promised(one.ratio, MOST),
                    f"{one.plain:.2f} s",
                    f"{one.plain / one.ours:.2f}",
                    f"{bound(one.from_layer):.2f}",
                )
                for one in self.epochs
            ],
        )


class Loop(ABC):
    """A loop over padded batches, without anything else.

    Args:
        task: Fold and targets.
        batch_size: Number of utterances of a batch.
        inputs: Utterance id → input of the model, (length, ...) float32.
        head: Untrained head on the pooled last layer.
    """

    def __init__(self, task: Task, batch_size: int, inputs: Mapping[str, Tensor], head: nn.Module) -> None:
        self._task = task
        self._order = Shuffled(SEED, task.fold.train)
        self._batches = EqualNumbers(batch_size)
        self._inputs = inputs
        self.head = head
        self.losses: list[float] = []

    @abstractmethod
    def frames(self, values: Tensor, lengths: Sequence[int]) -> Sequence[Tensor]:
        """Return the last layer of each utterance, (num_frames, hidden_size), from padded inputs."""

    @abstractmethod
    def step(self, loss: Tensor) -> None:
        """Do a training step."""

    @abstractmethod
    def train(self, mode: bool) -> None:
        """Set the training mode."""

    def padded(self) -> None:
        """Prepare the batches of the next epoch and of the validation part."""
        train = self._batches.batches(self._order.order(self._task.fold.train))
        tested = self._batches.tested(self._task.fold.validation)
        self._parts = [[(ids, self._pad(ids)) for ids in part] for part in (train, tested)]

    def epoch(self) -> None:
        """Run the prepared batches."""
        train, tested = self._parts
        self.train(True)
        total = 0.0
        for ids, values in train:
            loss = self._loss(ids, values)
            self.step(loss)
            total += loss.item() * len(ids)
        self.losses.append(total / len(self._task.fold.train))
        self.train(False)
        with torch.no_grad():
            for ids, values in tested:
                self._loss(ids, values)

    def _pad(self, ids: Sequence[str]) -> Tensor:
        return nn.utils.rnn.pad_sequence([self._inputs[i] for i in ids], batch_first=True)

    def _loss(self, ids: Sequence[str], values: Tensor) -> Tensor:
        frames = self.frames(values, [len(self._inputs[i]) for i in ids])
        pooled = [[torch.cat([one.mean(0), one.amax(0)])[None, None] for one in frames]]
        return nn.functional.cross_entropy(self.head(pooled), torch.tensor([self._task.targets[i] for i in ids]))


class Floor(Loop):
    """Forward and backward passes of the trained blocks and the head."""

    def __init__(self, task: Task, batch_size: int, inputs: Mapping[str, Tensor], tuned: TunedHead) -> None:
        super().__init__(task, batch_size, inputs, tuned.inner)
        [self._blocks] = tuned.models.values()

    def frames(self, values: Tensor, lengths: Sequence[int]) -> Sequence[Tensor]:
        mask = None if len(set(lengths)) == 1 else valid_mask(lengths)
        rows = self._blocks.encoder(values, mask).unbind()
        return [row[:length] for row, length in zip(rows, lengths, strict=True)]

    def step(self, loss: Tensor) -> None:
        self._blocks.zero_grad()
        loss.backward()

    def train(self, mode: bool) -> None:
        self._blocks.train(mode)
        self.head.train(mode)


class Plain(Loop):
    """The whole model of transformers, whose parts up to a layer are frozen and computed without gradients."""

    def __init__(
        self,
        task: Task,
        batch_size: int,
        inputs: Mapping[str, Tensor],
        head: nn.Module,
        module: nn.Module,
        names: Collection[str],
        from_layer: int,
        rates: tuple[float, float],
    ) -> None:
        super().__init__(task, batch_size, inputs, head)
        self._module = module
        encoder = self._module.encoder
        self._trained = encoder.layers[from_layer:] if from_layer else encoder
        for name, parameter in self._module.named_parameters():
            parameter.requires_grad_(name in names)
        blocks = [one for one in self._module.parameters() if one.requires_grad]
        self._learned = [*(one for one in self.head.parameters() if one.requires_grad), *blocks]
        groups = [{"params": self._learned[: -len(blocks)]}, {"params": blocks, "lr": rates[1]}]
        self._optimiser = torch.optim.Adam(groups, lr=rates[0], eps=1e-7, fused=True)

    def frames(self, values: Tensor, lengths: Sequence[int]) -> Sequence[Tensor]:
        mask = None if len(set(lengths)) == 1 else valid_mask(lengths).long()
        rows = self._module(values, attention_mask=mask).last_hidden_state.unbind()
        numbers = self._module._get_feat_extract_output_lengths(torch.tensor(lengths)).tolist()
        return [row[:number] for row, number in zip(rows, numbers, strict=True)]

    def step(self, loss: Tensor) -> None:
        self._optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_value_(self._learned, 1.0)
        self._optimiser.step()

    def train(self, mode: bool) -> None:
        """Set the training mode; frozen parts compute without dropout."""
        self._module.eval()
        self._trained.train(mode)
        self.head.train(mode)


class Ours:
    """A training of featcache whose features are in memory."""

    def __init__(
        self, task: Task, batch_size: int, features: StoreFeatures, tuned: TunedHead, rates: tuple[float, float]
    ) -> None:
        copied = WorkingCopy(dtype=torch.float32, compute=torch.float32, room=None)
        nothing = Normaliser(group_of={}, mean_={}, std_={})
        source = FeatureWindows([features], [nothing], copied, workers=available_cores())
        ids = (*task.fold.train, *task.fold.validation)
        source.load(ids)
        [self._window] = source.windows(ids)
        self.training = Training(
            tuned,
            SEED,
            task.fold,
            task.targets,
            TrainingConfig(max_epochs=10**6, patience=10**6, batch_size=batch_size, learning_rate=rates[0]),
            blocks=BlockSettings(from_layer=(0,), blocks_learning_rate=rates[1]),
        )

    def epoch(self) -> None:
        """Do the work of an epoch."""
        self.training.learn(self._window)
        self.training.validate(self._window)
        self.training.end_epoch()


def signals(data: Path, utterance_ids: Sequence[str], prepare: Any) -> dict[str, Tensor]:
    """Return utterance id → input of the whole model, (num_samples,) float32.

    Args:
        data: Folder of the corpus.
        utterance_ids: The utterances.
        prepare: Feature extractor of the model.
    """
    files = read_corpus(data)
    found = {}
    for utterance_id in utterance_ids:
        signal = audio.read(files.root, files.manifest[utterance_id]).signal(sampling_rate=SAMPLING_RATE)
        values = prepare(signal.samples, sampling_rate=SAMPLING_RATE, return_tensors="pt")["input_values"]
        found[utterance_id] = values[0]
    return found


def epochs(
    model: str,
    data: Path,
    extracted: Cached,
    from_layer: int,
    *,
    batch_size: int,
    rounds: int,
    dropout: float | None = None,
    rates: tuple[float, float] = RATES,
    plain: bool = True,
) -> Epochs:
    """Measure epochs from one layer.

    Args:
        model: Name or folder of the model.
        data: Folder of the corpus.
        extracted: The store with all layers.
        from_layer: Number of the stored layer.
        batch_size: Number of utterances of a batch.
        rounds: Number of epochs of each kind; the fastest counts.
        dropout: Dropout of the model; None for that of its configuration.
        rates: Learning rates of the head and of the blocks.
        plain: Whether to measure the plain loop, too.
    """
    store = extracted.store
    task = Task.of(extracted.cache, store)
    options = TuningOptions(dropout=dropout, layer_dropout=0.0)
    blocks = load_upper(
        model, text=False, from_layer=from_layer, weights="random", expected_sha256=None, options=options
    )
    size = blocks.hidden_size
    inner = create_head(
        HEAD,
        num_layers=[1],
        hidden_sizes=[size],
        num_outputs=task.num_classes,
        pooling=POOLING,
        options=FFNOptions(dropout=0.1 if dropout is None else dropout),
        seed=SEED,
    )

    def new_head() -> TunedHead:
        return TunedHead(copy.deepcopy(inner), {store: copy.deepcopy(blocks)})

    features = StoreFeatures(task.cache[store], layers=str(from_layer), max_frames=None)
    ids = (*task.fold.train, *task.fold.validation)
    stored = {i: torch.from_numpy(task.cache[store][i][from_layer]) for i in ids}
    kinds: list[Ours | Loop] = [
        Ours(task, batch_size, features, new_head(), rates),
        Floor(task, batch_size, stored, new_head()),
    ]
    if plain:
        loaded = load(model, weights="random")
        if dropout is not None:
            set_dropout(loaded.module, dropout)
        loaded.module.config.layerdrop = loaded.module.config.mask_time_prob = 0.0
        waveforms = signals(data, ids, loaded.feature_extractor)
        kinds.append(Plain(task, batch_size, waveforms, inner, loaded.module, blocks.tuned_state(), from_layer, rates))
    seconds = [float("inf")] * len(kinds)
    for _ in range(rounds):
        for number, kind in enumerate(kinds):
            if isinstance(kind, Loop):
                kind.padded()
            start = time.perf_counter()
            kind.epoch()
            seconds[number] = min(seconds[number], time.perf_counter() - start)
    return Epochs(
        from_layer=from_layer,
        ours=seconds[0],
        floor=seconds[1],
        plain=seconds[2] if plain else float("nan"),
        losses=(kinds[0].training.history[0].train_loss, kinds[-1].losses[0]),
    )


def compare(
    model: str,
    data: Path,
    extracted: Cached,
    *,
    layers: Sequence[int] = (11, 9, 6, 0),
    batch_size: int = 16,
    rounds: int = 3,
) -> Measured:
    """Measure epochs from several layers, in this process."""
    with threads_each(available_cores()):
        found = [epochs(model, data, extracted, k, batch_size=batch_size, rounds=rounds) for k in layers]
    return Measured(
        epochs=found,
        num_utterances=len(Task.of(extracted.cache, extracted.store).fold.train),
        batch_size=batch_size,
        rounds=rounds,
    )
