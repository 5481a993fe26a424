"""Decoding, mixing down and resampling equal soundfile, soxr and librosa; files that are not audio are refused."""

import hashlib

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given
from hypothesis import strategies as st

from featcache import audio
from featcache.audio import Checksums, Recording, Signal, probe, read, resampled_length, stream
from featcache.errors import AudioError
from featcache.manifest import Utterance

# Quantisation step: rounding changes a sample by at most half a step, and truncating decoders by a whole step.
STEP = {"PCM_U8": 2**-7, "PCM_16": 2**-15, "PCM_24": 2**-23, "PCM_32": 2**-24, "FLOAT": 2**-24, "DOUBLE": 2**-24}
# Perceptual coding keeps the sound of a voice but not its samples. The coding noise is much weaker (here 4 %).
LOSSY_NOISE_TO_SIGNAL = 0.1
# MPEG frames overlap: a frame decoded after a seek differs slightly from the frame decoded in sequence.
SEEK_TOLERANCE = 1e-3

RATE = 16000
SECONDS = 2


@pytest.fixture
def stereo(speech_like):
    """Return two different voices, (num_samples, 2), in the order of soundfile."""
    left, right = (speech_like(SECONDS * RATE, seed=seed, pitch=pitch) for seed, pitch in [(0, 110), (1, 210)])
    return np.stack([left, right], axis=1)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "corpus"


@pytest.fixture
def save(folder):
    """Return a function that writes samples into the corpus folder and returns the utterance of the whole file."""
    folder.mkdir()

    def write(name, samples, rate=RATE, **kind):
        soundfile.write(folder / name, samples, rate, **kind)
        return whole(name)

    return write


def whole(name, **stretch):
    return Utterance(utterance_id="u", path=name, **stretch)


@pytest.mark.parametrize("subtype", STEP)
def test_wav_of_every_width(save, folder, stereo, subtype):
    utterance = save("a.wav", stereo, subtype=subtype)
    recording = read(folder, utterance)
    assert recording.channels.dtype == np.float32
    assert recording.channels.flags.c_contiguous
    assert recording.sampling_rate == RATE
    assert recording.duration == SECONDS
    assert recording.sha256 == hashlib.sha256((folder / "a.wav").read_bytes()).hexdigest()
    np.testing.assert_allclose(recording.channels, stereo.T, rtol=0, atol=STEP[subtype])


def test_flac_decodes_to_the_samples_of_the_wav(save, folder, stereo):
    samples = np.round(stereo * 2**15).astype(np.int16)
    wav, flac = (read(folder, save(name, samples)) for name in ("a.wav", "a.flac"))
    np.testing.assert_array_equal(flac.channels, wav.channels)
    np.testing.assert_array_equal(flac.channels, samples.T / 2**15)


@pytest.mark.parametrize("name", ["a.ogg", "a.mp3"])
def test_lossy_formats(save, folder, stereo, name):
    recording = read(folder, save(name, stereo))
    assert recording.channels.shape == stereo.T.shape
    noise = np.linalg.norm(recording.channels - stereo.T, axis=1)
    assert (noise < LOSSY_NOISE_TO_SIGNAL * np.linalg.norm(stereo.T, axis=1)).all()


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3"])
@pytest.mark.parametrize("stretch", [(None, None), (0.5, 1.25), (None, 0.75), (1.5, None), (1.5, 2.0)])
def test_start_and_end_cut_the_whole_file(save, folder, stereo, name, stretch):
    start, end = stretch
    complete = read(folder, save(name, stereo)).channels
    first, last = round((start or 0) * RATE), round((end or SECONDS) * RATE)
    utterance = whole(name, start=start, end=end)
    cut = read(folder, utterance)
    tolerance = SEEK_TOLERANCE if name == "a.mp3" else 0
    np.testing.assert_allclose(cut.channels, complete[:, first:last], rtol=0, atol=tolerance)
    assert cut.duration == (last - first) / RATE
    assert probe(folder, utterance) == (last - first, RATE)


