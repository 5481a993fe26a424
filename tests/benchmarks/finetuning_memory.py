"""Peak memory of a fine-tuning that reads features in windows, compared with a fourth of them: it must not grow."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import torch

import featcache
from featcache.cli.demo import TINY_WAV2VEC2
from featcache.extractors.upper import load_upper
from featcache.heads import create_head
from featcache.heads.tuned import TunedHead
from featcache.normalise import Normaliser
from featcache.settings.finetunings import BlockSettings
from featcache.threads import available_cores
from featcache.training.batches import FeatureWindows
from featcache.training.memory import WorkingCopy
from featcache.training.store_features import StoreFeatures
from featcache.training.together import train_together
from featcache.training.train import Training, TrainingConfig
from tests.benchmarks.process import alone
from tests.benchmarks.table import Table, megabytes, promised
from tests.benchmarks.task import Task

MOST = 1.10
# Memory of the features at a time. Even the smaller part of the cache needs several windows.
ROOM = 32 * 2**20
SHARE = 4
# One block: fast to compute, but with large features.
MODEL = {**TINY_WAV2VEC2, "num_hidden_layers": 1, "intermediate_size": 64}


@dataclass(frozen=True, kw_only=True)
class Trained:
    """Result of one process: number of utterances, bytes of their features in float32, number of windows, peak."""

    num_utterances: int
    bytes: int
    num_windows: int
    peak: int


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Results of the smaller and of the larger training."""

    few: Trained
    many: Trained

    @property
    def ratio(self) -> float:
        return self.many.peak / self.few.peak

    def table(self) -> Table:
        rows = [
            [f"{one.num_utterances}", megabytes(one.bytes), f"{one.num_windows}", megabytes(one.peak)]
            for one in (self.few, self.many)
        ]
        return Table(
            title="Memory of fine-tuning",
            text=f"One epoch from a stored layer of the synthetic cache, with one untrained block. Features in float32 "
            f"may take {megabytes(ROOM)}; each training runs in a separate process. The peaks include the libraries, "
            "the block and its optimiser.",
            columns=("utterances", "features", "windows", "peak resident memory", "ratio", "target"),
            rows=[[*rows[0], "1.00", "-"], [*rows[1], f"{self.ratio:.2f}", promised(self.ratio, MOST)]],
        )


def train(model: Path, cache: Path, share: int) -> tuple[int, int, int]:
    """Train a share of the utterances; return their number, the bytes of their features, and the number of windows."""
    [store] = (name for name in featcache.open(cache) if name != "egemaps")
    task = Task.of(cache, store)
    fold = replace(task.fold, **{part: getattr(task.fold, part)[::share] for part in ("train", "validation", "test")})
    task = replace(task, fold=fold)
    blocks = load_upper(str(model), text=False, from_layer=0, weights="random", expected_sha256=None)
    sizes = {"num_layers": [1], "hidden_sizes": [blocks.hidden_size], "num_outputs": task.num_classes}
    features = StoreFeatures(task.cache[store], layers="0", max_frames=None)
    copied = WorkingCopy(dtype=torch.float32, compute=torch.float32, room=ROOM)
    nothing = Normaliser(group_of={}, mean_={}, std_={})
    source = FeatureWindows([features], [nothing], copied, workers=available_cores())
    ids = (*fold.train, *fold.validation, *fold.test)
    source.load(ids)
    training = Training(
        TunedHead(create_head("linear", **sizes, seed=1), {store: blocks}),
        1,
        fold,
        task.targets,
        TrainingConfig(max_epochs=1, patience=1, batch_size=8),
        blocks=BlockSettings(from_layer=(0,)),
    )
    for _ in train_together([training], source, workers=1, threads=available_cores()):
        pass
    size = 4 * blocks.hidden_size * int(task.cache[store].num_frames(ids).sum())
    return len(ids), size, sum(1 for _ in source.windows(ids))


def compare(folder: Path, cache: Path) -> Memory:
    """Compare a training on the synthetic cache with one on a share of it."""
    model = folder / "one-block"
    model.mkdir()
    hidden_size = next(store.hidden_size for name, store in featcache.open(cache).items() if name != "egemaps")
    (model / "config.json").write_text(json.dumps({**MODEL, "hidden_size": hidden_size}), encoding="utf-8")
    few, many = (_trained(model, cache, share) for share in (2 * SHARE, 2))
    return Memory(few=few, many=many)


def _trained(model: Path, cache: Path, share: int) -> Trained:
    (number, size, num_windows), peak = alone(train, model, cache, share)
    return Trained(num_utterances=number, bytes=size, num_windows=num_windows, peak=peak)
