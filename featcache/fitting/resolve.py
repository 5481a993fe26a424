"""Request → everything resolved: utterances, folds, target, features, and what the user must know."""

from dataclasses import dataclass, replace
from typing import Any

from featcache.cache.reader import FeatureCache, FeatureStore
from featcache.errors import ManifestError, ModelError
from featcache.fitting.checks import alike
from featcache.fitting.defaults import default_features, max_frames_of, pooling_of
from featcache.fitting.notes import notes_on_request
from featcache.fitting.record import config_of, speakers_without_label
from featcache.fitting.task import resolve_task
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
    """A request with everything that it leaves open decided.

    Attributes:
        spec: What the head takes and how it is trained.
        kind: The class of the head, which stays the same if somebody edits its file meanwhile; None for a solver.
        options: The head's own options.
        stores: The feature stores that it reads.
        manifest: The utterances in the folds.
        measured: Those, and with speaker normalisation the utterances without a label: a speaker's statistics are taken
            over them.
        target: What is predicted.
        folds: Who trains, validates and tests.
        features: One for each store: the layers and frames that are used.
        config: The content of ``config.yaml``.
        training: How the head is trained.
        notes: What a reader of the numbers must know.
        warnings: What looks wrong.
    """

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
        """Make a head, untrained, see :func:`~featcache.heads.create_head`."""
        sizes = _head_sizes(self.features, self.target, self.config["layer_weighting"], self.options)
        return create_head(self.config["head"], kind=self.kind, **sizes, seed=seed)


def resolve(cache: FeatureCache, request: FitSettings) -> ResolvedFit:
    """Find everything that a run needs, and refuse what cannot be fitted.

    Args:
        cache: The corpus's cache.
        request: What the user asks for.

    Raises:
        FeatcacheError: an unknown name, a label, protocol or store that does not fit, a head that does not take these
            features. Nothing has been trained then.
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
    )
    max_frames = max_frames_of(cache, request, task.stores)
    features = features_of(
        task.stores,
        layers=request.layers,
        max_frames=max_frames or None,
        pooling=pooling_of(request, spec, task.stores),
        paired=spec.pairs_frames,
    )
    _check_layers(request, spec, features)
    check_scope(request.norm, task.manifest, request.norm_by)
    further = speakers_without_label(task, request.norm_by) if request.norm == "speaker" else []
    kind = HEADS.find(request.head) if spec.is_network else None
    if kind:  # an untrained one, so that a wrong setting is found before anything is trained
        try_head(request.head, kind=kind, **_head_sizes(features, task.target, request.layer_weighting, options))
    training = replace(request.training, batch_size=request.batch_size or spec.batch_size)
    return ResolvedFit(
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


def _check_layers(request: FitSettings, spec: HeadSpec, features: list[StoreFeatures]) -> None:
    """Refuse layers of stores that have none, and more stores or layers than a solver takes."""
    if request.layers != "all" and not any(item.store.layer_names[0] for item in features):
        names = ", ".join(item.store.name for item in features)
        raise ManifestError(f"--layers {request.layers} does not apply: {names} has no layers")
    if spec.max_layers == 1 and (len(features) > 1 or len(features[0].layers) > 1):
        raise ModelError(
            f"head {request.head!r} takes one store and one layer of it; choose with --features and --layers last"
        )


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
