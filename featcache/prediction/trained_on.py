"""New audio × the run's own corpus → the folds whose heads did not train on this audio.

An utterance is known by the SHA-256 of its file and by its part of the file. A head may predict an utterance of its own
corpus if the utterance is in the test part of its fold, or if it has no label and so no head trained on it. Validation
utterances ended the training, so that they count as trained on.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from featcache.cache.joint import in_corpus, split_id
from featcache.cache.known_audio import KnownAudio, audio_store
from featcache.cache.reader import FeatureCache
from featcache.files.values import checked
from featcache.manifest import Manifest, Utterance
from featcache.prediction.members import Voters
from featcache.prediction.speaker_statistics import group_of
from featcache.protocols.across import CORPUS, LEAVE_ONE_OUT
from featcache.runs.file_names import CONFIG, PREDICTIONS, VALIDATION_PREDICTIONS
from featcache.runs.identity import LABEL_MAP, TARGET_COLUMNS, TEST, TRAIN
from featcache.runs.parse import REFIT
from featcache.runs.reader import RunFolder, load_predictions
from featcache.targets.targets import CLASSIFICATION, MULTILABEL
from featcache.workspace import Workspace


class OwnCorpus:
    """The corpus or corpora on which a run was trained, as far as they are known here.

    In a run on several corpora, the id of an utterance begins with its corpus.

    Args:
        voters: The heads that predict.
        workspace: Folder of corpora, caches and runs.
        asked: Cache of the audio to predict; None if it has none.

    Attributes:
        unknown: Folders of the caches that do not tell the checksums of the audio; they may not exist.
        is_known: Whether some cache tells them, so that heads can be chosen.
        is_asked: Whether the audio to predict is from a cache of this run.
    """

    def __init__(self, voters: Voters, workspace: Workspace, asked: Path | None = None) -> None:
        self._runs = voters.members
        self._folds = frozenset(fold for _, fold in voters.keys)
        config = self._runs[0].config
        several = [*config.get(TRAIN, []), *config.get(TEST, [])]
        # Name of the corpus, empty for the only one → folder of its cache.
        self._folders = {name: workspace.cache(name) for name in several} or {"": workspace.cache(config["corpus"])}
        self._audio = KnownAudio()
        self._sha256: dict[str, str] = {}
        self.unknown = []
        for corpus, folder in self._folders.items():
            store = audio_store(folder, [name for member in voters.members for name in member.config["features"]])
            if store is None:
                self.unknown.append(folder)
                continue
            ids = store.utterance_ids
            for own, (sha256, start, end) in zip(ids, store.recordings(ids), strict=True):
                utterance_id = _joint_id(corpus, own)
                self._audio.add(utterance_id, sha256, start, end)
                self._sha256[utterance_id] = sha256
        self.is_known = len(self.unknown) < len(self._folders)
        asked_for = (name for name, folder in self._folders.items() if _is_same(folder, asked))
        self._asked: str | None = next(asked_for, None)
        self.is_asked = self._asked is not None

    @cached_property
    def _tested(self) -> Mapping[str, frozenset[int]]:
        """Utterance id → folds that have it in the test part of all runs; read only if the audio is in the corpus."""
        tested = [_tested(run, self._folds) for run in self._runs]
        return {i: frozenset.intersection(*(one.get(i, frozenset()) for one in tested)) for i in tested[0]}

    @cached_property
    def _tested_corpora(self) -> Mapping[str, frozenset[int]]:
        """Corpus → folds that test it as a whole in all runs, also utterances without a prediction in them."""
        tested = [_tested_corpora(run.config, self._folds) for run in self._runs]
        return {name: frozenset.intersection(*(one.get(name, frozenset()) for one in tested)) for name in tested[0]}

    @cached_property
    def _manifests(self) -> Mapping[str, Manifest]:
        """Corpus → manifest of its cache; corpora without a cache are missing."""
        there = {name: folder for name, folder in self._folders.items() if (folder / "manifest.csv").is_file()}
        return {name: FeatureCache(folder).manifest for name, folder in there.items()}

    @cached_property
    def _utterances(self) -> Mapping[str, Utterance]:
        """Utterance id → utterance of a cache."""
        return {_joint_id(name, u.utterance_id): u for name, one in self._manifests.items() for u in one}

    @cached_property
    def _untrained(self) -> frozenset[str]:
        """Ids of utterances that no fit used: without a label now, and in no table of predictions."""
        return frozenset.intersection(
            *(
                frozenset(
                    _joint_id(name, own)
                    for name, manifest in self._manifests.items()
                    for own in _without_label(run, name, manifest)
                )
                - _predicted(run)
                for run in self._runs
            )
        )

    def _id(self, utterance_id: str) -> str:
        """Return the id in this run of an utterance of the audio to predict."""
        return _joint_id(self._asked or "", utterance_id)

    def sha256(self, utterance_id: str) -> str | None:
        """Return the SHA-256 of the file of an utterance of the audio to predict; None if it is not known."""
        return self._sha256.get(self._id(utterance_id))

    def with_corpus(self, utterances: Sequence[Utterance], corpus: str | None) -> list[Utterance]:
        """Return utterances with the label ``corpus``: their corpus in this run, or the given one if they have none.

        Args:
            utterances: Utterances of the new audio.
            corpus: Name of their corpus; None if it is unknown.
        """
        if self._asked:
            return [replace(u, labels={**u.labels, CORPUS: self._asked}) for u in utterances]
        return [replace(u, labels={CORPUS: corpus, **u.labels}) for u in utterances] if corpus else list(utterances)

    def saved_group(self, utterance: Utterance, sha256: str | None, column: str) -> str | None:
        """Return the group whose saved statistics normalise an utterance.

        Args:
            utterance: Utterance of the new audio.
            sha256: SHA-256 of its file; None if the file cannot be read, so that the audio is not compared.
            column: Column that groups utterances for speaker normalisation.

        Returns:
            Name of the group in the run; None if the corpus has no utterance with this id, this audio and this speaker.
        """
        there = self._utterances.get(self._id(utterance.utterance_id))
        if there is None or (there.start, there.end) != (utterance.start, utterance.end):
            return None
        if sha256 not in (None, self.sha256(utterance.utterance_id)):
            return None
        if self._asked and column == CORPUS:
            return self._asked
        group = group_of(utterance, column)
        return _joint_id(self._asked or "", group) if group_of(there, column) == group else None

    def folds_for(self, utterance: Utterance, sha256: str | None, *, by_id: bool = False) -> frozenset[int] | None:
        """Return the folds whose heads did not train on an utterance.

        Args:
            utterance: Utterance of the new audio.
            sha256: SHA-256 of its file; None if the file cannot be read.
            by_id: Whether the audio is the corpus, so that its id names an utterance whose checksum the cache does not
                have.

        Returns:
            Numbers of the folds; None if the utterance is not in the corpus, so that no head trained on it.
        """
        start, end = utterance.start or 0.0, math.inf if utterance.end is None else utterance.end
        same = self._audio.overlapping(sha256, start, end) if sha256 else []
        named = self._id(utterance.utterance_id)
        if by_id and not self._sha256.get(named) and named in self._utterances:
            same.append(named)
        trained = [own for own in same if own not in self._untrained]
        if not trained:
            return None
        return frozenset.intersection(*(self._folds_testing(own) for own in trained))

    def _folds_testing(self, utterance_id: str) -> frozenset[int]:
        if utterance_id in self._tested:
            return self._tested[utterance_id]
        return self._tested_corpora.get(split_id(utterance_id)[0], frozenset())


def _joint_id(corpus: str, utterance_id: str) -> str:
    """Return the id of an utterance in a run; ``corpus`` is empty for a run on a single one."""
    return in_corpus(corpus, utterance_id) if corpus else utterance_id


def _is_same(folder: Path, other: Path | None) -> bool:
    return other is not None and other.is_dir() and folder.is_dir() and other.samefile(folder)


def _tested(run: RunFolder, folds: frozenset[int]) -> Mapping[str, frozenset[int]]:
    """Return utterance id → folds that have it in their test part; empty for runs without predictions for tests."""
    if not (run.path / PREDICTIONS).is_file() or run.predictions.empty:
        return {}
    pairs = load_predictions(run).table[["utterance_id", "fold"]].drop_duplicates()
    found: dict[str, set[int]] = defaultdict(set)
    for utterance_id, fold in pairs.itertuples(index=False):
        found[utterance_id].add(int(fold))
    return {utterance_id: frozenset(numbers) & folds for utterance_id, numbers in found.items()}


def _tested_corpora(config: Mapping[str, Any], folds: frozenset[int]) -> Mapping[str, frozenset[int]]:
    """Return corpus → folds that do not train on it; empty for a run on one corpus.

    The folds of leave-one-corpus-out test the corpora in sorted order.
    """
    if config.get("protocol") == LEAVE_ONE_OUT:
        numbered = enumerate(sorted(config.get(TRAIN, [])), start=1)
        return {name: frozenset({number}) & folds for number, name in numbered}
    return dict.fromkeys(config.get(TEST, []), folds)


def _predicted(run: RunFolder) -> frozenset[str]:
    """Return the ids of utterances that the run predicted in a test or validation part, so that it used them."""
    tables = {PREDICTIONS: "predictions", VALIDATION_PREDICTIONS: "validation_predictions"}
    found = [getattr(run, name) for file, name in tables.items() if (run.path / file).is_file()]
    return frozenset(utterance_id for table in found for utterance_id in table.get("utterance_id", ()))


def _without_label(run: RunFolder, corpus: str, manifest: Manifest) -> frozenset[str]:
    """Return the ids of utterances that no fit of the run could use: without a label, or not selected.

    Args:
        run: The run.
        corpus: Name of the corpus, in a run on several corpora; otherwise empty.
        manifest: The utterances of the corpus.
    """
    if run.config["task"] in (CLASSIFICATION, MULTILABEL):
        names = [run.config["target"]]
        if names[0] not in manifest.label_columns:
            names = [names[0].partition("=")[0]]  # one class against all others
        if run.config["task"] == MULTILABEL and names[0] not in manifest.label_columns:
            names = names[0].split(",")
        if own := run.config.get(TARGET_COLUMNS, {}).get(corpus):
            names = [str(own)]
    else:
        names = list(run.config["label_ranges"])
    select: Mapping[str, list[str]] = run.config.get("select", {})
    if corpus:  # a selection applies to the corpora that have the label
        select = {column: values for column, values in select.items() if column in manifest.label_columns}
    mapped = checked(run.config.get(LABEL_MAP, {}).get(corpus, {}), dict, run.path / CONFIG, REFIT)
    left_out = {label for label, common in mapped.items() if common is None}
    return frozenset(
        utterance.utterance_id
        for utterance in manifest
        if any(utterance.labels.get(name, "") in ("", *left_out) for name in names)
        or any(utterance.labels.get(column, "") not in values for column, values in select.items())
    )
