"""Request → resolved fit: utterances, folds, target, features, notes and warnings."""

from dataclasses import dataclass, replace
from typing import Any

from featcache.cache.reader import FeatureCache, FeatureStore
from featcache.errors import ManifestError, ModelError
from featcache.fitting.checks import alike
from featcache.fitting.defaults import default_features, max_frames_of, pooling_of
from featcache.fitting.notes import final_notes, notes_on_request
from featcache.fitting.record import config_of, speakers_without_label
from featcache.fitting.refusals import refuse_unusable
from featcache.fitting.task import ResolvedTask, resolve_task
from featcache.heads import HEADS, Head, HeadSpec, create_head, head_spec
from featcache.heads.trial import try_head
from featcache.manifest import Manifest
from featcache.normalise import SPEAKER, check_scope
from featcache.protocols import Fold
from featcache.settings.checked import configured
from featcache.settings.field import Dataclass
from featcache.settings.fits import FitSettings, TrainingConfig
from featcache.targets.targets import PredictionTarget
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
        features: Features of each store, with the layers and frames that are used.
        config: Content of ``config.yaml``.
        training: Settings of the training.
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
    config: dict[str, Any]
    training: TrainingConfig
    notes: list[str]
    warnings: list[str]

    def new_head(self, seed: int) -> Head:
        """Create an untrained head, see :func:`~featcache.heads.create_head`."""
        sizes = _head_sizes(self.features, self.target, self.config["layer_weighting"], self.options)
        return create_head(self.config["head"], kind=self.kind, **sizes, seed=seed)


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
    task = resolve_task(
        cache,
        request.features or default_features(cache, spec),
        protocol=request.protocol,
        target=request.target,
        task=request.task,
        label_range=request.label_range,
        select=request.select,
        limit=request.limit,
        final=request.final,
    )
    max_frames = max_frames_of(cache, request, task.stores)
    features = features_of(
        task.stores,
        layers=request.layers,
        max_frames=max_frames or None,
        pooling=pooling_of(request, spec, task.stores),
        paired=spec.pairs_frames,
    )
    _check_head(request, spec, task, features)
    check_scope(request.norm, task.manifest, request.norm_by)
    further = speakers_without_label(task, request.norm_by) if request.norm == "speaker" else []
    kind = HEADS.find(request.head) if spec.is_network else None
    if kind:  # run an untrained head, so that a wrong setting is found before training
        try_head(request.head, kind=kind, **_head_sizes(features, task.target, request.layer_weighting, options))
    training = replace(request.training, batch_size=request.batch_size or spec.batch_size)
    return ResolvedFit(
        request=request,
        spec=spec,
        kind=kind,
        options=options,
        stores=task.stores,
        manifest=task.manifest,
        measured=Manifest([*task.manifest, *further]) if further else task.manifest,
        target=task.target,
        folds=task.folds,
        features=features,
        training=training,
        notes=[
            *(final_notes(task, spec) if task.final else ()),
            *notes_on_request(request, spec, features, task.manifest, max_frames),
            *task.notes,
            *task.target.notes,
        ],
        warnings=[*task.warnings, *(alike(task.manifest, [request.norm_by]) if request.norm_by != SPEAKER else [])],
        config=config_of(
            cache.name,
            request,
            task,
            features,
            further=further,
            max_frames=max_frames,
            spec=spec,
            options=options,
            training=training,
        ),
    )


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
    features: list[StoreFeatures], target: PredictionTarget, layer_weighting: str, options: Dataclass
) -> dict[str, Any]:
    return {
        "num_layers": [len(item.layers) for item in features],
        "hidden_sizes": [item.store.hidden_size for item in features],
        "num_outputs": target.num_outputs,
        "layer_weighting": layer_weighting,
        "pooling": features[0].pooling,
        "paired": features[0].paired,
        "options": options,
    }
