"""Features in windows equal those of each window alone; their number equals that of the whole signal."""

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from featcache.audio import Signal, read
from featcache.errors import ModelError
from featcache.extraction.inputs import signal_for
from featcache.extractors import create_extractor
from featcache.extractors.chunked import extract_windows, signal_length
from featcache.extractors.windows import plan_windows
from featcache.manifest import Utterance

# A window computed alone and in a batch: float32 sums in another order.
SAME = 1e-5


@pytest.fixture(scope="module")
def folder(tmp_path_factory, speech_like):
    """Return a folder with a stereo file of 6.3 s at 44.1 kHz."""
    folder = tmp_path_factory.mktemp("long")
    left, right = (speech_like(277_830, 44100, seed=seed, pitch=100 + 70 * seed) for seed in (0, 1))
    soundfile.write(folder / "a.wav", np.stack([left, right], axis=1), 44100, subtype="FLOAT")
    return folder


def utterance(**stretch):
    return Utterance(utterance_id="u", path="a.wav", **stretch)


def in_windows(extractor, folder, part=None, **options):
    """Return the joined features of all windows, after checking that there is no gap between them."""
    pieces, first = [], 0
    for start, features in extract_windows(extractor, folder, part or utterance(), **options):
        assert start == first
        first += features.shape[1]
        pieces.append(features)
    return np.concatenate(pieces, axis=1)


def whole(extractor, folder, part=None):
    recording = read(folder, part or utterance())
    return extractor.extract([signal_for(extractor, recording)])[0]


FAMILIES = ["wav2vec2", "hubert", "wavlm", "unispeech-sat", "data2vec-audio", "whisper", "xls-r", "mhubert"]


@pytest.mark.parametrize("family", FAMILIES)
def test_models_see_each_window_alone(folder, tiny_model, family):
    extractor = create_extractor(tiny_model(family), chunk_seconds=2.0, overlap_seconds=0.5)
    samples = signal_for(extractor, read(folder, utterance())).samples
    found = in_windows(extractor, folder)
    windows = plan_windows(extractor, len(samples), 16000)
    assert len(windows) == 4
    for window in windows:
        alone = extractor.extract([Signal(samples=samples[window.start : window.stop], sampling_rate=16000)])[0]
        taken = alone[:, window.kept]
        stretch = found[:, window.first_frame : window.first_frame + taken.shape[1]]
        np.testing.assert_array_equal(stretch, taken)
    assert found.shape[1] == extractor.num_frames(len(samples), 16000)
    # Windows of equal length are computed in one batch, as on a GPU.
    np.testing.assert_allclose(
        in_windows(extractor, folder, batch_seconds=4.5), found, rtol=0, atol=SAME * np.abs(found).max()
    )


