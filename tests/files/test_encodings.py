"""Tables from spreadsheets, editors and other systems give the same manifest, or a message of one line."""

import itertools
import json

import numpy as np
import pytest
import soundfile

from featcache.corpora import read_corpus
from featcache.errors import FeatcacheError, ManifestError
from featcache.evaluate.predictions import read_predictions
from featcache.files.spreadsheets import read_csv, read_text
from featcache.manifest import Manifest, Utterance

ROWS = [
    ["path", "start", "speaker_id", "emotion", "transcript"],
    ["a/1.wav", "0.5", "Jürgen", "Ärger", 'Er sagte: "ja; nein, vielleicht|nie".'],
    ["a/2.wav", "", "李", "喜び", ""],
]
EXPECTED = [
    Utterance(
        utterance_id="a/1",
        path="a/1.wav",
        start=0.5,
        speaker_id="Jürgen",
        transcript=ROWS[1][4],
        labels={"emotion": "Ärger"},
    ),
    Utterance(utterance_id="a/2", path="a/2.wav", speaker_id="李", labels={"emotion": "喜び"}),
]
ENCODINGS = {
    "utf-8": lambda text: text.encode(),
    "utf-8 with a mark": lambda text: b"\xef\xbb\xbf" + text.encode(),
    "utf-8 with two marks": lambda text: 2 * b"\xef\xbb\xbf" + text.encode(),
    "utf-16": lambda text: text.encode("utf-16"),
    "utf-16 big-endian": lambda text: b"\xfe\xff" + text.encode("utf-16-be"),
    "utf-16 with two marks": lambda text: 2 * b"\xff\xfe" + text.encode("utf-16-le"),
    "utf-16 without a mark": lambda text: text.encode("utf-16-le"),
    "utf-32": lambda text: text.encode("utf-32"),
}


def table(rows, separator=",", newline="\n"):
    quoted = (['"' + cell.replace('"', '""') + '"' if set(cell) & set('",;|\t') else cell for cell in r] for r in rows)
    return "".join(separator.join(row) + newline for row in quoted)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("named", [False, True])
def test_every_encoding_and_separator_gives_the_same_manifest(tmp_path, encoding, separator, named):
    for newline, blank in itertools.product(("\n", "\r\n"), ("", " ")):
        rows = [[f"{blank}{name}{blank}" for name in ROWS[0]], *ROWS[1:]]
        text = (f"sep={separator}{newline}" if named else "") + table(rows, separator, newline)
        (tmp_path / "m.csv").write_bytes(ENCODINGS[encoding](text))
        assert list(Manifest.read(tmp_path / "m.csv")) == EXPECTED


def test_metadata_in_utf_16_and_with_semicolons(tmp_path):
    rows = [["file_name", "emotion"], ["1.wav", "Ärger"]]
    (tmp_path / "metadata.csv").write_bytes(table(rows, ";").encode("utf-16"))
    (utterance,) = read_corpus(tmp_path).manifest
    assert (utterance.path, utterance.labels) == ("1.wav", {"emotion": "Ärger"})
    (tmp_path / "metadata.csv").unlink()
    line = json.dumps({"file_name": "1.wav", "emotion": "Ärger"}, ensure_ascii=False)
    (tmp_path / "metadata.jsonl").write_bytes(f"{line}\n".encode("utf-16"))
    assert list(read_corpus(tmp_path).manifest) == [utterance]


def test_label_tables_of_corpora_in_utf_16(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "dia0_utt0.wav").write_bytes(b"RIFF")
    rows = [["Utterance", "Speaker", "Emotion", "Sentiment", "Dialogue_ID", "Utterance_ID"]]
    rows += [["Hé, you.", "Joey", "joy", "positive", "0", "0"]]
    for content in (table(rows, ";").encode("utf-16"), table(rows, "\t").encode(), table(rows).encode("utf-8-sig")):
        (tmp_path / "train_sent_emo.csv").write_bytes(content)
        (utterance,) = read_corpus(tmp_path).manifest
        assert (utterance.speaker_id, utterance.transcript) == ("Joey", "Hé, you.")


def test_predictions_of_any_encoding_and_separator(tmp_path):
    rows = [["utterance_id", " target", "prediction "], ["a", "Ärger", "Ärger"], ["b", "Freude", "Ärger"]]
    found = []
    for encoding, separator in itertools.product(ENCODINGS, ",;\t"):
        (tmp_path / "p.csv").write_bytes(ENCODINGS[encoding](table(rows, separator)))
        found.append(read_predictions(tmp_path / "p.csv").table)
    for other in found[1:]:
        assert other.equals(found[0])
    assert list(found[0]["target"]) == ["Ärger", "Freude"]


@pytest.mark.parametrize(
    ("encoding", "text", "line", "character", "after"),
    [
        ("gb2312", "path,emotion\na.wav,生气\n", 2, 7, "a.wav,"),
        ("gb18030", "path,emotion\na.wav,anger\n生.wav,sad\n", 3, 1, ""),
        ("cp1252", "path,emotion\na.wav,Ärger\n", 2, 7, "a.wav,"),
        ("shift-jis", "path,喜び\n", 1, 6, "path,"),
        ("cp1251", "path\r\n\r\na.wav\r\nж.wav\r\n", 4, 1, ""),
    ],
)
def test_of_other_encodings_the_line_and_the_character_are_told(tmp_path, encoding, text, line, character, after):
    (tmp_path / "m.csv").write_bytes(text.encode(encoding))
    for way in (Manifest.read, read_csv, read_text, read_corpus):
        with pytest.raises(ManifestError) as error:
            way(tmp_path / "m.csv")
        message = str(error.value)
        assert message.startswith(f"{tmp_path / 'm.csv'}: ")
        assert f"line {line}, character {character} is the byte 0x" in message
        assert f"after {after!r}" in message
        assert "save the file as UTF-8" in message