def test_an_end_just_past_the_file_is_its_end(save, folder, stereo):
    save("a.wav", stereo)
    utterance = whole("a.wav", start=1.5, end=SECONDS + 0.09)
    assert read(folder, utterance).duration == 0.5
    assert probe(folder, utterance) == (RATE // 2, RATE)


@pytest.mark.parametrize("rate", [8000, 44100, 48000])
@pytest.mark.parametrize("num_channels", [1, 2, 3])
def test_probe_agrees_with_read(save, folder, rng, rate, num_channels):
    utterance = save("a.wav", rng.uniform(-0.5, 0.5, (1234, num_channels)), rate)
    recording = read(folder, utterance)
    assert recording.channels.shape == (num_channels, 1234)
    assert probe(folder, utterance) == (1234, recording.sampling_rate) == (1234, rate)


def test_a_stream_whose_header_does_not_know_its_length(save, folder, stereo):
    utterance = save("a.wav", stereo, subtype="PCM_16")
    content = bytearray((folder / "a.wav").read_bytes())
    content[4:8] = content[40:44] = b"\xff\xff\xff\xff"  # ffmpeg writes this to a pipe.
    expected = read(folder, utterance).channels
    (folder / "a.wav").write_bytes(content)
    np.testing.assert_array_equal(read(folder, utterance).channels, expected)
    assert probe(folder, utterance) == (SECONDS * RATE, RATE)


def test_channels_are_averaged_or_the_first_is_taken(save, folder, stereo):
    recording = read(folder, save("a.wav", stereo, subtype="FLOAT"))
    mean, first = recording.signal(), recording.signal(channel="first")
    assert mean.samples.dtype == first.samples.dtype == np.float32
    np.testing.assert_array_equal(mean.samples, (stereo[:, 0] + stereo[:, 1]) / 2)
    np.testing.assert_array_equal(first.samples, stereo[:, 0])
    assert mean.samples.shape == (SECONDS * RATE,)  # The channels are not concatenated.


@pytest.mark.parametrize("channel", ["mean", "first"])
def test_a_single_channel_is_itself(rng, channel):
    samples = rng.uniform(-1, 1, (1, 1000)).astype(np.float32)
    recording = Recording(channels=samples, sampling_rate=RATE, sha256="")
    np.testing.assert_array_equal(recording.signal(channel=channel).samples, samples[0])


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000])
def test_resampling_is_that_of_soxr(speech_like, rate):
    samples = speech_like(rate, rate)
    signal = Recording(channels=samples[None], sampling_rate=rate, sha256="").signal(sampling_rate=RATE)
    expected = soxr.resample(samples, rate, RATE, quality="HQ")
    assert signal.sampling_rate == RATE
    assert signal.samples.dtype == np.float32
    assert signal.samples.shape == (RATE,)
    np.testing.assert_array_equal(signal.samples[: len(expected)], expected[:RATE])


@pytest.mark.parametrize("sampling_rate", [None, RATE])
def test_the_same_rate_leaves_the_samples_alone(speech_like, sampling_rate):
    samples = speech_like(1000)
    signal = Recording(channels=samples[None], sampling_rate=RATE, sha256="").signal(sampling_rate=sampling_rate)
    assert signal.sampling_rate == RATE
    np.testing.assert_array_equal(signal.samples, samples)


@given(
    num_samples=st.integers(1, 5000),
    rate=st.sampled_from([8000, 11025, 16000, 22050, 44100, 48000]),
    new_rate=st.sampled_from([None, 8000, 16000, 44100]),
)
def test_resampled_length_is_exact(num_samples, rate, new_rate):
    samples = np.ones((1, num_samples), dtype=np.float32)
    signal = Recording(channels=samples, sampling_rate=rate, sha256="").signal(sampling_rate=new_rate)
    exact = num_samples if new_rate is None else -(-num_samples * new_rate // rate)
    assert len(signal.samples) == resampled_length(num_samples, rate, new_rate) == exact


@pytest.mark.slow  # Importing librosa is slow.
@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 48000])
def test_signals_are_those_of_librosa(save, folder, stereo, rate):
    import librosa

    utterance = save("a.wav", stereo[:12345], rate, subtype="PCM_16")
    signal = read(folder, utterance).signal(sampling_rate=RATE)
    expected, _ = librosa.load(folder / "a.wav", sr=RATE)
    np.testing.assert_array_equal(signal.samples, expected)


def test_mixing_and_resampling_leave_the_recording_untouched(speech_like):
    channels = np.stack([speech_like(1000), speech_like(1000, seed=1)])
    before = channels.copy()
    recording = Recording(channels=channels, sampling_rate=48000, sha256="")
    for channel in ("mean", "first"):
        assert isinstance(recording.signal(channel=channel, sampling_rate=RATE), Signal)
    np.testing.assert_array_equal(channels, before)


def refused_by_read(folder, utterance, message):
    with pytest.raises(AudioError, match=f"^{message}$") as caught:
        read(folder, utterance)
    assert "\n" not in str(caught.value)


def refused_by_both(folder, utterance, message):
    refused_by_read(folder, utterance, message)
    with pytest.raises(AudioError, match=f"^{message}$"):
        probe(folder, utterance)


