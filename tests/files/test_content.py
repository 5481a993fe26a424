"""Files whose content does not match their name are recognised by their first bytes, before a long extraction."""

import gzip
import io
import json
import logging
import struct
import sys
import tarfile
import zipfile

import numpy as np
import pytest
import soundfile

from featcache.audio import probe, read, stream
from featcache.audio.containers import ContainerError, demuxer_of
from featcache.cli import app as cli
from featcache.errors import AudioError
from featcache.files.content import HEAD_BYTES, describe_content
from featcache.manifest import Utterance

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 12345\n"
EBML = b"\x1aE\xdf\xa3\x9fB\x86\x81\x01B\xf7\x81\x01B\xf2\x81\x04B\xf3\x81\x08B\x82\x84"


NATIVE_SPECTROGRAM = ["--sampling-rate", "0", "--window", "400samples", "--hop", "320samples", "--n-fft", "512"]


def archive(name):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        file.writestr(name, "x" * 100)
    return content.getvalue()


def tarred():
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as file:
        file.addfile(tarfile.TarInfo("a.wav"))
    return content.getvalue()


KINDS = {
    "a Git LFS pointer; run 'git lfs pull'": LFS,
    "an empty file": b"",
    "a file of zeros": bytes(5000),
    "an MP4 file; convert": b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41" + bytes(range(256)),
    "an MP4 file; convert it": b"\0\0\0\x18ftypmp42" + bytes(range(256)),
    "AAC or ALAC audio in an MP4 file; convert": b"\0\0\0\x1cftypM4A \0\0\2\0M4A isomiso2" + bytes(range(256)),
    "a QuickTime video; convert": b"\0\0\0\x14ftypqt  " + bytes(range(256)),
    "a WebM file; convert": EBML + b"webm" + bytes(range(256)),
    "a Matroska file (mkv, mka); convert": EBML + b"matroska" + bytes(range(256)),
    "AAC audio; convert": b"\xff\xf1\x50\x80\x43\xff\xfc" + bytes(range(256)),
    "a Windows Media file": bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c") + bytes(range(256)),
    "an AVI video": b"RIFF\x24\0\0\0AVI LIST" + bytes(range(256)),
    "AMR audio": b"#!AMR\n" + bytes(range(256)),
    "an HTML page; download it again": b"<!DOCTYPE html>\n<html><head><title>404</title>",
    "an HTML page; download": b"\xef\xbb\xbf\n  <HTML lang='en'>Sign in",
    "an HTML page": b'<?xml version="1.0"?>\n<!-- x -->\n<!DOCTYPE html PUBLIC>',
    "an XML document": b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>',
    "JSON text": json.dumps({"message": "Bad credentials"}).encode(),
    "text ('Not found' …)": b"Not found\n",
    "a ZIP archive": archive("a.wav"),
    "a spreadsheet; save it as CSV": archive("[Content_Types].xml"),
    "a gzip archive": gzip.compress(b"RIFF" * 100),
    "a tar archive": tarred(),
    "a macOS resource file": b"\0\x05\x16\x07\0\x02\0\0Mac OS X        " + bytes(range(256)),
    "a PDF document": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3",
}


def is_media(content):
    """Return whether FFmpeg is asked to decode a file, which then gives another reason."""
    try:
        return demuxer_of(io.BytesIO(content)) is not None
    except ContainerError:
        return True


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_audio_is_named(tmp_path, kind):
    content = KINDS[kind]
    assert describe_content(content[:HEAD_BYTES]).startswith(kind)
    (tmp_path / "a.wav").write_bytes(content)
    utterance = Utterance(utterance_id="a", path="a.wav")
    for way in (read, probe, lambda *file: list(stream(*file))):
        with pytest.raises(AudioError) as error:
            way(tmp_path, utterance)
        expected = "a.wav: " if is_media(content) else f"a.wav: not an audio file but {kind}"
        assert str(error.value).startswith(expected)
        assert "\n" not in str(error.value)
        assert "\n" not in str(error.value)


def test_a_text_that_is_longer_than_what_is_looked_at():
    text = ("ä" * HEAD_BYTES).encode()
    for end in range(HEAD_BYTES - 3, HEAD_BYTES + 1):
        described = describe_content(b"x" * (HEAD_BYTES - end) + text[:end])
        assert described is not None
        assert described.startswith("text")


@pytest.mark.parametrize("content", [bytes(range(1, 256)), b"\xff\xfe\0\xd8", b"\x01"])
def test_what_is_not_known_has_no_name(content):
    assert describe_content(content) is None


