"""Utterances → journal: each thread decodes and transcribes one utterance; each transcript is written when finished."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from featcache import audio
from featcache.cache.failures import Failure
from featcache.errors import AudioError
from featcache.extraction.inputs import SECONDS
from featcache.extraction.long import StoppedError
from featcache.extractors.models import SAMPLING_RATE
from featcache.extractors.pretrained import quiet_transformers
from featcache.manifest import Utterance
from featcache.terminal.interrupts import Pool, Work
from featcache.terminal.progress import progress
from featcache.transcription.journal import Entry, Journal
from featcache.transcription.whisper import Transcriber


@dataclass(frozen=True, kw_only=True)
class UntranscribedUtterance:
    """An utterance to transcribe, and its length in seconds."""

    utterance: Utterance
    seconds: float


class TranscriptionRun:
    """Transcription of the utterances that have no transcript yet.

    Args:
        transcriber: Model, shared by all workers.
        journal: Journal that stores the transcripts.
        root: Corpus folder, to which the paths in the manifest are relative.
        items: Utterances to transcribe.
        name: Name of the transcripts.
        workers: Number of threads.
        strict: Whether the first utterance that fails ends the run.

    Attributes:
        done: Utterances that were transcribed.
        failures: Utterances that could not be transcribed, in the order of ``items``.
    """

    def __init__(
        self,
        transcriber: Transcriber,
        journal: Journal,
        root: Path,
        items: Sequence[UntranscribedUtterance],
        *,
        name: str,
        workers: int,
        strict: bool,
    ) -> None:
        self._transcriber = transcriber
        self._journal = journal
        self._root = root
        self._items = items
        self._name = name
        self._workers = workers
        self._strict = strict
        self._stopping = Event()
        self._checksum = audio.Checksums()
        self._reasons: dict[str, Failure] = {}
        self.done: list[UntranscribedUtterance] = []

    @property
    def failures(self) -> list[Failure]:
        """Utterances that could not be transcribed, in the order of ``items``."""
        ids = (item.utterance.utterance_id for item in self._items)
        return [self._reasons[utterance_id] for utterance_id in ids if utterance_id in self._reasons]

    def to_the_end(self) -> bool:
        """Transcribe all utterances.

        Returns:
            Whether Ctrl-C ended the run early.

        Raises:
            AudioError: an utterance failed, and ``strict`` is set.
        """
        with (
            quiet_transformers(),
            Pool(self._workers, "transcribe") as pool,
            progress(self._name, sum(item.seconds for item in self._items), rate=SECONDS.describe_speed) as advance,
        ):
            work = Work(
                self._items,
                lambda item: self._transcribe(item.utterance),
                lambda results, _: self._keep(results, advance),
                fails=lambda result: self._strict and isinstance(result, Failure),
                ahead=2 * self._workers,
                in_order=False,
                stopping=self._stopping,
                kept="finished transcripts are written first",
            )
            interrupted = work.to_the_end(pool, "utterances")
        if self._strict and self._reasons and not interrupted:
            first = self.failures[0]
            raise AudioError(f"utterance {first.utterance_id!r}: {first.reason} (stopped by --strict)")
        return interrupted

    def _transcribe(self, utterance: Utterance) -> Entry | Failure | None:
        """Return the transcript or the failure of an utterance; None if it was stopped before the end."""
        if self._stopping.is_set():
            return None
        try:
            recording = audio.read(self._root, utterance, checksum=self._checksum)
            text = self._transcriber.transcribe(recording.signal(sampling_rate=SAMPLING_RATE), self._stopping)
        except StoppedError:
            return None
        except AudioError as error:
            if self._strict:
                self._stopping.set()  # at once, so that later utterances are not started
            return Failure(
                store=self._name, utterance_id=utterance.utterance_id, path=utterance.path, reason=str(error)
            )
        except Exception:
            self._stopping.set()
            raise
        return Entry(
            utterance_id=utterance.utterance_id,
            transcript=text,
            audio_sha256=recording.sha256,
            start=utterance.start,
            end=utterance.end,
        )

    def _keep(
        self,
        results: Sequence[tuple[UntranscribedUtterance, Entry | Failure | None]],
        advance: Callable[[float], None],
    ) -> None:
        """Write finished transcripts to the journal, and record the failures."""
        for item, result in results:
            if isinstance(result, Entry):
                self._journal.add(result)
                self.done.append(item)
            elif result is not None:
                self._reasons[result.utterance_id] = result
        advance(sum(item.seconds for item, _ in results))
