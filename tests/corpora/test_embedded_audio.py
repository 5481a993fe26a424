"""Hugging Face data sets with embedded audio, written by pyarrow and soundfile with the metadata of datasets."""

import io
import json
import logging
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from featcache import audio
from featcache.audio.source_file import sha256_of_audio
from featcache.corpora import read_corpus
from featcache.errors import AudioError, FeatcacheError, ManifestError
from featcache.files import audio_shards

RATE = 16000
NAMES = ["anger", "joy"]
FEATURES = {
    "audio": {"sampling_rate": RATE, "_type": "Audio"},
    "emotion": {"names": NAMES, "_type": "ClassLabel"},
    "speaker": {"dtype": "string", "_type": "Value"},
}
EMBEDDED = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def samples(number):
    """Return the samples of an utterance, (1600,) int16, different for each number."""
    return np.full(1600, 100 * number, np.int16)


def file_bytes(number):
    content = io.BytesIO()
    soundfile.write(content, samples(number), RATE, format="WAV")
    return content.getvalue()


def row(number, **values):
    embedded = {"bytes": file_bytes(number), "path": f"u{number}.wav"}
    return {"audio": embedded, "emotion": number % 2, "speaker": f"s{number % 3}"} | values


def table(rows, features=FEATURES, **types):
    types = {"audio": EMBEDDED, "emotion": pa.int64(), "speaker": pa.string()} | types
    metadata = {"huggingface": json.dumps({"info": {"features": features}})} if features else None
    return pa.Table.from_pylist(rows, schema=pa.schema(list(types.items()), metadata=metadata))


def write_parquet(file, rows, **options):
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table(rows, **options), file, row_group_size=2)


def write_arrow(folder, shards):
    """Write a folder as datasets.save_to_disk does."""
    folder.mkdir(parents=True)
    names = [f"data-{number:05}-of-{len(shards):05}.arrow" for number in range(len(shards))]
    for name, rows in zip(names, shards, strict=True):
        content = table(rows)
        with pa.OSFile(str(folder / name), "wb") as sink, pa.ipc.new_stream(sink, content.schema) as stream:
            stream.write_table(content, max_chunksize=2)
    state = {"_data_files": [{"filename": name} for name in names], "_split": None, "_fingerprint": "0"}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text("{}")


def check_audio(root, manifest, numbers):
    """Check that each utterance has its samples, however it is read, and in any order."""
    for utterance, number in [*zip(manifest, numbers, strict=True)][::-1]:
        found = audio.read(root, utterance)
        np.testing.assert_array_equal(found.channels[0], samples(number) / np.float32(2**15))
        assert audio.probe(root, utterance) == (1600, RATE)
        np.testing.assert_array_equal(np.concatenate(list(audio.stream(root, utterance))), found.channels[0])


def test_parquet_shards_with_classes_and_splits(tmp_path):
    write_parquet(tmp_path / "data" / "train-00000-of-00002.parquet", [row(i) for i in range(5)])
    write_parquet(tmp_path / "data" / "train-00001-of-00002.parquet", [row(5)])
    write_parquet(tmp_path / "data" / "test-00000-of-00001.parquet", [row(6, emotion=-1), row(7, emotion=None)])
    files = read_corpus(tmp_path)
    assert (files.corpus.name, files.root) == ("folder", tmp_path)
    manifest = files.manifest
    numbers = [6, 7, 0, 1, 2, 3, 4, 5]
    assert manifest.utterance_ids == tuple(f"u{number}" for number in numbers)
    assert [u.labels["split"] for u in manifest] == ["test"] * 2 + ["train"] * 6
    assert [u.labels["emotion"] for u in manifest] == ["", "", *(NAMES[i % 2] for i in range(6))]
    assert [u.speaker_id for u in manifest] == [f"s{number % 3}" for number in numbers]
    assert manifest["u4"].path == "data/train-00000-of-00002.parquet/4"
    check_audio(tmp_path, manifest, numbers)
    single = read_corpus(tmp_path / "data" / "train-00001-of-00002.parquet")
    assert (single.root, single.manifest["u5"].path) == (tmp_path / "data", "train-00001-of-00002.parquet/0")


