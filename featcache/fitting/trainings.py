"""Resolved fit × fold × seed → a training, of a network or of a head that a solver fits."""

import logging
import math
from collections.abc import Mapping, Sequence

from featcache.errors import DiskError, StoreError
from featcache.fitting.auxiliary_tasks import auxiliary_of
from featcache.fitting.groups import Member
from featcache.fitting.objective import class_weights_of, objective_of
from featcache.fitting.resolve import ResolvedFit
from featcache.protocols import Fold
from featcache.runs.checkpoints import CheckpointFile
from featcache.runs.file_names import training_name
from featcache.settings.finetunings import FinetuneSettings
from featcache.targets.targets import CLASSIFICATION, REGRESSION, Classes
from featcache.training.memory import WorkingCopy
from featcache.training.solvers import LogisticTraining, SolverTraining, SVCTraining, SVRTraining
from featcache.training.train import Training
from featcache.training.trainable import Trainable
from featcache.units import counted

# (head, task) → training of a head that a solver fits.
SOLVER_TRAININGS: Mapping[tuple[str, str], type[SolverTraining]] = {
    ("svm", CLASSIFICATION): SVCTraining,
    ("svm", REGRESSION): SVRTraining,
    ("logistic", CLASSIFICATION): LogisticTraining,
}


log = logging.getLogger(__name__)


def begun_training(
    setup: ResolvedFit, member: Member, seed: int, copy: WorkingCopy, device: str, checkpoint: CheckpointFile
) -> Trainable:
    """Return a new training, or the continuation of a fine-tuning that was interrupted.

    Args:
        setup: The resolved fit.
        member: The fold, and the layers that the run uses.
        seed: Seed of the training.
        copy: Dtype in which the head computes.
        device: Device of the head and the features.
        checkpoint: File for the state of the training; only fine-tunings, which take long, use it.
    """
    if not setup.tuned:
        return new_training(setup, member, seed, copy, device)
    training = new_training(setup, member, seed, copy, device, checkpoint)
    try:
        if isinstance(training, Training) and training.go_on():
            log.info(
                "%s continues after %s", training_name(seed, member.fold), counted(len(training.history), "evaluation")
            )
        return training
    except (DiskError, StoreError) as error:
        log.warning("%s", error)
        checkpoint.remove()
    return new_training(setup, member, seed, copy, device, checkpoint)


def new_training(
    setup: ResolvedFit,
    member: Member,
    seed: int,
    copy: WorkingCopy,
    device: str,
    checkpoint: CheckpointFile | None = None,
) -> Trainable:
    """Return the training of a head that has not begun.

    Args:
        setup: The resolved fit.
        member: The fold, and the layers that the run uses.
        seed: Seed of the training.
        copy: Dtype in which the head computes.
        device: Device of the head and the features.
        checkpoint: File to which a network writes its state after each evaluation; None for none.
    """
    targets = {utterance.utterance_id: setup.target.value(utterance) for utterance in setup.manifest}
    targets |= {i: targets[setup.views.original(i)] for i in setup.views.originals}
    fold = setup.seen_fold(member.fold)
    if not setup.spec.is_network:
        return SOLVER_TRAININGS[setup.config["head"], setup.config["task"]](
            seed,
            fold,
            targets,
            setup.target.num_outputs,
            member.layers,
            speakers=_groups(setup, fold),
            class_weights=class_weights_of(setup, setup.folds[member.fold - 1]),
            only_trained=setup.views.originals,
        )
    head = setup.new_head(seed)
    return Training(
        head,
        seed,
        fold,
        targets,
        setup.training,
        loop=setup.request,
        layers=member.layers,
        frame_shifts=[features.frame_shift for features in setup.features],
        objective=objective_of(setup, setup.folds[member.fold - 1]),
        compute=copy.compute,
        device=device,
        auxiliary=auxiliary_of(
            setup.auxiliary,
            {view: one for view, (_, one) in setup.views.originals.items()},
            head,
            [one.store.hidden_size for one in setup.features],
            seed,
            device,
        ),
        classes=_classes(setup, fold.train),
        blocks=setup.request.blocks if isinstance(setup.request, FinetuneSettings) else None,
        lengths=_lengths(setup),
        checkpoint=checkpoint,
    )


def _groups(setup: ResolvedFit, fold: Fold) -> dict[str, str]:
    """Return utterance id → the group that a cross-validation keeps together: the speaker, or one utterance's views."""
    originals = {i: setup.views.original(i) for i in (*fold.train, *fold.validation)}
    speakers = {i: setup.manifest[original].speaker_id for i, original in originals.items()}
    return speakers if len(set(speakers.values())) > 1 else originals


def _lengths(setup: ResolvedFit) -> dict[str, float]:
    """Return utterance id → duration in seconds, or number of tokens, if batches of similar length are asked for."""
    request = setup.request
    if not isinstance(request, FinetuneSettings) or not (request.batch_seconds or request.group_by_length):
        return {}
    lead = next((one for one in setup.features if not math.isnan(one.frame_shift)), setup.features[0])
    unit = 1 if math.isnan(lead.frame_shift) else lead.frame_shift
    return {i: lead.num_frames(i) * unit for i in setup.loaded_ids}


def _classes(setup: ResolvedFit, utterance_ids: Sequence[str]) -> dict[str, int]:
    """Return utterance id → position of its class, for utterances and views; empty for other targets."""
    if not isinstance(setup.target, Classes):
        return {}
    return {i: setup.target.position(setup.manifest[setup.views.original(i)]) for i in utterance_ids}
