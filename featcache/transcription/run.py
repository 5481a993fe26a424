"""Utterances → journal: threads decode and transcribe one utterance each, which is written as soon as it is done."""

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
    """An utterance that is to be transcribed, and its length."""

    utterance: Utterance
    seconds: float


class TranscriptionRun:
    """Transcribes what is missing.

    Args:
        transcriber: What is used by all workers.
        journal: Where transcripts go.
        root: What the manifest's paths start from.
        items: What is missing.
        name: Of the transcripts.
        workers: Threads.
        strict: Whether the first utterance that fails ends it.

    Attributes:
        done: What was transcribed.
        failures: What could not be, in the order of ``items``.
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
        ids = (item.utterance.utterance_id for item in self._items)
        return [self._reasons[utterance_id] for utterance_id in ids if utterance_id in self._reasons]

    def to_the_end(self) -> bool:
        """Transcribe everything; true when Ctrl-C ended it early.

        Raises:
            AudioError: an utterance failed, and that ends it.
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
        """What became of an utterance; nothing where it was given up."""
        if self._stopping.is_set():
            return None
        try:
            recording = audio.read(self._root, utterance, checksum=self._checksum)
            text = self._transcriber.transcribe(recording.signal(sampling_rate=SAMPLING_RATE), self._stopping)
        except StoppedError:
            return None
        except AudioError as error:
            if self._strict:
                self._stopping.set()  # now, so that which utterances are begun after it does not depend on timing
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
        """Write finished transcripts to the journal, and note what failed."""
        for item, result in results:
            if isinstance(result, Entry):
                self._journal.add(result)
                self.done.append(item)
            elif result is not None:
                self._reasons[result.utterance_id] = result
        advance(sum(item.seconds for item, _ in results))
