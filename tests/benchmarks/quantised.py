"""Features in int8 compared with float16: size on disk, and signal-to-noise ratio of the quantisation."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from featcache.cache.quantise import quantise
from featcache.cache.reader import FeatureStore
from featcache.cache.statistics import of_frames
from featcache.cache.writer import Record, StoreWriter
from featcache.features import Description
from tests.benchmarks.compare import signal_to_noise
from tests.benchmarks.extraction import Cached
from tests.benchmarks.table import Table, megabytes

LEAST = 35.0  # dB
UTTERANCES_PER_SHARD = 64


@dataclass(frozen=True, kw_only=True)
class Quantised:
    """Size of the two stores on disk in bytes; signal-to-noise ratio of each layer in dB."""

    int8: int
    float16: int
    layer_names: Sequence[str]
    signal_to_noise: Sequence[float]

    def table(self) -> Table:
        smallest = min(self.signal_to_noise)
        kept = "met" if smallest >= LEAST else "missed"
        layer = self.layer_names[list(self.signal_to_noise).index(smallest)]
        return Table(
            title="Features in 8 bits (`--store int8`)",
            text=(
                f"{megabytes(self.int8)} instead of {megabytes(self.float16)} in float16 (ratio "
                f"{self.int8 / self.float16:.2f}), including statistics. The table shows the signal-to-noise ratio. "
                "The signal is the features minus their mean over the utterance; the noise is the quantisation error. "
                f"Layer {layer} has the smallest ratio, {smallest:.1f} dB "
                f"(target: at least {LEAST:.0f} dB in every layer: {kept})."
            ),
            columns=("layer", *self.layer_names),
            rows=[["dB", *(f"{value:.1f}" for value in self.signal_to_noise)]],
        )


def rewrite(store: FeatureStore, folder: Path) -> FeatureStore:
    """Write a copy of a store in 8 bits, as ``--store int8`` does, without another extraction."""
    description = Description(
        dataset=store.metadata["dataset"],
        layer_names=store.layer_names,
        hidden_size=store.hidden_size,
        frame_shift=store.frame_shift,
        sampling_rate=store.metadata["sampling_rate"],
        channel=store.metadata["channel"],
        settings=store.identity.extractor_settings,
        provenance={"num_blocks": store.num_blocks},
    )
    writer = StoreWriter(folder, description, "int8")
    for first in range(0, len(store), UTTERANCES_PER_SHARD):
        ids = store.utterance_ids[first : first + UTTERANCES_PER_SHARD]
        writer.write_shard([_record(store, utterance_id) for utterance_id in ids])
    writer.finish(store.utterance_ids, failed=[])
    return FeatureStore(folder)


def _record(store: FeatureStore, utterance_id: str) -> Record:
    features = store[utterance_id]
    statistics = of_frames(features)
    in_steps, step = quantise(features, statistics.mean)
    return Record(
        utterance_id=utterance_id,
        features=in_steps,
        statistics=replace(statistics, step=step),
        duration=store.duration([utterance_id]),
        audio_sha256=store.audio_sha256([utterance_id])[0],
        start=None,
        end=None,
    )


def compare(folder: Path, ours: Cached) -> Quantised:
    store = ours.features()
    quantised = rewrite(store, folder / "int8")
    return Quantised(
        int8=_bytes_of(quantised),
        float16=_bytes_of(store),
        layer_names=store.layer_names,
        signal_to_noise=signal_to_noise(store, quantised),
    )


def _bytes_of(store: FeatureStore) -> int:
    return sum(path.stat().st_size for path in store.path.glob("*.h5"))
