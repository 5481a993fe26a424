"""Training time compared with plain loops that an experienced user would write, and with the limits of the machine."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import nn

import featcache
from featcache.heads import head_spec
from featcache.threads import available_cores
from featcache.training.store_features import average_frames
from featcache.training.together import train_together
from tests.benchmarks.synthetic_cache import write_cache
from tests.benchmarks.table import Row, Table
from tests.benchmarks.task import Task

SEEDS = (1, 2, 3, 4, 5)
HIDDEN = 128
SYNTHETIC = "synthetic-cache"


# The plain loop


class PlainDataset(torch.utils.data.Dataset):
    """Dataset that reads and z-scores one utterance per item."""

    def __init__(self, path: Path, ids: Sequence[str], task: Task, speakers: dict[str, str], scales: list[dict]):
        self.file, self.ids, self.task, self.speakers, self.scales = h5py.File(path), ids, task, speakers, scales

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int):
        utterance_id = self.ids[index]
        features = []
        for store, scale in zip(self.task.stores, self.scales, strict=True):
            mean, std = scale[self.speakers[utterance_id]]
            values = self.file[store][utterance_id][()].astype(np.float32)
            features.append(torch.from_numpy((values - mean[:, None]) / std[:, None]))
        return features, self.task.targets[utterance_id]


def collate(items):
    """Return a padded batch.

    Returns: (batch, layers, frames, size) per store; the mask (batch, frames), 0 for padding; the targets (batch,).
    """
    lengths = [min(store.shape[1] for store in features) for features, _ in items]
    batches = []
    for number in range(len(items[0][0])):
        first = items[0][0][number]
        batch = torch.zeros(len(items), first.shape[0], max(lengths), first.shape[2])
        for i, ((features, _), length) in enumerate(zip(items, lengths, strict=True)):
            batch[i, :, :length] = features[number][:, :length]
        batches.append(batch)
    mask = (torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]).float()
    return batches, mask, torch.tensor([target for _, target in items])


class PlainBranch(nn.Module):
    def __init__(self, num_layers: int, size: int):
        super().__init__()
        self.weights = nn.Parameter(torch.ones(num_layers))
        self.dense = nn.Sequential(nn.Dropout(0.2), nn.Linear(size, HIDDEN), nn.ReLU())

    def forward(self, features):
        weights = self.weights.abs() / self.weights.abs().sum()
        return self.dense((features * weights[None, :, None, None]).sum(1))


class PlainFusion(nn.Module):
    """Fusion head with one branch per store; with a single store it is the dense head."""

    def __init__(self, num_layers: Sequence[int], sizes: Sequence[int], num_classes: int):
        super().__init__()
        self.branches = nn.ModuleList(PlainBranch(*of_store) for of_store in zip(num_layers, sizes, strict=True))
        self.second = nn.Sequential(nn.Dropout(0.2), nn.Linear(len(sizes) * HIDDEN, HIDDEN), nn.ReLU())
        self.output = nn.Linear(HIDDEN, num_classes)

    def forward(self, features, mask):
        first = [branch(of_store) for branch, of_store in zip(self.branches, features, strict=True)]
        hidden = self.second(torch.cat(first, dim=2))
        return self.output((hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True))


class PlainLSTM(nn.Module):
    def __init__(self, num_layers: Sequence[int], sizes: Sequence[int], num_classes: int):
        super().__init__()
        self.branch = PlainBranch(num_layers[0], sizes[0])
        self.dropout = nn.Dropout(0.2)
        self.lstm = nn.LSTM(HIDDEN, HIDDEN, batch_first=True)
        self.output = nn.Linear(HIDDEN, num_classes)

    def forward(self, features, mask):
        first = self.dropout(self.branch(features[0]))
        packed = nn.utils.rnn.pack_padded_sequence(first, mask.sum(1).int(), batch_first=True, enforce_sorted=False)
        outputs, _ = nn.utils.rnn.pad_packed_sequence(self.lstm(packed)[0], batch_first=True)
        return self.output(outputs.relu().sum(1) / mask.sum(1, keepdim=True))


PLAIN = {"dense": PlainFusion, "lstm": PlainLSTM, "fusion": PlainFusion}


def plain_loop(task: Task, head: str, seeds: Sequence[int], epochs: int, folder: Path) -> float:
    """Return the seconds per epoch over all seeds, reading utterances from a file with one dataset each."""
    manifest = task.cache.manifest
    stores = [task.cache[name] for name in task.stores]
    path = folder / f"utterances-{head}.h5"
    with h5py.File(path, "w") as file:
        for store in stores:
            for utterance_id in store:
                values = store.view(utterance_id)
                if store.metadata["extractor"] == "egemaps":
                    values = average_frames(values.astype(np.float32), 2)
                file[f"{store.name}/{utterance_id}"] = values
    speakers = {u.utterance_id: u.speaker_id for u in manifest}
    groups = {s: [i for i in manifest.utterance_ids if speakers[i] == s] for s in manifest.speaker_ids}
    scales = [{s: [a.astype("f4") for a in store.mean_and_std(ids)] for s, ids in groups.items()} for store in stores]
    start = time.perf_counter()
    for seed in seeds:
        torch.manual_seed(seed)
        plain = PLAIN[head]([len(s.layer_names) for s in stores], [s.hidden_size for s in stores], task.num_classes)
        optimiser = torch.optim.Adam(plain.parameters(), lr=1e-4, eps=1e-7)
        train, validation = (
            torch.utils.data.DataLoader(
                PlainDataset(path, ids, task, speakers, scales),
                batch_size=head_spec(head).batch_size,
                shuffle=shuffle,
                collate_fn=collate,
            )
            for ids, shuffle in ((task.fold.train, True), (task.fold.validation, False))
        )
        for _ in range(epochs):
            plain.train()
            for batch, mask, target in train:
                optimiser.zero_grad()
                nn.functional.cross_entropy(plain(batch, mask), target).backward()
                nn.utils.clip_grad_value_(plain.parameters(), 1.0)
                optimiser.step()
            plain.eval()
            with torch.no_grad():
                for batch, mask, target in validation:
                    nn.functional.cross_entropy(plain(batch, mask), target)
    return (time.perf_counter() - start) / epochs


# featcache, and the rows


@dataclass(frozen=True, kw_only=True)
class Timed:
    """Seconds of reading and normalising, and of all epochs of all seeds, including the final predictions."""

    loading: float
    training: float
    compute: torch.dtype
    working_dtype: torch.dtype


def cached(task: Task, head: str, seeds: Sequence[int], epochs: int, *, memory: str | None = None) -> Timed:
    source = task.source(memory)
    trainings = task.trainings(head, seeds, epochs, source._copy.compute)
    start = time.perf_counter()
    source.load(task.cache.manifest.utterance_ids)
    loaded = time.perf_counter()
    for _ in train_together(trainings, source, workers=available_cores()):
        pass
    return Timed(
        loading=loaded - start,
        training=time.perf_counter() - loaded,
        compute=source._copy.compute,
        working_dtype=source._copy.dtype,
    )


def compare_heads(cache: Path, store: str, folder: Path, *, seeds: Sequence[int] = SEEDS, epochs: int = 5) -> list[Row]:
    """Return rows for dense, LSTM and, if eGeMAPS is cached, fusion: seconds per epoch, including the first reading."""
    heads = {"dense": (store,), "lstm": (store,)}
    if "egemaps" in featcache.open(cache):
        heads["fusion"] = (store, "egemaps")
    return [_compare(head, Task.of(cache, *stores), folder, seeds, epochs) for head, stores in heads.items()]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """All measurements, and their number of utterances."""

    rows: Sequence[Row]
    num_utterances: int

    def table(self) -> Table:
        return Table(
            title="Training",
            text=f"A synthetic cache with {self.num_utterances} utterances of 150 to 220 frames and 13 layers of size "
            "768 in float16. The plain loop reads and z-scores one utterance at a time in a DataLoader, and trains the "
            "seeds one after another for one epoch. The roofline is the minimum time on this machine: the time to read "
            "the features of each seed (twice in the training part) at the bandwidth of a large copy, plus the time of "
            "the operations at the rate of a large matrix product.",
            columns=("case", "featcache (s)", "reference (s)", "speed-up", ""),
            rows=[row.cells() for row in self.rows],
        )


def cache_in(folder: Path) -> Path:
    """Return the cache that :func:`measure` wrote."""
    return folder / SYNTHETIC / "cache" / "synthetic"


def measure(folder: Path, num_utterances: int, *, seeds: Sequence[int], epochs: int) -> Measured:
    """Write the cache, and run all training benchmarks on it."""
    cache = write_cache(folder / SYNTHETIC, num_utterances)
    (store,) = (name for name in featcache.open(cache) if name != "egemaps")
    rows = compare_heads(cache, store, folder, seeds=seeds, epochs=epochs)
    rows += [loading(cache, store), roofline(cache, store, seeds=seeds, epochs=epochs)]
    return Measured(rows=rows, num_utterances=num_utterances)


def _compare(head: str, task: Task, folder: Path, seeds: Sequence[int], epochs: int) -> Row:
    ours = cached(task, head, seeds, epochs)
    return Row(
        case=f"{head}, {len(seeds)} seeds, speaker normalisation, per epoch",
        ours=(ours.loading + ours.training) / epochs,
        plain=plain_loop(task, head, seeds, 1, folder),
        note=f"{len(task.fold.train)} utterances, {epochs} epochs, {_name(ours.working_dtype)}; "
        f"{ours.training / epochs:.2f} s without reading the features",
    )


def loading(cache: Path, store: str) -> Row:
    """Compare reading and normalising all utterances before the first epoch with reading the files only, from disk."""
    task = Task.of(cache, store)
    files = sorted(task.cache[store].path.glob("*.h5"))
    _let_go(files)
    plain = _read_all(files)
    source = task.source()
    _let_go(files)
    start = time.perf_counter()
    source.load(task.cache.manifest.utterance_ids)
    ours = time.perf_counter() - start
    size = sum(path.stat().st_size for path in files)
    return Row(
        case="reading and normalising, compared with reading only, from disk",
        ours=ours,
        plain=plain,
        note=f"{size / 1e9:.2f} GB as {_name(source._copy.dtype)}, {size / 1e9 / ours:.2f} GB/s",
    )


def _let_go(files: Sequence[Path]) -> None:
    """Remove files from the page cache of the system, if the system supports it."""
    for path in files if hasattr(os, "posix_fadvise") else []:
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _read_all(files: Sequence[Path]) -> float:
    room = bytearray(2**22)
    start = time.perf_counter()
    for path in files:
        with open(path, "rb", buffering=0) as file:
            while file.readinto(room):
                pass
    return time.perf_counter() - start


def roofline(
    cache: Path, store: str, *, seeds: Sequence[int] = SEEDS, epochs: int = 5, copied: int = 2**30, side: int = 2048
) -> Row:
    """Compare an epoch of the dense head with the minimum time on this machine (roofline).

    The minimum is the time to read the features of each seed (twice in the training part) at the bandwidth of a large
    copy, plus the time of the layer average and of the head at the rate of a large matrix product, with all cores.

    Args:
        cache: Folder of the cache.
        store: Name of the store.
        seeds: Seeds of the heads.
        epochs: Number of epochs.
        copied: Size of the large copy in bytes.
        side: Number of rows and columns of the matrices of the large product.
    """
    task = Task.of(cache, store)
    ours = cached(task, "dense", seeds, epochs)
    features = task.cache[store]
    layers, size = len(features.layer_names), features.hidden_size
    train, validation = (float(features.num_frames(ids).sum()) for ids in (task.fold.train, task.fold.validation))
    num_bytes = (2 * train + validation) * layers * size * ours.working_dtype.itemsize
    mixing = 2 * layers * size
    head = 2 * (size * HIDDEN + HIDDEN * HIDDEN)
    # The backward pass needs two products for the head (weights and inputs), and one for the layer average (weights).
    operations = train * (2 * mixing + 3 * head) + validation * (mixing + head)
    bandwidth, rate = _bandwidth(copied), _product_rate(ours.compute, side)
    least = len(seeds) * (num_bytes / bandwidth + operations / rate)
    per_epoch = ours.training / epochs
    return Row(
        case=f"dense, {len(seeds)} seeds, one epoch from memory, compared with the roofline",
        ours=per_epoch,
        plain=least,
        note=f"{per_epoch / least:.1f} x the roofline: {bandwidth / 1e9:.1f} GB/s, {rate / 1e9:.0f} GFLOP/s "
        f"in {_name(ours.compute)}",
    )


@contextmanager
def _all_cores() -> Iterator[None]:
    """Let torch compute with all cores, and afterwards with as many threads as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(available_cores())
    try:
        yield
    finally:
        torch.set_num_threads(before)


@_all_cores()
def _bandwidth(size: int) -> float:
    """Return the bytes per second, read plus written, of a large copy with all cores."""
    source = torch.ones(size // 4)
    target = torch.empty_like(source)
    return 2 * size / _best_time(lambda: target.copy_(source))


@_all_cores()
def _product_rate(dtype: torch.dtype, side: int) -> float:
    """Return the operations per second of a large matrix product with all cores."""
    factor = torch.ones(side, side, dtype=dtype)
    product = torch.empty_like(factor)
    return 2 * side**3 / _best_time(lambda: torch.mm(factor, factor, out=product))


def _best_time(function) -> float:
    times = []
    for _ in range(5):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
