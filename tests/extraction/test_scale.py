"""Many utterances in few files: each file is read once, and a row takes little memory."""

import tracemalloc

import numpy as np
import pytest
import soundfile

from featcache.audio import known_files
from featcache.extraction import extract
from featcache.manifest import Manifest

# Largest size of an utterance in memory, in bytes, with id, times and labels; dictionaries took 1500.
MOST_BYTES = 900


@pytest.fixture
def corpus(tmp_path):
    """Return a corpus of 3000 utterances in two files and a missing file."""
    folder = tmp_path / "long"
    folder.mkdir()
    for name in ("a", "b"):
        soundfile.write(folder / f"{name}.wav", np.zeros(16000 * 100, dtype=np.int16), 16000)
    rows = (
        f"u{i},{'abc'[i % 3]}.wav,{i % 90},{i % 90 + 1},s{i % 10},{'joy' if i % 2 else 'anger'}" for i in range(3000)
    )
    (folder / "manifest.csv").write_text("utterance_id,path,start,end,speaker_id,emotion\n" + "\n".join(rows) + "\n")
    return folder


def test_each_file_is_looked_at_once(corpus, monkeypatch):
    looked_at = []
    original = known_files.read_header
    monkeypatch.setattr(
        known_files, "read_header", lambda folder, path: looked_at.append(path) or original(folder, path)
    )
    report = extract(model="egemaps", data=corpus, dry_run=True)
    assert sorted(looked_at) == ["a.wav", "b.wav", "c.wav"]
    assert report.num_extracted == 3000
    assert report.audio_seconds == 2000
    assert {failure.reason for failure in report.failures} == {"c.wav: no such file"}
    assert len(report.failures) == 1000


def test_a_row_costs_little_memory(corpus):
    Manifest.read(corpus / "manifest.csv")
    tracemalloc.start()
    manifest = Manifest.read(corpus / "manifest.csv")
    taken, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken < MOST_BYTES * len(manifest)
    assert peak < 1.5 * MOST_BYTES * len(manifest)
    # Values that utterances share are stored once.
    assert manifest[0].labels["emotion"] is manifest[2].labels["emotion"]
    assert manifest[0].path is manifest[3].path


def test_only_files_that_changed_are_read_at_the_start_of_a_resume(tmp_path, monkeypatch):
    monkeypatch.setattr(known_files, "SETTLED", -1)  # the files are new
    folder = tmp_path / "corpora" / "short"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in "abcd":
        soundfile.write(folder / f"{name}.wav", rng.normal(0, 0.1, 4000), 16000)
    (folder / "manifest.csv").write_text("path\n" + "".join(f"{name}.wav\n" for name in "abcd"))
    reads = []
    for what in ("read_header", "sha256_of_audio"):
        original = getattr(known_files, what)

        def counted(*given, what=what, original=original):
            reads.append((what, str(given[-1])[-5:]))
            return original(*given)

        monkeypatch.setattr(known_files, what, counted)

    def run(**options):
        reads.clear()
        report = extract(model="spectrogram", home=tmp_path, workers=1, **options)
        return report.num_extracted, sorted(reads)

    assert run() == (4, [(what, f"{name}.wav") for what in ("read_header", "sha256_of_audio") for name in "abcd"])
    assert run(dry_run=True) == (0, [])
    assert run() == (0, [])
    # Another store is compared with this one, and computed from the audio as it is now.
    number, others = run(name="again", dry_run=True)
    assert (number, others) == (4, [])
    soundfile.write(folder / "b.wav", rng.normal(0, 0.1, 5000), 16000)
    assert run(dry_run=True) == (1, [("read_header", "b.wav"), ("sha256_of_audio", "b.wav")])
    assert run() == (1, [("read_header", "b.wav"), *[("sha256_of_audio", "b.wav")] * 2])
    assert run() == (0, [])
