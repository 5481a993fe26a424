"""Manifest: reading and writing CSV files, and messages that list all faults."""

import csv
import errno
import math
import os
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featcache.errors import ManifestError
from featcache.manifest import FIXED_COLUMNS, Manifest, Utterance

# All text that UTF-8 can represent: quotes, commas, line breaks of every kind, NUL, right-to-left marks.
TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
NAMES = TEXT.filter(lambda name: name != "" and "\0" not in name)
PATHS = NAMES.filter(lambda path: not path.startswith("/") and ".." not in path.split("/"))
SECONDS = st.floats(min_value=0, allow_infinity=False, allow_nan=False)


def utterance(utterance_id: str = "a", **fields: object) -> Utterance:
    return Utterance(**{"utterance_id": utterance_id, "path": "a.wav", **fields})


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    # Spaces and byte order marks around a name are not part of it.
    names = TEXT.filter(lambda name: name not in FIXED_COLUMNS and name == name.strip().strip("\ufeff").strip())
    columns = draw(st.lists(names, max_size=3, unique=True))
    utterances = []
    for utterance_id in draw(st.lists(NAMES, min_size=1, max_size=4, unique=True)):
        start, end = sorted(draw(st.tuples(SECONDS, SECONDS)))
        utterances.append(
            Utterance(
                utterance_id=utterance_id,
                path=draw(PATHS),
                speaker_id=draw(TEXT),
                start=draw(st.sampled_from([None, start])),
                end=None if start == end else draw(st.sampled_from([None, end])),
                transcript=draw(TEXT),
                labels={column: draw(TEXT) for column in columns},
            )
        )
    return Manifest(utterances)


@given(manifest=manifests())
def test_what_is_written_is_read(manifest: Manifest, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "manifest.csv"
    manifest.write(path)
    assert list(Manifest.read(path)) == list(manifest)


def test_the_csv_is_one_that_others_read(tmp_path):
    Manifest([utterance('say "a, b"\r\n', start=np.float64(0.5), labels={"emotion": "Ärger"})]).write(
        tmp_path / "m.csv"
    )
    with open(tmp_path / "m.csv", newline="", encoding="utf-8") as file:
        header, row = csv.reader(file)
    assert header == ["utterance_id", "path", "start", "end", "speaker_id", "emotion", "transcript"]
    assert row == ['say "a, b"\r\n', "a.wav", "0.5", "", "", "Ärger", ""]


def test_labels_that_an_utterance_lacks_are_empty(tmp_path):
    Manifest([utterance("a", labels={"x": "1"}), utterance("b", labels={"y": "2"})]).write(tmp_path / "m.csv")
    manifest = Manifest.read(tmp_path / "m.csv")
    assert manifest.label_columns == ("x", "y")
    assert manifest.labels("x") == {"a": "1"}
    assert manifest.labels("y") == {"b": "2"}


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_only_path_is_required(tmp_path, newline):
    text = newline.join(["emotion,path", "anger,wav/03a01Wa.wav", "fear,x.y/b.flac", ""])
    (tmp_path / "m.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())  # Excel's byte order mark
    first, second = Manifest.read(tmp_path / "m.csv")
    assert first == Utterance(utterance_id="wav/03a01Wa", path="wav/03a01Wa.wav", labels={"emotion": "anger"})
    assert second.utterance_id == "x.y/b"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a CSV table with a column 'path', found an empty file"),
        ("sound,emotion\na.wav,fear\n", "column 'path', found 'sound', 'emotion'"),
        ("file,wav\na.wav,b.wav\n", "'file', 'wav' could each be the column 'path'; rename one of them"),
        ("path\n", "no utterances"),
        ("path,emotion,emotion\na.wav,fear,anger\n", "column 'emotion' occurs 2 times"),
        ("path,emotion\na.wav\n", "row 2 has another number of fields"),
        ("path,emotion\na.wav,fear\nb.wav,fear,x\n", "row 3 has another number of fields"),
        ("path,start\na.wav,soon\n", "row 2: start is 'soon', expected seconds"),
        ("path,end\na.wav,-1\n", "row 2: end is '-1', expected seconds"),
        ("path,end\na.wav,nan\n", "row 2: end is 'nan', expected seconds"),
        ("path,end\na.wav,inf\n", "row 2: end is 'inf', expected seconds"),
        ("path,end\n" + "a.wav,x\n" * 5, r"row 4: .* \(and 2 more faults\)"),
        ("path\na.wav\na.flac\n", "have the same id: 'a'; ids must be unique"),
        ('path,emotion\n"a"b,fear\n', "not a CSV table"),
        ("path,start,end\na.wav,2,1\n", "end is not after start in 'a'"),
    ],
)
def test_a_faulty_file_is_named_with_its_fault(tmp_path, text, message):
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(ManifestError, match=message) as error:
        Manifest.read(tmp_path / "m.csv")
    assert str(error.value).startswith(str(tmp_path / "m.csv"))
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_text_or_not_there(tmp_path):
    (tmp_path / "m.csv").write_bytes(b"path\n\xff\xfe\n")
    told = {tmp_path / "m.csv": "cannot be read as UTF-8 text", tmp_path / "none.csv": os.strerror(errno.ENOENT)}
    for path, reason in (told | {tmp_path: os.strerror(errno.EISDIR)}).items():
        with pytest.raises(ManifestError, match=f"^{re.escape(str(path))}: {reason}"):
            Manifest.read(path)


