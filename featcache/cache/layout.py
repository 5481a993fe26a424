"""The file format of a feature store, version 1.

A store is a folder of immutable shards, ``shard-00000.h5`` and on, and an ``index.h5`` made from them. The shards
are the truth: each is complete in itself and was renamed into place after it had reached the disk. The index is
replaced whole after every extraction, and says whether that came to its end.

==========================  =========================================  ==========================================
in a shard                  shape, dtype                               meaning
==========================  =========================================  ==========================================
``/hidden_states``          (num_layers, total_frames, hidden_size),   the layers of a model; contiguous, so that
                            float16 (or float32, int8)                 a layer is one stretch of the file
``/frames``                 (total_frames, hidden_size), float32       instead of it, where there is one layer
``/utterances``             (num_utterances,) table                    ``id``, ``first_frame``, ``num_frames``,
                                                                       ``duration`` (s; NaN for words),
                                                                       ``audio_sha256`` (of words: of the text),
                                                                       ``start`` and ``end`` (s; NaN: not given)
``/statistics/count``       (num_utterances,) int64                    number of frames
``/statistics/mean``        (num_utterances, num_layers, hidden_size)  mean over the frames, float32
``/statistics/m2``          the same                                   sum of squared deviations, float32
``/statistics/max``         the same                                   maximum over the frames, float32
``/statistics/step``        the same                                   in int8 stores alone: what one of the 8-bit
                                                                       numbers counts, from the mean; float32
==========================  =========================================  ==========================================

A store of statistics alone (``--pool``) has neither ``/hidden_states`` nor ``/frames``, and ``pool`` among its
settings; ``first_frame`` and ``num_frames`` count the frames that its statistics were taken from.

The root's attributes say what made the store. ``settings`` (JSON) holds all that changes numbers; ``fingerprint``
is its SHA-256. Each dataset carries the ``crc32`` of its bytes; that of the table is over its rows as JSON. All bytes
but those of features and statistics are covered by the seal in front of a shard or index, which is compared before
HDF5 reads the file: see :mod:`featcache.cache.seal`. Files of earlier releases have no seal.

In ``index.h5`` the same features and statistics stand over all shards as virtual datasets, and ``/utterances`` once
more, with ``first_frame`` counted over all shards and two further columns: ``shard``, its number, and ``row`` in that
shard. An utterance that was extracted again because its audio had changed stands in several shards; the index names
the last. ``/shards`` lists each shard's number and size in bytes: an index that does not fit them, or its seal, is not
believed, and the shards are read in its place. Its attributes ``complete``, ``num_requested`` and ``num_in_corpus`` say
whether all is there that was asked for, how many utterances that were, and how many the corpus had.

``request.json`` has the ids of the utterances that were asked for, and the number of parts: it is there before the
first shard, see :mod:`featcache.cache.request`. Stores of earlier releases have none. The cache around the stores has
``checksums.sha256`` of its ``manifest.csv`` and ``corpus.json``, see :mod:`featcache.files.checksums`.
"""

import json
import zlib
from collections.abc import Iterable
from typing import Any, Literal, get_args

import h5py
import numpy as np
import numpy.typing as npt

FORMAT_VERSION = 1
INDEX = "index.h5"
SHARD_PATTERN = r"shard-(\d{5}|[1-9]\d{5,8})\.h5"
STATISTICS = ("mean", "m2", "max")
# What every store says of itself, and what its shards therefore have in common.
ATTRIBUTES = {
    "dataset": str,
    "fingerprint": str,
    "frame_shift": float,
    "hidden_size": int,
    "layer_names": list,
    "settings": str,
    "storage_dtype": str,
}
# What else is read from them or from their settings, where it is there.
KNOWN_TYPES: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("averages_frames", "complete", "one_vector", "pool"), bool),
    **dict.fromkeys(("max_tokens", "num_blocks", "num_in_corpus", "num_requested"), int),
    **dict.fromkeys(
        ("averaged_frame_shift", "chunk_seconds", "max_seconds", "overlap_seconds", "sampling_rate"), (int, float)
    ),
    **dict.fromkeys(("extractor", "level", "model_id", "precision", "transcripts", "weights"), str),
    "layers": list,
}
StorageDtype = Literal["float16", "float32", "int8"]
STORAGE_DTYPES: tuple[StorageDtype, ...] = get_args(StorageDtype)
# Settings are flat but for a model's architecture.
DEEPEST_SETTINGS = 16

TEXT_DTYPE = h5py.string_dtype("utf-8")
UTTERANCE_DTYPE = np.dtype(
    [
        ("id", TEXT_DTYPE),
        ("first_frame", np.int64),
        ("num_frames", np.int64),
        ("duration", np.float64),
        ("audio_sha256", TEXT_DTYPE),
        ("start", np.float64),
        ("end", np.float64),
    ]
)
INDEX_DTYPE = np.dtype(
    [*((name, UTTERANCE_DTYPE[name]) for name in UTTERANCE_DTYPE.names or ()), ("shard", np.int64), ("row", np.int64)]
)
SHARD_DTYPE = np.dtype([("number", np.int64), ("bytes", np.int64)])


def statistics_of(storage_dtype: str) -> tuple[str, ...]:
    """The datasets under ``/statistics``, beside ``count``."""
    return (*STATISTICS, "step") if storage_dtype == "int8" else STATISTICS


def shard_name(number: int) -> str:
    return f"shard-{number:05d}.h5"


def faulty_attributes(attributes: dict[str, Any]) -> list[str]:
    """The names of root attributes, and of settings in them, that are missing or not of the type that is read.

    Raises:
        ValueError: the settings are no JSON, likewise RecursionError.
    """
    faulty = [name for name, kind in ATTRIBUTES.items() if not _is_of(attributes.get(name), kind)]
    faulty += [name for name, value in attributes.items() if not _is_plain(value)]
    faulty += _of_other_types(attributes)
    if "settings" not in faulty:
        settings = json.loads(attributes["settings"])
        if not isinstance(settings, dict) or _is_deeper(settings, DEEPEST_SETTINGS):
            return [*faulty, "settings"]
        given = {name: value for name, value in settings.items() if value is not None}
        faulty += [f"settings: {name}" for name in _of_other_types(given)]
    return list(dict.fromkeys(faulty))


def _of_other_types(values: dict[str, Any]) -> list[str]:
    return [name for name, kind in KNOWN_TYPES.items() if name in values and not _is_of(values[name], kind)]


def _is_of(value: Any, kind: type | tuple[type, ...]) -> bool:
    if kind is list:
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def _is_plain(value: Any) -> bool:
    return all(isinstance(item, str | int | float) for item in (value if isinstance(value, list) else [value]))


def _is_deeper(value: Any, levels: int) -> bool:
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels == 0 or any(_is_deeper(item, levels - 1) for item in items)


def crc32(pieces: Iterable[npt.NDArray[Any]]) -> int:
    """CRC-32 of arrays' bytes, one after the other."""
    value = 0
    for piece in pieces:
        value = zlib.crc32(np.ascontiguousarray(piece).view(np.uint8).data, value)
    return value


def crc32_of_table(table: npt.NDArray[Any]) -> int:
    """CRC-32 of a table's rows, written as JSON because texts of any length have no bytes in place."""
    return zlib.crc32(json.dumps(table.tolist()).encode())
