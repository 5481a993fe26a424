"""What a user asks of a fit → everything resolved: utterances, folds, target, features, and what must be told."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from featcache._version import __version__
from featcache.cache.reader import FeatureCache, FeatureStore
from featcache.errors import ManifestError, ModelError, StoreError, unknown_name
from featcache.evaluate.intervals import ONE_SEED
from featcache.fitting.checks import alike
from featcache.fitting.task import ResolvedTask, corpus_of, resolve_task
from featcache.heads import MEAN_AND_MAX, create_head
from featcache.manifest import Manifest, Utterance
from featcache.normalise import SPEAKER, check_scope
from featcache.protocols import Fold
from featcache.runs.identity import NUMERICS, NUMERICS_VERSION, RELEASE
from featcache.targets.targets import PredictionTarget
from featcache.training.features import POOLINGS, StoreFeatures, features_of
from featcache.training.train import TrainingConfig

BATCH_SIZES = {"lstm": 16}
SVM = "svm"
# Heads that see utterances pooled unless told otherwise.
POOLED = ("linear", SVM)
FFN = "ffn"

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
FUSED_NOTE = (
    "The frames of {} do not pair: each store was averaged over its own frames after its dense layer, and then fused."
)


@dataclass(frozen=True, kw_only=True)
class FitRequest:
    """What a run is asked to be; None, and no features, leave the choice to what there is.

    Attributes:
        head: ``dense``, ``lstm``, ``fusion``, ``linear``, ``ffn`` or ``svm``.
        norm: ``speaker``, ``global`` or ``none``.
        norm_by: What ``speaker`` takes for the speaker: ``speaker_id``, or a label such as ``dialogue_half``.
        features: Names of stores. By default the only model's store, with ``egemaps`` beside it for ``fusion``.
        layers: ``all``, ``local``, ``last``, or a list such as ``0,4-8``.
        layer_weighting: ``abs``, w = |a| / Σ|a|, or ``softmax``.
        protocol: A name in ``featcache.protocols.PROTOCOLS``.
        target: The label to predict; ``LABEL=CLASS`` tells one class from all others, and several labels, separated by
            commas, are a regression.
        task: ``classification`` or ``regression``, where the label does not tell.
        label_range: What numbers lie between, where the corpus does not know or is to be overruled.
        select: Only utterances whose labels have these values take part.
        limit: Only so many utterances take part, those that ``extract`` takes with the same limit.
        seeds: One training each per fold.
        max_frames: How many frames of each utterance are used, those of the first store with a frame shift; 0 is all.
            Pooled utterances always have all of theirs.
        training: Fields of :class:`~featcache.training.train.TrainingConfig` that differ from their defaults.
        pooling: ``mean``, ``sum``, ``max`` or ``mean+max`` of an utterance's frames in place of them.
        scalar_norm: Whether one mean and deviation normalise all dimensions of a layer.
        working_dtype: In which dtype features are held, where that is asked for.
    """

    head: str = "dense"
    norm: str = "speaker"
    norm_by: str = SPEAKER
    features: tuple[str, ...] = ()
    layers: str = "all"
    layer_weighting: str = "abs"
    protocol: str | None = None
    target: str | None = None
    task: str | None = None
    label_range: tuple[float, float] | None = None
    select: Mapping[str, Sequence[str]] = field(default_factory=dict)
    limit: int | None = None
    seeds: tuple[int, ...]
    max_frames: int | None = None
    training: Mapping[str, Any] = field(default_factory=dict)
    pooling: str | None = None
    scalar_norm: bool = False
    working_dtype: str | None = None


@dataclass(frozen=True, kw_only=True)
class ResolvedFit:
    """Everything resolved: what ``config.yaml`` says, and what training needs.

    Attributes:
        manifest: The utterances in the folds.
        measured: Those, and with speaker normalisation the utterances without a label: a speaker's statistics are taken
            over them.
    """

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


def resolve(cache: FeatureCache, request: FitRequest) -> ResolvedFit:
    """Find all that a run needs, and refuse what cannot be fitted."""
    head, norm, layers = request.head, request.norm, request.layers
    task = resolve_task(
        cache,
        request.features or _default_features(cache, head),
        protocol=request.protocol,
        target=request.target,
        task=request.task,
        label_range=request.label_range,
        select=request.select,
        limit=request.limit,
    )
    stores, manifest = task.stores, task.manifest
    max_frames = request.max_frames
    if max_frames is None:
        known = corpus_of(cache.path)
        max_frames = known.max_frames if known else 400
        if all(store.is_of_words for store in stores):  # corpora speak of frames of 20 ms
            max_frames = 0
    pooling = _pooling(request, stores)
    features = features_of(stores, layers=layers, max_frames=max_frames or None, pooling=pooling, paired=head != FFN)
    if layers != "all" and not any(store.layer_names[0] for store in stores):
        raise ManifestError(f"--layers {layers} does not apply: {', '.join(s.name for s in stores)} has no layers")
    check_scope(norm, manifest, request.norm_by)
    further = _further_of_speakers(task, request.norm_by) if norm == "speaker" else []
    seeds = request.seeds
    # told here, before anything is trained
    if head == SVM:
        _check_svm(features)
        seeds = seeds[:1]
    else:
        create_head(head, **head_sizes(features, task.target.num_outputs, request.layer_weighting), seed=0)
    config = TrainingConfig(**{"batch_size": BATCH_SIZES.get(head, TrainingConfig.batch_size), **request.training})
    return ResolvedFit(
        stores=stores,
        manifest=manifest,
        measured=Manifest([*manifest, *further]) if further else manifest,
        target=task.target,
        folds=task.folds,
        features=features,
        training=config,
        notes=[*_notes(request, features, manifest, max_frames), *task.notes, *task.target.notes],
        warnings=[*task.warnings, *(alike(manifest, [request.norm_by]) if request.norm_by != SPEAKER else [])],
        config={
            RELEASE: __version__,
            NUMERICS: NUMERICS_VERSION,
            "corpus": cache.name,
            "features": {store.name: store.metadata["fingerprint"] for store in stores},
            "untrained": [store.name for store in stores if store.metadata.get("weights") == "random"],
            "layers": layers if any(item.layer_names[0] for item in features) else "-",
            "layer_weighting": request.layer_weighting,
            "head": head,
            "pooling": pooling,
            **({"fused": "frames" if features[0].paired else "pooled"} if len(features) > 1 else {}),
            "norm": norm,
            "norm_by": request.norm_by if norm == "speaker" else None,
            "scalar_norm": request.scalar_norm,
            "protocol": task.protocol,
            **task.target.settings(),
            "select": {column: list(values) for column, values in request.select.items()},
            "seeds": list(seeds),
            "max_frames": max_frames,
            "training": asdict(config),
            "working_dtype": request.working_dtype,
            "folds": [
                {
                    "fold": number,
                    "name": fold.name,
                    "train": len(fold.train),
                    "validation": len(fold.validation),
                    "test": len(fold.test),
                }
                for number, fold in enumerate(task.folds, start=1)
            ],
            "utterances_sha256": hash_of(
                [
                    [(u.utterance_id, u.speaker_id, u.start, u.end) for u in manifest],
                    [store.audio_sha256(manifest.utterance_ids) for store in stores],
                    [(fold.train, fold.validation, fold.test) for fold in task.folds],
                ]
            ),
            **({"unlabelled_sha256": _hash_of_further(further, stores, request.norm_by)} if further else {}),
            "labels_sha256": hash_of([[u.labels[column] for column in task.target.labels] for u in manifest]),
        },
    )


def _further_of_speakers(task: ResolvedTask, by: str) -> list[Utterance]:
    """The utterances without a label whose speaker is known."""
    return [u for u in task.unlabelled if (u.speaker_id if by == SPEAKER else u.labels.get(by, "")) != ""]


def _hash_of_further(further: Sequence[Utterance], stores: Sequence[FeatureStore], by: str) -> str:
    ids = [u.utterance_id for u in further]
    speakers = [u.speaker_id if by == SPEAKER else u.labels[by] for u in further]
    return hash_of([list(zip(ids, speakers, strict=True)), [store.recordings(ids) for store in stores]])


def _default_features(cache: FeatureCache, head: str) -> list[str]:
    models = model_stores(cache)
    of_speech = [name for name in models if not cache[name].is_of_words]
    models = of_speech if len(of_speech) == 1 else models
    if len(models) != 1:
        found = f"several models: {', '.join(models)}" if models else f"no model, but {', '.join(cache) or 'nothing'}"
        raise StoreError(f"{cache.path} holds {found}; choose with --features NAME")
    return [*models, "egemaps"] if head == "fusion" else models


def model_stores(cache: FeatureCache) -> list[str]:
    """The names of the stores that hold the layers of a model; those of statistics alone where there are no others."""
    stores = [store for store in map(cache.__getitem__, cache) if store.metadata["dataset"] == "hidden_states"]
    return [store.name for store in stores if not store.pooled_only] or [store.name for store in stores]


def _pooling(request: FitRequest, stores: Sequence[FeatureStore]) -> str | None:
    """How utterances are pooled before training, told or by default."""
    pooling, several_vectors = request.pooling, any(store.has_frames for store in stores)
    if pooling is not None and pooling not in POOLINGS:
        raise ModelError(unknown_name("pooling", pooling, POOLINGS))
    if pooling is not None and not several_vectors:
        raise ModelError(f"{', '.join(store.name for store in stores)} has no frames to pool")
    if pooling is None and request.head in POOLED and several_vectors:
        return "mean"
    if pooling is None and request.head == FFN and several_vectors and not request.max_frames:
        # statistics are of all frames, and of one layer they are what the head would find itself
        chosen = [StoreFeatures(store, layers=request.layers, max_frames=None).layers for store in stores]
        pooling = MEAN_AND_MAX if all(len(layers) == 1 for layers in chosen) else None
    pooled_only = [store.name for store in stores if store.pooled_only]
    if pooled_only and pooling is None:
        needs = " unless it sees one layer (--layers last) and no --max-frames" if request.head == FFN else ""
        raise StoreError(
            f"{', '.join(pooled_only)} holds statistics alone (--pool), but head {request.head!r} is trained on frames"
            f"{needs}; train on --pooling mean, or extract into a store of another --name without --pool"
        )
    return pooling


def _check_svm(features: Sequence[StoreFeatures]) -> None:
    if len(features) > 1 or len(features[0].layers) > 1:
        raise ModelError("head 'svm' takes one store and one layer of it; choose with --features and --layers last")


def head_sizes(features: Sequence[StoreFeatures], num_outputs: int, layer_weighting: str) -> dict[str, Any]:
    """What ``create_head`` needs to know of the features."""
    return {
        "num_layers": [len(item.layers) for item in features],
        "hidden_sizes": [item.store.hidden_size for item in features],
        "num_outputs": num_outputs,
        "layer_weighting": layer_weighting,
        "pooling": features[0].pooling,
        "paired": features[0].paired,
    }


def _notes(request: FitRequest, features: Sequence[StoreFeatures], manifest: Manifest, max_frames: int) -> list[str]:
    notes = []
    if request.norm == "speaker":
        notes.append(SPEAKER_NOTE)
        if request.norm_by != SPEAKER:
            notes.append(NORM_BY_NOTE.format(request.norm_by))
    if request.head == SVM:
        notes.append(SVM_NOTE)
    elif len(request.seeds) == 1:
        notes.append(f"{ONE_SEED}.")
    for item in features:
        if item.store.metadata.get("weights") == "random":
            notes.append(UNTRAINED_NOTE.format(item.store.name))
        if item.halved:
            notes.append(EGEMAPS_NOTE)
    if request.head == "fusion" and not features[0].paired:
        notes.append(FUSED_NOTE.format(" and ".join(item.store.name for item in features)))
    counted = next((item for item in features if item.max_frames), features[0])
    cut = sum(counted.num_frames(i) > max_frames for i in manifest.utterance_ids) if counted.max_frames else 0
    if cut:
        seconds = "" if np.isnan(counted.frame_shift) else f" ({max_frames * counted.frame_shift:.1f} s)"
        notes.append(
            f"{cut} of {len(manifest)} utterances are longer and only their first {max_frames} frames{seconds} count."
        )
    return notes


def hash_of(content: Any) -> str:
    """SHA-256 of plain JSON values."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
