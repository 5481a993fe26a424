"""Manifest, audio files → facts about each utterance. Each file is decoded once, in blocks."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from featcache.audio import BLOCK, stretch_of
from featcache.audio.containers import ContainerError
from featcache.audio.decoding import Decoder, opened
from featcache.audio.source_file import NoAudioError, open_audio
from featcache.checks.sound import FACTS, Sound
from featcache.errors import AudioError
from featcache.files.audio_shards import row_in_shard
from featcache.files.content import HEAD_BYTES, describe_content
from featcache.files.regular import read_regular
from featcache.manifest import Utterance
from featcache.terminal.progress import map_in_threads


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Reason why an utterance has no facts.

    Attributes:
        kind: Kind of the finding: ``missing-file``, ``pointer``, ``empty-file``, ``unreadable-file`` or ``segment``.
        reason: Reason in one line.
    """

    kind: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Measurements:
    """Facts about the utterances of a corpus.

    Attributes:
        facts: (num_utterances,) rows of ``FACTS``, in the order of the utterances; ``measured`` is False for faults.
        faults: Position of an utterance → why its audio cannot be used.
    """

    facts: npt.NDArray[Any]
    faults: dict[int, Fault]


def measure(root: Path, utterances: Sequence[Utterance], workers: int) -> Measurements:
    """Decode all files of a corpus, and measure its utterances.

    Args:
        root: Folder that the paths of the utterances are relative to.
        utterances: The utterances.
        workers: Number of threads.
    """
    found = Measurements(facts=np.zeros(len(utterances), FACTS), faults={})
    rows: dict[str, list[int]] = {}
    for row, utterance in enumerate(utterances):
        rows.setdefault(utterance.path, []).append(row)
    map_in_threads(
        lambda path: _measure_file(root, path, utterances, rows[path], found),
        list(rows),  # The rows of a shard follow each other, so that each part of it is read once.
        workers,
        "measuring audio",
        together=1,
    )
    return found


def _measure_file(
    root: Path, path: str, utterances: Sequence[Utterance], rows: Sequence[int], found: Measurements
) -> None:
    try:
        with opened(root, path) as decoder:
            _measure_utterances(decoder, utterances, rows, found)
    except AudioError as error:
        fault = _fault(root / path, path, str(error))
        found.facts["measured"][list(rows)] = False  # utterances before the fault too, so that each has one outcome
        found.faults.update(dict.fromkeys(rows, fault))


def _measure_utterances(
    decoder: Decoder, utterances: Sequence[Utterance], rows: Sequence[int], found: Measurements
) -> None:
    header = decoder.header
    waiting: list[Sound] = []
    for row in rows:
        if header.num_samples == 0:
            found.faults[row] = Fault(kind="empty-file", reason=f"{utterances[row].path}: contains no samples")
            continue
        try:
            first, last = stretch_of(utterances[row], header.num_samples, header.sampling_rate)
        except AudioError as error:
            found.faults[row] = Fault(kind="segment", reason=str(error))
        else:
            waiting.append(Sound(first, last, row, header.sampling_rate))
            found.facts["ends_early"][row] = header.ends_early and last == header.num_samples
    if not waiting:
        return
    waiting.sort(key=lambda sound: -sound.first)  # The next one is at the end.
    at, end = waiting[-1].first, max(sound.last for sound in waiting)
    active: list[Sound] = []
    decoder.seek(at)
    while at < end:
        wanted = min(BLOCK, end - at)
        samples = decoder.read(wanted)
        while waiting and waiting[-1].first < at + wanted:
            active.append(waiting.pop())
        active = [sound for sound in active if _adds(sound, samples, at, utterances[sound.row].path, found)]
        if len(samples) < wanted:
            raise AudioError(f"cut off, {end} samples announced, decoding ended at {at + len(samples)}")
        at += wanted
        for sound in active:
            if sound.last <= at:
                sound.finish(found.facts[sound.row])
        active = [sound for sound in active if sound.last > at]


def _adds(sound: Sound, samples: npt.NDArray[np.float32], at: int, path: str, found: Measurements) -> bool:
    """Add the samples of a block that belong to an utterance; return whether they can be used."""
    try:
        sound.add(samples[max(0, sound.first - at) : sound.last - at])
    except AudioError as error:
        found.faults[sound.row] = Fault(kind="unreadable-file", reason=f"{path}: {error}")
        return False
    return True


def _fault(file: Path, path: str, reason: str) -> Fault:
    """Return the kind of a fault of a whole file, or of a row in a shard, judged by its first bytes."""
    reason = reason if reason.startswith(f"{path}: ") else f"{path}: {reason}"
    row = row_in_shard(file)
    on_disk = file if row is None else row[0]
    if not on_disk.exists():
        pointer = on_disk.is_symlink() and "annex/objects/" in Path(os.readlink(on_disk)).as_posix()
        reason = f"{path}: a git-annex pointer; run 'git annex get'" if pointer else f"{path}: no such file"
        return Fault(kind="pointer" if pointer else "missing-file", reason=reason)
    head: bytes | None
    try:
        with open_audio(file) as content:
            head = content.read(HEAD_BYTES)
    except NoAudioError:
        return Fault(kind="missing-file", reason=reason)
    except (ContainerError, OSError):
        head = _head_of_shard(on_disk) if row is not None else None
    if head is None:
        return Fault(kind="unreadable-file", reason=reason)
    if not head:
        return Fault(kind="empty-file", reason=f"{path}: 0 bytes")
    found = describe_content(head) or ""
    if "pointer" in found and found not in reason:
        reason = f"{path}: {found}"
    return Fault(kind="pointer" if "pointer" in found else "unreadable-file", reason=reason)


def _head_of_shard(file: Path) -> bytes | None:
    """Return the first bytes of a shard that cannot be opened; None if it cannot even be read."""
    try:
        return read_regular(file, HEAD_BYTES)
    except OSError:
        return None
