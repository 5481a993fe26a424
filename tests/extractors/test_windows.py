"""Windows of a long signal contain every frame once, on the grid of frames, with as much context as possible."""

import itertools

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from featcache.errors import AudioError, ModelError
from featcache.extractors import create_extractor
from featcache.extractors.base import Extractor
from featcache.extractors.egemaps import EgemapsExtractor
from featcache.extractors.spectrogram import SpectrogramExtractor
from featcache.extractors.windows import check_chunks, plan_windows
from featcache.features import Description
from featcache.settings.extractor_configs import ChunkConfig, Chunks, EgemapsConfig, SpectrogramConfig


class Grid(Extractor):
    """An extractor with frames of a given length, hop and context beyond the ends of the signal."""

    def __init__(self, *, hop, reach, context, seconds, overlap, rate=1000):
        self._hop, self._reach, self._context = hop, reach, context
        self.description = Description(
            dataset="frames",
            hidden_size=1,
            frame_shift=hop / rate,
            sampling_rate=rate,
            channel="mean",
            chunks=Chunks(seconds=seconds, overlap=overlap),
            settings={},
        )

    def num_frames(self, num_samples, sampling_rate):
        return max(0, (num_samples - self._reach) // self._hop + 1)

    def hop(self, sampling_rate):
        return self._hop

    def context(self, sampling_rate):
        return self._context

    def extract(self, signals):
        raise NotImplementedError


@st.composite
def grids(draw):
    hop = draw(st.integers(1, 40))
    return Grid(
        hop=hop,
        reach=draw(st.integers(1, 3 * hop)),
        context=draw(st.integers(0, 4)),
        seconds=draw(st.floats(0.001, 2)),
        overlap=draw(st.floats(0, 1)),
    )


@given(grid=grids(), num_samples=st.integers(1, 20_000))
def test_windows_cover_every_frame_once_and_keep_their_bounds(grid, num_samples):
    chunks, rate = grid.description.chunks, 1000
    assume(grid.num_frames(num_samples, rate) > 0)
    try:
        check_chunks(grid)
    except ModelError:
        with pytest.raises(AudioError, match=r"^at 1000 Hz, --chunk-seconds .* leaves no frame between overlaps of"):
            plan_windows(grid, num_samples, rate)
        return
    windows = plan_windows(grid, num_samples, rate)
    longest = round(chunks.seconds * rate)
    taken = []
    for window in windows:
        assert 0 <= window.start < window.stop <= num_samples
        assert window.stop - window.start <= longest
        assert window.start % grid.hop(rate) == 0
        inside = range(grid.num_frames(window.stop - window.start, rate))[window.kept]
        assert len(inside) > 0
        assert len(inside) == window.kept.stop - window.kept.start
        taken += [window.start // grid.hop(rate) + frame for frame in inside]
        assert taken[-len(inside)] == window.first_frame
    assert taken == list(range(grid.num_frames(num_samples, rate)))
    assert windows[0].start == 0
    assert windows[-1].stop == num_samples
    # The last window may be up to a hop shorter, because it starts on the grid and ends with the signal.
    assert len(windows) == 1 or windows[-1].stop - windows[-1].start > longest - 2 * grid.hop(rate)
    for one, other in itertools.pairwise(windows):
        assert one.stop - other.start >= min(round(chunks.overlap * rate), longest) or grid._context


@given(grid=grids(), num_samples=st.integers(1, 20_000))
def test_every_frame_is_taken_from_where_it_stands_farthest_from_an_inner_edge(grid, num_samples):
    rate = 1000
    assume(grid.num_frames(num_samples, rate) > 0)
    try:
        windows = plan_windows(grid, num_samples, rate)
    except AudioError:
        assume(False)
    first = [window.start // grid.hop(rate) for window in windows]
    last = [f + grid.num_frames(w.stop - w.start, rate) - 1 for f, w in zip(first, windows, strict=True)]

    def distance(number, frame):
        """Return the distance of a frame to the nearer edge of a window, except for the edges of the signal."""
        inner = [frame - first[number]] if number else []
        inner += [last[number] - frame] if number < len(windows) - 1 else []
        return min(inner, default=np.inf)

    for number, window in enumerate(windows):
        for frame in range(window.first_frame, window.first_frame + window.kept.stop - window.kept.start):
            there = [n for n in range(len(windows)) if first[n] <= frame <= last[n]]
            assert distance(number, frame) >= max(distance(n, frame) for n in there) - 1  # The middle is rounded.
            assert distance(number, frame) >= grid._context


def test_a_signal_as_long_as_a_window_is_one_window():
    grid = Grid(hop=10, reach=10, context=0, seconds=1.0, overlap=0.2)
    (window,) = plan_windows(grid, 1000, 1000)
    assert (window.start, window.stop, window.first_frame, window.kept) == (0, 1000, 0, slice(0, 100))
    assert [(w.start, w.stop, w.first_frame) for w in plan_windows(grid, 1001, 1000)] == [(0, 1000, 0), (10, 1001, 50)]


@pytest.mark.parametrize(
    "make",
    [
        lambda: EgemapsExtractor(EgemapsConfig()),
        lambda: SpectrogramExtractor(SpectrogramConfig()),
        lambda: SpectrogramExtractor(SpectrogramConfig(center=False)),
        lambda: SpectrogramExtractor(SpectrogramConfig(window="400samples", hop="320samples", n_fft=512)),
    ],
)
@given(data=st.data())
def test_a_hop_less_is_a_frame_less(make, data):
    extractor = make()
    rate = data.draw(st.sampled_from([16000, extractor.description.sampling_rate or 22050]))
    num_samples = data.draw(st.integers(4000, 20_000))
    frames = extractor.num_frames(num_samples, rate)
    for cut in range(1, 5):
        assert extractor.num_frames(num_samples - cut * extractor.hop(rate), rate) == frames - cut


def test_the_overlap_is_two_seconds_unless_told_otherwise():
    assert ChunkConfig(chunk_seconds=30).chunks() == Chunks(seconds=30.0, overlap=2.0)
    assert ChunkConfig(chunk_seconds=30).settings() == {"chunk_seconds": 30.0, "overlap_seconds": 2.0}
    assert ChunkConfig(chunk_seconds=3, overlap_seconds=0).chunks() == Chunks(seconds=3.0, overlap=0.0)


def test_without_chunks_a_store_has_the_settings_that_it_had():
    assert ChunkConfig().settings() == {}
    assert SpectrogramExtractor(SpectrogramConfig()).description.settings == {
        "extractor": "spectrogram",
        "window": "25ms",
        "hop": "10ms",
        "n_fft": None,
        "center": True,
        "sampling_rate": 16000,
        "channel": "mean",
        "max_seconds": None,
    }
    egemaps = EgemapsExtractor(EgemapsConfig()).description.settings
    assert set(egemaps) == {"extractor", "feature_set", "level", "sampling_rate", "channel", "max_seconds"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"overlap_seconds": 1.0},
            r"^--overlap-seconds has no effect without windows; add --chunk-seconds with their length$",
        ),
        ({"chunk_seconds": 2.0}, r"^--overlap-seconds is 2, expected less than --chunk-seconds, which is 2$"),
        (
            {"chunk_seconds": 5.0, "overlap_seconds": 6.0},
            r"^--overlap-seconds is 6, expected less than --chunk-seconds, which is 5$",
        ),
        ({"chunk_seconds": 0.0}, r"^--overlap-seconds is 2, expected less than --chunk-seconds, which is 0$"),
        (
            {"chunk_seconds": 0.005, "overlap_seconds": 0.0},
            r"^--chunk-seconds 0.005 leaves no frame between overlaps of 0 s; increase --chunk-seconds or decrease --o",
        ),
        ({"chunk_seconds": 5.0, "overlap_seconds": 4.999}, r"^--chunk-seconds 5 leaves no frame between overlaps of 4"),
    ],
)
@pytest.mark.parametrize("model", ["egemaps", "spectrogram"])
def test_windows_that_cannot_be(model, options, message):
    with pytest.raises(ModelError, match=message):
        create_extractor(model, **options)


def test_functionals_are_of_the_whole_utterance():
    with pytest.raises(ModelError, match=r"does not apply to egemaps-functionals, which need the whole utterance$"):
        create_extractor("egemaps-functionals", chunk_seconds=30.0)


def test_windows_too_short_at_a_files_own_rate(rng):
    extractor = create_extractor(
        "spectrogram", sampling_rate=0, n_fft=512, window="400samples", chunk_seconds=0.05, overlap_seconds=0.0
    )
    with pytest.raises(AudioError, match=r"^at 8000 Hz, --chunk-seconds 0\.05 leaves no frame"):
        plan_windows(extractor, 8000, 8000)
