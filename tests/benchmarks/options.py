"""Time of an epoch of the dense head with each option of the training steps, compared with an epoch without options."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import featcache
from featcache.settings.training_loop import LoopSettings
from featcache.targets.losses import Objective, classification
from featcache.training.batches import FeatureWindows
from featcache.training.together import train_together
from tests.benchmarks.synthetic_cache import EMOTIONS
from tests.benchmarks.table import Table, promised
from tests.benchmarks.task import Task

# Largest ratio of an epoch with an option to an epoch without options.
MOST = 1.10
OPTIONS: Mapping[str, LoopSettings | Objective] = {
    "--class-weights balanced": classification("cross-entropy", [1 + i / 8 for i in range(len(EMOTIONS))]),
    "--loss focal:2": classification("focal:2"),
    "--loss label-smoothing:0.1": classification("label-smoothing:0.1"),
    "--optimizer adamw": LoopSettings(optimizer="adamw"),
    "--optimizer sgd": LoopSettings(optimizer="sgd"),
    "--schedule cosine --warmup 0.1": LoopSettings(schedule="cosine", warmup=0.1),
    "--sampler balanced": LoopSettings(sampler="balanced"),
    "--mixup 0.2": LoopSettings(mixup=0.2),
    "--mask-time 2x10": LoopSettings(mask_time="2x10"),
    "--mask-dims 2x40": LoopSettings(mask_dims="2x40"),
    "--feature-noise 0.1": LoopSettings(feature_noise=0.1),
    "--crop 100": LoopSettings(crop=100),
}


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Seconds per epoch.

    Attributes:
        plain: Without options.
        seconds: Option → seconds.
        num_utterances: Number of utterances of the training part.
    """

    plain: float
    seconds: Mapping[str, float]
    num_utterances: int

    def ratio(self, option: str) -> float:
        return self.seconds[option] / self.plain

    def table(self) -> Table:
        return Table(
            title="Options of training",
            text=f"An epoch of the dense head on {self.num_utterances} utterances of the synthetic cache, with each "
            f"option, compared with an epoch without options ({self.plain:.2f} s). The epochs alternate in one run, "
            "after all features were read, and the fastest of each kind counts.",
            columns=("option", "epoch (s)", "ratio", "target"),
            rows=[
                (f"`{option}`", f"{seconds:.2f}", f"{self.ratio(option):.2f}", promised(self.ratio(option), MOST))
                for option, seconds in self.seconds.items()
            ],
        )


def compare(
    cache: Path, *, seeds: Sequence[int], rounds: int, options: Mapping[str, LoopSettings | Objective] = OPTIONS
) -> Measured:
    """Measure options.

    Args:
        cache: Folder of the synthetic cache.
        seeds: Seeds of the heads, which are trained one after another.
        rounds: Number of epochs of each kind; the fastest counts.
        options: Option → settings of the steps, or another loss.
    """
    (store,) = (name for name in featcache.open(cache) if name != "egemaps")
    task = Task.of(cache, store)
    source = task.source()
    source.load(task.cache.manifest.utterance_ids)
    found: dict[str, float] = {}
    for _ in range(rounds):
        for option, settings in {"": LoopSettings(), **options}.items():
            found[option] = min(found.get(option, float("inf")), _epoch(task, source, seeds, settings))
    return Measured(plain=found.pop(""), seconds=found, num_utterances=len(task.fold.train))


def _epoch(task: Task, source: FeatureWindows, seeds: Sequence[int], option: LoopSettings | Objective) -> float:
    trainings = task.trainings("dense", seeds, 1, source._copy.compute, option)
    start = time.perf_counter()
    for _ in train_together(trainings, source, workers=1):
        pass
    return time.perf_counter() - start