def test_missing_file(tmp_path):
    refused_by_read(tmp_path, whole("a.wav"), r"a\.wav: cannot be read \(No such file or directory\)")
    with pytest.raises(AudioError, match=r"^a\.wav: no such file$"):
        probe(tmp_path, whole("a.wav"))


def test_folder_in_place_of_a_file(tmp_path):
    (tmp_path / "a.wav").mkdir()
    refused_by_read(
        tmp_path, whole("a.wav"), r"a\.wav: cannot be read \(.+\)"
    )  # The reason comes from the operating system.
    with pytest.raises(AudioError, match=r"^a\.wav: is a folder$"):
        probe(tmp_path, whole("a.wav"))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "not an audio file but an empty file; download it again"),
        (b"This is no audio.\n" * 20, r"not an audio file but text \('This is no audio.' …\); download it again"),
        (bytes(range(1, 200)), r"not readable as audio \(Format not recognised\)"),
    ],
)
@pytest.mark.parametrize("name", ["a.wav", "take 1: happy.wav"])
def test_content_that_is_no_audio(tmp_path, content, told, name):
    (tmp_path / name).write_bytes(content)
    refused_by_both(tmp_path, whole(name), f"{name}: {told}")


def test_file_without_samples(save, folder):
    refused_by_both(folder, save("a.wav", np.zeros((0, 1))), r"a\.wav: contains no samples")


@pytest.mark.parametrize("kept", [0.5, 0.9999])
def test_truncated_wav(save, folder, stereo, kept):
    utterance = save("a.wav", stereo, subtype="PCM_16")
    content = (folder / "a.wav").read_bytes()
    (folder / "a.wav").write_bytes(content[: int(len(content) * kept)])
    announced, there = stereo.size * 2, int(len(content) * kept) - 44
    refused_by_both(
        folder, utterance, rf"a\.wav: cut off, the header announces {announced} bytes of samples, the file has {there}"
    )