def test_folders_of_save_to_disk(tmp_path):
    write_arrow(tmp_path / "all", [[row(0), row(1), row(2)], [row(3)]])
    manifest = read_corpus(tmp_path / "all").manifest
    assert manifest["u3"].path == "data-00001-of-00002.arrow/0"
    assert manifest["u1"].labels == {"emotion": "joy"}
    check_audio(tmp_path / "all", manifest, range(4))
    write_arrow(tmp_path / "parts" / "train", [[row(0)]])
    write_arrow(tmp_path / "parts" / "fold1", [[row(1)]])
    (tmp_path / "parts" / "dataset_dict.json").write_text('{"splits": ["train", "fold1"]}')
    manifest = read_corpus(tmp_path / "parts").manifest
    assert [(u.path.partition("/")[0], u.labels.get("split"), u.labels.get("subset")) for u in manifest] == [
        ("train", "train", None),
        ("fold1", None, "fold1"),
    ]
    check_audio(tmp_path / "parts", manifest, range(2))


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("train.parquet", {"split": "train"}),
        ("default/validation/0000.parquet", {"split": "validation"}),
        ("data/my_Test_set.parquet", {"split": "test"}),
        ("testing-00000-of-00001.parquet", {"split": "test"}),
        ("trainer.parquet", {}),
        ("session1-00000-of-00001.parquet", {"subset": "session1"}),
    ],
)
def test_names_of_shards_are_splits(tmp_path, name, label):
    write_parquet(tmp_path / name, [row(0)])
    (utterance,) = read_corpus(tmp_path).manifest
    assert utterance.labels == {"emotion": "anger"} | label


def test_names_that_repeat_give_numbers_as_ids_and_words_are_transcripts(tmp_path):
    unnamed = {"bytes": file_bytes(0), "path": None}
    rows = [row(0, sentence="Hello.", path="/etc/passwd", loud=True, level=0.5), row(0, audio=unnamed, level=np.nan)]
    types = {"sentence": pa.string(), "path": pa.string(), "loud": pa.bool_(), "level": pa.float64()}
    write_parquet(tmp_path / "dev.parquet", rows, **types)
    first, second = read_corpus(tmp_path).manifest
    assert (first.utterance_id, second.utterance_id) == ("dev/0", "dev/1")
    assert (first.transcript, first.labels["loud"], first.labels["level"]) == ("Hello.", "true", "0.5")
    assert second.labels == {"emotion": "anger", "split": "dev", "loud": "", "level": ""}


def test_shards_that_are_missing_are_told(tmp_path, caplog):
    write_parquet(tmp_path / "train-00001-of-00003.parquet", [row(0)])
    with caplog.at_level(logging.WARNING):
        read_corpus(tmp_path)
    assert "2 of 3 shards of 'train' are missing" in caplog.text


def test_rows_without_audio_fail_one_by_one(tmp_path):
    rows = [row(0), row(1, audio={"bytes": None, "path": "/etc/passwd"}), row(2, audio={"bytes": b"", "path": "x.wav"})]
    write_parquet(tmp_path / "a.parquet", rows)
    manifest = read_corpus(tmp_path).manifest
    reasons = {}
    for utterance in manifest:
        for way in (audio.read, audio.probe):
            try:
                way(tmp_path, utterance)
            except AudioError as error:
                reasons.setdefault(utterance.path, set()).add(str(error))
    assert reasons == {
        "a.parquet/1": {"a.parquet/1: this row contains no audio; save the data set again with embedded audio"},
        "a.parquet/2": {"a.parquet/2: not an audio file but an empty file; download it again"},
    }
    with pytest.raises(AudioError, match=r"a\.parquet/3: has no row 3, only 3 rows"):
        audio.probe(tmp_path, manifest[0].__class__(utterance_id="x", path="a.parquet/3"))


def write_state(folder, **changes):
    write_arrow(folder, [[row(0)]])
    state = json.loads((folder / "state.json").read_text())
    (folder / "state.json").write_text(json.dumps(state | changes))


def write_nulls(file, num_rows):
    """Write rows without any values, which need almost no bytes."""
    nothing = pa.StructArray.from_arrays([pa.nulls(num_rows, kind.type) for kind in EMBEDDED], fields=list(EMBEDDED))
    pq.write_table(pa.table({"audio": nothing}), file)


HOSTILE = {
    "states 200000 rows in .* bytes": lambda folder: write_nulls(folder / "x.parquet", 200_000),
    "expected one with 'bytes'": lambda folder: pq.write_table(
        pa.table({"audio": [{"bytes": 10**12, "path": "a.wav"}]}), folder / "x.parquet"
    ),
    "splits, each once": lambda folder: (
        (folder / "x").mkdir(),
        (folder / "x" / "dataset_dict.json").write_text('{"splits": ["train", "train"]}'),
    ),
    "in this folder, each once": lambda folder: write_state(
        folder / "x", _data_files=[{"filename": "data-00000-of-00001.arrow"}] * 2
    ),
    "cut off": lambda folder: (folder / "train-00000-of-00001.parquet").write_bytes(b"PAR1" + bytes(90) + b"PAR1"),
    "expected the names of Arrow files in this folder": lambda folder: write_state(
        folder / "x", _data_files=[{"filename": "../../secret.arrow"}]
    ),
    "selected by an old release": lambda folder: write_state(folder / "x", _indices_data_files=[{"filename": "i"}]),
    "expected the names of the splits": lambda folder: (
        (folder / "x").mkdir(),
        (folder / "x" / "dataset_dict.json").write_text('{"splits": ["../../etc"]}'),
    ),
    "no column with embedded audio": lambda folder: pq.write_table(pa.table({"a": [1]}), folder / "x.parquet"),
    "has other columns than .*'speaker'.*one configuration": lambda folder: (
        write_parquet(folder / "x" / "a" / "train.parquet", [row(0)]),
        pq.write_table(table([row(1)]).drop_columns(["speaker"]), folder / "x" / "b.parquet"),
    ),
    "several columns contain audio": lambda folder: write_parquet(
        folder / "x.parquet", [row(0) | {"one": None, "two": None}], features={}, one=EMBEDDED, two=EMBEDDED
    ),
}


