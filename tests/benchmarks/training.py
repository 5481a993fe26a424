"""Training against the plain loop that a competent user would write, in one run: seconds per epoch of all seeds."""

import time
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import nn

import featcache
from featcache.heads import create_head
from featcache.normalise import fit_normaliser
from featcache.protocols import Fold, make_folds
from featcache.threads import available_cores
from featcache.training.data import Features
from featcache.training.fit import train_seeds
from featcache.training.train import TrainingConfig
from tests.benchmarks.table import Row


class PlainDataset(torch.utils.data.Dataset):
    """Reads and z-scores one utterance per item."""

    def __init__(self, path: Path, ids: Sequence[str], targets: dict[str, int], speakers: dict[str, str], scale: dict):
        self.file, self.ids, self.targets, self.speakers, self.scale = h5py.File(path), ids, targets, speakers, scale

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int):
        utterance_id = self.ids[index]
        mean, std = self.scale[self.speakers[utterance_id]]
        features = self.file[utterance_id][()].astype(np.float32)
        return torch.from_numpy((features - mean[:, None]) / std[:, None]), self.targets[utterance_id]


class PlainDense(nn.Module):
    def __init__(self, num_layers: int, hidden_size: int, num_classes: int):
        super().__init__()
        self.weights = nn.Parameter(torch.ones(num_layers))
        self.frames = nn.Sequential(
            nn.Dropout(0.2), nn.Linear(hidden_size, 128), nn.ReLU(), nn.Dropout(0.2), nn.Linear(128, 128), nn.ReLU()
        )
        self.output = nn.Linear(128, num_classes)

    def forward(self, features, mask):
        weights = self.weights.abs() / self.weights.abs().sum()
        hidden = self.frames((features * weights[None, :, None, None]).sum(1))
        return self.output((hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True))


def collate(items):
    longest = max(features.shape[1] for features, _ in items)
    batch = torch.zeros(len(items), items[0][0].shape[0], longest, items[0][0].shape[2])
    mask = torch.zeros(len(items), longest)
    for i, (features, _) in enumerate(items):
        batch[i, :, : features.shape[1]] = features
        mask[i, : features.shape[1]] = 1
    return batch, mask, torch.tensor([target for _, target in items])


def plain_loop(cache: Path, store_name: str, fold: Fold, seeds: Sequence[int], epochs: int, folder: Path) -> float:
    """Seconds per epoch, over all seeds; the utterances were written one by one, as such a user does."""
    store, manifest = featcache.open(cache)[store_name], featcache.open(cache).manifest
    path = folder / "utterances.h5"
    with h5py.File(path, "w") as file:
        for utterance_id in store:
            file[utterance_id] = store.view(utterance_id)
    speakers = {u.utterance_id: u.speaker_id for u in manifest}
    groups = {s: [i for i in manifest.utterance_ids if speakers[i] == s] for s in manifest.speaker_ids}
    scale = {s: [a.astype(np.float32) for a in store.mean_and_std(ids)] for s, ids in groups.items()}
    labels = manifest.labels("emotion")
    classes = sorted(set(labels.values()))
    targets = {i: classes.index(label) for i, label in labels.items()}
    start = time.perf_counter()
    for seed in seeds:
        torch.manual_seed(seed)
        head = PlainDense(len(store.layer_names), store.hidden_size, len(classes))
        optimiser = torch.optim.Adam(head.parameters(), lr=1e-4, eps=1e-7)
        loaders = [
            torch.utils.data.DataLoader(
                PlainDataset(path, ids, targets, speakers, scale), batch_size=32, shuffle=train, collate_fn=collate
            )
            for ids, train in ((fold.train, True), (fold.validation, False))
        ]
        for _ in range(epochs):
            head.train()
            for batch, mask, target in loaders[0]:
                optimiser.zero_grad()
                nn.functional.cross_entropy(head(batch, mask), target).backward()
                nn.utils.clip_grad_value_(head.parameters(), 1.0)
                optimiser.step()
            head.eval()
            with torch.no_grad():
                for batch, mask, target in loaders[1]:
                    nn.functional.cross_entropy(head(batch, mask), target)
    return (time.perf_counter() - start) / epochs


def cached(cache: Path, store_name: str, fold: Fold, seeds: Sequence[int], epochs: int) -> float:
    """The same by featcache, the first reading and normalising included."""
    store, manifest = featcache.open(cache)[store_name], featcache.open(cache).manifest
    labels = manifest.labels("emotion")
    classes = sorted(set(labels.values()))
    targets = {i: classes.index(label) for i, label in labels.items()}
    features = Features(store, layers="all", max_frames=None, memory=float("inf"))
    heads = {
        seed: create_head(
            "dense",
            num_layers=[len(store.layer_names)],
            hidden_sizes=[store.hidden_size],
            num_outputs=len(classes),
            seed=seed,
        )
        for seed in seeds
    }
    config = TrainingConfig(max_epochs=epochs, patience=epochs)
    start = time.perf_counter()
    features.normalise_with(fit_normaliser(store, "speaker", manifest, fold.train))
    for _ in train_seeds(heads, [features], targets, fold, config, workers=available_cores()):
        pass
    return (time.perf_counter() - start) / epochs


def compare(
    cache: Path, store_name: str, folder: Path, *, seeds: Sequence[int] = (1, 2, 3, 4, 5), epochs: int = 5
) -> Row:
    fold = make_folds("loso", featcache.open(cache).manifest, "emotion")[0]
    return Row(
        case=f"dense, {len(seeds)} seeds, speaker normalisation, per epoch",
        ours=cached(cache, store_name, fold, seeds, epochs),
        plain=plain_loop(cache, store_name, fold, seeds, epochs, folder),
        note=f"{len(fold.train)} utterances, {epochs} epochs",
    )
