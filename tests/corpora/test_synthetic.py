"""Synthetic speech: reproducible bytes for each seed, and the intended differences between voices."""

import wave

import numpy as np
import pytest

from featcache.corpora import read_corpus
from featcache.corpora.synthetic import EMOTIONS, make_corpus
from featcache.errors import CorpusError
from featcache.files.regular import sha256_of_file


def signals(folder, manifest):
    found = {}
    for utterance in manifest:
        with wave.open(str(folder / utterance.path)) as file:
            assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16_000, 1, 2)
            samples = np.frombuffer(file.readframes(file.getnframes()), np.int16)
        found[utterance.utterance_id] = samples / 32768
    return found


def pitch_and_loudness(signal):
    """Return F0 (highest autocorrelation peak from 60 to 500 Hz) and root mean square of 64 ms frames."""
    frames = np.lib.stride_tricks.sliding_window_view(signal, 1024)[::256]
    spectrum = np.abs(np.fft.rfft(frames - frames.mean(axis=1, keepdims=True), 2048)) ** 2
    lags = np.fft.irfft(spectrum)[:, 32:267]
    return 16_000 / (32 + lags.argmax(axis=1)), np.sqrt(np.square(frames).mean(axis=1))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("synthetic")
    return folder, make_corpus(folder, num_speakers=4, repetitions=3)


def test_it_is_a_corpus_as_users_have_it(corpus):
    folder, manifest = corpus
    found = read_corpus(folder)
    assert list(found.manifest) == list(manifest)
    assert len(manifest) == 4 * 4 * 3
    assert manifest.speaker_ids == ("s01", "s02", "s03", "s04")
    assert set(manifest.labels("emotion").values()) == set(EMOTIONS)
    assert {u.speaker_id: u.labels["gender"] for u in manifest}["s02"] == "female"
    assert all(len(utterance.transcript.split()) == 6 for utterance in manifest)


def test_the_same_seed_gives_the_same_bytes(tmp_path, corpus):
    folder, manifest = corpus
    again = make_corpus(tmp_path / "again", num_speakers=1, emotions=["sadness"], repetitions=2)
    other = make_corpus(tmp_path / "other", num_speakers=1, emotions=["sadness"], repetitions=2, seed=1)
    assert again.utterance_ids == other.utterance_ids == ("s01-sadness-1", "s01-sadness-2")
    for utterance in again:
        assert manifest[utterance.utterance_id] == utterance
        expected = sha256_of_file(folder / utterance.path)
        assert sha256_of_file(tmp_path / "again" / utterance.path) == expected
        assert sha256_of_file(tmp_path / "other" / utterance.path) != expected


def test_lengths_and_levels_are_those_of_speech(corpus):
    for signal in signals(*corpus).values():
        assert 1.0 < signal.size / 16_000 < 1.8
        assert 0.005 < np.sqrt(np.mean(signal**2)) < 0.3
        assert np.abs(signal).max() < 1  # not clipped
        assert abs(signal.mean()) < 0.001


def test_pitch_and_loudness_follow_speaker_and_emotion(corpus):
    _, manifest = corpus
    rows = []
    for utterance_id, signal in signals(*corpus).items():
        f0, loud = pitch_and_loudness(signal)
        level = 20 * np.log10(np.sqrt(np.mean(signal**2)))
        labels = manifest[utterance_id].labels
        rows.append((labels["gender"], labels["emotion"], np.median(f0[loud > loud.mean()]), level))

    def mean(column, **wanted):
        chosen = [r[column] for r in rows if wanted in ({"gender": r[0]}, {"emotion": r[1]})]
        return np.mean(chosen)

    assert mean(2, gender="female") > 1.3 * mean(2, gender="male")
    assert mean(2, emotion="happiness") > 1.1 * mean(2, emotion="neutral") > 1.1 * mean(2, emotion="sadness")
    assert mean(3, emotion="anger") > mean(3, emotion="neutral") + 2 > mean(3, emotion="sadness") + 4


def test_an_unknown_emotion(tmp_path):
    with pytest.raises(CorpusError, match="no synthetic emotion 'angry'; did you mean 'anger'"):
        make_corpus(tmp_path, emotions=["angry"])
