"""Measuring of audio with impossible headers and levels."""

import struct

import pytest
import soundfile

from featcache.checks.measure import measure
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
