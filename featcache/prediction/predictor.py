"""Loaded heads and extractors of a run × new audio → predictions, with flat memory."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from featcache.cache.failures import Failure
from featcache.errors import AudioError
from featcache.extraction.inputs import AudioInput
from featcache.extraction.plan import default_workers
from featcache.extraction.store_models import models_by_store
from featcache.extractors import usable_devices
from featcache.manifest import Utterance
from featcache.prediction.cached import CachedFeatures, cached_features
from featcache.prediction.combine import Combined, combine, prediction_table
from featcache.prediction.cut_notes import CutUtterances
from featcache.prediction.embeddings import EmbeddingsFile, embeddings_file
from featcache.prediction.extracted import ExtractionConditions, PartFeatures, TemporaryFeatures
from featcache.prediction.inputs import AudioRequest
from featcache.prediction.members import voters_of
from featcache.prediction.recreate import NeededStore, Recreated, needed_stores, recreate
from featcache.prediction.run_heads import Normalisers, Outputs, RunHeads
from featcache.prediction.speaker_statistics import (
    SpeakerStatistics,
    check_speakers,
    group_of,
    seconds_of_speakers,
    speaker_column,
    warn_about_short,
    without_overlap,
)
from featcache.prediction.trained_on import OwnCorpus
from featcache.prediction.transcripts_read import words_for
from featcache.protocols.across import CORPUS
from featcache.runs.reader import RunFolder
from featcache.settings.predictions import PredictSettings
from featcache.terminal.interrupts import Pool
from featcache.terminal.progress import map_in_threads
from featcache.threads import one_thread_each
from featcache.training.store_features import StoreFeatures
from featcache.units import counted
from featcache.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

# Utterances and bytes of temporary features that are predicted together. Memory and disk do not grow beyond one part;
# with speaker normalisation a part contains all audio of a speaker.
PART_UTTERANCES, PART_BYTES = 256, 512 * 2**20

TRAINED = "all heads trained on it, or stopped their training with it; --include-trained uses them"
NOT_FINITE = "its features or outputs are not finite"


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Predictions for new audio.

    Attributes:
        table: One row per predicted utterance, see :func:`~featcache.prediction.combine.prediction_table`.
        outputs: Names of the classes, dimensions or labels.
        task: ``classification``, ``regression`` or ``multilabel``.
        failures: Utterances that could not be predicted.
        interrupted: Whether Ctrl-C stopped the work; the table then has the utterances that were finished.
    """

    table: "pd.DataFrame"
    outputs: tuple[str, ...]
    task: str
    failures: tuple[Failure, ...]
    interrupted: bool


class Predictor:
    """Heads of a run or an ensemble, with the extractors of their features, which are loaded at first use.

    Args:
        run: The run, the ensemble or the published folder.
        workspace: Folder of corpora, caches and runs.
        models: Values of the option ``--model``.
        device: Torch device of models and heads, or several.

    Raises:
        StoreError: the run has no heads, is damaged, or has features that cannot be computed.
        ModelError: an unknown device, or a value of ``--model`` that fits no store.
    """

    def __init__(
        self, run: RunFolder, workspace: Workspace, *, models: Sequence[str] = (), device: str = "auto"
    ) -> None:
        self.run = run
        self.workspace = workspace
        self.voters = voters_of(run, workspace)
        of_members = [needed_stores(member, workspace) for member in self.voters.members]
        self.needed: list[NeededStore] = list({one.identity.fingerprint: one for s in of_members for one in s}.values())
        self.device = usable_devices(device)
        self.heads = [
            RunHeads(member, self.voters.keys, self.device.partition(",")[0]) for member in self.voters.members
        ]
        self._models = models_by_store(models, {one.name: one.identity for one in self.needed})

    @cached_property
    def recreated(self) -> list[Recreated]:
        """The extractors of the features."""
        log.info("loading %s", ", ".join(one.name for one in self.needed))
        return recreate(self.needed, self._models, self.device, self.workspace)

    def predict(self, request: AudioRequest, settings: PredictSettings) -> Prediction:
        """Predict the utterances of a request.

        Args:
            request: The new audio.
            settings: Options.

        Raises:
            FeatcacheError: see :meth:`featcache.prediction.loaded_run.LoadedRun.predict`.
        """
        return _PredictionRun(self, request, settings).to_the_end()


