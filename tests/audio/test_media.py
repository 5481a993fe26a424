"""Media files that libsndfile does not read, written by PyAV. Lossless codecs must give the written samples exactly."""

import re
import struct
import subprocess
import sys
from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from featcache import audio
from featcache.audio.decoding import read_header
from featcache.errors import AudioError
from featcache.manifest import Utterance
from tests.media_files import LOSSLESS, write_media

RATE = 16000
# AAC and Opus change the waveform; a wrong shift, scale or channel would give a correlation far below.
SAME_SOUND = 0.98
# Samples that an encoder may add in front, and frames by which it may fill the end.
LONGEST_DELAY = 2 * 1024


@pytest.fixture
def spoken(speech_like):
    """Return two different seconds of sound as two channels, (2, 16000) int16."""
    one = (2e4 * speech_like(RATE) / np.abs(speech_like(RATE)).max()).astype(np.int16)
    return np.stack([one, one[::-1] // 2])


def utterance(name, **times):
    return Utterance(utterance_id="u", path=name, **times)


def refused(folder, name):
    """Return the one reason why a file is refused in every way of reading it."""
    reasons = set()
    for way in (audio.probe, audio.read, lambda *where: list(audio.stream(*where))):
        with pytest.raises(AudioError) as error:
            way(folder, utterance(name))
        reasons.add(str(error.value))
    (reason,) = reasons
    assert reason.startswith(f"{name}: ")
    assert "\n" not in reason
    return reason


@pytest.mark.parametrize("video", [False, True])
@pytest.mark.parametrize("form", LOSSLESS)
def test_lossless_audio_is_read_exactly(tmp_path, spoken, form, video):
    write_media(tmp_path / "a", spoken, RATE, LOSSLESS[form], form=form, video=video)
    found = audio.read(tmp_path, utterance("a"))
    assert found.sampling_rate == RATE
    np.testing.assert_array_equal(found.channels, spoken.astype(np.float32) / 2**15)
    assert audio.probe(tmp_path, utterance("a")) == (RATE, RATE)
    part = audio.read(tmp_path, utterance("a", start=0.25, end=0.75))
    np.testing.assert_array_equal(part.channels, found.channels[:, 4000:12000])


@pytest.mark.parametrize("rate", [None, 8000])
def test_mixing_and_resampling_are_those_of_wav(tmp_path, spoken, rate):
    import soundfile

    write_media(tmp_path / "a.mkv", spoken, RATE, "flac")
    soundfile.write(tmp_path / "a.wav", spoken.T, RATE)
    for way in ("mean", "first"):
        wav = audio.read(tmp_path, utterance("a.wav")).signal(channel=way, sampling_rate=rate)
        media = audio.read(tmp_path, utterance("a.mkv")).signal(channel=way, sampling_rate=rate)
        np.testing.assert_array_equal(media.samples, wav.samples)
        blocks = audio.stream(tmp_path, utterance("a.mkv"), channel=way, sampling_rate=rate)
        np.testing.assert_array_equal(np.concatenate(list(blocks)), wav.samples)


@pytest.mark.parametrize(
    ("name", "codec", "form"),
    [
        ("a.m4a", "aac", "ipod"),
        ("a.mp4", "aac", "mp4"),
        ("a.webm", "libopus", "webm"),
        ("a.aac", "aac", "adts"),
        ("a.flv", "aac", "flv"),
        ("a.avi", "libmp3lame", "avi"),
    ],
)
def test_lossy_audio_is_the_same_sound(tmp_path, spoken, name, codec, form):
    rate = 48000 if codec == "libopus" else RATE
    sound = np.repeat(spoken[:1], rate // RATE, axis=1)
    write_media(tmp_path / name, sound, rate, codec, form=form, video=form in ("mp4", "avi"))
    found = audio.read(tmp_path, utterance(name))
    assert found.sampling_rate == rate
    assert 0 <= found.channels.shape[1] - sound.shape[1] <= 2 * LONGEST_DELAY
    best = max(
        np.corrcoef(found.channels[0, shift : shift + rate // 2], sound[0, : rate // 2])[0, 1]
        for shift in range(LONGEST_DELAY)
    )
    assert best > SAME_SOUND
    assert audio.probe(tmp_path, utterance(name))[0] == found.channels.shape[1]


def test_the_decoder_is_named_with_its_version(tmp_path, spoken):
    import av
    import soundfile

    write_media(tmp_path / "a.mp4", spoken, RATE)
    soundfile.write(tmp_path / "a.wav", spoken.T, RATE)
    assert re.fullmatch(rf"FFmpeg .+ \(PyAV {av.__version__}\)", read_header(tmp_path, "a.mp4").decoder)
    assert read_header(tmp_path, "a.wav").decoder == f"libsndfile {soundfile.__libsndfile_version__}"


@pytest.mark.parametrize(("form", "codec"), [("mp4", "aac"), ("matroska", "flac"), ("avi", "pcm_s16le")])
def test_files_that_are_cut_are_refused(tmp_path, spoken, form, codec):
    write_media(tmp_path / "whole", spoken, RATE, codec, form=form, video=True)
    content = (tmp_path / "whole").read_bytes()
    for share in (0.3, 0.6, 0.95):
        (tmp_path / f"cut{share}").write_bytes(content[: int(share * len(content))])
        assert "cut off" in refused(tmp_path, f"cut{share}")


def test_a_recording_with_gaps_in_its_times_is_refused_for_that(tmp_path, spoken):
    """Recorders leave out silence so; without it, later segments of the file would be at other times."""
    with av.open(str(tmp_path / "gaps.mkv"), "w") as out:
        sound = out.add_stream("pcm_s16le", rate=RATE, layout="stereo")
        for start in (0, 3 * RATE):
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(spoken), format="s16p", layout="stereo")
            frame.sample_rate, frame.pts, frame.time_base = RATE, start, Fraction(1, RATE)
            out.mux(sound.encode(frame))
        out.mux(sound.encode(None))
    assert "cut off, or with gaps in its times: 4.00 s announced, 2.00 s decoded; " in refused(tmp_path, "gaps.mkv")


def test_a_stream_without_a_stated_end_that_is_cut_ends_early(tmp_path, spoken):
    write_media(tmp_path / "whole", spoken, RATE, form="adts")
    content = (tmp_path / "whole").read_bytes()
    (tmp_path / "cut").write_bytes(content[: len(content) // 2])
    assert read_header(tmp_path, "cut").ends_early
    assert not read_header(tmp_path, "whole").ends_early
    whole, cut = (audio.read(tmp_path, utterance(name)).channels for name in ("whole", "cut"))
    assert 0 < cut.shape[1] < whole.shape[1]
    np.testing.assert_array_equal(cut, whole[:, : cut.shape[1]])


def test_streams_that_are_missing_or_too_many(tmp_path, spoken):
    write_media(tmp_path / "film.mp4", spoken, RATE, video=True, streams=0)
    assert refused(tmp_path, "film.mp4").endswith("contains no audio stream")
    write_media(tmp_path / "two.mp4", spoken, RATE, streams=2)
    assert "contains 2 audio streams; write the one that you want to a file" in refused(tmp_path, "two.mp4")


def test_a_length_that_the_header_states_is_never_believed(tmp_path, spoken):
    write_media(tmp_path / "a.mkv", spoken, RATE, "flac")
    content = (tmp_path / "a.mkv").read_bytes()
    at = content.index(b"\x44\x89\x88") + 3
    assert struct.unpack(">d", content[at : at + 8])[0] == pytest.approx(1000, abs=1)
    for milliseconds in (3000.0, 1e12):
        (tmp_path / "long.mkv").write_bytes(content[:at] + struct.pack(">d", milliseconds) + content[at + 8 :])
        assert "cut off, " in refused(tmp_path, "long.mkv")
    for milliseconds in (1.0, -1e12, float("nan"), float("inf"), 1e308):
        (tmp_path / "short.mkv").write_bytes(content[:at] + struct.pack(">d", milliseconds) + content[at + 8 :])
        assert audio.probe(tmp_path, utterance("short.mkv")) == (RATE, RATE)


def test_times_that_do_not_begin_at_zero_are_no_missing_audio(tmp_path, spoken):
    write_media(tmp_path / "a.mka", spoken, RATE, "flac", form="matroska")
    with av.open(str(tmp_path / "a.mka")) as whole, av.open(str(tmp_path / "b.mka"), "w", format="matroska") as later:
        (stream,) = whole.streams
        copied = later.add_stream_from_template(stream)
        for packet in whole.demux(stream):
            if packet.size:
                packet.pts += round(60 / packet.time_base)
                packet.dts, packet.stream = packet.pts, copied
                later.mux(packet)
    first, second = (audio.read(tmp_path, Utterance(utterance_id="u", path=name)) for name in ("a.mka", "b.mka"))
    np.testing.assert_array_equal(first.channels, second.channels)


def test_few_bytes_that_decode_to_hours_are_refused(tmp_path, monkeypatch):
    from featcache.audio import media_decoder

    monkeypatch.setattr(media_decoder, "_FREE_SAMPLES", RATE)
    monkeypatch.setattr(media_decoder, "_SAMPLES_PER_BYTE", 1)
    write_media(tmp_path / "silence.mkv", np.zeros((1, 60 * RATE), np.int16), RATE, "flac")
    size = (tmp_path / "silence.mkv").stat().st_size
    assert f"{size} bytes decode to more than {size + RATE} samples" in refused(tmp_path, "silence.mkv")


def test_an_index_that_counts_more_parts_than_there_are_bytes_is_refused(tmp_path, spoken):
    write_media(tmp_path / "a.mp4", spoken, RATE)
    content = bytearray((tmp_path / "a.mp4").read_bytes())
    for box, offset, numbers in (("stsz", 8, (1, 2**27)), ("stsc", 12, (1, 2**27)), ("stts", 12, (2**27, 1024))):
        at = offset + content.index(box.encode())
        content[at : at + 8] = struct.pack(">II", *numbers)
    (tmp_path / "bomb.mp4").write_bytes(content)
    assert f"damaged, its index counts {2**27} parts in {len(content)} bytes" in refused(tmp_path, "bomb.mp4")


def test_lists_of_other_files_are_never_followed(tmp_path, spoken):
    write_media(tmp_path / "secret.mkv", spoken, RATE, "flac")
    lists = {
        "a.m3u8": "#EXTM3U\n#EXTINF:1,\nsecret.mkv\n",
        "a.mp4": "ffconcat version 1.0\nfile secret.mkv\n",
        "a.mpd": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"></MPD>',
        "a.sdp": "v=0\nc=IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 96\n",
    }
    for name, text in lists.items():
        (tmp_path / name).write_text(text)
        assert "not an audio file but" in refused(tmp_path, name)


def test_without_pyav_the_reason_says_what_to_install(tmp_path, spoken, monkeypatch):
    write_media(tmp_path / "a.mp4", spoken, RATE)
    monkeypatch.setitem(sys.modules, "av", None)
    assert refused(tmp_path, "a.mp4").endswith(
        "an MP4 file, which needs PyAV: pip install 'featcache[media]'; or convert it to WAV with ffmpeg"
    )


def test_pyav_is_only_loaded_for_files_that_need_it():
    code = "import sys, featcache.audio.decoding; sys.exit('av' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.fixture(scope="module")
def contents(tmp_path_factory):
    """Return small files of each format as bytes."""
    folder = tmp_path_factory.mktemp("media")
    sound = (1e4 * np.sin(np.arange(4000) / 9)).astype(np.int16)[None]
    kinds = [("mp4", "aac"), ("mov", "pcm_s16le"), ("matroska", "flac"), ("avi", "pcm_s16le"), ("adts", "aac")]
    kinds.append(("flv", "aac"))
    for form, codec in kinds:
        write_media(folder / form, sound, RATE, codec, form=form, video=form in ("mp4", "avi"))
    return {form: (folder / form).read_bytes() for form, _ in kinds}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_files_are_read_or_refused_in_one_line(tmp_path, contents, data):
    content = bytearray(contents[data.draw(st.sampled_from(sorted(contents)))])
    for at in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
        content[at : at + 4] = data.draw(st.binary(min_size=1, max_size=4) | st.just(b"\xff\xff\xff\xff"))
    (tmp_path / "a").write_bytes(content[: data.draw(st.integers(1, len(content)))])
    try:
        num_samples, _ = audio.probe(tmp_path, utterance("a"))
    except AudioError:
        refused(tmp_path, "a")
    else:
        assert audio.read(tmp_path, utterance("a")).channels.shape[1] == num_samples
