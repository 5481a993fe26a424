"""The file format of a feature store, version 1.

A store is a folder of immutable shards (``shard-00000.h5``, …) and an ``index.h5`` that is made from them. Each shard
is complete in itself, and is renamed into place after it has been written to disk. The index is replaced after every
extraction, and records whether the extraction finished. If index and shards differ, the shards count.

==========================  =========================================  ==========================================
in a shard                  shape, dtype                               meaning
==========================  =========================================  ==========================================
``/hidden_states``          (num_layers, total_frames, hidden_size),   the layers of a model; contiguous, so that
                            float16 (or float32, int8)                 a layer is one stretch of the file
``/frames``                 (total_frames, hidden_size), float32       replaces it if there is only one layer
``/utterances``             (num_utterances,) table                    ``id``, ``first_frame``, ``num_frames``,
                                                                       ``duration`` (s; NaN for text),
                                                                       ``audio_sha256`` (for text: of the text),
                                                                       ``start`` and ``end`` (s; NaN: not given)
``/statistics/count``       (num_utterances,) int64                    number of frames
``/statistics/mean``        (num_utterances, num_layers, hidden_size)  mean over the frames, float32
``/statistics/m2``          the same                                   sum of squared differences from the mean,
                                                                       float32
``/statistics/max``         the same                                   maximum over the frames, float32
``/statistics/step``        the same                                   only in int8 stores: the quantisation scale;
                                                                       value = mean + step · int8, float32
``/padding/hidden_states`` (num_layers, total_padding,                 only with ``--keep-padding``: the frames after
                           hidden_size), as ``/hidden_states``         those of the signal, ``padded_frames`` minus
                                                                       ``num_frames`` of each utterance in turn;
                                                                       missing if there are none
``/padding/mean``          (num_utterances, num_layers, hidden_size)   only in int8 stores: mean and scale of the
``/padding/step``                                                      padding, float32
==========================  =========================================  ==========================================

A store with only statistics (``--pool``) has neither ``/hidden_states`` nor ``/frames``, and its settings contain
``pool``. Its ``first_frame`` and ``num_frames`` count the frames from which the statistics were computed.

The attributes of the root group record what made the store. ``settings`` (JSON) contains every setting that changes
numbers, and ``fingerprint`` is its SHA-256. ``padded_frames`` is the number of frames of every utterance with its
padding; it is missing if the padding was not kept. ``decoders`` lists the programs that decoded the audio of the shard,
with their versions. Each dataset has an attribute ``crc32`` over its bytes; for the
table it is over its rows as JSON. A seal in front of each shard and index covers all bytes except features and
statistics. It is compared before HDF5 reads the file: see :mod:`featcache.cache.seal`. Files of earlier releases have
no seal.

``index.h5`` presents the features and statistics of all shards as virtual datasets. Its ``/utterances`` counts
``first_frame`` over all shards, and has two more columns: the number of the ``shard`` and the ``row`` in it. An
utterance that was extracted again, because its audio had changed, is in several shards; the index points to the last
one. ``/shards`` lists the number and size in bytes of each shard. If the index does not match these sizes or its seal,
the shards are read instead. The attributes ``complete``, ``num_requested`` and ``num_in_corpus`` record whether all
requested utterances are done, how many were requested, and how many the corpus had.

``request.json`` contains the ids of the requested utterances and the number of parts. It is written before the first
shard, see :mod:`featcache.cache.request`. Stores of earlier releases have none. The cache that contains the stores has
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
# Attributes that every store has, equal in all its shards, with their types.
ATTRIBUTES = {
    "dataset": str,
    "fingerprint": str,
    "frame_shift": float,
    "hidden_size": int,
    "layer_names": list,
    "settings": str,
    "storage_dtype": str,
}
# Optional attributes and settings that the code reads, with their types.
KNOWN_TYPES: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("averages_frames", "complete", "keep_padding", "one_vector", "pool"), bool),
    **dict.fromkeys(
        ("max_tokens", "num_blocks", "num_in_corpus", "num_parameters", "num_requested", "padded_frames"), int
    ),
    **dict.fromkeys(
        ("averaged_frame_shift", "chunk_seconds", "max_seconds", "overlap_seconds", "sampling_rate"), (int, float)
    ),
    **dict.fromkeys(("extractor", "level", "model_id", "precision", "transcripts", "weights"), str),
    "layers": list,
}
StorageDtype = Literal["float16", "float32", "int8"]
STORAGE_DTYPES: tuple[StorageDtype, ...] = get_args(StorageDtype)
# Settings are flat, except for the architecture of a model.
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
    """Return the names of the datasets under ``/statistics``, except ``count``."""
    return (*STATISTICS, "step") if storage_dtype == "int8" else STATISTICS


def shard_name(number: int) -> str:
    """Return the file name of a shard."""
    return f"shard-{number:05d}.h5"


def faulty_attributes(attributes: dict[str, Any]) -> list[str]:
    """Return the names of root attributes and settings that are missing or have a wrong type.

    Raises:
        ValueError: the settings are not JSON.
        RecursionError: the settings are nested too deeply.
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
    """Return the CRC-32 of the bytes of arrays, one after the other."""
    value = 0
    for piece in pieces:
        value = zlib.crc32(np.ascontiguousarray(piece).view(np.uint8).data, value)
    return value


def crc32_of_table(table: npt.NDArray[Any]) -> int:
    """Return the CRC-32 of the rows of a table as JSON: strings of variable length have no fixed bytes."""
    return zlib.crc32(json.dumps(table.tolist()).encode())
