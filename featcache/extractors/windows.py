"""Long signal → windows on an extractor's grid of frames, and which frames are taken from each."""

from dataclasses import dataclass
from itertools import pairwise

from featcache.errors import AudioError, ModelError
from featcache.extractors.base import USUAL_RATE, Extractor
from featcache.settings.extractor_configs import Chunks


@dataclass(frozen=True, kw_only=True)
class Window:
    """A part of a signal that is computed by itself.

    Attributes:
        start: Its first sample, a multiple of the extractor's hop.
        stop: The sample after its last.
        first_frame: The first of the signal's frames that is taken from this window.
        kept: Which of the window's own frames are taken.
    """

    start: int
    stop: int
    first_frame: int
    kept: slice


def plan_windows(extractor: Extractor, num_samples: int, sampling_rate: int) -> list[Window]:
    """Cover a signal with windows.

    All have the length that ``extractor.description.chunks`` asks for, rounded down to whole hops; the last one ends
    where the signal does, begins earlier than the others' step would have it, and is less than a hop shorter. Each
    frame is taken from the window in which it stands farthest from an edge that is not the signal's own.

    Args:
        extractor: Says where frames are.
        num_samples: Of the signal.
        sampling_rate: Of the signal, in Hz.

    Returns:
        Windows whose kept frames, one after the other, are all frames of the signal.

    Raises:
        AudioError: at this sampling rate windows are too short.
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
    # in the middle of what two neighbours have in common
    middles = [(end + begin) // 2 for end, begin in zip(last, first[1:], strict=False)]
    cuts = [0, *middles, last[-1]]
    return [
        Window(start=start, stop=stop, first_frame=cut, kept=slice(cut - begin, next_cut - begin))
        for start, stop, begin, (cut, next_cut) in zip(starts, stops, first, pairwise(cuts), strict=True)
    ]


def check_chunks(extractor: Extractor) -> None:
    """Refuse windows that are too short.

    Raises:
        ModelError: no frame would be far enough from both ends of a window.
    """
    chunks = extractor.description.chunks
    if chunks is None:
        return
    _, step = _length_and_step(extractor, chunks, extractor.description.sampling_rate or USUAL_RATE)
    if step < 1:
        raise ModelError(_too_short(chunks))


def _length_and_step(extractor: Extractor, chunks: Chunks, sampling_rate: int) -> tuple[int, int]:
    """A window's length in samples, and the frames from the beginning of one to that of the next."""
    hop = extractor.hop(sampling_rate)
    length = round(chunks.seconds * sampling_rate) // hop * hop
    frames = extractor.num_frames(length, sampling_rate)
    if extractor.num_frames(length - hop, sampling_rate) == 0:  # the last window may be so short
        return length, 0
    # frames whose context a neighbour has are never taken from where it is missing
    most = frames - 2 * extractor.context(sampling_rate)
    return length, min(most, (length - round(chunks.overlap * sampling_rate)) // hop)


def _too_short(chunks: Chunks) -> str:
    return (
        f"--chunk-seconds {chunks.seconds:g} leaves no frame between overlaps of {chunks.overlap:g} s; "
        "give longer chunks, or less of --overlap-seconds"
    )