@pytest.mark.parametrize("message", HOSTILE)
def test_hostile_and_faulty_data_sets(tmp_path, message):
    HOSTILE[message](tmp_path)
    if "several" in message:
        content = pq.read_table(tmp_path / "x.parquet").rename_columns(["a", "emotion", "speaker", "one", "two"])
        pq.write_table(content, tmp_path / "x.parquet")
    path = next((tmp_path / name for name in ("x", "x.parquet") if (tmp_path / name).exists()), tmp_path)
    with pytest.raises(FeatcacheError, match=message) as error:
        read_corpus(path)
    assert "\n" not in str(error.value)


def test_texts_that_a_file_contains_once_count_in_every_row(tmp_path):
    rows = [row(0, speaker="x" * 1000) for _ in range(3000)]
    pq.write_table(table(rows), tmp_path / "x.parquet")
    assert (tmp_path / "x.parquet").stat().st_size < 2**16
    with pytest.raises(audio_shards.ShardError, match="its columns emotion, speaker have more than 1048576 bytes"):
        list(audio_shards.open_shard(tmp_path / "x.parquet").texts(2**20))


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_damaged_shards_are_refused_in_one_line(tmp_path, suffix, rng):
    write_arrow(tmp_path / "x", [[row(i) for i in range(4)]])
    write_parquet(tmp_path / "x.parquet", [row(i) for i in range(4)])
    whole = (tmp_path / ("x.parquet" if suffix == "parquet" else "x/data-00000-of-00001.arrow")).read_bytes()
    for number in range(60):
        content = bytearray(whole)
        places = rng.integers(len(content), size=3) if number % 2 else rng.integers(1, 900, size=2)
        for at in places if suffix == "arrow" else len(content) - places:
            content[at] = rng.integers(256)
        (tmp_path / f"{number}.{suffix}").write_bytes(content[: len(content) - number % 3 * 40])
        try:
            files = read_corpus(tmp_path / f"{number}.{suffix}")
        except ManifestError as error:
            assert "\n" not in str(error)  # noqa: PT017, some damage has no consequences
            continue
        for utterance in files.manifest:
            try:
                audio.read(files.root, utterance)
            except AudioError as error:
                assert "\n" not in str(error)  # noqa: PT017


def test_only_one_row_group_is_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(audio_shards, "_KEPT_BYTES", 0)
    write_parquet(tmp_path / "a.parquet", [row(i) for i in range(6)])
    manifest = read_corpus(tmp_path).manifest
    check_audio(tmp_path, manifest, range(6))
    shard = audio_shards.open_shard(tmp_path / "a.parquet")
    assert len(shard._groups) == 1
    (group,) = shard._groups.values()
    assert len(group) == 2


def test_a_shard_that_is_replaced_is_read_again(tmp_path):
    write_parquet(tmp_path / "a.parquet", [row(1)])
    utterance = read_corpus(tmp_path).manifest[0]
    check_audio(tmp_path, [utterance], [1])
    before = sha256_of_audio(tmp_path / utterance.path)
    (tmp_path / "a.parquet").unlink()
    write_parquet(tmp_path / "a.parquet", [row(2, speaker="a longer name")])
    check_audio(tmp_path, [utterance], [2])
    assert sha256_of_audio(tmp_path / utterance.path) != before
    (tmp_path / "a.parquet").unlink()
    with pytest.raises(AudioError, match=r"a\.parquet/0: no such file"):
        audio.probe(tmp_path, utterance)


def test_datasets_is_never_imported(tmp_path):
    write_parquet(tmp_path / "a.parquet", [row(1)])
    code = (
        "import sys; from pathlib import Path; from featcache.corpora import read_corpus; from featcache import audio;"
        f"files = read_corpus(Path({str(tmp_path)!r})); audio.read(files.root, files.manifest[0]);"
        "sys.exit(bool({'datasets', 'torch', 'pandas'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