class _PredictionRun:
    """One call of :meth:`Predictor.predict`."""

    def __init__(self, predictor: Predictor, request: AudioRequest, settings: PredictSettings) -> None:
        self._predictor = predictor
        self._request = request
        self._settings = settings
        self._voters = predictor.voters
        self._workers = settings.workers or default_workers(predictor.device)
        self._utterances = list(request.manifest)
        self._failures: dict[str, Failure] = {one.utterance_id: one for one in request.failures}
        if settings.strict and request.failures:
            raise _stopped(request.failures[0])
        self._combined: dict[str, Combined] = {}
        self._column = speaker_column(predictor.heads, one_speaker=settings.one_speaker)
        self._own = OwnCorpus(self._voters, predictor.workspace, self._request.cache)
        if self._column == CORPUS:
            self._utterances = self._own.with_corpus(self._utterances, request.corpus)
        if self._column is not None:
            check_speakers(self._utterances, self._column, predictor.run.name)
        self._words = {one.name: words_for(one, request) for one in predictor.needed if one.reads_text}
        self._audio = AudioInput(request.root)
        self._checksums = self._read_checksums()
        own = self._own_speakers()
        self._statistics: list[SpeakerStatistics | None] = [
            SpeakerStatistics.of(heads, self._column, own=own)
            if self._column is not None and heads.config["norm"] == "speaker"
            else None
            for heads in predictor.heads
        ]
        self._seconds: dict[str, float] = {}
        self._cut = CutUtterances()

    def _read_checksums(self) -> Mapping[str, str | None]:
        """Return path → SHA-256 of each file, if something is compared with them."""
        if not self._own.is_known and self._request.cache is None:
            return {}
        paths = sorted({utterance.path for utterance in self._utterances})
        return map_in_threads(self._audio.checksum, paths, self._workers, "comparing checksums")

    def _own_speakers(self) -> dict[str, str]:
        """Return the speakers all of whose utterances here are in the run's own corpus, with their names in the run."""
        column, own = self._column, self._own
        if column is None or not own.is_asked:
            return {}
        found: dict[str, set[str | None]] = {}
        for utterance in self._utterances:
            saved = own.saved_group(utterance, self._checksums.get(utterance.path), column)
            found.setdefault(group_of(utterance, column), set()).add(saved)
        return {group: name for group, (name, *others) in found.items() if name is not None and not others}

    def to_the_end(self) -> Prediction:
        """Predict all utterances."""
        folds = self._folds()
        needed = self._needed(folds)
        interrupted = False
        if needed:
            sizes = [heads.watch_activations() if self._settings.embeddings else {} for heads in self._predictor.heads]
            source = self._source(needed)
            with (
                embeddings_file(self._settings.embeddings, self._voters, sizes, self._utterances) as embeddings,
                source.running(),
            ):
                for part in self._parts(needed, source):
                    with source.part(part) as features:
                        for failure in features.failures:
                            self._failures.setdefault(failure.utterance_id, failure)
                        if features.interrupted:
                            interrupted = True
                            break
                        self._predict_part(features, folds, embeddings)
        return self._result(interrupted)

    def _folds(self) -> dict[str, frozenset[int]]:
        """Return utterance id → folds whose heads predict it; utterances without such folds fail."""
        every = frozenset(fold for _, fold in self._voters.keys)
        own = self._own
        by_id = own.is_asked
        for folder in own.unknown if not by_id else ():
            log.warning(
                "whether heads trained on this audio could not be checked: the cache %s does not have the checksums",
                folder,
            )
        found: dict[str, frozenset[int]] = {}
        num_own, trained = 0, []
        for utterance in self._utterances:
            sha256 = self._checksums.get(utterance.path)
            if sha256 is None and by_id:
                sha256 = own.sha256(utterance.utterance_id)
            folds = own.folds_for(utterance, sha256, by_id=by_id)
            num_own += folds is not None
            if folds is None or self._settings.include_trained:
                found[utterance.utterance_id] = every
            elif folds:
                found[utterance.utterance_id] = folds
            if folds is not None and folds != every:
                trained.append(utterance)
        self._tell_heads(found, num_own, trained)
        for utterance in trained:
            if utterance.utterance_id not in found:
                self._fail(utterance, TRAINED)
        return found

    def _tell_heads(self, found: Mapping[str, frozenset[int]], num_own: int, trained: Sequence[Utterance]) -> None:
        total = counted(self._voters.num_heads, "head")
        voting = {None: "mean of", "soft": "mean of", "hard": "hard vote of"}[self._voters.vote]
        log.info("%s %s: %s", voting, total, self._predictor.run.path)
        if not num_own:
            return
        own = f"{counted(num_own, 'utterance', 'are')} in the run's own corpus"
        if self._settings.include_trained and trained:
            log.warning(
                "%s: heads that trained on them predict them, too; scores of these predictions are optimistic", own
            )
        elif found:
            log.info("%s: each is predicted only by the heads that did not train on it", own)

    def _fail(self, utterance: Utterance, reason: str) -> None:
        failure = Failure(
            store=self._predictor.run.name, utterance_id=utterance.utterance_id, path=utterance.path, reason=reason
        )
        if self._settings.strict:
            raise _stopped(failure)
        self._failures[utterance.utterance_id] = failure

    def _needed(self, folds: Mapping[str, frozenset[int]]) -> list[Utterance]:
        """Return the utterances to extract: those to predict, and with speaker normalisation all of their speakers."""
        predicted = [u for u in self._utterances if u.utterance_id in folds]
        column = self._column
        if column is None:
            return predicted
        speakers = {group_of(utterance, column) for utterance in predicted}
        return [utterance for utterance in self._utterances if group_of(utterance, column) in speakers]

    def _source(self, needed: Sequence[Utterance]) -> CachedFeatures | TemporaryFeatures:
        """Return the features in the cache of the corpus if it has them, otherwise the extraction of new ones."""
        predictor = self._predictor
        cached = cached_features(predictor.needed, self._request, self._words, self._checksums)
        if cached is not None:
            log.info("features are read from %s", self._request.cache)
            return cached
        conditions = ExtractionConditions(
            device=predictor.device,
            workers=self._workers,
            batch_seconds=self._settings.batch_seconds,
            strict=self._settings.strict,
        )
        return TemporaryFeatures(predictor.recreated, needed, self._words, self._audio, conditions)

    def _parts(
        self, needed: Sequence[Utterance], source: CachedFeatures | TemporaryFeatures
    ) -> Iterator[list[Utterance]]:
        """Yield utterances to predict together; with speaker normalisation, all of a speaker."""
        groups: dict[str, list[Utterance]] = {}
        for utterance in needed:
            key = utterance.utterance_id if self._column is None else group_of(utterance, self._column)
            groups.setdefault(key, []).append(utterance)
        part: list[Utterance] = []
        size = 0
        for group in groups.values():
            of_group = sum(map(source.num_bytes, group))
            if part and (len(part) + len(group) > PART_UTTERANCES or size + of_group > PART_BYTES):
                yield part
                part, size = [], 0
            part += group
            size += of_group
        if part:
            yield part

    def _predict_part(
        self, part: PartFeatures, folds: Mapping[str, frozenset[int]], embeddings: EmbeddingsFile | None
    ) -> None:
        """Predict the utterances of a part with all heads."""
        predicted = [utterance for utterance in part.utterances if utterance.utterance_id in folds]
        if not predicted:
            return
        prepared = [self._prepare(number, part) for number in range(len(self._predictor.heads))]
        keep = embeddings is not None

        def compute(utterance: Utterance) -> list[Outputs]:
            utterance_id = utterance.utterance_id
            with np.errstate(all="ignore"):
                return [
                    heads.compute(features, normalisers, utterance_id, folds[utterance_id], activations=keep)
                    for heads, (features, normalisers) in zip(self._predictor.heads, prepared, strict=True)
                ]

        with one_thread_each(), Pool(self._workers, "predict") as pool:
            for utterance, of_members in zip(predicted, pool.map(compute, predicted), strict=True):
                outputs = np.stack([one for found, _ in of_members for one in found.values()])
                if not np.isfinite(outputs).all():
                    self._fail(utterance, NOT_FINITE)
                    continue
                thresholds = [
                    one
                    for heads, (found, _) in zip(self._predictor.heads, of_members, strict=True)
                    for one in heads.thresholds(found)
                ]
                chosen = np.stack(thresholds) if thresholds else None
                self._combined[utterance.utterance_id] = combine(outputs, self._voters.vote, chosen)
                if embeddings is not None:
                    embeddings.add(utterance.utterance_id, [inner for _, inner in of_members])

    def _prepare(self, number: int, part: PartFeatures) -> tuple[list[StoreFeatures], Normalisers]:
        """Return the features and normalisers of one member for a part."""
        heads, statistics = self._predictor.heads[number], self._statistics[number]
        features = heads.features(part.stores)
        self._cut.count(features, part.utterances)
        ids = [utterance.utterance_id for utterance in part.utterances]
        if statistics is None:
            return features, heads.saved_normalisers(ids)
        measured = part.utterances if self._settings.window is None else without_overlap(part.utterances)
        if number == self._statistics.index(next(filter(None, self._statistics))):
            self._seconds.update(seconds_of_speakers(features, statistics.new(measured), statistics.column))
        return features, statistics.normalisers(features, part.utterances, measured)

    def _result(self, interrupted: bool) -> Prediction:
        """Return the predictions, and warn about speakers with little audio.

        Raises:
            AudioError: no utterance could be predicted.
        """
        self._cut.tell()
        if self._column is not None:
            warn_about_short(self._seconds, self._column)
        failures = tuple(self._failures.values())
        if not self._combined and not interrupted:
            first = failures[0]
            raise AudioError(
                f"none of {counted(len(failures), 'utterance')} could be predicted; {first.utterance_id!r}: "
                f"{first.reason}"
            )
        outputs, task = self._predictor.heads[0].outputs, self._voters.task
        return Prediction(
            table=prediction_table(self._utterances, self._combined, outputs, task),
            outputs=outputs,
            task=task,
            failures=failures,
            interrupted=interrupted,
        )


def _stopped(failure: Failure) -> AudioError:
    return AudioError(f"utterance {failure.utterance_id!r}: {failure.reason} (stopped by --strict)")
