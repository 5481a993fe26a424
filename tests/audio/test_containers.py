"""Containers must match their stated length; without a stated length, all is decoded and a missing end is reported.

The expected samples are those of the same audio in a container that states its length.
"""

import struct

import numpy as np
import pytest
import soundfile

from featcache.audio import probe, read, stream
from featcache.audio.decoding import read_header
from featcache.audio.known_files import KnownFiles
from featcache.errors import AudioError
from featcache.extraction.inputs import AudioInput
from featcache.manifest import Utterance

RATE = 16000
# Delay of LAME and of the decoder in samples. Only files with a tag state it.
DELAY = 576 + 529
# Rounding differs between a frame that follows others and a frame that is decoded alone.
MPEG_TOLERANCE = 1e-3
FRAME = {16000: 576, 44100: 1152}


@pytest.fixture
def sound(speech_like):
    """Return one second of voice and three seconds of near silence, (num_samples,), so that bit rates differ."""
    loud = speech_like(RATE)
    return np.concatenate([loud, 1e-3 * np.tile(loud, 3)]).astype(np.float32)


@pytest.fixture
def file(tmp_path):
    """Return a function that writes bytes to a file of the corpus folder and returns its utterance."""

    def write(content, name="a.wav"):
        (tmp_path / name).write_bytes(content)
        return Utterance(utterance_id="u", path=name)

    return write


def encoded(folder, samples, rate=RATE, **kind):
    soundfile.write(folder / "encoded", samples, rate, **kind)
    return (folder / "encoded").read_bytes()


def taken(folder, utterance):
    """Return the samples, after checking that all ways of reading agree."""
    recording = read(folder, utterance)
    assert probe(folder, utterance) == (recording.channels.shape[1], recording.sampling_rate)
    assert probe(folder, utterance, KnownFiles(folder).header) == probe(folder, utterance)
    streamed = np.concatenate(list(stream(folder, utterance, channel="first")))
    np.testing.assert_allclose(streamed, recording.channels[0], rtol=0, atol=1e-5)
    return recording.channels[0]


def refused(folder, utterance):
    """Return the reason why a file is refused, after checking that all ways of reading agree."""
    messages = set()
    for way in (read, probe, lambda *file: list(stream(*file))):
        with pytest.raises(AudioError) as error:
            way(folder, utterance)
        messages.add(str(error.value))
    (message,) = messages
    assert message.startswith(utterance.path)
    assert "\n" not in message
    return message


def without_tag(mp3, rate=RATE):
    """Return MPEG frames without the first one, which states the number of frames, as ffmpeg writes them to a pipe."""
    at = 10 + int.from_bytes(bytes(mp3[6:10])) if mp3[:3] == b"ID3" else 0
    assert b"Xing" in mp3[at : at + 200] or b"Info" in mp3[at : at + 200]
    header = mp3[at : at + 4]
    following = mp3.index(header[:2], at + 4)
    while mp3[following + 2] & 0x0C != header[2] & 0x0C:
        following = mp3.index(header[:2], following + 1)
    return mp3[following:]


MP3 = {"format": "MP3", "subtype": "MPEG_LAYER_III"}
ID3V2 = b"ID3\x04\0\0\0\0\0\x14" + b"TXXX" + bytes(16)
ID3V1 = b"TAG" + bytes(125)


@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
@pytest.mark.parametrize("tags", [(b"", b""), (ID3V2, ID3V1), (b"", ID3V1), (2 * ID3V2, b"")])
@pytest.mark.parametrize("rate", FRAME)
def test_mp3_without_its_number_of_frames_is_decoded_to_its_end(tmp_path, file, sound, mode, tags, rate):
    mp3 = encoded(tmp_path, sound, rate, bitrate_mode=mode, **MP3)
    expected = taken(tmp_path, file(mp3, "whole.mp3"))
    utterance = file(tags[0] + without_tag(mp3, rate) + tags[1])
    found = taken(tmp_path, utterance)
    assert len(found) % FRAME[rate] == 0
    np.testing.assert_allclose(found[DELAY : DELAY + len(expected)], expected, rtol=0, atol=MPEG_TOLERANCE)
    assert not read_header(tmp_path, utterance.path).ends_early


