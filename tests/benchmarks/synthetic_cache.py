"""A large cache within seconds: noise with the shape of wav2vec2-base features, slightly different for each emotion."""

from pathlib import Path

import numpy as np

from featcache.cache.statistics import of_frames
from featcache.cache.writer import Record, StoreWriter, encode
from featcache.features import Description
from featcache.manifest import Manifest, Utterance

NUM_LAYERS, HIDDEN_SIZE, NUM_DESCRIPTORS = 13, 768, 25
NUM_FRAMES = 150, 220  # 3.0 to 4.4 s, as in RAVDESS
EMOTIONS = "abcdefgh"
# Utterances are parts of this many frames of noise, because generating more would take longer than everything else.
POOL = 4000
SHARD = 30


def write_cache(
    folder: Path,
    num_utterances: int = 1440,
    *,
    num_layers: int = NUM_LAYERS,
    hidden_size: int = HIDDEN_SIZE,
    num_speakers: int = 24,
) -> Path:
    """Write ``folder/cache/synthetic`` with the stores ``wav2vec2-base``, in float16, and ``egemaps``.

    1440 utterances take 5.3 GB. Speakers and emotions alternate, so that each speaker has every emotion.

    Returns:
        Folder of the cache.
    """
    rng = np.random.default_rng(0)
    utterances = [
        Utterance(
            utterance_id=f"u{i:05}",
            path=f"u{i:05}.wav",
            speaker_id=f"s{i % num_speakers:02}",
            labels={"emotion": EMOTIONS[i // num_speakers % len(EMOTIONS)]},
        )
        for i in range(num_utterances)
    ]
    lengths = rng.integers(*NUM_FRAMES, len(utterances), endpoint=True)
    cache = folder / "cache" / "synthetic"
    _write_store(cache / "wav2vec2-base", utterances, lengths, num_layers, hidden_size)
    _write_store(cache / "egemaps", utterances, 2 * lengths + 1, 1, NUM_DESCRIPTORS)
    Manifest(utterances).write(cache / "manifest.csv")
    return cache


def _write_store(folder: Path, utterances: list[Utterance], lengths, num_layers: int, hidden_size: int) -> None:
    model = folder.name != "egemaps"
    names = tuple(map(str, range(num_layers))) if model else ("",)
    dtype = "float16" if model else "float32"
    description = Description(
        dataset="hidden_states" if model else "frames",
        layer_names=names,
        hidden_size=hidden_size,
        frame_shift=0.02 if model else 0.01,
        sampling_rate=16000,
        channel="mean",
        settings={"extractor": "ssl", "weights": "random"} if model else {"extractor": "egemaps"},
        provenance={"num_blocks": num_layers - 1} if model else {},
    )
    writer = StoreWriter(folder, description, dtype)
    rng = np.random.default_rng(1)
    pool = rng.normal(size=(num_layers, POOL, hidden_size)).astype(np.float32)
    offsets = rng.integers(0, POOL - 2 * NUM_FRAMES[1], len(utterances))
    for first in range(0, len(utterances), SHARD):
        records = []
        for i, utterance in enumerate(utterances[first : first + SHARD], start=first):
            shift = np.float32(0.04 * EMOTIONS.index(utterance.labels["emotion"]))
            values = pool[:, offsets[i] : offsets[i] + lengths[i]] + shift
            records.append(
                Record(
                    utterance_id=utterance.utterance_id,
                    features=encode(values, dtype, names),
                    statistics=of_frames(values),
                    duration=0.02 * float(lengths[i]),
                    audio_sha256="",
                    start=None,
                    end=None,
                )
            )
        writer.write_shard(records)
    writer.finish([utterance.utterance_id for utterance in utterances], failed=[])
