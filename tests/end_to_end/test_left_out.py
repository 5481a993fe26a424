"""An extraction counts everything that it leaves out once, however the corpus is described."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

import featcache

RATE = 16000
# Name → emotion; three utterances cannot be extracted, and two have no label.
EMOTIONS = {
    "s1_joy_1": "joy",
    "s1_anger_1": "anger",
    "s2_joy_1": "joy",
    "s2_none_1": "",
    "s2_none_2": "",
    "s1_joy_8": "joy",
    "s2_joy_8": "joy",
    "s2_anger_9": "anger",
}
FAULTY = {"s1_joy_8": b"", "s2_joy_8": b"", "s2_anger_9": b"RIFF\x04\x00\x00\x00WAVE" + bytes(40)}
DESCRIPTION = """
name: small
title: Small
description: Two speakers.
license: unknown
source: nowhere
example: s1_joy_1.wav
file: '(?P<speaker>s\\d)_(?P<emotion>joy|anger|none)_\\d'
speaker: '{speaker}'
labels:
  emotion: {from: '{emotion}', map: {joy: joy, anger: anger, none: ''}}
"""


def content_of(name):
    content = io.BytesIO()
    soundfile.write(content, np.random.default_rng(len(name)).integers(-3000, 3000, 8000, np.int16), RATE, format="WAV")
    return FAULTY.get(name, content.getvalue())


def write_files(folder):
    folder.mkdir(parents=True)
    for name in EMOTIONS:
        (folder / f"{name}.wav").write_bytes(content_of(name))


def manifest(folder):
    write_files(folder)
    rows = [f"{name}.wav,{name[:2]},{emotion}\n" for name, emotion in EMOTIONS.items()]
    (folder / "manifest.csv").write_text("path,speaker_id,emotion\n" + "".join(rows))
    return folder, {}


def described(folder):
    write_files(folder)
    (folder / "other.wav").write_bytes(b"RIFF")
    (folder.parent / "small.yaml").write_text(DESCRIPTION)
    return folder, {"layout": str(folder.parent / "small.yaml")}


def parquet(folder):
    folder.mkdir()
    rows = [
        {"audio": {"bytes": content_of(name), "path": f"{name}.wav"}, "speaker": name[:2], "emotion": emotion or None}
        for name, emotion in EMOTIONS.items()
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "data.parquet")
    return folder, {}


def emobox(folder):
    write_files(folder)
    rows = [{"key": name, "wav": f"{name}.wav", "emo": emotion} for name, emotion in EMOTIONS.items()]
    (folder / "small.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "small.jsonl", {}


def audformat(folder):
    write_files(folder)
    (folder / "db.yaml").write_text(
        "name: small\nschemes: {emotion: {dtype: str}}\n"
        "tables: {files: {type: filewise, columns: {emotion: {scheme_id: emotion}}}}\n"
    )
    rows = [f"{name}.wav,{emotion}\n" for name, emotion in EMOTIONS.items()]
    (folder / "db.files.csv").write_text("file,emotion\n" + "".join(rows))
    return folder, {}


@pytest.mark.parametrize("way", [manifest, described, parquet, emobox, audformat])
def test_everything_is_counted_once(tmp_path, way):
    data, options = way(tmp_path / "small")
    asked = {"model": "spectrogram", "data": data, "home": tmp_path / "home", **options}
    report = featcache.extract(**asked)
    assert report.num_unlabelled == 2
    outside = {"audio files outside the corpus": 1} if way is described else {}
    failed = {reason: number for reason, number in report.left_out.items() if reason not in outside}
    assert dict(report.left_out) == outside | failed
    assert sorted(failed.values()) == [1, 2]
    assert all(reason.startswith("failed: ") for reason in failed)
    assert report.num_utterances == len(EMOTIONS) == report.num_extracted + sum(failed.values())
    # A second call and a plan have the same counts, although the other utterances are cached.
    assert dict(featcache.extract(**asked).left_out) == dict(report.left_out)
    assert dict(featcache.extract(**asked, dry_run=True).left_out) == dict(report.left_out)
    assert len(featcache.open(report.cache)["spectrogram"]) == 5
