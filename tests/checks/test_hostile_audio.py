"""Measuring of audio with impossible headers and levels."""

import struct

import pytest
import soundfile

from featcache.audio.decoding import read_header
from featcache.checks.measure import measure
from featcache.errors import AudioError
from featcache.utterances import Utterance
from tests.checks.planted import RATE


def facts_of(folder, name):
    return measure(folder, [Utterance(utterance_id=name, path=name)], 1).facts[0]


@pytest.mark.filterwarnings("error")
def test_a_file_shorter_than_a_frame_of_its_sampling_rate_is_measured(tmp_path, rng):
    soundfile.write(tmp_path / "a.wav", rng.normal(0, 0.1, 500), RATE)
    content = bytearray((tmp_path / "a.wav").read_bytes())
    content[24:28] = struct.pack("<I", 2**31 - 1)  # the sampling rate in the header of a WAV file
    (tmp_path / "a.wav").write_bytes(content)
    facts = facts_of(tmp_path, "a.wav")
    assert (facts["measured"], facts["sampling_rate"], facts["silent"]) == (True, 2**31 - 1, 0)


@pytest.mark.filterwarnings("error")
def test_the_level_of_enormous_samples_is_measured(tmp_path, rng):
    soundfile.write(tmp_path / "a.wav", 1e38 * rng.choice([1.0, 0.5], RATE), RATE, subtype="FLOAT")
    facts = facts_of(tmp_path, "a.wav")
    assert facts["silent"] == 0
    assert facts["level"] > 0


def test_a_sampling_rate_without_speech_is_refused_everywhere(tmp_path, rng):
    """Features with frames of 10 ms would have no samples in them."""
    for rate, is_read in ((1, False), (999, False), (1000, True)):
        soundfile.write(tmp_path / "a.wav", rng.normal(0, 0.1, 500), rate)
        soundfile.write(tmp_path / "a.flac", rng.normal(0, 0.1, 500), rate)
        for name in ("a.wav", "a.flac"):
            assert facts_of(tmp_path, name)["measured"] == is_read
            if is_read:
                assert read_header(tmp_path, name).sampling_rate == rate
                continue
            with pytest.raises(AudioError, match=rf"sampling rate is {rate} Hz, expected 1000 or more; get it again"):
                read_header(tmp_path, name)
