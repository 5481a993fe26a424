"""Plan × extractors → peak memory of an extraction, which is refused before it starts if it does not fit."""

import heapq
import logging
from collections.abc import Sequence
from typing import NoReturn

from featcache.audio import kept_samples
from featcache.errors import ModelError
from featcache.extraction.plan import SHARD_BYTES, ExtractionPlan, PlannedUtterance, StoreJob
from featcache.extraction.run import BATCHES_AHEAD
from featcache.extractors.base import USUAL_RATE
from featcache.machine import available_memory, used_memory
from featcache.units import format_bytes

log = logging.getLogger(__name__)

# Memory that libraries take at first use, in bytes: threads, kernels, tables of the shard that is written.
LIBRARIES = 64 * 2**20


def check_memory(
    plan: ExtractionPlan, targets: Sequence[StoreJob], *, workers: int, batch_length: float, elsewhere: bool = False
) -> None:
    """Log the peak memory of an extraction, estimated from its longest utterances, and check that it fits.

    Args:
        plan: Missing utterances.
        targets: The stores that are filled, with their models in memory.
        workers: Number of threads, each of which computes a batch.
        batch_length: Length of a batch, in seconds or tokens.
        elsewhere: Whether other machines compute; their memory is not known here.

    Raises:
        ModelError: the memory is not enough; the message names the option that helps.
    """
    if elsewhere or not plan.items:
        return
    needed = peak_memory(plan, targets, workers=workers, batch_length=batch_length)
    available = available_memory()
    log.info("peak memory about %s (%s available)", format_bytes(needed), format_bytes(available))
    if needed > available:
        _refuse(plan, targets, needed, available, workers=workers, batch_length=batch_length)


def peak_memory(plan: ExtractionPlan, targets: Sequence[StoreJob], *, workers: int, batch_length: float) -> float:
    """Estimate the peak resident memory of this process in bytes; arguments as in :func:`check_memory`."""
    longest = heapq.nlargest(workers, plan.items, key=lambda item: item.length)
    computing = sum(max(_batch_bytes(target, item, batch_length) for target in targets) for item in longest)
    # Finished utterances wait in memory for their group; long ones wait on the disk.
    sizes = heapq.nlargest(BATCHES_AHEAD * workers, (item.bytes for item in plan.items if not item.spooled))
    waiting = min(plan.bytes, sum(sizes) + SHARD_BYTES)
    return used_memory() + LIBRARIES + computing + waiting


def _batch_bytes(target: StoreJob, item: PlannedUtterance, batch_length: float) -> int:
    """Return the memory of a batch, in bytes, whose longest utterance is the given one."""
    description = target.extractor.description
    length = item.length * target.longest
    if description.in_windows(length) and description.chunks:
        length = description.chunks.seconds
    together = max(1, int(batch_length // length)) if length else 1
    # Tokens have a rate of 1. For files that keep their own rate, the usual rate is assumed.
    rate = 1 if target.extractor.tokenise else description.sampling_rate or USUAL_RATE
    num_samples = kept_samples(round(length * rate), rate, description.max_seconds)
    return target.extractor.peak_bytes(together, num_samples, rate)


def _refuse(
    plan: ExtractionPlan,
    targets: Sequence[StoreJob],
    needed: float,
    available: float,
    *,
    workers: int,
    batch_length: float,
) -> NoReturn:
    longest = max(plan.items, key=lambda item: item.length)
    found = (
        f"the extraction needs about {format_bytes(needed)} of memory, but only {format_bytes(available)} are "
        f"available (longest utterance: {longest.utterance.utterance_id!r}, "
    )
    if targets[0].extractor.tokenise:
        raise ModelError(f"{found}{longest.length:.0f} tokens); reduce --workers, or shorten its transcript")
    found += f"{longest.length:.0f} s, {workers} workers)"
    if batch_length and peak_memory(plan, targets, workers=workers, batch_length=0.0) <= available:
        raise ModelError(f"{found}; reduce --batch-seconds, which is {batch_length:g}")
    if workers > 1 and peak_memory(plan, targets, workers=1, batch_length=0.0) <= available:
        raise ModelError(f"{found}; reduce --workers, for example to 1")
    raise ModelError(
        f"{found}; compute it in windows with --chunk-seconds 30, or use only its beginning with --max-seconds"
    )