@pytest.mark.parametrize("tag", [b"", ID3V1])
def test_mp3_that_is_cut_inside_of_a_frame_ends_early(tmp_path, file, sound, tag):
    mp3 = without_tag(encoded(tmp_path, sound, bitrate_mode="VARIABLE", **MP3))
    expected = taken(tmp_path, file(mp3, "whole.mp3"))
    utterance = file(mp3[: len(mp3) // 2 + 7] + tag)
    found = taken(tmp_path, utterance)
    assert len(found) > len(expected) // 8
    np.testing.assert_allclose(found[: -FRAME[RATE]], expected[: len(found) - FRAME[RATE]], rtol=0, atol=MPEG_TOLERANCE)
    assert read_header(tmp_path, utterance.path).ends_early


def test_two_mp3_files_in_one_are_not_taken_for_the_first(tmp_path, file, sound):
    mp3 = encoded(tmp_path, sound, **MP3)
    assert "MPEG frames, but the file has" in refused(tmp_path, file(mp3 + mp3))
    streams = without_tag(mp3)
    assert len(taken(tmp_path, file(streams + streams))) == 2 * len(taken(tmp_path, file(streams, "b.mp3")))


def test_mp3_that_is_shorter_than_it_states_is_refused(tmp_path, file, sound):
    mp3 = encoded(tmp_path, sound, **MP3)
    for cut in (mp3[: len(mp3) // 2], mp3[:-300], mp3[: len(mp3) // 2] + ID3V1):
        assert f"cut off, {len(sound)} samples announced, decoding ended at" in refused(tmp_path, file(cut))


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_ogg_without_its_last_page_ends_early(tmp_path, file, sound, subtype):
    # A page may contain several seconds of sound.
    ogg = encoded(tmp_path, np.tile(sound, 4), format="OGG", subtype=subtype)
    utterance = file(ogg)
    expected = taken(tmp_path, utterance)
    assert not read_header(tmp_path, utterance.path).ends_early
    last_page = ogg.rindex(b"OggS")
    for end in (len(ogg) // 2, last_page, len(ogg) - 1):
        utterance = file(ogg[:end])
        found = taken(tmp_path, utterance)
        assert 0 < len(found) < len(expected)
        np.testing.assert_allclose(found, expected[: len(found)], rtol=0, atol=1e-2)
        assert read_header(tmp_path, utterance.path).ends_early


def test_ogg_streams_one_after_the_other_are_refused(tmp_path, file, sound):
    ogg = encoded(tmp_path, sound, format="OGG", subtype="VORBIS")
    assert "contains several Ogg streams" in refused(tmp_path, file(ogg + ogg))


def without_total(flac):
    """Return FLAC whose header does not state the number of samples, as encoders write it to a pipe."""
    bits = int.from_bytes(flac[18:26], "big") >> 36 << 36
    return flac[:18] + bits.to_bytes(8, "big") + flac[26:]


@pytest.mark.parametrize("num_samples", [1, 4095, 4096, 4097, 64000])
def test_flac_that_does_not_know_its_length(tmp_path, file, sound, num_samples):
    flac = encoded(tmp_path, sound[:num_samples], format="FLAC")
    expected = taken(tmp_path, file(flac))
    utterance = file(without_total(flac))
    np.testing.assert_array_equal(taken(tmp_path, utterance), expected)
    assert not read_header(tmp_path, utterance.path).ends_early


def test_flac_that_is_cut(tmp_path, file, sound):
    flac = encoded(tmp_path, sound, format="FLAC")
    expected = taken(tmp_path, file(flac))
    for end in (len(flac) // 2, len(flac) - 10):
        assert f"cut off, {len(sound)} samples announced, decoding ended at" in refused(tmp_path, file(flac[:end]))
        utterance = file(without_total(flac)[:end], "b.flac")
        found = taken(tmp_path, utterance)
        assert 0 < len(found) < len(expected)
        np.testing.assert_array_equal(found, expected[: len(found)])
        assert read_header(tmp_path, utterance.path).ends_early


@pytest.mark.parametrize("kind", ["WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "NIST"])
@pytest.mark.parametrize("cut", [2, 1000, 64000])
def test_what_is_shorter_than_its_header_states_is_refused(tmp_path, file, sound, kind, cut):
    content = encoded(tmp_path, sound, format=kind, subtype="PCM_16")
    assert len(taken(tmp_path, file(content))) == len(sound)
    assert "cut off, the header announces" in refused(tmp_path, file(content[:-cut]))


# Format → position of the number of bytes of samples in the header, and its values in streams of unknown length.
UNKNOWN = {
    "WAV": [(40, b"\0\0\0\0"), (40, b"\xff\xff\xff\xff"), (40, b"\xff\xff\xff\x7f"), (40, b"\0\xf0\xff\xff")],
    "AU": [(8, b"\xff\xff\xff\xff")],
    "AIFF": [(None, b"\0\0\0\0")],
    "CAF": [(None, b"\xff" * 8)],
    "RF64": [(None, b"\0" * 8)],
    "W64": [(None, b"\xff" * 7 + b"\x7f")],
}


def size_at(content, kind):
    return {
        "CAF": lambda: content.index(b"data") + 4,
        "RF64": lambda: content.index(b"ds64") + 16,
        "W64": lambda: content.index(b"data\xf3\xac") + 16,
        "AIFF": lambda: content.index(b"SSND") + 4,
    }[kind]()


@pytest.mark.parametrize("leading_zeros", [0, 20_000])
@pytest.mark.parametrize(("kind", "number"), [(kind, n) for kind, sizes in UNKNOWN.items() for n in range(len(sizes))])
def test_a_stream_that_did_not_know_its_size_is_read_to_its_end(tmp_path, file, sound, kind, number, leading_zeros):
    samples = np.concatenate([np.zeros(leading_zeros), sound])
    content = bytearray(encoded(tmp_path, samples, format=kind, subtype="PCM_16"))
    expected = taken(tmp_path, file(content))
    at, unknown = UNKNOWN[kind][number]
    at = size_at(content, kind) if at is None else at
    content[at : at + len(unknown)] = unknown
    np.testing.assert_array_equal(taken(tmp_path, file(content)), expected)


def wav(sound, stated):
    samples = (sound * 2**15).astype("<i2").tobytes()
    head = struct.pack("<4sI4s4sIHHIIHH", b"RIFF", 36 + stated, b"WAVE", b"fmt ", 16, 1, 1, RATE, 2 * RATE, 2, 16)
    return head + struct.pack("<4sI", b"data", stated), samples


@pytest.mark.parametrize("leading_zeros", [0, 20_000])
def test_wav_that_holds_more_samples_than_it_states_is_refused(tmp_path, file, sound, leading_zeros):
    for stated in (2, 2 * RATE, 2 * len(sound) - 600):
        head, samples = wav(sound, stated)
        message = refused(tmp_path, file(head + bytes(2 * leading_zeros) + samples))
        assert f"the header announces {stated} bytes of samples, but" in message


@pytest.mark.parametrize(
    "behind",
    [
        b"LIST" + struct.pack("<I", 10) + b"INFOISFT\0\0",
        b"id3 " + struct.pack("<I", 10) + b"ID3\x03\0\0\0\0\0\0",
        b"odd " + struct.pack("<I", 3) + b"abc\0" + b"next" + struct.pack("<I", 0),
        b"LIST" + struct.pack("<I", 1000) + b"a chunk that is cut",
        ID3V1,
        ID3V2,
        b"\0",
        b"\x07" * 500,
        bytes(10_000),
    ],
)
def test_what_follows_the_samples_of_a_wav_may_be_chunks_tags_or_zeros(tmp_path, file, sound, behind):
    head, samples = wav(sound, 2 * len(sound))
    expected = taken(tmp_path, file(head + samples))
    np.testing.assert_array_equal(taken(tmp_path, file(head + samples + behind)), expected)


def test_a_wav_without_samples_but_with_chunks_holds_none(tmp_path, file, sound):
    head, _ = wav(sound, 0)
    assert "contains no samples" in refused(tmp_path, file(head))
    assert "contains no samples" in refused(tmp_path, file(head + b"LIST" + struct.pack("<I", 4) + b"INFO"))


def test_only_utterances_that_last_to_the_missing_end_end_early(tmp_path, file, sound):
    file(encoded(tmp_path, np.tile(sound, 4), format="OGG", subtype="VORBIS")[:-10])
    source = AudioInput(tmp_path)
    source.prepare("a.wav")
    for end, early in ((None, True), (0.5, False)):
        assert source.ends_early(Utterance(utterance_id="u", path="a.wav", end=end)) is early


@pytest.mark.parametrize(
    ("kind", "subtype"),
    [
        ("WAV", "GSM610"),
        ("W64", "GSM610"),
        ("AIFF", "GSM610"),
        ("WAV", "G721_32"),
        ("AU", "G723_24"),
        ("WAV", "NMS_ADPCM_16"),
        ("XI", "DPCM_16"),
    ],
)
def test_codecs_without_seeking_are_decoded_from_the_beginning(tmp_path, file, sound, kind, subtype):
    utterance = file(encoded(tmp_path, sound, format=kind, subtype=subtype))
    whole = taken(tmp_path, utterance)
    with soundfile.SoundFile(tmp_path / "a.wav") as reference:
        rate = reference.samplerate
        np.testing.assert_array_equal(whole, reference.read(reference.frames, dtype="float32"))
    part = Utterance(utterance_id="u", path="a.wav", start=0.5, end=1.0)
    np.testing.assert_array_equal(taken(tmp_path, part), whole[rate // 2 : rate])


@pytest.mark.parametrize("tagged", [True, False])
@pytest.mark.parametrize("stated", [True, False])
@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
def test_mp3_in_a_wav_is_as_long_as_the_mp3_alone(tmp_path, file, sound, tagged, stated, mode):
    mp3 = encoded(tmp_path, sound, bitrate_mode=mode, **MP3)
    mp3 = mp3 if tagged else without_tag(mp3)
    expected = taken(tmp_path, file(mp3, "alone.mp3"))
    form = struct.pack("<4sIHHIIHHHHIHHH", b"fmt ", 30, 0x55, 1, RATE, 8000, 1, 0, 12, 1, 2, 576, 1, 0)
    data = b"data" + struct.pack("<I", len(mp3) if stated else 0xFFFFFFFF) + mp3
    behind = b"LIST" + struct.pack("<I", 4) + b"INFO" if stated else b""
    content = b"WAVE" + form + data + bytes(len(mp3) % 2) + behind
    utterance = file(b"RIFF" + struct.pack("<I", len(content)) + content)
    np.testing.assert_array_equal(taken(tmp_path, utterance), expected)
    assert not read_header(tmp_path, utterance.path).ends_early
