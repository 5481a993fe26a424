"""Inputs of extractors, audio or text, and descriptions of their lengths."""

import math
from dataclasses import asdict
from pathlib import Path

import pytest

from featcache.extraction.inputs import SECONDS, TOKENS, AudioInput, TextInput, input_of, signal_for
from featcache.extractors import create_extractor
from featcache.features import Tokens
from featcache.manifest import Utterance
from featcache.transcripts.text import Transcript


@pytest.fixture(scope="module")
def text_extractor():
    return create_extractor("tinybert", text=True, weights="random")


def plain(value):
    if isinstance(value, dict):
        return all(isinstance(key, str) and plain(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return all(map(plain, value))
    return value is None or isinstance(value, str | int | float)


def test_lengths_and_speeds_in_words():
    assert SECONDS.describe(61.4) == "61 s of audio"
    assert SECONDS.describe_speed(60.0, 30.0) == "2.0 x real time"
    assert TOKENS.describe(1200) == "1200 tokens"
    assert TOKENS.describe_speed(1200, 10.0) == "120 tokens/s"


def test_an_extractor_reads_audio_or_text(text_extractor, tmp_path):
    audio, text = input_of(create_extractor("spectrogram"), tmp_path), input_of(text_extractor, tmp_path)
    assert (type(audio), audio.unit, audio.root) == (AudioInput, SECONDS, tmp_path)
    assert (type(text), text.unit, text.root) == (TextInput, TOKENS, tmp_path)
    assert [audio.batch_length(device) for device in ("cpu", "cpu,cpu", "cuda:0,cuda:1")] == [0.0, 0.0, 120.0]
    assert [text.batch_length(device) for device in ("cpu", "mps")] == [1024.0, 16384.0]


def test_text_is_measured_in_tokens_and_has_no_seconds(text_extractor):
    utterance = Utterance(utterance_id="a", path="a.wav", transcript="no. go away!")
    source = input_of(text_extractor, Path())
    length, rate = source.probe(utterance)
    found = source.read(utterance, None)
    tokens = signal_for(text_extractor, found)
    assert isinstance(tokens, Tokens)
    assert (length, rate) == (len(tokens), 1)
    assert math.isnan(found.duration)
    assert source.checksum(source.key(utterance)) == source.sha256(utterance) == found.sha256


def test_an_extractor_of_audio_reads_no_text():
    with pytest.raises(ValueError, match="reads audio"):
        signal_for(create_extractor("spectrogram"), Transcript(text="yes"))


@pytest.mark.parametrize("kind", ["text", "spectrogram", "egemaps"])
def test_descriptions_are_plain_data(text_extractor, kind):
    extractor = text_extractor if kind == "text" else create_extractor(kind)
    assert plain(asdict(extractor.description))
    assert (extractor.tokenise is not None) == (kind == "text")
