"""Peak memory of an extraction with many utterances, compared with a tenth of them: it must not grow."""

import json
from dataclasses import dataclass
from pathlib import Path

import featcache
from featcache.cli.demo import TINY_WAV2VEC2
from featcache.corpora.synthetic import make_corpus
from tests.benchmarks.process import alone
from tests.benchmarks.table import Table, megabytes, promised

MOST = 1.10
# Fast to compute, but with large features: in float32 a hundred utterances fill more than one shard of the default
# size, so even the smaller extraction reaches the memory use that a larger one should have.
MODEL = {**TINY_WAV2VEC2, "hidden_size": 256, "num_hidden_layers": 28}


@dataclass(frozen=True, kw_only=True)
class Extracted:
    """Result of one extraction process, and its peak resident memory in bytes."""

    num_utterances: int
    num_shards: int
    bytes: int
    peak: int


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Results of the smaller and of the larger extraction."""

    few: Extracted
    many: Extracted

    @property
    def ratio(self) -> float:
        return self.many.peak / self.few.peak

    def table(self) -> Table:
        rows = [
            [f"{one.num_utterances}", f"{one.num_shards}", megabytes(one.bytes), megabytes(one.peak)]
            for one in (self.few, self.many)
        ]
        return Table(
            title="Memory",
            text=(
                "Synthetic speech and an untrained model with 28 narrow blocks, stored in float32, including eGeMAPS; "
                "each extraction runs in a separate process. The peaks include the libraries and the model."
            ),
            columns=("utterances", "shards", "features", "peak resident memory", "ratio", "target"),
            rows=[[*rows[0], "1.00", "-"], [*rows[1], f"{self.ratio:.2f}", promised(self.ratio, MOST)]],
        )


def extract(model: Path, data: Path, home: Path, num_utterances: int) -> tuple[int, int, int]:
    """Return the number of extracted utterances, the number of shards of the model's store, and the planned bytes."""
    report = featcache.extract(
        model=str(model), weights="random", data=data, home=home, limit=num_utterances, store="float32"
    )
    num_shards = len(list((report.cache / report.stores[0]).glob("shard-*.h5")))
    return report.num_extracted, num_shards, report.planned_bytes


def compare(folder: Path, sizes: tuple[int, int] = (100, 1000)) -> Memory:
    model, data = folder / "narrow", folder / "many"
    model.mkdir()
    (model / "config.json").write_text(json.dumps(MODEL), encoding="utf-8")
    make_corpus(data, num_speakers=10, repetitions=-(-max(sizes) // 40))
    few, many = (_extracted(model, data, folder / f"home-of-{size}", size) for size in sizes)
    return Memory(few=few, many=many)


def _extracted(model: Path, data: Path, home: Path, num_utterances: int) -> Extracted:
    (extracted, num_shards, size), peak = alone(extract, model, data, home, num_utterances)
    return Extracted(num_utterances=extracted, num_shards=num_shards, bytes=size, peak=peak)
