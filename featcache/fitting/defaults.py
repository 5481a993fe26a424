"""Cache × request → default stores, frames and pooling of a run."""

from collections.abc import Sequence

from featcache.cache.joint import corpus_of_cache
from featcache.cache.reader import FeatureCache, FeatureStore
from featcache.errors import ModelError, StoreError, unknown_name
from featcache.heads import HeadSpec
from featcache.heads.base import POOLINGS
from featcache.heads.spec import POOLED
from featcache.settings.finetunings import FinetuneSettings
from featcache.settings.fits import FitSettings
from featcache.training.store_features import StoreFeatures

MAX_FRAMES = 400


def default_features(cache: FeatureCache, spec: HeadSpec) -> list[str]:
    """Return the store of the only model, and the further stores that the head needs.

    Raises:
        StoreError: the cache has no store of a model, or several.
    """
    models = model_stores(cache)
    of_speech = [name for name in models if not cache[name].is_of_words]
    models = of_speech if len(of_speech) == 1 else models
    if len(models) != 1:
        if models:
            raise StoreError(f"{cache.path} has several models: {', '.join(models)}; choose one with --features NAME")
        found = (
            f"no model, only {', '.join(cache)}; add --features {next(iter(cache))}, or" if cache else "no features;"
        )
        raise StoreError(f"{cache.path} has {found} extract a model with 'featcache extract --model NAME'")
    return [*models, *spec.beside]


def model_stores(cache: FeatureCache) -> list[str]:
    """Return the names of the stores that contain the layers of a model.

    Stores with only statistics are used only if there are no others. Views are never among them.
    """
    stores = [store for store in map(cache.__getitem__, cache) if store.metadata["dataset"] == "hidden_states"]
    stores = [store for store in stores if not store.identity.is_view]
    return [store.name for store in stores if not store.pooled_only] or [store.name for store in stores]


def max_frames_of(cache: FeatureCache, request: FitSettings, stores: Sequence[FeatureStore]) -> int:
    """Return the largest number of frames that are used of each utterance; 0 for all."""
    if request.max_frames is not None:
        return request.max_frames
    if isinstance(request, FinetuneSettings):  # blocks attend to all frames
        return 0
    if all(store.is_of_words for store in stores):  # the maximum of a corpus counts frames of 20 ms
        return 0
    known = corpus_of_cache(cache)
    return known.max_frames if known else MAX_FRAMES


def pooling_of(
    request: FitSettings, spec: HeadSpec, stores: Sequence[FeatureStore], layers: Sequence[Sequence[str]] | None = None
) -> str | None:
    """Return the pooling of utterances before training, as requested or by default; None for no pooling.

    Args:
        request: The settings of the fit.
        spec: Description of the head.
        stores: Feature stores of the run.
        layers: Names of the layers of each model that the head uses, if blocks are trained; None for stored layers.

    Raises:
        ModelError: the pooling is unknown, or the stores have no frames.
        StoreError: a store has only statistics, but the head is trained on frames.
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
        # For a single layer and all frames, the head would compute the same pooling as the stored statistics.
        chosen = layers or [StoreFeatures(one, layers=request.layers, max_frames=None).layer_names for one in stores]
        pooling = spec.pooling if all(len(of_store) == 1 for of_store in chosen) else None
    pooled_only = [store.name for store in stores if store.pooled_only]
    if pooled_only and pooling is None:
        needs = " unless it uses one layer (--layers last) and no --max-frames" if spec.pooling else ""
        raise StoreError(
            f"{', '.join(pooled_only)} contains only statistics (--pool), but head {request.head!r} is trained on "
            f"frames{needs}; use --pooling mean, or extract without --pool into a store with another --name"
        )
    return pooling
