"""Label columns of Parquet shards: each type that pyarrow writes is read, or named in one line."""

import json
import logging
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featcache.corpora import read_corpus

AUDIO = pa.array([{"bytes": b"RIFF", "path": f"{name}.wav"} for name in "abc"])
NAMES = {"names": ["anger", "joy"], "_type": "ClassLabel"}


def labels_of(folder, column, feature=None):
    metadata = None
    if feature is not None:
        features = {"audio": {"_type": "Audio"}, "emotion": feature}
        metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    table = pa.table({"audio": AUDIO, "emotion": column})
    pq.write_table(table.replace_schema_metadata(metadata), folder / "a.parquet")
    manifest = read_corpus(folder).manifest
    return [utterance.labels.get("emotion") for utterance in manifest]


TEXTS = ["anger", None, "joy"]
LISTS = [["anger", "joy"], [], None]
CLASS_LISTS = {"feature": NAMES, "_type": "Sequence"}
COLUMNS = {
    "string": (pa.array(TEXTS), None, ["anger", "", "joy"]),
    "large string": (pa.array(TEXTS, pa.large_string()), None, ["anger", "", "joy"]),
    "dictionary": (pa.array(TEXTS).dictionary_encode(), None, ["anger", "", "joy"]),
    "dictionary of int64": (pa.array([7, None, 8]).dictionary_encode(), None, ["7", "", "8"]),
    "int8": (pa.array([-1, None, 3], pa.int8()), None, ["-1", "", "3"]),
    "uint64": (pa.array([0, None, 2**63], pa.uint64()), None, ["0", "", str(2**63)]),
    "class": (pa.array([0, -1, 1]), NAMES, ["anger", "", "joy"]),
    "class int8": (pa.array([0, None, 1], pa.int8()), NAMES, ["anger", "", "joy"]),
    "bool": (pa.array([True, None, False]), None, ["true", "", "false"]),
    "double": (pa.array([0.5, None, np.nan]), None, ["0.5", "", ""]),
    "float": (pa.array([0.5, None, 3.0], pa.float32()), None, ["0.5", "", "3.0"]),
    "half": (pa.array(np.array([0.5, np.nan, 3.0], np.float16)), None, ["0.5", "", "3.0"]),
    "decimal": (pa.array([Decimal("0.50"), None, Decimal("3.00")]), None, ["0.50", "", "3.00"]),
    "null": (pa.nulls(3), None, ["", "", ""]),
    "list": (pa.array(LISTS), None, ["anger;joy", "none", ""]),
    "large list": (pa.array(LISTS, pa.large_list(pa.large_string())), None, ["anger;joy", "none", ""]),
    "list of classes": (pa.array([[0, 1], [], None]), CLASS_LISTS, ["anger;joy", "none", ""]),
    "old list of classes": (pa.array([[0, 1], [1], [-1]]), [NAMES], ["anger;joy", "joy", ""]),
}
if hasattr(pa, "string_view"):
    COLUMNS["string view"] = (pa.array(TEXTS, pa.string_view()), None, ["anger", "", "joy"])


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_becomes_labels(tmp_path, name):
    column, feature, expected = COLUMNS[name]
    assert labels_of(tmp_path, column, feature) == expected


@pytest.mark.parametrize(
    "column",
    [
        pa.array([[0.1, 0.2], None, []]),
        pa.array([{"a": 1}, None, {"a": 2}]),
        pa.array([b"x", None, b"y"]),
        pa.array([0, 1, 2], pa.timestamp("ns")),
    ],
    ids=lambda column: str(column.type),
)
def test_other_columns_are_named(tmp_path, caplog, column):
    with caplog.at_level(logging.INFO):
        assert labels_of(tmp_path, column) == [None] * 3
    assert "columns that cannot be labels: 'emotion'" in caplog.text


def test_a_shard_without_any_value_has_the_same_columns(tmp_path):
    for name, column in (("train", pa.array(TEXTS)), ("test", pa.nulls(3))):
        audio = pa.array([{"bytes": b"RIFF", "path": f"{name}{i}.wav"} for i in range(3)])
        pq.write_table(pa.table({"audio": audio, "emotion": column}), tmp_path / f"{name}.parquet")
    assert [u.labels["emotion"] for u in read_corpus(tmp_path).manifest] == ["", "", "", "anger", "", "joy"]
