"""Extraction time compared with the minimum: the forward passes and openSMILE alone, with all audio in memory."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from featcache import audio
from featcache.corpora import read_corpus
from featcache.extractors.models import SAMPLING_RATE, load
from featcache.threads import available_cores
from tests.benchmarks.extraction import Cached
from tests.benchmarks.process import alone
from tests.benchmarks.table import Table, promised

MOST = 1.05


@dataclass(frozen=True, kw_only=True)
class Bare:
    """Seconds of the whole extraction, of the forward passes alone, and of openSMILE alone."""

    ours: float
    model: float
    egemaps: float

    @property
    def ratio(self) -> float:
        return self.ours / (self.model + self.egemaps)

    def table(self) -> Table:
        return Table(
            title="Extraction against bare passes",
            text=(
                "Bare passes read decoded, resampled and normalised signals from memory and store nothing. First the "
                "model computes all hidden states, one utterance at a time, with torch's default number of threads; "
                "then openSMILE runs with one thread per core."
            ),
            columns=("float32", "featcache", "model", "eGeMAPS", "featcache / (model + eGeMAPS)", "target"),
            rows=[
                [
                    "time",
                    *(f"{seconds:.1f} s" for seconds in (self.ours, self.model, self.egemaps)),
                    f"{self.ratio:.2f}",
                    promised(self.ratio, MOST),
                ]
            ],
        )


def bare_passes(model: str, data: Path) -> tuple[float, float]:
    """Return the seconds of the forward passes, and of eGeMAPS."""
    import opensmile
    import torch

    loaded = load(model, weights="random")
    smile = opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, opensmile.FeatureLevel.LowLevelDescriptors)
    files = read_corpus(data)
    recordings = [audio.read(files.root, utterance) for utterance in files.manifest]
    signals = [recording.signal() for recording in recordings]
    waveforms = [recording.signal(sampling_rate=SAMPLING_RATE).samples for recording in recordings]
    inputs = [
        loaded.feature_extractor(waveform, sampling_rate=SAMPLING_RATE, return_tensors="pt")["input_values"]
        for waveform in waveforms
    ]
    with torch.inference_mode():
        loaded.module(inputs[0], output_hidden_states=True)  # warm-up
        start = time.perf_counter()
        for values in inputs:
            loaded.module(values, output_hidden_states=True)
        of_model = time.perf_counter() - start
    with ThreadPoolExecutor(available_cores()) as pool:  # openSMILE releases the GIL
        smile(signals[0].samples, signals[0].sampling_rate)
        start = time.perf_counter()
        for _ in pool.map(lambda signal: smile(signal.samples, signal.sampling_rate), signals):
            pass
        return of_model, time.perf_counter() - start


def compare(model: str, data: Path, ours: Cached) -> Bare:
    (of_model, of_egemaps), _ = alone(bare_passes, model, data)
    return Bare(ours=ours.seconds, model=of_model, egemaps=of_egemaps)
