"""Resolved request → content of ``config.yaml``, with checksums of utterances, folds and labels."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from featcache._version import __version__
from featcache.cache.reader import FeatureStore
from featcache.fitting.auxiliary_tasks import labels_checksum
from featcache.fitting.task import ResolvedTask
from featcache.fitting.upper_models import HeadFeatures
from featcache.heads import HEADS, SOLVERS, HeadSpec
from featcache.heads.layer_weights import LAYER_WEIGHTINGS
from featcache.manifest import Utterance
from featcache.normalise import SPEAKER
from featcache.protocols import PROTOCOLS
from featcache.protocols.final import held_out_speakers
from featcache.runs.identity import (
    FINAL,
    NUMERICS,
    NUMERICS_VERSION,
    RELEASE,
    SOLVER,
    SOLVER_VERSION,
    TRAINING,
    VALIDATION_PROTOCOL,
    VALIDATION_SPEAKERS,
    hash_of,
)
from featcache.settings.field import Dataclass, non_default, settings_of
from featcache.settings.fits import FitSettings, TrainingConfig
from featcache.targets.losses import DEFAULT_LOSSES
from featcache.targets.soft import SoftClasses
from featcache.training.memory import Memory
from featcache.training.store_features import StoreFeatures


def config_of(
    corpus: str,
    request: FitSettings,
    task: ResolvedTask,
    features: Sequence[StoreFeatures],
    seen: HeadFeatures,
    *,
    further: Sequence[Utterance],
    max_frames: int,
    spec: HeadSpec,
    options: Dataclass,
    training: TrainingConfig,
) -> dict[str, Any]:
    """Return the content of ``config.yaml``, in plain values.

    Args:
        corpus: Name of the folder of the cache.
        request: The settings of the fit.
        task: Utterances, folds, stores and target.
        features: Features of each store.
        seen: Features as the head sees them.
        further: Utterances without a label that are part of the speakers' statistics.
        max_frames: Largest number of frames that are used of each utterance; 0 for all.
        spec: Description of the head.
        options: Options of the head.
        training: Settings of the training.
    """
    stores = task.stores
    resolved = {
        RELEASE: __version__,
        NUMERICS: NUMERICS_VERSION,
        **({} if spec.is_network else {SOLVER: SOLVER_VERSION}),
        "corpus": corpus,
        "features": {store.name: store.metadata["fingerprint"] for store in stores},
        "untrained": [store.name for store in stores if store.metadata.get("weights") == "random"],
        "layers": request.layers if any(item.layer_names[0] for item in features) else "-",
        "layer_weighting": request.layer_weighting if _learns_weights(spec, seen) else LAYER_WEIGHTINGS[0],
        "head": request.head,
        **({"set": chosen} if (chosen := plain(non_default(options))) else {}),
        **({"parts": parts} if (parts := _parts(request, task.protocol)) else {}),
        "pooling": seen.pooling,
        **({"fused": "frames" if seen.paired else "pooled"} if len(features) > 1 else {}),
        "norm": request.norm,
        "norm_by": request.norm_by if request.norm == "speaker" else None,
        "scalar_norm": request.scalar_norm,
        "protocol": FINAL if task.final else task.protocol,
        **task.target.settings(),
        "select": {column: list(values) for column, values in request.select.items()},
        "seeds": list(request.seeds if spec.is_network else request.seeds[:1]),
        "max_frames": max_frames,
        **({TRAINING: asdict(training)} if spec.is_network else {}),
        "working_dtype": Memory.parse(request.memory).dtype,
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
        **(_of_final(task) if task.final else {}),
        **_checksums(request, task, further),
    }
    return {**resolved, **_further_settings(request, resolved)}


def _learns_weights(spec: HeadSpec, seen: HeadFeatures) -> bool:
    """Return whether the head learns layer weights; the way to normalise them changes nothing otherwise."""
    return spec.learns_layers and any(len(names) > 1 for names in seen.layers)


def _further_settings(request: FitSettings, resolved: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that differ from their defaults and are not yet in the configuration.

    A new option therefore needs no code here, and a run of an earlier release is the same as a run with its default.
    """
    about = settings_of(type(request))
    recorded = {*resolved, *TrainingConfig.__dataclass_fields__, "label_range", "set"}
    chosen = {name: value for name, value in non_default(request).items() if name not in recorded}
    if chosen.get("loss") == DEFAULT_LOSSES.get(resolved["task"]):
        chosen.pop("loss", None)
    return plain({name: value for name, value in chosen.items() if about[name][1].identity})


def _of_final(task: ResolvedTask) -> dict[str, Any]:
    """Return the entries of a run without a test part: how its validation part was chosen."""
    speakers = held_out_speakers(task.folds[0], task.manifest)
    return {FINAL: True, VALIDATION_PROTOCOL: task.protocol, VALIDATION_SPEAKERS: list(speakers)}


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values as they are after reading YAML: tuples become lists."""
    found: dict[str, Any] = json.loads(json.dumps(values, default=str))
    return found


def _parts(request: FitSettings, protocol: str) -> dict[str, dict[str, str]]:
    """Return kind → origin of code from outside of featcache; another version or file makes another run.

    The origin of an external corpus is in ``corpus.json`` of the cache; checksums identify the utterances of a run.
    """
    origins = {
        "head": None if request.head in SOLVERS else HEADS.origin(request.head),
        "protocol": PROTOCOLS.origin(protocol),
    }
    return {kind: origin.settings() for kind, origin in origins.items() if origin}


def _checksums(request: FitSettings, task: ResolvedTask, further: Sequence[Utterance]) -> dict[str, str]:
    """Return the SHA-256 of content that names and numbers do not identify."""
    manifest = task.manifest
    utterances = [
        [(u.utterance_id, u.speaker_id, u.start, u.end) for u in manifest],
        [store.audio_sha256(manifest.utterance_ids) for store in task.stores],
        [(fold.train, fold.validation, fold.test) for fold in task.folds],
    ]
    return {
        "utterances_sha256": hash_of(utterances),
        **({"unlabelled_sha256": _hash_of_further(further, task.stores, request.norm_by)} if further else {}),
        "labels_sha256": hash_of([[u.labels[column] for column in task.target.labels] for u in manifest]),
        **(
            {"votes_sha256": hash_of([task.target.votes_of(u) for u in manifest])}
            if isinstance(task.target, SoftClasses)
            else {}
        ),
        **labels_checksum(request, manifest),
    }


def speakers_without_label(task: ResolvedTask, by: str) -> list[Utterance]:
    """Return the utterances without a label whose speaker is known.

    Args:
        task: Utterances and folds.
        by: Column that is used as the speaker.
    """
    return [u for u in task.unlabelled if (u.speaker_id if by == SPEAKER else u.labels.get(by, "")) != ""]


def _hash_of_further(further: Sequence[Utterance], stores: Sequence[FeatureStore], by: str) -> str:
    ids = [u.utterance_id for u in further]
    speakers = [u.speaker_id if by == SPEAKER else u.labels[by] for u in further]
    return hash_of([list(zip(ids, speakers, strict=True)), [store.recordings(ids) for store in stores]])
