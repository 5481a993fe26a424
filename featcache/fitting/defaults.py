"""Cache × request → the stores, frames and pooling of a run where the user leaves the choice."""

from collections.abc import Sequence

from featcache.cache.reader import FeatureCache, FeatureStore
from featcache.corpora.recorded import corpus_of
from featcache.errors import ModelError, StoreError, unknown_name
from featcache.heads import HeadSpec
from featcache.heads.base import POOLINGS
from featcache.heads.spec import POOLED
from featcache.settings.fits import FitSettings
from featcache.training.store_features import StoreFeatures

MAX_FRAMES = 400


def default_features(cache: FeatureCache, spec: HeadSpec) -> list[str]:
    """Choose the only model's store, and the stores that the head reads beside it.

    Raises:
        StoreError: there is no model's store, or there are several.
    """
    models = model_stores(cache)
    of_speech = [name for name in models if not cache[name].is_of_words]
    models = of_speech if len(of_speech) == 1 else models
    if len(models) != 1:
        found = f"several models: {', '.join(models)}" if models else f"no model, but {', '.join(cache) or 'nothing'}"
        raise StoreError(f"{cache.path} holds {found}; choose with --features NAME")
    return [*models, *spec.beside]


def model_stores(cache: FeatureCache) -> list[str]:
    """Return the names of the stores that hold the layers of a model.

    Stores of statistics alone count only where there are no others.
    """
    stores = [store for store in map(cache.__getitem__, cache) if store.metadata["dataset"] == "hidden_states"]
    return [store.name for store in stores if not store.pooled_only] or [store.name for store in stores]


def max_frames_of(cache: FeatureCache, request: FitSettings, stores: Sequence[FeatureStore]) -> int:
    """Return how many frames of each utterance are used at most; 0 is all."""
    if request.max_frames is not None:
        return request.max_frames
    if all(store.is_of_words for store in stores):  # corpora speak of frames of 20 ms
        return 0
    known = corpus_of(cache.path)
    return known.max_frames if known else MAX_FRAMES


def pooling_of(request: FitSettings, spec: HeadSpec, stores: Sequence[FeatureStore]) -> str | None:
    """Return how utterances are pooled before training, as asked for or by default; None keeps their frames.

    Raises:
        ModelError: an unknown pooling, or stores without frames.
        StoreError: stores of statistics alone for a head that is trained on frames.
    """
    pooling: str | None = request.pooling
    several_vectors = any(store.has_frames for store in stores)
    if pooling is not None and pooling not in POOLINGS:
        raise ModelError(unknown_name("pooling", pooling, POOLINGS))
    if pooling is not None and not several_vectors:
        raise ModelError(f"{', '.join(store.name for store in stores)} has no frames to pool")
    if pooling is None and spec.inputs == POOLED and several_vectors:
        return "mean"
    if pooling is None and spec.pooling and several_vectors and not request.max_frames:
        # statistics are of all frames, and of one layer they are what the head would find itself
        chosen = [StoreFeatures(store, layers=request.layers, max_frames=None).layers for store in stores]
        pooling = spec.pooling if all(len(layers) == 1 for layers in chosen) else None
    pooled_only = [store.name for store in stores if store.pooled_only]
    if pooled_only and pooling is None:
        needs = " unless it sees one layer (--layers last) and no --max-frames" if spec.pooling else ""
        raise StoreError(
            f"{', '.join(pooled_only)} holds statistics alone (--pool), but head {request.head!r} is trained on frames"
            f"{needs}; train on --pooling mean, or extract into a store of another --name without --pool"
        )
    return pooling
