"""Fold, targets, features and trainings of the benchmarks of training."""

import gc
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

import featcache
from featcache.cache.reader import FeatureCache
from featcache.heads import create_head, head_spec
from featcache.machine import give_back
from featcache.normalise import fit_normaliser
from featcache.protocols import Fold, default_protocol, make_folds
from featcache.settings.training_loop import LoopSettings
from featcache.targets.losses import CLASSIFICATION, Objective
from featcache.threads import available_cores
from featcache.training.batches import FeatureWindows, num_values
from featcache.training.memory import Memory, plan_working_copy
from featcache.training.store_features import StoreFeatures, steps_of
from featcache.training.train import Training, TrainingConfig


@dataclass(frozen=True, kw_only=True)
class Task:
    """The first fold of the default protocol of a cache, on some of its stores."""

    cache: FeatureCache
    stores: tuple[str, ...]
    fold: Fold
    targets: dict[str, int]

    @classmethod
    def of(cls, cache: Path, *stores: str) -> "Task":
        opened = featcache.open(cache)
        labels = opened.manifest.labels("emotion")
        classes = sorted(set(labels.values()))
        return cls(
            cache=opened,
            stores=stores,
            fold=make_folds(default_protocol(opened.manifest), opened.manifest, "emotion")[0],
            targets={i: classes.index(label) for i, label in labels.items()},
        )

    @property
    def num_classes(self) -> int:
        return max(self.targets.values()) + 1

    def source(self, memory: str | None = None) -> FeatureWindows:
        """Return features with speaker normalisation, not yet loaded, with the in-memory dtype that ``fit`` selects."""
        features = [StoreFeatures(self.cache[name], layers="all", max_frames=None) for name in self.stores]
        manifest = self.cache.manifest
        gc.collect()
        give_back()  # otherwise memory that earlier benchmarks released would affect the choice of the dtype
        values, steps = num_values(features, manifest.utterance_ids), len(manifest) * steps_of(features)
        copy = plan_working_copy(Memory.parse(memory), values, num_steps=steps, overhead=0)
        normalisers = [fit_normaliser(f.store, "speaker", manifest, self.fold.train) for f in features]
        return FeatureWindows(features, normalisers, copy, workers=available_cores())

    def trainings(
        self,
        head: str,
        seeds: Sequence[int],
        epochs: int,
        compute: torch.dtype,
        option: LoopSettings | Objective | None = None,
    ) -> list[Training]:
        sizes = {
            "num_layers": [len(self.cache[name].layer_names) for name in self.stores],
            "hidden_sizes": [self.cache[name].hidden_size for name in self.stores],
            "num_outputs": self.num_classes,
        }
        config = TrainingConfig(max_epochs=epochs, patience=epochs, batch_size=head_spec(head).batch_size)
        return [
            Training(
                create_head(head, **sizes, seed=seed),
                seed,
                self.fold,
                self.targets,
                config,
                compute=compute,
                loop=option if isinstance(option, LoopSettings) else None,
                objective=option if isinstance(option, Objective) else CLASSIFICATION,
                classes=self.targets,
            )
            for seed in seeds
        ]
