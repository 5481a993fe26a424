"""RUN in ``--model`` or ``--text`` → fine-tuned models, and the fold whose model computes each utterance."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from featcache.cache.failures import read_failures
from featcache.cache.identity import WEIGHTS
from featcache.cache.known_audio import KnownAudio, audio_store
from featcache.cache.tuned_store import TUNED, TestParts, TunedOrigin, fold_by_utterance, tested_sha256
from featcache.errors import ModelError, StoreError, listed
from featcache.extractors.checkpoint import is_folder
from featcache.extractors.models import entry_of
from featcache.extractors.references import is_reference
from featcache.files.values import damaged
from featcache.manifest import Utterance
from featcache.runs.file_names import CONFIG, MODELS
from featcache.runs.identity import hash_of
from featcache.runs.model_files import checked_model
from featcache.runs.parse import REFIT
from featcache.runs.reader import RunFolder, find_run, is_run
from featcache.runs.tuned_models import stores_with_models, tested_by_fold, trainings_of
from featcache.workspace import Workspace, check_name

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TunedSource:
    """Fine-tuned models of a run from which a store is extracted.

    Attributes:
        run: The run.
        cache: Cache of the corpus on which it was trained; it may not exist.
        store: Store of the run whose model was tuned.
        is_only: Whether the run has no other models.
        seed: Seed of the models.
        is_first: Whether it is the first seed of the run.
        fold: Fold whose model computes all utterances; None for the model of the fold that tested an utterance.
        folds: Folds of the run that have a model of this seed.
        tested: Test parts of all folds; None if the run does not contain them.
    """

    run: RunFolder
    cache: Path
    store: str
    is_only: bool
    seed: int
    is_first: bool
    fold: int | None
    folds: Sequence[int]
    tested: TestParts | None

    @property
    def store_name(self) -> str:
        """Usual name of the new store: the run, then store, seed and fold where the run alone is not clear."""
        parts = [self.run.name]
        if not self.is_only:
            parts.append(self.store)
        if not self.is_first:
            parts.append(f"seed-{self.seed}")
        if self.fold is not None:
            parts.append(f"fold-{self.fold}")
        return "-".join(parts)

    @cached_property
    def models(self) -> Mapping[int, tuple[Path, str]]:
        """Fold → folder of the model and SHA-256 of its files, which have the recorded checksums.

        Raises:
            StoreError: a model is missing or has changed.
        """
        folds = self.folds if self.fold is None else [self.fold]
        return {fold: checked_model(self.run.path, self.store, seed=self.seed, fold=fold) for fold in folds}

    def settings(self) -> dict[str, Any]:
        """Return the settings of the new store that replace those of an ordinary model."""
        checksums = {str(fold): sha256 for fold, (_, sha256) in self.models.items()}
        origin = TunedOrigin(
            run=self.run.name,
            corpus=self.run.config["corpus"],
            protocol=self.run.config["protocol"],
            store=self.store,
            seed=self.seed,
            fold=self.fold,
            models_sha256=checksums,
            tested_sha256=None if self.tested is None else tested_sha256(self.tested),
        )
        several = {WEIGHTS: hash_of(checksums)} if self.fold is None else {}
        return {"model_id": self.run.name, TUNED: origin.settings(), **several}

    def known_audio(self) -> KnownAudio:
        """Return the audio of the corpus on which the run was trained; nothing if its cache does not tell it."""
        found = KnownAudio()
        if store := audio_store(self.cache, [self.store, *self.run.config["features"]]):
            found.add_store(store)
        return found

    def without_failed(self, utterances: Sequence[Utterance], corpus: str) -> list[Utterance]:
        """Return utterances without those that no fold tested because they failed in the store of the run.

        Args:
            utterances: The requested utterances.
            corpus: Name of their corpus.

        Raises:
            StoreError: the table of failures is damaged.
        """
        if self.fold is not None or self.tested is None or corpus != self.run.config["corpus"]:
            return list(utterances)
        failed = {one.utterance_id for one in read_failures(self.cache / check_name("store", self.store))}
        failed -= fold_by_utterance(self.tested, self.folds).keys()
        left = [utterance for utterance in utterances if utterance.utterance_id not in failed]
        if not left or len(left) == len(utterances):
            return list(utterances)
        log.warning(
            "%d of %d utterances (%s) have no features in the store %s of %s, where they failed, and are left out",
            len(utterances) - len(left),
            len(utterances),
            listed(utterance.utterance_id for utterance in utterances if utterance.utterance_id in failed),
            self.store,
            self.run.path,
        )
        return left

    def fold_of(self, utterances: Sequence[Utterance], corpus: str) -> dict[str, int]:
        """Return utterance id → fold whose model computes it.

        Args:
            utterances: The requested utterances.
            corpus: Name of their corpus.

        Raises:
            StoreError: without ``fold``, an utterance is in no test part.
        """
        if self.fold is not None:
            return {utterance.utterance_id: self.fold for utterance in utterances}
        advice = f"choose the model of one fold for all utterances with --fold ({_shown(self.folds)})"
        if corpus != self.run.config["corpus"]:
            raise StoreError(
                f"{self.run.path} was trained on {self.run.config['corpus']!r}, so no fold tested the utterances of "
                f"{corpus!r}; {advice}"
            )
        if self.tested is None:
            raise StoreError(f"{self.run.path} does not contain the test parts of its folds; {advice}")
        found = fold_by_utterance(self.tested, self.folds)
        missing = [u.utterance_id for u in utterances if u.utterance_id not in found]
        if missing:
            raise StoreError(
                f"{len(missing)} of {len(utterances)} utterances ({listed(missing)}) are in no test part of "
                f"{self.run.path}, so that each of its models may have been trained on them; {advice}"
            )
        return {utterance.utterance_id: found[utterance.utterance_id] for utterance in utterances}


def tuned_source(
    name: str, workspace: Workspace, *, text: bool, fold: int | None = None, seed: int | None = None
) -> TunedSource | None:
    """Return the fine-tuned models that a name in ``--model`` or ``--text`` means; None for any other name.

    Names of known models and extractors, and model folders, take precedence over names of runs.

    Args:
        name: A run, or STORE=RUN for a run with several models.
        workspace: Folder of corpora, caches and runs.
        text: Whether a text model is expected.
        fold: Fold whose model computes all utterances.
        seed: Seed of the models; None for the first seed of the run.

    Raises:
        StoreError: the run has no fine-tuned models, or no such seed or fold.
        ModelError: it is not clear which model of the run is meant; a fold or seed is given, but the name is no run.
    """
    known = is_reference(name) or is_folder(name) or entry_of(name) is not None
    store, _, named = ("", "", name) if is_run(workspace, name) else name.rpartition("=")
    if known or not is_run(workspace, named):
        for option, value in (("fold", fold), ("seed", seed)):
            if value is not None:
                raise ModelError(f"--{option} {value} needs a run of 'featcache finetune', but {name!r} is none")
        return None
    run = find_run(workspace, named)
    chosen, is_only = _chosen_store(run, store, text=text)
    trainings = trainings_of(run, chosen)
    seeds: list[int] = run.config["seeds"]
    first = next((one for one in seeds if any(one == other for other, _ in trainings)), None)
    if first is None:
        raise damaged(run.path / CONFIG, f"seeds: none has a model in {run.path / MODELS / chosen}", REFIT)
    seed = first if seed is None else seed
    folds = sorted(number for other, number in trainings if other == seed)
    if not folds:
        raise StoreError(f"{run.path} has no seed {seed}; its seeds: {_shown(sorted({one for one, _ in trainings}))}")
    if fold is not None and fold not in folds:
        raise StoreError(f"{run.path} has no fold {fold}; its folds: {_shown(folds)}")
    return TunedSource(
        run=run,
        cache=workspace.cache(check_name("corpus", run.config["corpus"])),
        store=chosen,
        is_only=is_only,
        seed=seed,
        is_first=seed == first,
        fold=fold,
        folds=folds,
        tested=tested_by_fold(run),
    )


def _chosen_store(run: RunFolder, store: str, *, text: bool) -> tuple[str, bool]:
    """Return the store of a run whose model is meant, and whether the run has no other model."""
    option, kind = ("--text", "text") if text else ("--model", "speech")
    known = stores_with_models(run)
    if not known:
        raise StoreError(
            f"{run.path} has no fine-tuned models: its heads were trained on frozen features; name a run of "
            "'featcache finetune', or the model itself"
        )
    fitting = [name for name, reads_text in known.items() if reads_text == text]
    if store and store in fitting:
        return store, len(known) == 1
    if not store and len(fitting) == 1:
        return fitting[0], len(known) == 1
    if not fitting:
        other = "--model" if text else "--text"
        raise ModelError(f"{option}: {run.path} has no {kind} model, only {', '.join(known)}; use {other} {run.name}")
    raise ModelError(
        f"{option}: {run.path} has the {kind} models {', '.join(fitting)}; name one: {option} {fitting[0]}={run.name}"
    )


def _shown(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
