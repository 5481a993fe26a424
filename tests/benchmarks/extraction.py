"""Extraction against the plain loop that a competent user would write, in one run."""

import time
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

import featcache
from featcache.corpora import read_corpus
from tests.benchmarks.table import Row


@dataclass(frozen=True, kw_only=True)
class Timed:
    seconds: float
    bytes: int


def plain_loop(model: str, data: Path, output: Path) -> Timed:
    """librosa, Hugging Face and opensmile one utterance after the other, all layers into h5py."""
    import librosa
    import opensmile
    import torch

    from featcache.extractors.models import load

    loaded = load(model, weights="random")
    smile = opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, opensmile.FeatureLevel.LowLevelDescriptors)
    files = read_corpus(data)
    librosa.load(files.root / files.manifest[0].path, sr=16000, duration=0.1)  # compiles what it needs
    start = time.perf_counter()
    with h5py.File(output, "w") as file, torch.inference_mode():
        for utterance in files.manifest:
            signal, _ = librosa.load(files.root / utterance.path, sr=16000)
            inputs = loaded.feature_extractor(signal, sampling_rate=16000, return_tensors="pt")
            states = loaded.module(inputs["input_values"], output_hidden_states=True).hidden_states
            group = file.create_group(utterance.utterance_id)
            group["hidden_states"] = torch.stack(states)[:, 0].numpy().astype(np.float16)
            group["egemaps"] = smile.process_file(files.root / utterance.path).to_numpy(np.float32)
    return Timed(seconds=time.perf_counter() - start, bytes=output.stat().st_size)


def cached(model: str, data: Path, home: Path) -> Timed:
    """The same by featcache; loading the model is not counted on either side."""
    report = featcache.extract(model=model, weights="random", data=data, home=home)
    size = sum(path.stat().st_size for path in report.cache.glob("*/*.h5"))
    return Timed(seconds=report.seconds, bytes=size)


def deviation(output: Path, cache: Path) -> float:
    """Largest difference of blocks 1 … N-1, relative to the largest value; the plain loop keeps another layer 0."""
    model = next(name for name in featcache.open(cache) if name != "egemaps")
    store = featcache.open(cache)[model]
    largest = 0.0
    with h5py.File(output) as file:
        for utterance_id in store:
            plain = file[utterance_id]["hidden_states"][1:-1].astype(np.float32)
            difference = np.abs(plain - store[utterance_id][1:-1]).max()
            largest = max(largest, float(difference / np.abs(plain).max()))
    return largest


def compare(model: str, data: Path, folder: Path) -> Row:
    plain = plain_loop(model, data, folder / "plain.h5")
    ours = cached(model, data, folder / "home")
    return Row(
        case="extraction, eGeMAPS included",
        ours=ours.seconds,
        plain=plain.seconds,
        note=f"bytes {ours.bytes / plain.bytes:.2f} x the plain loop's",
        deviation=deviation(folder / "plain.h5", next((folder / "home" / "cache").iterdir())),
    )