@pytest.mark.parametrize(
    ("utterances", "message"),
    [
        ([], "no utterances"),
        ([utterance("a"), utterance("a")], "have the same id: 'a'; ids must be unique"),
        ([utterance("")], "an utterance id is empty"),
        ([utterance(path="")], "without a path: 'a'"),
        ([utterance(path="a\0.wav")], "must be UTF-8 text without NUL .wrong: 'a'."),
        ([utterance("a\0b")], "must be UTF-8 text without NUL"),
        ([utterance("a\udcff")], "must be UTF-8 text without NUL"),
        ([utterance(path="/a.wav")], "paths must stay inside the corpus folder"),
        ([utterance(path="x/../../a.wav")], "paths must stay inside the corpus folder"),
        ([utterance(start=-0.1)], "start is negative or not finite in 'a'"),
        ([utterance(start=math.nan)], "start is negative or not finite"),
        ([utterance(end=0.0)], "end is not after start in 'a'"),
        ([utterance(start=2.0, end=2.0)], "end is not after start in 'a'"),
        ([utterance(end=math.nan)], "end is not after start"),
        ([utterance(end=math.inf)], "end is not after start"),
        ([utterance(labels={"path": "x"})], "labels must not have the name of a fixed column: 'path'"),
    ],
)
def test_a_faulty_manifest(utterances, message):
    with pytest.raises(ManifestError, match=message):
        Manifest(utterances)


def test_all_faults_are_told_at_once():
    with pytest.raises(ManifestError, match=r"the same id.*corpus folder .outside.*end is not after start"):
        Manifest([utterance("a", path="../a.wav"), utterance("a", end=0.0)])


def test_it_is_a_sequence_with_ids():
    manifest = Manifest([utterance("b", speaker_id="2"), utterance("a", speaker_id="1"), utterance("c")])
    assert len(manifest) == 3
    assert manifest.utterance_ids == ("b", "a", "c")
    assert manifest.speaker_ids == ("1", "2")
    assert manifest[0] == manifest["b"] == next(iter(manifest))
    assert manifest[1:].utterance_ids == ("a", "c")
    assert "a" in manifest
    assert manifest[0] in manifest
    assert "d" not in manifest
    assert manifest.subset(["c", "b"]).utterance_ids == ("b", "c")


def test_select_by_labels():
    manifest = Manifest(
        [
            utterance("a", labels={"emotion": "fear", "channel": "song"}),
            utterance("b", labels={"emotion": "fear", "channel": "speech"}),
            utterance("c", labels={"emotion": "", "channel": "speech"}),
        ]
    )
    assert manifest.select(channel=["speech"]).utterance_ids == ("b", "c")
    assert manifest.select(channel=["speech"], emotion=["fear", "anger"]).utterance_ids == ("b",)
    with pytest.raises(ManifestError, match=r"^no utterance has emotion 'joy'; values of emotion: 'fear'$"):
        manifest.select(emotion=["joy"])
    with pytest.raises(ManifestError, match=r"no utterance has a label 'x'; .* are: emotion, channel"):
        manifest.select(x=["1"])
    with pytest.raises(ManifestError, match="columns are: none"):
        Manifest([utterance()]).labels("emotion")