def test_what_is_no_text_at_all_is_named(tmp_path):
    (tmp_path / "m.csv").write_bytes(b"PK\x03\x04\x14\0\x06\0\x08\0\xff\xff[Content_Types].xml")
    with pytest.raises(ManifestError, match="it is a spreadsheet; save it as CSV in UTF-8"):
        Manifest.read(tmp_path / "m.csv")


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_a_mark_is_recognised_whatever_is_written_first(tmp_path, encoding):
    (tmp_path / "m.csv").write_bytes("说话人,喜び,path\n张,李一一一,a.wav\n".encode(encoding))
    (utterance,) = Manifest.read(tmp_path / "m.csv")
    assert (utterance.path, utterance.labels) == ("a.wav", {"说话人": "张", "喜び": "李一一一"})


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n",
            "a Git LFS pointer; run 'git lfs pull'",
        ),
        (b"<!DOCTYPE html><html></html>", "an HTML page"),
        (b"PK\x03\x04" + bytes(26) + b"[Content_Types].xml", "a spreadsheet"),
        (bytes(400), "a file of zeros"),
    ],
)
def test_what_reads_like_a_text_and_is_no_table_is_named(tmp_path, content, told):
    (tmp_path / "m.csv").write_bytes(content)
    with pytest.raises(ManifestError, match=f"not a CSV table but {told}"):
        Manifest.read(tmp_path / "m.csv")


@pytest.mark.parametrize("separator", [",", ";"])
@pytest.mark.parametrize("named", [False, True])
def test_lines_of_blanks_are_no_rows(tmp_path, separator, named):
    text = "\n  \n" + (f"sep={separator}\n \n" if named else "") + "path,emotion\n\t\na.wav,joy\n   \nb.wav,\n\n"
    (tmp_path / "m.csv").write_text(text.replace(",", separator))
    assert [u.path for u in Manifest.read(tmp_path / "m.csv")] == ["a.wav", "b.wav"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,emotion ,emotion\na.wav,x,y\n", "column 'emotion' occurs 2 times; give each column its own name"),
        ('path,emotion\na.wav,"joy\nb.wav,joy\n', r"not a CSV table \(row that begins in line 2: unexpected end"),
        ('path,emotion\n\na.wav,joy\nb.wav,"jo"y\n', r"not a CSV table \(row that begins in line 4: "),
        ("path,emotion\na.wav,joy,extra\n", r"row 2 has another number of fields than the header \(3, expected 2\)"),
        ("path;start\na.wav;0,5\n", "start is '0,5', expected seconds, 0 or more; use a decimal point instead"),
        ("path,emotion\na\0.wav,joy\n", "UTF-8 text without NUL"),
    ],
)
def test_faults_of_tables(tmp_path, text, message):
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(ManifestError, match=message) as error:
        Manifest.read(tmp_path / "m.csv")
    assert "\n" not in str(error.value)


def test_what_spreadsheets_add_is_left_out(tmp_path):
    (tmp_path / "m.csv").write_text("path,emotion,,\na.wav,joy,,\n,,,\n\nb.wav,sad,,\n,,,\n")
    manifest = Manifest.read(tmp_path / "m.csv")
    assert [(u.path, u.labels) for u in manifest] == [("a.wav", {"emotion": "joy"}), ("b.wav", {"emotion": "sad"})]


def test_blanks_after_each_separator_are_no_part_of_cells(tmp_path):
    (tmp_path / "m.csv").write_text("emotion, path, speaker_id\njoy, a.wav, 1\n")
    (utterance,) = Manifest.read(tmp_path / "m.csv")
    assert (utterance.path, utterance.speaker_id, utterance.labels) == ("a.wav", "1", {"emotion": "joy"})


def test_absolute_paths_inside_the_folder_are_relative_to_it(tmp_path):
    folder = tmp_path / "corpus"
    (folder / "x").mkdir(parents=True)
    soundfile.write(folder / "x" / "a.wav", np.zeros(100), 16000)
    (tmp_path / "link").symlink_to("corpus")
    for place, named in itertools.product(("corpus", "link"), (folder, (tmp_path / "link").resolve())):
        (folder / "manifest.csv").write_text(f"path\n{named}/x/a.wav\n")
        (utterance,) = read_corpus(tmp_path / place).manifest
        assert (utterance.path, utterance.utterance_id) == ("x/a.wav", "x/a")
    for outside in (tmp_path / "other" / "a.wav", f"{folder}/../a.wav", f"{folder}x/a.wav", "/etc/a.wav"):
        (folder / "manifest.csv").write_text(f"path\n{outside}\n")
        with pytest.raises(FeatcacheError, match="paths must stay inside the corpus folder"):
            read_corpus(folder)
