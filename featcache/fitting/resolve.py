"""Request → resolved fit: utterances, folds, target, features, notes and warnings."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from torch import Tensor

from featcache.cache.joint import corpus_of_cache
from featcache.cache.reader import FeatureCache, FeatureStore
from featcache.errors import ManifestError, ModelError
from featcache.extractors.upper import ActivationMemory, UpperBlocks, activation_memory
from featcache.fitting.auxiliary_tasks import AuxiliaryTarget, auxiliary_notes, auxiliary_targets
from featcache.fitting.checks import alike
from featcache.fitting.defaults import default_features, max_frames_of, pooling_of
from featcache.fitting.notes import final_notes, notes_on_request
from featcache.fitting.other_corpora import joint_notes, joint_settings, task_options
from featcache.fitting.record import config_of, speakers_without_label
from featcache.fitting.refusals import refuse_unusable
from featcache.fitting.task import ResolvedTask, resolve_task
from featcache.fitting.upper_models import (
    HeadFeatures,
    blocks_key,
    load_blocks,
    outputs_of_blocks,
    tuned_inputs,
    tuned_notes,
)
from featcache.fitting.used_views import ResolvedViews, resolve_views
from featcache.heads import HEADS, Head, HeadSpec, create_head, head_spec, head_weights
from featcache.heads.trial import try_head
from featcache.heads.tuned import TunedHead
from featcache.manifest import Manifest
from featcache.normalise import SPEAKER, check_scope
from featcache.protocols import Fold
from featcache.runs.identity import TUNED_LAYERS
from featcache.runs.tuned_inputs import TunedInput
from featcache.settings.checked import configured
from featcache.settings.field import Dataclass
from featcache.settings.finetunings import FinetuneSettings
from featcache.settings.fits import FitSettings, TrainingConfig
from featcache.settings.loss_choice import SOFT
from featcache.targets.soft import soft_classes
from featcache.targets.targets import Classes, PredictionTarget
from featcache.training.seeded import Draws, torch_seeded
from featcache.training.store_features import StoreFeatures, features_of


@dataclass(frozen=True, kw_only=True)
class ResolvedFit:
    """Request with all defaults resolved.

    Attributes:
        request: The settings of the fit, as the user gave them.
        spec: Description of the head: its inputs and its default training.
        kind: Class of the head, which stays the same if its file is edited during the fit; None for a solver.
        options: Options of the head.
        stores: Feature stores that the head reads.
        manifest: The utterances in the folds.
        measured: The utterances whose statistics normalise features: with speaker normalisation, utterances without a
            label are included.
        target: Target of the prediction.
        folds: Training, validation and test parts.
        features: Features of each store, with the layers and frames that are used, and of its views.
        seen: Features as the head sees them; they differ from ``features`` if blocks are trained.
        views: Augmented speech for training or as a test condition.
        config: Content of ``config.yaml``.
        training: Settings of the training.
        auxiliary: Targets that the heads learn too.
        tuned: Blocks that are trained, one item per store; empty for heads on frozen features.
        notes: Notes for the report.
        warnings: Warnings for the log and the report.
    """

    request: FitSettings
    spec: HeadSpec
    kind: type[Head] | None
    options: Dataclass
    stores: list[FeatureStore]
    manifest: Manifest
    measured: Manifest
    target: PredictionTarget
    folds: list[Fold]
    features: list[StoreFeatures]
    seen: HeadFeatures
    views: ResolvedViews
    config: dict[str, Any]
    training: TrainingConfig
    notes: list[str]
    warnings: list[str]
    auxiliary: Sequence[AuxiliaryTarget] = ()
    tuned: tuple[TunedInput, ...] = ()

    @property
    def loaded_ids(self) -> tuple[str, ...]:
        """Ids of all utterances that training reads: those in the folds, and those of views."""
        return (*self.manifest.utterance_ids, *self.views.originals)

    @property
    def checked_ids(self) -> tuple[str, ...]:
        """Ids of all utterances whose features or statistics are used."""
        return (*self.measured.utterance_ids, *self.views.originals)

    def seen_fold(self, number: int) -> Fold:
        """Return a fold as training sees it, with the ids of views.

        Args:
            number: Number of the fold, from 1 on.
        """
        return self.views.seen(self.folds[number - 1])

    def new_head(self, seed: int) -> Head:
        """Create an untrained head, see :func:`~featcache.heads.create_head`; blocks have their pretrained weights.

        Adapters get initial weights that depend only on the seed and the position of their store.
        """
        head = create_head(self.config["head"], kind=self.kind, **self._sizes(), seed=seed)
        if not isinstance(self.request, FinetuneSettings):
            return head
        frozen = not self.request.blocks_learning_rate
        models = copy.deepcopy(self.blocks)
        for position, blocks in enumerate(models.values()):
            with torch_seeded(seed, Draws.ADAPTERS, position, device="cpu"):
                blocks.draw_adapters()
        return TunedHead(head, models, paired=self.seen.paired, frozen=frozen)

    @cached_property
    def blocks(self) -> dict[str, UpperBlocks]:
        """The pretrained blocks of all stores, see :func:`~featcache.fitting.upper_models.load_blocks`.

        They are loaded and compared with the whole model once for all trainings.
        """
        if not isinstance(self.request, FinetuneSettings):
            return {}
        return load_blocks(self.request, self.tuned, self.stores)

    def share_blocks(self, others: Sequence["ResolvedFit"]) -> None:
        """Use the pretrained blocks of another request with equal ones, because each training has a copy anyway."""
        if isinstance(self.request, FinetuneSettings):
            key = blocks_key(self.request, self.tuned, self.stores)
            for one in others:
                if isinstance(one.request, FinetuneSettings) and key == blocks_key(one.request, one.tuned, one.stores):
                    self.__dict__["blocks"] = one.blocks

    def forget_blocks(self) -> None:
        """Release the memory of the pretrained blocks, which are loaded again if they are needed."""
        vars(self).pop("blocks", None)

    @cached_property
    def activations(self) -> list[ActivationMemory]:
        """Memory of a training step of the blocks of each store."""
        return [activation_memory(blocks) for blocks in self.blocks.values()]

    def weights(self) -> dict[str, Tensor]:
        """Return shape and dtype of the weights of the head, see :func:`~featcache.heads.head_weights`."""
        return head_weights(self.config["head"], kind=self.kind, **self._sizes())

    def _sizes(self) -> dict[str, Any]:
        return _head_sizes(self.seen, self.target, self.config["layer_weighting"], self.options)


def resolve(cache: FeatureCache, request: FitSettings) -> ResolvedFit:
    """Resolve all defaults of a request, and check that it can be fitted.

    Args:
        cache: The cache of the corpus.
        request: The settings of the fit.

    Returns:
        Everything that a run needs.

    Raises:
        FeatcacheError: a name is unknown, a label, protocol or store cannot be used, or the head does not accept these
            features. Nothing has been trained at that time.
    """
    spec = head_spec(request.head)
    options = configured(spec.options, request.set, f"head {request.head!r}")
    task = _task_of(cache, request, spec)
    max_frames = max_frames_of(cache, request, task.stores)
    tuned: tuple[TunedInput, ...] = ()
    if isinstance(request, FinetuneSettings):
        tuned = tuned_inputs(request, spec, task.stores)
        request = replace(request, from_layer=tuple(one.from_layer for one in tuned))  # -1 is a number from here on
    features, seen = _features(request, spec, task.stores, max_frames, tuned)
    _check_head(request, spec, task, features)
    auxiliary = auxiliary_targets(request, task.manifest, task.folds, task.target, corpus_of_cache(cache))
    check_scope(request.norm, task.manifest, request.norm_by)
    views = resolve_views(cache, request, task)
    further = speakers_without_label(task, request.norm_by) if request.norm == "speaker" else []
    kind = HEADS.find(request.head) if spec.is_network else None
    if kind:  # run an untrained head, so that a wrong setting is found before training
        try_head(request.head, kind=kind, **_head_sizes(seen, task.target, request.layer_weighting, options))
    measured = Manifest([*task.manifest, *further]) if further else task.manifest
    training = replace(request.training, batch_size=request.batch_size or spec.batch_size)
    return ResolvedFit(
        request=request,
        spec=spec,
        kind=kind,
        options=options,
        stores=task.stores,
        manifest=task.manifest,
        measured=measured,
        target=task.target,
        folds=task.folds,
        features=views.features(features, request, measured),
        seen=seen,
        views=views,
        training=training,
        notes=[
            *joint_notes(cache, task.stores),
            *_notes(request, task, spec, features, max_frames),
            *auxiliary_notes(auxiliary, task.manifest),
            *views.notes(request.norm),
            *(tuned_notes(request, tuned) if isinstance(request, FinetuneSettings) else ()),
        ],
        warnings=_warnings(request, task, views),
        config=config_of(
            cache.name,
            request,
            task,
            features,
            seen,
            further=further,
            max_frames=max_frames,
            spec=spec,
            options=options,
            training=training,
        )
        | ({TUNED_LAYERS: {one.store: list(one.layers) for one in tuned}} if tuned else {})
        | views.config()
        | joint_settings(cache),
        auxiliary=auxiliary,
        tuned=tuned,
    )


def _task_of(cache: FeatureCache, request: FitSettings, spec: HeadSpec) -> ResolvedTask:
    """Return utterances, folds, stores and target, whose training values are soft labels if the loss needs them."""
    names = request.features or default_features(cache, spec)
    task = resolve_task(cache, names, **task_options(cache, request))
    if request.loss == SOFT and isinstance(task.target, Classes):
        return replace(task, target=soft_classes(task.target, task.manifest))
    return task


def _features(
    request: FitSettings,
    spec: HeadSpec,
    stores: list[FeatureStore],
    max_frames: int,
    tuned: Sequence[TunedInput],
) -> tuple[list[StoreFeatures], HeadFeatures]:
    """Return the stored features, and the features as the head sees them."""
    pooling = pooling_of(request, spec, stores, [one.layers for one in tuned])
    most = max_frames or None
    if not tuned:
        found = features_of(stores, layers=request.layers, max_frames=most, pooling=pooling, paired=spec.pairs_frames)
        return found, HeadFeatures.of(found)
    layers = [str(one.from_layer) for one in tuned]
    found = features_of(stores, layers=layers, max_frames=most, pooling=None, paired=False, with_padding=True)
    return found, outputs_of_blocks(tuned, stores, spec, pooling)


def _notes(
    request: FitSettings, task: ResolvedTask, spec: HeadSpec, features: list[StoreFeatures], max_frames: int
) -> list[str]:
    return [
        *(final_notes(task, spec) if task.final else ()),
        *notes_on_request(request, spec, features, task.manifest, max_frames),
        *task.notes,
        *task.target.notes,
    ]


def _warnings(request: FitSettings, task: ResolvedTask, views: ResolvedViews) -> list[str]:
    groups = [request.norm_by] if request.norm_by != SPEAKER else []
    return [*task.warnings, *views.warnings, *alike(task.manifest, groups)]


def _check_head(request: FitSettings, spec: HeadSpec, task: ResolvedTask, features: list[StoreFeatures]) -> None:
    """Check that the head can learn the task, that layers fit the stores and the head, and that options can be used."""
    found = task.target.settings()["task"]
    if spec.tasks is not None and found not in spec.tasks:
        able = " or ".join(spec.tasks)
        raise ModelError(
            f"head {request.head!r} cannot learn {task.target.name!r}, a {found}, but only a {able}; use --head linear"
        )
    if request.layers != "all" and not any(item.store.layer_names[0] for item in features):
        names = ", ".join(item.store.name for item in features)
        raise ManifestError(f"--layers {request.layers} does not apply: {names} has no layers")
    if spec.max_layers == 1 and (len(features) > 1 or len(features[0].layers) > 1):
        needs = "a single store and a single layer: give one name to --features, and" if len(features) > 1 else ""
        raise ModelError(f"{request.head} needs {needs or 'a single layer:'} add --layers last")
    refuse_unusable(request, spec, task.target, features)


def _head_sizes(
    seen: HeadFeatures, target: PredictionTarget, layer_weighting: str, options: Dataclass
) -> dict[str, Any]:
    return {
        "num_layers": [len(layers) for layers in seen.layers],
        "hidden_sizes": list(seen.hidden_sizes),
        "num_outputs": target.num_outputs,
        "layer_weighting": layer_weighting,
        "pooling": seen.pooling,
        "paired": seen.paired,
        "options": options,
    }
