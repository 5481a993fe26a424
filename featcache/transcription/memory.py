"""Utterances to transcribe → peak memory, which is checked before the transcription starts."""

import heapq
import logging
from collections.abc import Sequence
from typing import Any

from featcache.errors import ModelError
from featcache.extractors.footprint import AUDIO_BYTES, whisper_bytes
from featcache.extractors.models import SAMPLING_RATE
from featcache.machine import available_memory, used_memory
from featcache.units import format_bytes

log = logging.getLogger(__name__)

# Bytes per sample for the log-mel spectrogram of a whole signal, measured with transformers' feature extractor.
MEL_BYTES = 40


def check_memory(config: Any, seconds: Sequence[float], *, workers: int) -> None:
    """Log the peak memory of a transcription, estimated from its longest utterances, and check that it is available.

    Args:
        config: Configuration of Whisper, from transformers.
        seconds: Length of each utterance, in seconds.
        workers: Number of threads; each transcribes one utterance at a time.

    Raises:
        ModelError: the peak memory is more than this process may use.
    """
    if not seconds:
        return
    windows = workers * whisper_bytes(config, 1, 0, num_layers=1)
    samples = SAMPLING_RATE * sum(heapq.nlargest(workers, seconds))
    needed = used_memory() + windows + (AUDIO_BYTES + MEL_BYTES) * samples
    available = available_memory()
    log.info("peak memory about %s (%s available)", format_bytes(needed), format_bytes(available))
    if needed > available:
        raise ModelError(
            f"the transcription needs about {format_bytes(needed)} of memory, but only {format_bytes(available)} are "
            f"available (longest utterance: {max(seconds):.0f} s, {workers} workers); reduce --workers, or split "
            "long utterances with start and end in the manifest"
        )
