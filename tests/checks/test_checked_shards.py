"""``featcache check`` of audio in Parquet shards: a row is judged by its content, not by a file of its name."""

import io
from collections import defaultdict

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from featcache.checks.check_corpus import check_corpus
from featcache.workspace import Workspace
from tests.checks.planted import RATE, voice

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32\nsize 9\n"


def wav(rng, seconds=1.0):
    content = io.BytesIO()
    soundfile.write(content, voice(rng, seconds), RATE, format="WAV")
    return content.getvalue()


def write_shard(file, contents, **options):
    rows = [{"audio": {"bytes": one, "path": f"{name}.wav"}, "emotion": "joy"} for name, one in contents.items()]
    pq.write_table(pa.Table.from_pylist(rows), file, row_group_size=2, **options)


def findings_of(folder, *kinds):
    """Return kind → {id: found} of some kinds of findings."""
    found = defaultdict(dict)
    for one in check_corpus(Workspace.at(folder.parent), None, data=folder).findings:
        if one.kind in kinds:
            found[one.kind][one.utterance_id] = one.found
    return dict(found)


FILES = ("missing-file", "pointer", "empty-file", "unreadable-file", "cut-file", "segment", "superfluous-file")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "corpus").mkdir()
    return tmp_path / "corpus"


def test_each_faulty_row_is_reported_as_what_it_is(folder, rng):
    contents = {
        "good": wav(rng),
        "null": None,
        "empty": b"",
        "noise": bytes(rng.integers(1, 255, 5000, dtype=np.uint8)),
        "cut": wav(rng)[:9000],
        "pointer": POINTER,
        "page": b"<!doctype html><title>404</title>",
    }
    write_shard(folder / "a.parquet", contents)
    found = findings_of(folder, *FILES)
    assert {kind: set(ids) for kind, ids in found.items()} == {
        "missing-file": {"null"},
        "empty-file": {"empty"},
        "unreadable-file": {"noise", "cut", "page"},
        "pointer": {"pointer"},
    }
    assert found["missing-file"]["null"] == (
        "a.parquet/1: this row contains no audio; save the data set again with embedded audio"
    )
    assert "an HTML page" in found["unreadable-file"]["page"]
    assert not any("no such file" in one for ids in found.values() for one in ids.values())


def test_shards_that_a_table_names_are_judged_too(folder, rng):
    write_shard(folder / "good.parquet", {"a": wav(rng), "b": wav(rng)})
    whole = (folder / "good.parquet").read_bytes()
    (folder / "cut.parquet").write_bytes(whole[: len(whole) // 2])
    (folder / "pointer.parquet").write_bytes(POINTER)
    names = ["good.parquet/0", "good.parquet/7", "gone.parquet/0", "cut.parquet/1", "pointer.parquet/0"]
    (folder / "manifest.csv").write_text(
        "utterance_id,path\n" + "".join(f"{n.partition('/')[0]}-{n[-1]},{n}\n" for n in names)
    )
    found = findings_of(folder, *FILES)
    assert {kind: set(ids) for kind, ids in found.items()} == {
        "missing-file": {"good.parquet-7", "gone.parquet-0"},
        "unreadable-file": {"cut.parquet-1"},
        "pointer": {"pointer.parquet-0"},
    }
    assert found["missing-file"]["good.parquet-7"].endswith("has no row 7, only 2 rows")
    assert found["pointer"]["pointer.parquet-0"].endswith("a Git LFS pointer; run 'git lfs pull'")


def test_missing_shards_need_attention(folder, rng):
    write_shard(folder / "train-00001-of-00003.parquet", {"a": wav(rng)})
    assert findings_of(folder, "missing-file") == {"missing-file": {"": "2 of 3 shards of 'train' are missing"}}


def test_damaged_data_in_a_row_group_does_not_hide_the_others(folder, rng):
    write_shard(folder / "a.parquet", {name: wav(rng) for name in "abcd"}, compression="none", use_dictionary=False)
    content = bytearray((folder / "a.parquet").read_bytes())
    at = content.index(b"RIFF")
    content[8:at] = bytes(at - 8)  # the header of the first page of audio
    (folder / "a.parquet").write_bytes(content)
    found = findings_of(folder, *FILES)
    assert set(found) == {"unreadable-file"}
    assert set(found["unreadable-file"]) == {"a", "b"}
