"""Headers and checksums of audio files are remembered for as long as the files do not change, and no longer."""

import hashlib
import os

import numpy as np
import pytest
import soundfile

from featcache.audio import known_files
from featcache.audio.containers.plain_wav import HEAD, plain_wav
from featcache.audio.decoding import opened, read_header
from featcache.audio.known_files import KnownFiles
from featcache.errors import AudioError

RATE = 16_000


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return a folder with two files that count as settled, although they are new."""
    monkeypatch.setattr(known_files, "SETTLED", -1)
    for number, name in enumerate(("a.wav", "b ä.flac")):
        soundfile.write(tmp_path / name, np.full(800 + number, 0.1), RATE)
    return tmp_path


@pytest.fixture
def reads(monkeypatch):
    """Return the list of all later reads, as (what, file name)."""
    found = []

    def counted(what, function, name):
        def call(*arguments):
            found.append((what, os.path.basename(arguments[-1])))
            return function(*arguments)

        monkeypatch.setattr(known_files, name, call)

    counted("header", known_files.read_header, "read_header")
    counted("checksum", known_files.sha256_of_audio, "sha256_of_audio")
    return found


def look(folder, names=("a.wav", "b ä.flac"), *, remember=True):
    known = KnownFiles(folder, folder / "memory")
    found = {name: (known.checksum(name), known.header(name)) for name in names}
    if remember:
        known.remember()
    return found


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_files_that_did_not_change_are_not_read_again(folder, reads):
    first = look(folder)
    assert sorted(reads) == [(what, name) for what in ("checksum", "header") for name in ("a.wav", "b ä.flac")]
    assert first == {name: (sha256(folder / name), read_header(folder, name)) for name in first}
    reads.clear()
    assert look(folder) == first
    assert reads == []


def test_within_a_process_each_file_is_read_once(folder, reads):
    known = KnownFiles(folder)
    for _ in range(3):
        known.checksum("a.wav"), known.header("a.wav")
    assert len(reads) == 2
    known.read_checksum("a.wav")
    assert reads[2:] == [("checksum", "a.wav")]


@pytest.mark.parametrize("change", ["longer", "same size", "same size and time", "replaced"])
def test_a_file_that_changed_is_read_again(folder, reads, change):
    look(folder)
    reads.clear()
    path = folder / "a.wav"
    times = os.stat(path)
    if change == "replaced":
        path.unlink()
    soundfile.write(path, np.full(900 if change == "longer" else 800, 0.2), RATE)
    if change == "same size and time":
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert (os.stat(path).st_size, os.stat(path).st_mtime_ns) == (times.st_size, times.st_mtime_ns)
    assert look(folder)["a.wav"] == (sha256(path), read_header(folder, "a.wav"))
    assert sorted(reads) == [("checksum", "a.wav"), ("header", "a.wav")]


def test_a_file_that_was_written_a_moment_ago_is_not_remembered(folder, reads, monkeypatch):
    monkeypatch.setattr(known_files, "SETTLED", 10**15)
    look(folder)
    assert not (folder / "memory").exists()
    reads.clear()
    look(folder)
    assert len(reads) == 4


def damage(content, kind):
    first, *lines = content.splitlines(keepends=True)
    return {
        "cut": content[:-20],
        "changed": content.replace(b"\t16000\t", b"\t16001\t"),
        "other version": first.replace(b"featcache", b"featcache 0") + b"".join(lines),
        "no text": os.urandom(2000),
        "empty": b"",
    }[kind]


@pytest.mark.parametrize("kind", ["cut", "changed", "other version", "no text", "empty"])
def test_a_damaged_memory_is_not_believed_and_is_repaired(folder, reads, kind):
    expected = look(folder)
    memory = folder / "memory"
    memory.write_bytes(damage(memory.read_bytes(), kind))
    reads.clear()
    assert look(folder) == expected
    assert reads
    reads.clear()
    assert look(folder) == expected
    assert reads == []


def test_a_memory_that_is_a_link_or_a_folder_is_left_alone(folder, tmp_path):
    target = tmp_path / "target"
    target.write_text("mine")
    (folder / "memory").symlink_to(target)
    look(folder)
    assert target.read_text() == "mine"
    (folder / "memory").unlink()
    (folder / "memory").mkdir()
    look(folder)


def test_several_processes_may_write_and_the_memory_does_not_grow_for_ever(folder):
    one, other = KnownFiles(folder, folder / "memory"), KnownFiles(folder, folder / "memory")
    one.checksum("a.wav"), other.checksum("b ä.flac")
    one.remember(), other.remember()
    size = os.stat(folder / "memory").st_size
    for number in range(20):
        soundfile.write(folder / "a.wav", np.full(700 + number, 0.2), RATE)
        look(folder)
    # Old lines are dropped before there are more of them than of current ones, and one of each for the last call.
    assert os.stat(folder / "memory").st_size < 4 * size


def test_faults_are_not_remembered(folder):
    (folder / "a.wav").write_bytes(b"no audio")
    known = KnownFiles(folder, folder / "memory")
    for name in ("a.wav", "missing.wav"):
        for _ in range(2):
            with pytest.raises(AudioError, match=name):
                known.header(name)
    with pytest.raises(OSError, match="missing"):
        known.checksum("missing.wav")
    known.remember()
    soundfile.write(folder / "a.wav", np.zeros(100), RATE)
    assert KnownFiles(folder, folder / "memory").header("a.wav").num_samples == 100


def decoded_header(folder, name):
    """Return what the decoder says, or None if it refuses the file."""
    try:
        with opened(folder, name) as decoder:
            header = decoder.header
            return header.num_samples, header.sampling_rate, header.num_channels
    except AudioError:
        return None


@pytest.mark.parametrize("subtype", sorted(soundfile.available_subtypes("WAV")))
def test_usual_wav_headers_are_read_without_a_decoder_and_others_are_left_to_it(tmp_path, subtype):
    rng = np.random.default_rng(0)
    known = 0
    for kind in ("WAV", "WAVEX"):
        if subtype not in soundfile.available_subtypes(kind):
            continue
        for channels, rate in ((1, 16000), (2, 44100)):
            if subtype in ("G721_32", "NMS_ADPCM_16", "NMS_ADPCM_24", "NMS_ADPCM_32") and channels > 1:
                continue
            try:
                soundfile.write(tmp_path / "x.wav", rng.normal(0, 0.1, (321, channels)), rate, subtype, format=kind)
            except soundfile.LibsndfileError:
                continue
            content = (tmp_path / "x.wav").read_bytes()
            found = plain_wav(content[:HEAD], len(content))
            known += found is not None
            assert found in (None, decoded_header(tmp_path, "x.wav"))
    assert (known > 0) == (subtype in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"))


def test_a_damaged_wav_header_is_never_read_otherwise_than_by_the_decoder(tmp_path):
    rng = np.random.default_rng(1)
    known = 0
    for kind, subtype in (("WAV", "PCM_16"), ("WAVEX", "PCM_24"), ("WAV", "FLOAT")):
        soundfile.write(tmp_path / "x.wav", rng.normal(0, 0.1, (50, 2)), RATE, subtype, format=kind)
        whole = (tmp_path / "x.wav").read_bytes()
        for _ in range(400):
            content = bytearray(whole)
            for place in rng.integers(0, 80, rng.integers(1, 3)):
                content[place] = rng.choice([0, 1, 2, 3, 4, 16, 255, content[place] ^ 1, rng.integers(256)])
            if rng.random() < 0.2:
                content = content[: rng.integers(12, len(content))]
            found = plain_wav(bytes(content[:HEAD]), len(content))
            if found is not None:
                known += 1
                (tmp_path / "y.wav").write_bytes(content)
                assert found == decoded_header(tmp_path, "y.wav")
    assert known > 20
