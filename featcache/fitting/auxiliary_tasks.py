"""Option ``--also`` → the auxiliary targets of trainings, checked before the first of them begins."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from featcache.corpora import Corpus
from featcache.errors import ManifestError, ProtocolError
from featcache.heads import Head
from featcache.heads.base import frame_sizes
from featcache.manifest import Manifest
from featcache.protocols import Fold
from featcache.runs.identity import hash_of
from featcache.settings.fits import FitSettings
from featcache.targets.targets import PredictionTarget, labelled, make_target, split
from featcache.training.auxiliary import Auxiliary, AuxiliaryTask


@dataclass(frozen=True, kw_only=True)
class AuxiliaryTarget:
    """An auxiliary target of a fit.

    Attributes:
        weight: Factor of its loss.
        target: The target.
        manifest: The utterances of the fit that have the label.
    """

    weight: float
    target: PredictionTarget
    manifest: Manifest

    def task(self, originals: Mapping[str, str]) -> AuxiliaryTask:
        """Return what a training needs.

        Args:
            originals: Id of a view → id of its utterance.
        """
        targets = {utterance.utterance_id: self.target.value(utterance) for utterance in self.manifest}
        return AuxiliaryTask(
            weight=self.weight,
            num_outputs=self.target.num_outputs,
            loss=self.target.objective.loss,
            targets=targets | {view: targets[one] for view, one in originals.items() if one in targets},
        )


def auxiliary_targets(
    request: FitSettings, manifest: Manifest, folds: Sequence[Fold], target: PredictionTarget, corpus: Corpus | None
) -> list[AuxiliaryTarget]:
    """Return the auxiliary targets of a request.

    Args:
        request: The settings of the fit.
        manifest: The utterances in the folds.
        folds: Training, validation and test parts.
        target: The target of the fit.
        corpus: The corpus, which defines its classes and the ranges of its dimensional labels; None if unknown.

    Raises:
        ManifestError: a label does not exist, has a single class or value, or is the target itself.
        ProtocolError: a training part has fewer than two classes or values.
    """
    found = []
    for name, weight in request.also.items():
        known = labelled(manifest, name)
        one = make_target(known, name, corpus)
        if set(one.labels) & set(target.labels):
            raise ManifestError(f"--also {name}: it is the target itself; name another label")
        values = {utterance.utterance_id: repr(one.value(utterance)) for utterance in known}
        for fold in folds:
            trained = {values[i] for i in fold.train if i in values}
            if len(trained) < 2:
                raise ProtocolError(
                    f"--also {name}: fold {fold.name!r} trains on {len(trained)} of its values only; name another label"
                )
        found.append(AuxiliaryTarget(weight=weight, target=one, manifest=known))
    return found


def labels_checksum(request: FitSettings, manifest: Manifest) -> dict[str, str]:
    """Return the entry of ``config.yaml`` that identifies the labels of auxiliary targets; empty without any."""
    columns = [column for name in request.also for column in split(manifest, name)[0]]
    labels = [[utterance.labels.get(column, "") for column in columns] for utterance in manifest]
    return {"auxiliary_sha256": hash_of(labels)} if columns else {}


def auxiliary_notes(found: Sequence[AuxiliaryTarget], manifest: Manifest) -> list[str]:
    """Return the notes for the report about auxiliary targets."""
    told = [f"{one.target.name} (weight {one.weight:g})" for one in found]
    notes = [f"Heads also learned {' and '.join(told)}, which the scores do not include."] if found else []
    notes += [note for one in found for note in one.target.notes]
    for one in found:
        missing = len(manifest) - len(one.manifest)
        if missing:
            notes.append(f"{missing} of {len(manifest)} utterances have no label {one.target.name!r} to learn from.")
    return notes


def auxiliary_of(
    found: Sequence[AuxiliaryTarget],
    originals: Mapping[str, str],
    head: Head,
    hidden_sizes: Sequence[int],
    seed: int,
    device: str,
) -> Auxiliary | None:
    """Return the auxiliary targets of one training; None without any.

    Args:
        found: The auxiliary targets.
        originals: Id of a view → id of its utterance.
        head: The untrained head.
        hidden_sizes: Hidden size of each store.
        seed: Seed of the training.
        device: Device of the training.
    """
    if not found:
        return None
    return Auxiliary([one.task(originals) for one in found], pooled_size(head, hidden_sizes), seed, device)


def pooled_size(head: Head, hidden_sizes: Sequence[int]) -> int:
    """Return the number of values of a pooled vector of a head, from one utterance of a single frame.

    Args:
        head: The head, on the CPU and in training mode, in which it is left.
        hidden_sizes: Hidden size of each store.
    """
    sizes = frame_sizes(hidden_sizes, head.pooling)
    batch = [[torch.zeros(layers, 1, size)] for layers, size in zip(head.num_layers, sizes, strict=True)]
    with torch.no_grad():
        size = head.eval().pooled(batch).shape[1]
    head.train()
    return size
