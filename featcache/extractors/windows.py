"""Long signal → overlapping windows, and the frames that are taken from each window."""

from dataclasses import dataclass
from itertools import pairwise

from featcache.errors import AudioError, ModelError
from featcache.extractors.base import USUAL_RATE, Extractor
from featcache.settings.extractor_configs import Chunks


@dataclass(frozen=True, kw_only=True)
class Window:
    """Part of a signal that is computed separately.

    Attributes:
        start: First sample of the window, a multiple of the extractor's hop.
        stop: Sample after the last one of the window.
        first_frame: Number of the first frame that is taken from this window, counted in the whole signal.
        kept: Range of frames that are taken from this window, counted in the window.
    """

    start: int
    stop: int
    first_frame: int
    kept: slice


def plan_windows(extractor: Extractor, num_samples: int, sampling_rate: int) -> list[Window]:
    """Divide a signal into overlapping windows.

    The windows have the length in ``extractor.description.chunks``, rounded down to whole hops. The last window ends
    with the signal; it overlaps more with the window before, and may be shorter by less than one hop. Each frame is
    taken from the window in which it is farthest from an edge; the edges of the signal itself do not count.

    Args:
        extractor: Extractor that defines the positions of the frames.
        num_samples: Length of the signal, in samples.
        sampling_rate: Sampling rate of the signal, in Hz.

    Returns:
        The windows in order; their kept frames together are all frames of the signal.

    Raises:
        AudioError: the windows are too short at this sampling rate.
    """
    chunks = extractor.description.chunks
    if chunks is None:
        raise ValueError("this extractor computes every signal whole")
    hop = extractor.hop(sampling_rate)
    length, step = _length_and_step(extractor, chunks, sampling_rate)
    if step < 1:
        raise AudioError(f"at {sampling_rate} Hz, {_too_short(chunks)}")
    starts = list(range(0, num_samples - length, step * hop))
    starts.append(max(0, -(-(num_samples - length) // hop) * hop))
    stops = [*(start + length for start in starts[:-1]), num_samples]
    first = [start // hop for start in starts]
    last = [
        begin + extractor.num_frames(stop - start, sampling_rate)
        for begin, start, stop in zip(first, starts, stops, strict=True)
    ]
    # Two neighbouring windows are separated in the middle of the frames that both contain.
    middles = [(end + begin) // 2 for end, begin in zip(last, first[1:], strict=False)]
    cuts = [0, *middles, last[-1]]
    return [
        Window(start=start, stop=stop, first_frame=cut, kept=slice(cut - begin, next_cut - begin))
        for start, stop, begin, (cut, next_cut) in zip(starts, stops, first, pairwise(cuts), strict=True)
    ]


def check_chunks(extractor: Extractor) -> None:
    """Refuse windows that are too short.

    Raises:
        ModelError: no frame of a window is far enough from both of its ends.
    """
    chunks = extractor.description.chunks
    if chunks is None:
        return
    _, step = _length_and_step(extractor, chunks, extractor.description.sampling_rate or USUAL_RATE)
    if step < 1:
        raise ModelError(_too_short(chunks))


def _length_and_step(extractor: Extractor, chunks: Chunks, sampling_rate: int) -> tuple[int, int]:
    """Return the length of a window in samples, and the number of frames between the starts of two windows."""
    hop = extractor.hop(sampling_rate)
    length = round(chunks.seconds * sampling_rate) // hop * hop
    frames = extractor.num_frames(length, sampling_rate)
    if extractor.num_frames(length - hop, sampling_rate) == 0:  # The last window may be this short.
        return length, 0
    # A frame whose context extends beyond its window is always taken from the neighbouring window.
    most = frames - 2 * extractor.context(sampling_rate)
    return length, min(most, (length - round(chunks.overlap * sampling_rate)) // hop)


def _too_short(chunks: Chunks) -> str:
    return (
        f"--chunk-seconds {chunks.seconds:g} leaves no frame between overlaps of {chunks.overlap:g} s; "
        "increase --chunk-seconds or decrease --overlap-seconds"
    )
