"""Named pipes, devices, sockets and folders are refused instead of files, wherever a corpus or pipeline is read."""

import contextlib
import os
import shutil
import signal
import socket
import tempfile

import numpy as np
import pytest
import soundfile

from featcache.audio import probe, read, stream
from featcache.corpora import read_corpus
from featcache.errors import AudioError, FeatcacheError, PipelineError
from featcache.evaluate.predictions import read_predictions
from featcache.extraction.inputs import AudioInput
from featcache.files.regular import open_regular, read_regular, sha256_of_file
from featcache.manifest import Manifest, Utterance
from featcache.pipeline.read import read_pipeline

pytestmark = pytest.mark.skipif(
    not hasattr(os, "mkfifo"), reason="needs named pipes as files, which Windows does not have"
)

LONG = 30  # seconds after which a read counts as hanging


@pytest.fixture(autouse=True)
def _no_hanging():
    def hangs(*_):
        raise AssertionError("hangs")

    before = signal.signal(signal.SIGALRM, hangs)
    signal.alarm(LONG)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def bound(path):
    """Make a socket with this name, which may be longer than the name of a socket can be."""
    with tempfile.TemporaryDirectory() as short, socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{short}/s")
        shutil.move(f"{short}/s", path)
        yield


@pytest.fixture(params=["pipe", "endless", "null", "socket", "folder", "link to a pipe"])
def odd(request):
    """Return a function that makes something else than a regular file: ``odd(path)``."""
    with contextlib.ExitStack() as stack:

        def make(path):
            path.unlink(missing_ok=True)
            path.parent.mkdir(parents=True, exist_ok=True)
            if request.param == "pipe":
                os.mkfifo(path)
            elif request.param == "link to a pipe":
                os.mkfifo(path.with_name("pipe"))
                path.symlink_to("pipe")
            elif request.param == "endless":
                path.symlink_to("/dev/zero")
            elif request.param == "null":
                path.symlink_to("/dev/null")
            elif request.param == "socket":
                stack.enter_context(bound(path))
            else:
                path.mkdir()
            return path

        yield make


def test_they_are_not_opened(tmp_path, odd):
    path = odd(tmp_path / "x")
    for way in (open_regular, read_regular, sha256_of_file):
        with pytest.raises(OSError, match=r"expected a regular file|Is a directory"):
            way(path)


def test_regular_files_and_links_to_them_are_opened(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    (tmp_path / "b").symlink_to("a")
    for name in "ab":
        with open_regular(tmp_path / name) as file:
            assert file.read() == b"abc"
        assert read_regular(tmp_path / name, 2) == b"ab"


def test_audio(tmp_path, odd):
    odd(tmp_path / "a.wav")
    utterance = Utterance(utterance_id="a", path="a.wav")
    for way in (read, probe, lambda *file: list(stream(*file))):
        with pytest.raises(AudioError, match=r"^a\.wav: (cannot be read \(.+\)|is a folder)$"):
            way(tmp_path, utterance)
    source = AudioInput(tmp_path)
    assert source.probe(utterance) == (0, 1)
    assert source.checksum("a.wav") is None


@pytest.mark.parametrize("name", ["manifest.csv", "metadata.csv", "metadata.jsonl", "db.yaml"])
def test_tables_of_utterances(tmp_path, odd, name):
    soundfile.write(tmp_path / "a.wav", np.zeros(100), 16000)
    path = odd(tmp_path / name)
    for way in (read_corpus, lambda folder: read_corpus(folder / name), lambda _: Manifest.read(path)):
        with pytest.raises(FeatcacheError) as error:
            way(tmp_path)
        assert "\n" not in str(error.value)


LABELS = {
    "train_sent_emo.csv": "train_splits/dia0_utt0.wav",
    "VideoDemographics.csv": "1001_DFA_ANG_XX.wav",
    "Evalution.txt": "MSP-IMPROV-S01A-F01-P-FM01.wav",
    "Labels/labels_consensus.csv": "MSP-PODCAST_0001_0008.wav",
    "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt": "Session1/sentences/wav/x/Ses01F_impro01_F000.wav",
}


@pytest.mark.parametrize("name", LABELS)
def test_label_files_of_corpora(tmp_path, odd, name):
    (tmp_path / LABELS[name]).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / LABELS[name]).write_bytes(b"RIFF")
    odd(tmp_path / name)
    if name == "VideoDemographics.csv":  # This table is optional.
        assert len(read_corpus(tmp_path).manifest) == 1
        return
    with pytest.raises(FeatcacheError) as error:
        read_corpus(tmp_path)
    assert "\n" not in str(error.value)


def test_pipelines_and_predictions(tmp_path, odd):
    path = odd(tmp_path / "x.yaml")
    with pytest.raises(PipelineError, match="cannot be read"):
        read_pipeline(path)
    with pytest.raises(FeatcacheError, match="not readable as a table"):
        read_predictions(path)