@pytest.mark.parametrize("family", ["wav2vec2", "xls-r"])  # Whisper's layer 0 contains positions within the window.
def test_frame_i_is_the_same_moment_as_without_windows(tiny_model, tmp_path, rng, family):
    """Clicks are found in the same frames, because the local encoder's context has a few frames only."""
    samples = 0.01 * rng.standard_normal(6 * 16000)
    clicks = [5000, 29_000, 33_333, 60_000, 90_000]
    samples[clicks] = 1.0
    soundfile.write(tmp_path / "a.wav", samples, 16000, subtype="FLOAT")
    options = {"layers": "local"}
    chunked = create_extractor(tiny_model(family), chunk_seconds=2.0, overlap_seconds=0.5, **options)
    plain = create_extractor(tiny_model(family), **options)
    found, expected = in_windows(chunked, tmp_path)[0], whole(plain, tmp_path)[0]
    assert found.shape == expected.shape
    for click in clicks:
        around = slice(click // 320 - 10, click // 320 + 10)
        peaks = [
            int(np.abs(values[around] - np.median(values, axis=0)).sum(axis=1).argmax()) for values in (found, expected)
        ]
        assert peaks[0] == peaks[1]


def test_a_local_encoder_without_normalisation_over_time_sees_no_windows(folder, tiny_model):
    """With layer norm per frame and without waveform normalisation, a frame depends on at most 25 ms of audio."""
    model = tiny_model("xls-r", do_normalize=False)
    chunked = create_extractor(model, layers="local", chunk_seconds=2.0, overlap_seconds=0.5)
    expected = whole(create_extractor(model, layers="local"), folder)
    np.testing.assert_allclose(in_windows(chunked, folder), expected, rtol=0, atol=SAME * np.abs(expected).max())


@pytest.mark.parametrize("part", [{"start": 0.7}, {"start": 1.0, "end": 5.5}, {"end": 3.21}])
@pytest.mark.parametrize("max_seconds", [None, 2.8])
def test_start_end_and_max_seconds(folder, tiny_model, part, max_seconds):
    model = tiny_model("xls-r", do_normalize=False)
    options = {"layers": "local", "max_seconds": max_seconds}
    chunked = create_extractor(model, chunk_seconds=2.0, overlap_seconds=0.5, **options)
    expected = whole(create_extractor(model, **options), folder, utterance(**part))
    found = in_windows(chunked, folder, utterance(**part))
    np.testing.assert_allclose(found, expected, rtol=0, atol=SAME * np.abs(expected).max())
    assert signal_length(chunked, folder, utterance(**part))[1] == 16000


@given(
    seconds=st.floats(0.1, 3),
    overlap=st.floats(0, 0.09),
    window=st.integers(1, 700),
    hop=st.integers(1, 900),
    n_fft=st.sampled_from([512, 700, 701]),
    center=st.booleans(),
    rate=st.sampled_from([0, 16000, 22050]),
)
@settings(max_examples=25)
def test_spectrograms_in_windows_are_those_of_the_whole(folder, seconds, overlap, window, hop, n_fft, center, rate):
    options = {
        "window": f"{min(window, n_fft)}samples",
        "hop": f"{max(hop, 20)}samples",
        "n_fft": n_fft,
        "center": center,
        "sampling_rate": rate,
    }
    try:
        chunked = create_extractor("spectrogram", chunk_seconds=seconds, overlap_seconds=overlap, **options)
    except ModelError:  # Windows that are too short are tested in test_windows.py.
        return
    expected = whole(create_extractor("spectrogram", **options), folder)
    # The float32 sums are the same; only the number of frames per transform differs.
    np.testing.assert_allclose(in_windows(chunked, folder), expected, rtol=1e-6, atol=1e-6)


NEED_WHOLE_VOICE = {"jitterLocal_sma3nz", "shimmerLocaldB_sma3nz"}


@pytest.mark.parametrize("chunk_seconds", [2.5, 4.0])
def test_egemaps_in_windows_are_those_of_the_whole_but_for_jitter_and_shimmer(folder, chunk_seconds):
    chunked = create_extractor("egemaps", chunk_seconds=chunk_seconds, overlap_seconds=2.0)
    found, expected = in_windows(chunked, folder), whole(create_extractor("egemaps"), folder)
    assert found.shape == expected.shape
    names = chunked.description.provenance["feature_names"]
    equal = [name not in NEED_WHOLE_VOICE for name in names]
    np.testing.assert_array_equal(found[..., equal], expected[..., equal])
    # The voice has no pause in this signal, so that openSMILE's pitch periods depend on the beginning of the signal.
    assert not np.array_equal(found, expected)


def test_where_the_voice_pauses_jitter_and_shimmer_are_those_of_the_whole_too(tmp_path, speech_like, rng):
    pause = 0.001 * rng.standard_normal(2400).astype(np.float32)
    voice = [part for seed in range(8) for part in (speech_like(11_000, seed=seed, pitch=90 + 17 * seed), pause)]
    soundfile.write(tmp_path / "a.wav", np.concatenate(voice), 16000, subtype="FLOAT")
    chunked = create_extractor("egemaps", chunk_seconds=4.0, overlap_seconds=2.0)
    np.testing.assert_array_equal(in_windows(chunked, tmp_path), whole(create_extractor("egemaps"), tmp_path))


@pytest.mark.parametrize("seconds", [30.02, 40])
def test_whisper_takes_no_longer_window_than_it_hears(tiny_model, seconds):
    with pytest.raises(
        ModelError, match=rf"^--chunk-seconds is {seconds:g}, but Whisper processes at most 30 s; use a smaller value$"
    ):
        create_extractor(tiny_model("whisper"), chunk_seconds=seconds)


def test_whisper_hears_more_than_thirty_seconds_in_windows(tiny_model, tmp_path, speech_like):
    soundfile.write(tmp_path / "a.wav", speech_like(35 * 16000 + 77), 16000)
    extractor = create_extractor(tiny_model("whisper"), chunk_seconds=30)
    assert in_windows(extractor, tmp_path).shape == (4, 1751, 32)  # ceil((35 s + 77 samples) / 20 ms)
