"""Prediction of new files compared with the bare forward passes of the same files, and its memory."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import featcache
from featcache import audio
from featcache.corpora.synthetic import make_corpus
from featcache.extractors.models import SAMPLING_RATE, load
from featcache.manifest import Utterance
from tests.benchmarks.extraction import Cached
from tests.benchmarks.process import alone
from tests.benchmarks.table import Table, megabytes, promised

MOST, MOST_MEMORY = 1.15, 1.10
# The synthetic corpus has four emotions; its other seed gives files that the heads have not seen.
NUM_EMOTIONS, SEED = 4, 7


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """Results of one process.

    Attributes:
        num_files: Number of predicted files.
        start_up: Seconds to load the run, the model and the heads, and to predict one file.
        seconds: Seconds to predict all files after that.
        peak: Peak resident memory of the process in bytes.
    """

    num_files: int
    start_up: float
    seconds: float
    peak: int


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Results for a tenth of the files and for all files, and seconds of the forward passes of all files."""

    few: Predicted
    many: Predicted
    bare: float
    num_heads: int

    @property
    def ratio(self) -> float:
        return self.many.seconds / self.bare

    @property
    def memory_ratio(self) -> float:
        return self.many.peak / self.few.peak

    def table(self) -> Table:
        kept = promised(self.memory_ratio, MOST_MEMORY)
        return Table(
            title="Prediction of new files",
            text=(
                f"{self.num_heads} dense heads with global normalisation predict {self.many.num_files} files of "
                "synthetic speech that they have not seen. Bare passes read decoded, resampled and normalised signals "
                "from memory and compute all hidden states, one file at a time. The start-up loads libraries, run, "
                "model and heads, and predicts one file; it is not part of the time. Peak memory is "
                f"{self.memory_ratio:.2f} x that of {self.few.num_files} files ({kept})."
            ),
            columns=("start-up", "featcache", "model", "featcache / model", "target", "peak resident memory"),
            rows=[
                [
                    *(f"{seconds:.1f} s" for seconds in (self.many.start_up, self.many.seconds, self.bare)),
                    f"{self.ratio:.2f}",
                    promised(self.ratio, MOST),
                    megabytes(self.many.peak),
                ]
            ],
        )


def predict(run: Path, home: Path, model: str, paths: Sequence[Path]) -> tuple[int, float, float]:
    """Return the number of predicted files, the seconds of the start-up, and the seconds of all files."""
    start = time.perf_counter()
    loaded = featcache.load_run(run, home=home)
    options = {"model": model, "device": "cpu"}
    loaded.predict(paths[0], **options)
    start_up = time.perf_counter() - start
    start = time.perf_counter()
    table = loaded.predict(list(paths), **options)
    return len(table), start_up, time.perf_counter() - start


def forward_passes(model: str, paths: Sequence[Path]) -> float:
    """Return the seconds of the forward passes alone, with all signals in memory."""
    import torch

    loaded = load(model, weights="random")
    recordings = [audio.read(path.parent, Utterance(utterance_id=path.stem, path=path.name)) for path in paths]
    inputs = [
        loaded.feature_extractor(
            recording.signal(sampling_rate=SAMPLING_RATE).samples, sampling_rate=SAMPLING_RATE, return_tensors="pt"
        )["input_values"]
        for recording in recordings
    ]
    with torch.inference_mode():
        loaded.module(inputs[0], output_hidden_states=True)  # warm-up
        start = time.perf_counter()
        for values in inputs:
            loaded.module(values, output_hidden_states=True)
        return time.perf_counter() - start


def compare(
    model: str, folder: Path, ours: Cached, *, num_files: int = 100, seeds: Sequence[int] = (1, 2, 3, 4, 5)
) -> Prediction:
    """Fit heads on the features of the extraction benchmark, and predict new files with them."""
    home = ours.cache.parents[1]
    run = featcache.fit(
        features=ours.store, head="dense", norm="global", seeds=seeds, max_epochs=1, name="predicting", home=home
    )
    new = folder / "new"
    manifest = make_corpus(new, num_speakers=5, repetitions=-(-num_files // (5 * NUM_EMOTIONS)), seed=SEED)
    paths = [new / utterance.path for utterance in manifest][:num_files]
    few, many = (_predicted(run.path, home, model, chosen) for chosen in (paths[: -(-num_files // 10)], paths))
    bare, _ = alone(forward_passes, model, paths)
    return Prediction(few=few, many=many, bare=bare, num_heads=len(list(run.path.glob("heads/*.safetensors"))))


def _predicted(run: Path, home: Path, model: str, paths: Sequence[Path]) -> Predicted:
    (num_files, start_up, seconds), peak = alone(predict, run, home, model, paths)
    return Predicted(num_files=num_files, start_up=start_up, seconds=seconds, peak=peak)
