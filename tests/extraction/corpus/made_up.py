"""Corpus of constant signals, and an extractor that returns them."""

import csv
from pathlib import Path

import numpy as np
import soundfile

from featcache.audio import Signal
from featcache.cache.reader import FeatureStore
from featcache.errors import AudioError
from featcache.extraction import dask_worker, extract
from featcache.extractors.base import Extractor
from featcache.features import Description
from featcache.manifest import Manifest, Utterance

RATE = 8000


HOP = 160


# Constant sample values for which the made-up extractor returns special features or errors.
NOT_A_NUMBER, OVERFLOW, TOO_LONG, BROKEN = 0.5, 0.25, 0.125, 0.0625


class MadeUpExtractor(Extractor):
    """Extractor whose layer k is k + 1 times mean, standard deviation and maximum of a window."""

    def __init__(self, *, dataset="hidden_states", num_layers=3, repeat=1, max_seconds=None, **settings):
        self.repeat = repeat
        self.done = []
        self.description = Description(
            dataset=dataset,
            layer_names=tuple(str(number) for number in range(num_layers)) if dataset == "hidden_states" else ("",),
            hidden_size=3 * repeat,
            frame_shift=HOP / RATE,
            sampling_rate=None,
            channel="mean",
            max_seconds=max_seconds,
            settings={"extractor": "made-up", "max_seconds": max_seconds, **settings},
        )

    def num_frames(self, num_samples, sampling_rate):
        return num_samples // HOP

    def hop(self, sampling_rate):
        return HOP

    def extract(self, signals):
        assert signals
        for signal in signals:
            if np.all(signal.samples == TOO_LONG):
                raise AudioError("too long for this model")
            if np.all(signal.samples == BROKEN):
                raise ZeroDivisionError("a bug in the extractor")
        self.done += signals
        return [self.compute(signal) for signal in signals]

    def compute(self, signal):
        windows = signal.samples[: len(signal.samples) // HOP * HOP].reshape(-1, HOP)
        frames = np.stack([windows.mean(axis=1), windows.std(axis=1), windows.max(axis=1)], axis=1)
        features = np.stack([(k + 1) * np.tile(frames, self.repeat) for k in range(len(self.description.layer_names))])
        if np.all(signal.samples == NOT_A_NUMBER):
            features[1, 0, 0] = np.nan
        if np.all(signal.samples == OVERFLOW):
            features[2, 0, 0] = 1e6
        return features.astype(np.float32)


def write_audio(path, samples):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, RATE, subtype="FLOAT")


def write_manifest(folder, paths):
    Manifest([Utterance(utterance_id=Path(path).stem, path=path) for path in paths]).write(folder / "manifest.csv")


def use(monkeypatch, extractor):
    monkeypatch.setattr(dask_worker, "create_extractor", lambda _model, **_options: extractor)


def run(**options):
    return extract(**{"model": "wav2vec2-base", "egemaps": False, "workers": 2, **options})


def cache_of(corpus):
    return corpus.parents[1] / "cache" / corpus.name


def store_of(corpus):
    return FeatureStore(cache_of(corpus) / "wav2vec2-base")


def contents(folder):
    """Return all files below a folder, with their bytes and modification times."""
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


def failures_of(corpus):
    with open(cache_of(corpus) / "wav2vec2-base" / "failures.csv", newline="") as file:
        return list(csv.DictReader(file))


def check(store, corpus, extractor, utterance_ids):
    """Check that each utterance has the features that the extractor computes from its file alone."""
    assert list(store) == list(utterance_ids)
    for utterance_id in utterance_ids:
        samples, rate = soundfile.read(corpus / f"{utterance_id}.wav", dtype="float32")
        expected = extractor.compute(Signal(samples=samples, sampling_rate=rate))
        np.testing.assert_array_equal(store[utterance_id], expected.astype(store.metadata["storage_dtype"]))


ALL = [f"u{number}" for number in range(7)]
