"""Every file is decoded exactly as by libsndfile, or refused with an AudioError of one line."""

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from featcache.audio import probe, read, stream
from featcache.errors import AudioError
from featcache.manifest import Utterance

FORMATS = [
    ("WAV", "PCM_U8"),
    ("WAV", "PCM_16"),
    ("WAV", "PCM_24"),
    ("WAV", "PCM_32"),
    ("WAV", "FLOAT"),
    ("WAV", "DOUBLE"),
    ("WAVEX", "PCM_16"),
    ("FLAC", "PCM_16"),
    ("FLAC", "PCM_24"),
    ("OGG", "VORBIS"),
    ("MP3", "MPEG_LAYER_III"),
    ("AIFF", "PCM_16"),
    ("AU", "PCM_16"),
    ("CAF", "PCM_16"),
    ("W64", "PCM_16"),
    ("RF64", "PCM_16"),
    ("NIST", "PCM_16"),
    ("OGG", "OPUS"),
]
OPUS_RATES = [8000, 12000, 16000, 24000, 48000]
RATES = [8000, 11025, 16000, 22050, 44100, 48000]
HIGHER_RATES = [96000, 192000]  # MP3 does not support these.
MOST_CHANNELS = {"MP3": 2, "FLAC": 8}
CONTENTS = ["noise", "silence", "clipping", "offset", "one sample"]


def samples(content, num_samples, channels):
    noise = np.random.default_rng(0).standard_normal((num_samples, channels))
    return {
        "noise": 0.1 * noise,
        "silence": 0 * noise,
        "clipping": np.sign(noise),
        "offset": 0.5 + 0.01 * noise,
        "one sample": 0.1 * noise[:1],
    }[content].astype(np.float32)


@st.composite
def files(draw):
    """Draw the format, subtype, sampling rate and samples of a file that libsndfile can write."""
    kind, subtype = draw(st.sampled_from(FORMATS))
    rates = OPUS_RATES if subtype == "OPUS" else RATES if kind in ("MP3", "OGG") else RATES + HIGHER_RATES
    rate = draw(st.sampled_from(rates))
    channels = draw(st.integers(1, MOST_CHANNELS.get(kind, 8)))
    return kind, subtype, rate, samples(draw(st.sampled_from(CONTENTS)), draw(st.integers(2, 3000)), channels)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("audio")


def write(folder, file):
    kind, subtype, rate, values = file
    soundfile.write(folder / "a.wav", values, rate, format=kind, subtype=subtype)
    return Utterance(utterance_id="a", path="a.wav")


def decode(folder, utterance):
    """Return the recording, or None if it was refused; every error except AudioError fails the test."""
    try:
        recording = read(folder, utterance)
    except AudioError as error:
        message = str(error)
    else:
        message = ""
    if message:
        assert "\n" not in message
        assert utterance.path in message
        return None
    assert np.isfinite(recording.channels).all()
    assert recording.channels.shape[1] > 0
    # Reading gives the number of samples that the header and the stream give.
    assert probe(folder, utterance) == (recording.channels.shape[1], recording.sampling_rate)
    assert sum(map(len, stream(folder, utterance))) == recording.channels.shape[1]
    return recording


@given(file=files())
def test_every_format_is_read_as_libsndfile_reads_it(folder, file):
    utterance = write(folder, file)
    expected, rate = soundfile.read(folder / "a.wav", dtype="float32", always_2d=True)
    recording = decode(folder, utterance)
    if len(expected) == 0:  # An encoder may drop a single sample.
        assert recording is None
        return
    np.testing.assert_array_equal(recording.channels, expected.T)
    assert recording.sampling_rate == rate == file[2]
    assert probe(folder, utterance) == (len(expected), rate)
    signal = recording.signal(sampling_rate=16000)
    assert np.isfinite(signal.samples).all()
    assert len(signal.samples) == -(-len(expected) * 16000 // rate)


@given(file=files(), data=st.data())
def test_damaged_files_are_decoded_or_refused(folder, file, data):
    utterance = write(folder, file)
    content = bytearray((folder / "a.wav").read_bytes())
    for _ in range(data.draw(st.integers(0, 5))):
        content[data.draw(st.integers(0, min(len(content), 200) - 1))] = data.draw(st.integers(0, 255))
    (folder / "a.wav").write_bytes(content[: data.draw(st.integers(0, len(content)))])
    decode(folder, utterance)


@given(
    content=st.binary(max_size=200),
    magic=st.sampled_from(
        [b"", b"RIFF", b"fLaC", b"OggS", b"ID3", b"FORM", b"caff", b"riff", b".snd", b"NIST", b"\xff\xfb"]
    ),
)
def test_anything_else_is_refused_or_decoded(folder, content, magic):
    (folder / "a.wav").write_bytes(magic + content)
    decode(folder, Utterance(utterance_id="a", path="a.wav"))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers(folder, value):
    soundfile.write(folder / "a.wav", np.array([0.0, value, 0.1]), 16000, subtype="FLOAT")
    with pytest.raises(AudioError, match="1 samples that are NaN or infinite"):
        read(folder, Utterance(utterance_id="a", path="a.wav"))


def test_links_folders_and_odd_names(tmp_path):
    names = ["ü 'x' \"y\".wav", "a\nb.wav", "-rf.wav", "émo,tion.wav"]
    for name in names:
        soundfile.write(tmp_path / name, np.full(100, 0.1), 16000, format="WAV")
    (tmp_path / "link.wav").symlink_to(tmp_path / names[0])
    (tmp_path / "dangling.wav").symlink_to(tmp_path / "gone.wav")
    (tmp_path / "loop.wav").symlink_to(tmp_path / "loop.wav")
    (tmp_path / "folder.wav").mkdir()
    for name in [*names, "link.wav"]:
        assert read(tmp_path, Utterance(utterance_id=name, path=name)).channels.shape == (1, 100)
    for name in ["dangling.wav", "loop.wav", "folder.wav"]:
        utterance = Utterance(utterance_id=name, path=name)
        for function in (read, probe):
            with pytest.raises(AudioError, match=name):
                function(tmp_path, utterance)