def test_truncated_flac(save, folder, stereo):
    utterance = save("a.flac", stereo)
    content = (folder / "a.flac").read_bytes()
    (folder / "a.flac").write_bytes(content[: len(content) // 2])
    refused_by_both(folder, utterance, rf"a\.flac: cut off, {SECONDS * RATE} samples announced, decoding ended at \d+")


def test_truncated_mp3(save, folder, stereo):
    utterance = save("a.mp3", stereo)
    content = (folder / "a.mp3").read_bytes()
    (folder / "a.mp3").write_bytes(content[: len(content) // 2])
    refused_by_both(folder, utterance, rf"a\.mp3: cut off, {SECONDS * RATE} samples announced, decoding ended at \d+")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_finite(save, folder, stereo, value):
    stereo[[5, 100], 1] = value
    utterance = save("a.wav", stereo, subtype="FLOAT")
    refused_by_read(folder, utterance, r"a\.wav: contains 2 samples that are NaN or infinite")
    assert (
        read(folder, whole("a.wav", start=1.0)).duration == SECONDS - 1.0
    )  # Samples outside the utterance do not matter.


@pytest.mark.parametrize(
    ("stretch", "message"),
    [
        ((3.2, None), r"no samples between 3\.20 s and 2\.00 s \(length 2\.00 s\); fix start/end in the manifest"),
        ((2.0, None), r"no samples between 2\.00 s and 2\.00 s \(length 2\.00 s\); fix start/end in the manifest"),
        ((1.0, 1.00001), r"no samples between 1\.00 s and 1\.00 s \(length 2\.00 s\); fix start/end in the manifest"),
        ((2.05, 2.08), r"no samples between 2\.05 s and 2\.00 s \(length 2\.00 s\); fix start/end in the manifest"),
        ((None, 2.2), r"the utterance ends at 2\.2 s, the file at 2\.00 s"),
        ((3.0, 4.0), r"the utterance ends at 4\.0 s, the file at 2\.00 s"),
    ],
)
def test_stretch_outside_the_file(save, folder, stereo, stretch, message):
    start, end = stretch
    save("a.wav", stereo)
    refused_by_both(folder, whole("a.wav", start=start, end=end), rf"a\.wav: {message}")


@pytest.mark.parametrize(("max_seconds", "kept"), [(0.25, 4000), (0.5, 8000), (1.0, 8000), (None, 8000)])
def test_only_the_beginning_is_used_when_asked_for(rng, max_seconds, kept):
    channels = rng.standard_normal((2, 8000)).astype(np.float32)
    recording = Recording(channels=channels, sampling_rate=16000, sha256="")
    signal = recording.signal(max_seconds=max_seconds)
    np.testing.assert_array_equal(signal.samples, channels.mean(axis=0, dtype=np.float32)[:kept])


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mp3"])
@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 48000])
@pytest.mark.parametrize("block", [1000, 2**16])
def test_a_stream_gives_the_same_samples_as_reading_at_once(save, folder, stereo, monkeypatch, name, rate, block):
    monkeypatch.setattr(audio, "BLOCK", block)
    save(name, stereo[:12_345], rate)
    for stretch in ({}, {"start": 0.05}, {"start": 0.02, "end": 0.2}):
        for options in ({}, {"sampling_rate": RATE}, {"channel": "first", "sampling_rate": 11025, "max_seconds": 0.1}):
            expected = read(folder, whole(name, **stretch)).signal(**options).samples
            blocks = list(stream(folder, whole(name, **stretch), **options))
            assert all(piece.dtype == np.float32 for piece in blocks)
            # Streaming with soxr equals a single call to the last bit, but the last bits of the MP3 decoder vary.
            tolerance = 1e-6 if name == "a.mp3" else 0
            np.testing.assert_allclose(np.concatenate(blocks), expected, rtol=0, atol=tolerance)


@given(
    num_samples=st.integers(1, 5000),
    block=st.integers(1, 700),
    rate=st.sampled_from([8000, 11025, 16000, 22050, 44100]),
    new_rate=st.sampled_from([None, 8000, 16000, 44100]),
)
def test_any_blocks_make_the_same_stream(tmp_path_factory, num_samples, block, rate, new_rate):
    folder = tmp_path_factory.mktemp("blocks")
    samples = np.random.default_rng(num_samples).uniform(-0.5, 0.5, (num_samples, 3))
    soundfile.write(folder / "a.wav", samples, rate, subtype="FLOAT")
    expected = read(folder, whole("a.wav")).signal(sampling_rate=new_rate).samples
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(audio, "BLOCK", block)
        found = np.concatenate(list(stream(folder, whole("a.wav"), sampling_rate=new_rate)))
    np.testing.assert_array_equal(found, expected)


def drained(folder, utterance):
    return list(stream(folder, utterance))


def test_a_stream_refuses_what_reading_refuses(save, folder, stereo, monkeypatch):
    monkeypatch.setattr(audio, "BLOCK", 1000)
    with pytest.raises(AudioError, match=r"^b\.wav: cannot be read \(No such file or directory\)$"):
        drained(folder, save("a.wav", stereo) and whole("b.wav"))
    with pytest.raises(AudioError, match=r"the file at 2\.00 s"):
        drained(folder, whole("a.wav", end=3.0))
    (folder / "text.wav").write_bytes(b"This is no audio.")
    with pytest.raises(AudioError, match="not an audio file but text"):
        drained(folder, whole("text.wav"))
    save_again = folder / "a.mp3"
    soundfile.write(save_again, stereo, RATE)
    save_again.write_bytes(save_again.read_bytes()[:-5000])
    with pytest.raises(AudioError, match=rf"^a\.mp3: cut off, {SECONDS * RATE} samples announced, decoding ended at"):
        drained(folder, whole("a.mp3"))
    stereo[1500, 1] = np.nan
    soundfile.write(folder / "a.wav", stereo, RATE, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"^a\.wav: contains samples that are NaN or infinite$"):
        drained(folder, whole("a.wav"))
    assert (
        sum(map(len, drained(folder, whole("a.wav", start=1.0)))) == RATE
    )  # Samples outside the utterance do not matter.


def test_no_more_of_a_file_is_decoded_than_the_utterance(save, folder, stereo, monkeypatch):
    utterance = save("a.wav", stereo)
    decoded = []
    original = soundfile.SoundFile.read

    def reading(file, frames=-1, **options):
        decoded.append((file.tell(), frames))
        return original(file, frames, **options)

    monkeypatch.setattr(soundfile.SoundFile, "read", reading)
    read(folder, whole("a.wav", start=0.5, end=0.75))
    read(folder, utterance, max_seconds=0.25)
    assert decoded == [(RATE // 2, RATE // 4), (0, RATE // 4)]


def test_a_file_is_hashed_once_however_many_utterances_it_holds(save, folder, stereo, monkeypatch):
    save("a.wav", stereo)
    hashed = []
    monkeypatch.setattr(audio, "sha256_of_audio", lambda path: hashed.append(path) or "0" * 64)
    checksum = Checksums()
    for start in (0.0, 0.5, 1.0):
        assert read(folder, whole("a.wav", start=start), checksum=checksum).sha256 == "0" * 64
    assert hashed == [folder / "a.wav"]