@pytest.fixture
def dry_run(tmp_path, monkeypatch, capsys):
    """Return a function that does a dry run and returns the exit code and the printed text."""

    def run(folder, command="extract", *options):
        model = ("--model", "egemaps") if command == "extract" else ()
        arguments = [command, *model, "--data", str(folder), "--dry-run", *options]
        monkeypatch.setattr(sys, "argv", ["featcache", *arguments])
        with pytest.raises(SystemExit) as exited:
            cli.main()
        assert not (tmp_path / "data").exists()
        return exited.value.code, "".join(capsys.readouterr())

    yield run
    logging.getLogger("featcache").handlers.clear()


@pytest.fixture
def corpus(tmp_path, rng):
    """Return a folder of three valid files with their manifest."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    for name in "abc":
        soundfile.write(folder / f"{name}.wav", rng.uniform(-0.1, 0.1, 8000), 16000)
    (folder / "manifest.csv").write_text("path\n" + "".join(f"{name}.wav\n" for name in "abc"))
    return folder


def test_a_dry_run_lists_what_cannot_be_read(corpus, dry_run):
    code, told = dry_run(corpus)
    assert code == 0
    assert "cannot be read" not in told
    (corpus / "a.wav").write_bytes(LFS)
    (corpus / "b.wav").unlink()
    code, told = dry_run(corpus)
    assert code == 3
    assert "2 of 3 utterances cannot be read:" in told
    assert "  a.wav: not an audio file but a Git LFS pointer; run 'git lfs pull'\n" in told
    assert "  b.wav: no such file\n" in told
    assert "c.wav" not in told


def test_a_dry_run_shows_control_characters_of_names_escaped(corpus, dry_run):
    (corpus / "manifest.csv").write_text('path\na.wav\n"x\x1b[31m\n.wav"\n')
    code, told = dry_run(corpus)
    assert code == 3
    assert "  x\\x1b[31m\\n.wav: no such file\n" in told


def test_a_dry_run_fails_where_nothing_can_be_read(corpus, dry_run):
    for name in "abc":
        (corpus / f"{name}.wav").write_bytes(LFS)
    code, told = dry_run(corpus)
    assert code == 1
    assert "error: none of 3 utterances can be read: a.wav: not an audio file but a Git LFS pointer" in told


def test_a_dry_run_tells_a_reason_of_many_utterances_once(corpus, dry_run):
    rows = "".join(f"{i},gone.wav,{i}\n" for i in range(500))
    (corpus / "manifest.csv").write_text(f"utterance_id,path,start\n{rows}good,a.wav,\n")
    code, told = dry_run(corpus)
    assert code == 3
    assert told.count("gone.wav") == 1
    assert "  gone.wav: no such file (500 utterances)" in told


def test_rates_that_differ_are_told_where_features_depend_on_them(corpus, dry_run, rng):
    assert "sampling rates" not in dry_run(corpus)[1]
    for name, rate in (("b", 8000), ("c", 44100)):
        soundfile.write(corpus / f"{name}.wav", rng.uniform(-0.1, 0.1, 2 * rate), rate)
    for model in ("egemaps", "egemaps-functionals", "spectrogram"):
        options = ("--model", model, *(NATIVE_SPECTROGRAM if model == "spectrogram" else ()))
        code, told = dry_run(corpus, "extract", *options)
        assert code == 0
        assert f"{model}: the files have different sampling rates (8000 Hz: 1, 16000 Hz: 1, 44100 Hz: 1 utt" in told
        assert "--sampling-rate 8000" in told
        assert "sampling rates" not in dry_run(corpus, "extract", *options, "--sampling-rate", "8000")[1]


def test_files_that_end_early_are_kept_and_told(corpus, dry_run, rng):
    soundfile.write(corpus / "a.wav", rng.uniform(-0.1, 0.1, 160_000), 16000, format="OGG", subtype="VORBIS")
    content = (corpus / "a.wav").read_bytes()
    (corpus / "a.wav").write_bytes(content[: len(content) // 2])
    code, told = dry_run(corpus)
    assert code == 0
    assert "1 utterance is cut, because the end of their files is missing; the available part is used: 'a'" in told


def test_mp3_from_a_pipe_is_extracted_as_from_a_file(tmp_path, rng):
    import featcache

    frames = {}
    header = struct.pack("4B", 0xFF, 0xF3, 0x48, 0xC4)
    soundfile.write(tmp_path / "x.mp3", 0.1 * rng.standard_normal(32_000), 16000, bitrate_mode="VARIABLE")
    content = (tmp_path / "x.mp3").read_bytes()
    assert content[:2] == header[:2]
    second = content.index(content[:2], 4)
    for name, kept in (("whole", content), ("piped", content[second:])):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "a.mp3").write_bytes(kept)
        (folder / "manifest.csv").write_text("path\na.mp3\n")
        report = featcache.extract(model="egemaps", data=folder)
        assert (report.num_extracted, report.failures, report.ends_early) == (1, (), ())
        frames[name] = featcache.open(report.cache)["egemaps"]["a"]
    assert np.shape(frames["piped"])[1] >= np.shape(frames["whole"])[1]
