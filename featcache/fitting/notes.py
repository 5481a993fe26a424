"""Request × features → notes for the report of a run."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from featcache.errors import listed
from featcache.evaluate.intervals import ONE_SEED
from featcache.fitting.task import ResolvedTask
from featcache.heads import HeadSpec
from featcache.manifest import Manifest
from featcache.normalise import SPEAKER
from featcache.protocols.final import held_out_speakers
from featcache.settings.fits import FitSettings
from featcache.settings.loss_choice import BALANCED
from featcache.training.store_features import StoreFeatures
from featcache.units import counted

SPEAKER_NOTE = (
    "Speaker normalisation is transductive: the mean and standard deviation of each test speaker are computed over all "
    "selected utterances of that speaker, including utterances without a label. No labels are used."
)


FINAL_SPEAKER_NOTE = (
    "Speaker normalisation uses the mean and standard deviation of each speaker over all selected utterances of that "
    "speaker, including utterances without a label. New audio needs statistics of its own speakers."
)


FINAL_NOTE = (
    "The heads are for new audio: they are trained on {} of {} utterances. The other {} are the validation part, from "
    "{}, as in the first fold of protocol {!r}. There is no test part; for test scores, fit without --final."
)


FINAL_SOLVER_NOTE = (
    "The heads are for new audio: they are trained on all {} utterances. Validation predictions are out-of-fold "
    "predictions of {} utterances, from {}: the validation part of the first fold of protocol {!r}. There is no test "
    "part; for test scores, fit without --final."
)


NORM_BY_NOTE = "Speaker normalisation is per value of the label {!r}, in place of the speaker."


UNTRAINED_NOTE = "The weights of {} are random: this is the untrained control, not a result of the trained model."


SOLVER_NOTE = (
    "Head {!r} is fitted by a solver: one seed suffices. A cross-validation over speakers inside the training and "
    "validation parts choose C, and the head is then fitted to both parts with this C. Validation predictions are "
    "out-of-fold predictions of this cross-validation."
)


COSTS_NOTE = "Chosen C: {}."


EGEMAPS_NOTE = "eGeMAPS frames are averaged in pairs, which gives a frame every 20 ms (Pepino et al. 2021)."


NO_LAYER_WEIGHTS_NOTE = "Head {!r} learns no layer weights: it uses all layers unweighted."


FUSED_NOTE = (
    "The frames of {} are not aligned in time: each store is averaged over its own frames after its dense layer, "
    "and then fused."
)


AVERAGED_NOTE = "Every {} frames of {} are averaged, which gives a frame every {:g} ms (as Pepino et al. 2021, pairs)."


BALANCED_NOTE = (
    "In the loss, each class of the training part has the same total weight, in each fold (balanced class weights)."
)


def averaged_note(features: StoreFeatures) -> str:
    """Return the note on features whose neighbouring frames were averaged."""
    if features.store.metadata["extractor"] == "egemaps":
        return EGEMAPS_NOTE
    return AVERAGED_NOTE.format(features.averaged, features.store.name, 1000 * features.frame_shift)


def costs_note(costs: Sequence[float]) -> str:
    """Return the note on the chosen C of all trainings, and of all dimensions of a regression.

    Args:
        costs: The chosen values.
    """
    numbers = sorted(Counter(costs).items())
    return COSTS_NOTE.format(", ".join(f"{cost:g} ({counted(number, 'model')})" for cost, number in numbers))


def final_notes(task: ResolvedTask, spec: HeadSpec) -> list[str]:
    """Return the note on a fit without a test part: which utterances validate.

    Args:
        task: Utterances, and the only fold.
        spec: Description of the head.
    """
    [fold] = task.folds
    held_out, known = held_out_speakers(fold, task.manifest), task.manifest.speaker_ids
    speakers = "speakers who also train"
    if held_out:
        speakers = f"{len(held_out)} of {len(known)} speakers ({listed(held_out)})"
        speakers += " who do not train" if spec.is_network else ""
    elif any(utterance.speaker_id == "" for utterance in task.manifest):
        speakers = "unknown speakers"
    if not spec.is_network:
        return [FINAL_SOLVER_NOTE.format(len(task.manifest), len(fold.validation), speakers, task.protocol)]
    numbers = (len(fold.train), len(task.manifest), len(fold.validation))
    return [FINAL_NOTE.format(*numbers, speakers, task.protocol)]


def loss_notes(request: FitSettings) -> list[str]:
    """Return the notes on a loss and on class weights other than the defaults."""
    notes = [] if request.loss is None else [f"Loss: {request.loss}."]
    if isinstance(request.class_weights, Mapping):
        weights = ", ".join(f"{name} {weight:g}" for name, weight in request.class_weights.items())
        notes.append(f"Weights of the classes in the loss: {weights}; 1 for other classes.")
    elif request.class_weights == BALANCED:
        notes.append(BALANCED_NOTE)
    return notes


def notes_on_request(
    request: FitSettings, spec: HeadSpec, features: Sequence[StoreFeatures], manifest: Manifest, max_frames: int
) -> list[str]:
    """Return the notes that are known before training.

    Args:
        request: The settings of the fit.
        spec: Description of the head.
        features: Features of each store.
        manifest: The utterances in the folds.
        max_frames: Largest number of frames that are used of each utterance; 0 for all.
    """
    notes = []
    if request.norm == "speaker":
        notes.append(FINAL_SPEAKER_NOTE if request.final else SPEAKER_NOTE)
        if request.norm_by != SPEAKER:
            notes.append(NORM_BY_NOTE.format(request.norm_by))
    if not spec.is_network:
        notes.append(SOLVER_NOTE.format(request.head))
    elif len(request.seeds) == 1:
        notes.append(f"{ONE_SEED}.")
    notes += loss_notes(request)
    if not spec.learns_layers and any(len(item.layers) > 1 for item in features):
        notes.append(NO_LAYER_WEIGHTS_NOTE.format(request.head))
    for item in features:
        if item.store.metadata.get("weights") == "random":
            notes.append(UNTRAINED_NOTE.format(item.store.name))
        if item.averaged > 1:
            notes.append(averaged_note(item))
    if len(features) > 1 and spec.pairs_frames and not features[0].paired:
        notes.append(FUSED_NOTE.format(" and ".join(item.store.name for item in features)))
    counted = next((item for item in features if item.max_frames), features[0])
    cut = sum(counted.num_frames(i) > max_frames for i in manifest.utterance_ids) if counted.max_frames else 0
    if cut:
        seconds = "" if np.isnan(counted.frame_shift) else f", {max_frames * counted.frame_shift:.1f} s"
        notes.append(
            f"{cut} of {len(manifest)} utterances are cut to {max_frames} frames{seconds} "
            "(--max-frames 0 uses all frames)."
        )
    return notes
