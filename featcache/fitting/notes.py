"""Request × features → what a reader of the run's numbers must know."""

from collections.abc import Sequence

import numpy as np

from featcache.evaluate.intervals import ONE_SEED
from featcache.heads import HeadSpec
from featcache.manifest import Manifest
from featcache.normalise import SPEAKER
from featcache.settings.fits import FitSettings
from featcache.training.store_features import StoreFeatures

SPEAKER_NOTE = (
    "Speaker normalisation is transductive: the mean and standard deviation of each test speaker were taken over all "
    "utterances of that speaker that take part, those without a label included, and no label was used."
)


NORM_BY_NOTE = "Normalisation took the label {!r} for the speaker."


UNTRAINED_NOTE = (
    "The weights of {} are random: this is the untrained control, and says nothing about the trained model."
)


SVM_NOTE = "A support vector machine draws nothing at random: one seed says it all. Its C was chosen on validation."


EGEMAPS_NOTE = "eGeMAPS frames were averaged in pairs, so that they come every 20 ms (Pepino et al. 2021)."


NO_LAYER_WEIGHTS_NOTE = "Head {!r} learns no layer weights: it takes all layers as they are."


FUSED_NOTE = (
    "The frames of {} do not pair: each store was averaged over its own frames after its dense layer, and then fused."
)


AVERAGED_NOTE = "Each {} frames of {} were averaged, so that they come every {:g} ms (as Pepino et al. 2021 for pairs)."


def averaged_note(features: StoreFeatures) -> str:
    """Return what a reader must know of features whose neighbouring frames were averaged."""
    if features.store.metadata["extractor"] == "egemaps":
        return EGEMAPS_NOTE
    return AVERAGED_NOTE.format(features.averaged, features.store.name, 1000 * features.frame_shift)


def notes_on_request(
    request: FitSettings, spec: HeadSpec, features: Sequence[StoreFeatures], manifest: Manifest, max_frames: int
) -> list[str]:
    """Return what a reader must know of a run, before anything is trained."""
    notes = []
    if request.norm == "speaker":
        notes.append(SPEAKER_NOTE)
        if request.norm_by != SPEAKER:
            notes.append(NORM_BY_NOTE.format(request.norm_by))
    if not spec.is_network:
        notes.append(SVM_NOTE)
    elif len(request.seeds) == 1:
        notes.append(f"{ONE_SEED}.")
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
        seconds = "" if np.isnan(counted.frame_shift) else f" ({max_frames * counted.frame_shift:.1f} s)"
        notes.append(
            f"{cut} of {len(manifest)} utterances are longer and only their first {max_frames} frames{seconds} count."
        )
    return notes
