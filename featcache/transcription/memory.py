"""Utterances to transcribe → the memory that this takes at its peak; what does not fit is refused before it begins."""

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

# The log-mel spectrogram of a whole signal, measured with transformers' feature extractor, for each sample.
MEL_BYTES = 40


def check_memory(config: Any, seconds: Sequence[float], *, workers: int) -> None:
    """Say what a transcription takes at its peak, by its longest utterances, and refuse what does not fit.

    Args:
        config: Whisper's.
        seconds: Length of each utterance.
        workers: Threads, each of which has one utterance.

    Raises:
        ModelError: this process may not take that much.
    """
    if not seconds:
        return
    windows = workers * whisper_bytes(config, 1, 0, num_layers=1)
    samples = SAMPLING_RATE * sum(heapq.nlargest(workers, seconds))
    needed = used_memory() + windows + (AUDIO_BYTES + MEL_BYTES) * samples
    available = available_memory()
    log.info("about %s of memory at the peak (%s available)", format_bytes(needed), format_bytes(available))
    if needed > available:
        raise ModelError(
            f"the transcription needs about {format_bytes(needed)} of memory and {format_bytes(available)} are "
            f"available (longest utterance: {max(seconds):.0f} s, {workers} workers); give fewer --workers, or cut "
            "long utterances with start and end in the manifest"
        )
