"""Utterance and its length → one utterance per window of a few seconds."""

import math
from collections.abc import Iterator
from dataclasses import replace

from featcache.errors import ManifestError
from featcache.utterances import Utterance

SHORTEST = 0.01
"""Shortest window and hop, in seconds."""
MOST_WINDOWS = 1_000_000
"""Largest number of windows of one request: each is an utterance, and its features are computed anew."""


def check_windows(window: float | None, hop: float | None) -> None:
    """Check the lengths of windows and hops.

    Args:
        window: Length of a window in seconds; None for whole utterances.
        hop: Time between the starts of two windows in seconds; None for the length of a window.

    Raises:
        ManifestError: a value is too small or not finite, the hop is longer than the window and would leave audio out,
            or the window is missing.
    """
    if window is None:
        if hop is not None:
            raise ManifestError(f"--hop {hop:g} needs the length of the windows; add --window SECONDS")
        return
    for option, seconds in (("--window", window), ("--hop", window if hop is None else hop)):
        if not SHORTEST <= seconds < math.inf:
            raise ManifestError(f"{option} {seconds:g}: expected a number of seconds, {SHORTEST:g} or more")
    if hop is not None and hop > window:
        raise ManifestError(
            f"--hop {hop:g} is longer than --window {window:g}, so that audio would be left out; choose a shorter hop"
        )


def num_windows(num_samples: int, sampling_rate: int, window: float, hop: float) -> int:
    """Return the number of windows of an utterance, see :func:`windows_of`."""
    length = round(window * sampling_rate)
    if num_samples <= length:
        return 1
    whole = math.floor((num_samples - length) / (hop * sampling_rate))
    # The start of a window is rounded to a sample, therefore the last one may fit although it does not by division.
    whole += round((whole + 1) * hop * sampling_rate) + length <= num_samples
    return whole + 1 + (round(whole * hop * sampling_rate) + length < num_samples)


def windows_of(
    utterance: Utterance, num_samples: int, sampling_rate: int, *, window: float, hop: float
) -> Iterator[Utterance]:
    """Yield one utterance per window.

    A window starts at every multiple of the hop at which a whole window fits. If samples remain behind the last of
    them, one more window ends at the end of the utterance; it has the same length and starts earlier than its hop
    would. An utterance that is not longer than a window is a single window.

    Args:
        utterance: Utterance to divide; its transcript is dropped, because it belongs to the whole.
        num_samples: Number of samples per channel of the utterance.
        sampling_rate: Sampling rate of its file in Hz.
        window: Length of a window in seconds.
        hop: Time between the starts of two windows in seconds.

    Yields:
        Utterances with the id ``<id>@<start>-<end>``; start and end are seconds in the file.
    """
    length = min(num_samples, round(window * sampling_rate))
    first = round((utterance.start or 0.0) * sampling_rate)
    for number in range(num_windows(num_samples, sampling_rate, window, hop)):
        offset = min(round(number * hop * sampling_rate), num_samples - length)
        start, end = ((first + sample) / sampling_rate for sample in (offset, offset + length))
        name = f"{utterance.utterance_id}@{_shown(start)}-{_shown(end)}"
        yield replace(utterance, utterance_id=name, start=start, end=end, transcript="")


def _shown(seconds: float) -> str:
    """Return seconds with up to three decimals; the shortest hop is longer than a millisecond."""
    return f"{seconds:.3f}".rstrip("0").rstrip(".")
