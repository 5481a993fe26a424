"""Videos and embedded audio have the same features as WAV, and an extraction tells what it left out."""

import io
import json

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

import featcache
from featcache.cli.app import app
from featcache.extraction import summarise_report
from tests.media_files import write_media

RATE = 16000
EMOTIONS = {"a1": "joy", "a2": "anger", "b1": "joy", "b2": "anger", "c1": "joy", "c2": "anger", "c3": ""}


@pytest.fixture
def sounds():
    rng = np.random.default_rng(3)
    return {name: rng.integers(-3000, 3000, 4000, dtype=np.int16) for name in EMOTIONS}


def write_manifest(folder, suffix):
    folder.mkdir(exist_ok=True)
    rows = [f"{name},{name}{suffix},{name[0]},{emotion}" for name, emotion in EMOTIONS.items()]
    (folder / "manifest.csv").write_text("\n".join(["utterance_id,path,speaker_id,emotion", *rows]) + "\n")


def write_wav(folder, sounds):
    write_manifest(folder, ".wav")
    for name, samples in sounds.items():
        soundfile.write(folder / f"{name}.wav", samples, RATE)


def write_videos(folder, sounds):
    write_manifest(folder, ".mkv")
    for name, samples in sounds.items():
        write_media(folder / f"{name}.mkv", samples[None], RATE, "flac", video=True)


def write_shard(folder, sounds):
    folder.mkdir()
    rows = []
    for name, samples in sounds.items():
        content = io.BytesIO()
        soundfile.write(content, samples, RATE, format="FLAC")
        label = -1 if not EMOTIONS[name] else ["joy", "anger"].index(EMOTIONS[name])
        audio = {"bytes": content.getvalue(), "path": f"{name}.flac"}
        rows.append({"audio": audio, "speaker": name[0], "emotion": label})
    features = {"audio": {"_type": "Audio"}, "emotion": {"_type": "ClassLabel", "names": ["joy", "anger"]}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    pq.write_table(pa.Table.from_pylist(rows).replace_schema_metadata(metadata), folder / "data.parquet")


def features(report):
    store = featcache.open(report.cache)["spectrogram"]
    return {name: store[name] for name in store.utterance_ids}


@pytest.mark.parametrize("write", [write_videos, write_shard])
def test_features_are_those_of_wav(tmp_path, sounds, write, capsys):
    write_wav(tmp_path / "wav", sounds)
    write(tmp_path / "other", sounds)
    reports = {
        name: featcache.extract(model="spectrogram", data=tmp_path / name, home=tmp_path / "home")
        for name in ("wav", "other")
    }
    expected, found = features(reports["wav"]), features(reports["other"])
    assert found.keys() == expected.keys() == EMOTIONS.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)
    with h5py.File(reports["other"].cache / "spectrogram" / "shard-00000.h5") as shard:
        (decoder,) = shard.attrs["decoders"]
    assert decoder.startswith("FFmpeg " if write is write_videos else "libsndfile ")
    assert "1 of 7 utterances have no label" in summarise_report(reports["other"])
    assert reports["other"].left_out == {}
    store = str(reports["other"].cache / "spectrogram")
    app(["verify", store, "--data", str(tmp_path / "other")], standalone_mode=False)
    assert "Tolerance" in capsys.readouterr().out


def test_utterances_without_a_label_are_predicted(tmp_path, sounds, quick_reports):
    write_shard(tmp_path / "shards", sounds)
    home = {"home": tmp_path / "home"}
    featcache.extract(model="spectrogram", data=tmp_path / "shards", **home)
    run = featcache.fit(head="linear", features="spectrogram", seeds=1, max_epochs=1, **home)
    table = featcache.load_run(run.path, **home).predict(tmp_path / "shards")
    assert sorted(table["utterance_id"]) == sorted(EMOTIONS)


def test_an_extraction_ends_with_what_was_left_out(tmp_path, sounds):
    folder = tmp_path / "mixed"
    write_wav(folder, sounds)
    for name in ("a1", "b1"):
        content = (folder / f"{name}.wav").read_bytes()
        (folder / f"{name}.wav").write_bytes(content[: -20 * ord(name[0])])
    (folder / "c1.wav").unlink()
    report = featcache.extract(model="spectrogram", data=folder, home=tmp_path / "home", limit=6)
    left_out = dict(report.left_out)
    assert left_out.pop("not chosen by --limit 6") == 1
    assert sum(left_out.values()) == 6 - report.num_extracted
    lines = summarise_report(report).splitlines()
    start = lines.index(f"left out: {sum(report.left_out.values())}")
    assert lines[start + 1 : -1] == [f"  {number} {reason}" for reason, number in report.left_out.items()]
    whole = featcache.extract(model="spectrogram", data=folder, home=tmp_path / "home")
    assert whole.left_out == {
        "failed: cut off, the header announces N bytes of samples, the file has N": 2,
        "failed: cannot be read (No such file or directory)": 1,
    }


def test_files_outside_the_corpus_and_labels_without_audio_are_counted(tmp_path, sounds):
    folder = tmp_path / "emodb"
    folder.mkdir()
    for name in ("03a01Fa", "03a01Wa", "other", "another"):
        soundfile.write(folder / f"{name}.wav", sounds["a1"], RATE)
    report = featcache.extract(model="spectrogram", data=folder, home=tmp_path / "home")
    assert report.left_out == {"audio files outside the corpus": 2}
