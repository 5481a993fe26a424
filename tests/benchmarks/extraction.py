"""Extraction compared with a plain loop that an experienced user would write, each in a separate process."""

import time
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

import featcache
from featcache.corpora import read_corpus
from tests.benchmarks.process import alone
from tests.benchmarks.table import Table, megabytes


@dataclass(frozen=True, kw_only=True)
class Plain:
    """Output and time of the plain loop; the time does not include loading the model."""

    path: Path
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Cached:
    """Output and time of an extraction; the time does not include loading the model."""

    cache: Path
    store: str
    num_utterances: int
    audio_seconds: float
    seconds: float

    @property
    def bytes(self) -> int:
        """Size of both stores on disk."""
        return sum(path.stat().st_size for path in self.cache.glob("*/*.h5"))

    def features(self) -> featcache.FeatureStore:
        return featcache.open(self.cache)[self.store]


@dataclass(frozen=True, kw_only=True)
class Extraction:
    """Results of both sides; ``peaks`` are peak resident memory in bytes, of featcache and of the plain loop."""

    ours: Cached
    plain: Plain
    peaks: tuple[int, int]
    deviation: float

    def table(self) -> Table:
        hours = self.ours.audio_seconds / 3600
        on_disk = (self.ours.bytes / hours, self.plain.path.stat().st_size / hours)
        seconds = (self.ours.seconds, self.plain.seconds)
        return Table(
            title="Extraction, including eGeMAPS",
            text=(
                "The plain loop processes one utterance at a time with librosa, the Hugging Face model with all "
                "hidden states, and opensmile, and writes float16 into one file with h5py. The relative error is the "
                "maximum absolute error divided by the largest absolute value of the utterance; both sides round to "
                "float16."
            ),
            columns=("float32", "featcache", "plain loop", "featcache / plain loop"),
            rows=[
                ["time", *(f"{value:.1f} s" for value in seconds), _ratio(seconds)],
                ["peak resident memory", *map(megabytes, self.peaks), _ratio(self.peaks)],
                ["on disk, per hour of audio", *map(megabytes, on_disk), _ratio(on_disk)],
                ["relative error", f"{self.deviation:.1e}", "-", "-"],
            ],
        )


def plain_loop(model: str, data: Path, output: Path) -> Plain:
    """Extract with librosa, Hugging Face and opensmile, one utterance at a time, and write all layers with h5py."""
    import librosa
    import opensmile
    import torch

    from featcache.extractors.models import load

    loaded = load(model, weights="random")
    smile = opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, opensmile.FeatureLevel.LowLevelDescriptors)
    files = read_corpus(data)

    @torch.inference_mode()
    def features_of(path: Path) -> tuple[np.ndarray, np.ndarray]:
        signal, _ = librosa.load(path, sr=16000)
        inputs = loaded.feature_extractor(signal, sampling_rate=16000, return_tensors="pt")
        states = loaded.module(inputs["input_values"], output_hidden_states=True).hidden_states
        hidden_states = torch.stack(states)[:, 0].numpy().astype(np.float16)
        return hidden_states, smile.process_file(path).to_numpy(np.float32)

    features_of(files.root / files.manifest[0].path)  # warm-up
    start = time.perf_counter()
    with h5py.File(output, "w") as file:
        for utterance in files.manifest:
            group = file.create_group(utterance.utterance_id)
            group["hidden_states"], group["egemaps"] = features_of(files.root / utterance.path)
    return Plain(path=output, seconds=time.perf_counter() - start)


def cached(model: str, data: Path, home: Path, precision: str = "float32", storage: str = "float16") -> Cached:
    """Extract the same features with featcache."""
    same = {"model": model, "weights": "random", "data": data, "precision": precision, "store": storage}
    featcache.extract(**same, limit=1, home=home.with_name(f"{home.name}-warm-up"))
    report = featcache.extract(**same, home=home)
    return Cached(
        cache=report.cache,
        store=report.stores[0],
        num_utterances=report.num_extracted,
        audio_seconds=report.audio_seconds,
        seconds=report.seconds,
    )


def deviation(plain: Plain, ours: Cached) -> float:
    """Return the maximum relative error of blocks 1 … N-1; layer 0 of the plain loop is defined differently."""
    store = ours.features()
    largest = 0.0
    with h5py.File(plain.path) as file:
        for utterance_id in store:
            expected = file[utterance_id]["hidden_states"][1:-1].astype(np.float32)
            difference = np.abs(expected - store[utterance_id][1:-1]).max()
            largest = max(largest, float(difference / np.abs(expected).max()))
    return largest


def compare(model: str, data: Path, folder: Path) -> Extraction:
    plain, peak_of_plain = alone(plain_loop, model, data, folder / "plain.h5")
    ours, peak = alone(cached, model, data, folder / "home")
    return Extraction(ours=ours, plain=plain, peaks=(peak, peak_of_plain), deviation=deviation(plain, ours))


def _ratio(sides: tuple[float, float]) -> str:
    return f"{sides[0] / sides[1]:.2f}"
