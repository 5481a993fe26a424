"""Stored statistics → a check that the features of a fit are finite. No frame is read."""

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import numpy as np

from featcache.cache.reader import FeatureStore
from featcache.errors import FeatureError, listed
from featcache.training.store_features import StoreFeatures

Statistic = Literal["mean", "max", "std"]
# Number of utterances whose statistics are in memory at a time.
CHUNK = 256


def check_finite(
    features: StoreFeatures, utterance_ids: Sequence[str], *, norm: str, advance: Callable[[int], None] | None = None
) -> None:
    """Check that features and their standard deviations are finite.

    Args:
        features: Store and layers that are read.
        utterance_ids: Utterances of all folds, and those that are only part of the speakers' statistics.
        norm: Normalisation; ``none`` needs no standard deviations.
        advance: Function to call with the number of utterances that were checked since its last call.

    Raises:
        FeatureError: some values are NaN or infinite; the message lists the utterances.
    """
    kinds: list[Statistic] = ["mean"]
    if norm != "none":
        kinds.append("std")
    if features.pooling and "max" in features.pooling:
        kinds.append("max")
    refuse_not_finite(features.store, utterance_ids, features.layers, kinds, advance=advance)


def refuse_not_finite(
    store: FeatureStore,
    utterance_ids: Sequence[str],
    layers: Sequence[int],
    kinds: Iterable[Statistic] = ("mean",),
    *,
    advance: Callable[[int], None] | None = None,
) -> None:
    """Check that stored statistics are finite; the mean is not finite if a single frame is not.

    Args:
        store: Store whose statistics are read.
        utterance_ids: Utterances to check.
        layers: Positions of the layers to check.
        kinds: Statistics to check.
        advance: Function to call with the number of utterances that were checked since its last call.

    Raises:
        FeatureError: some statistics are NaN or infinite; the message lists the utterances.
    """
    faulty = []
    for first in range(0, len(utterance_ids), CHUNK):
        ids = utterance_ids[first : first + CHUNK]
        finite = np.ones(len(ids), dtype=bool)
        for kind in kinds:
            finite &= np.isfinite(store.pooled(kind, ids)[:, list(layers)]).all(axis=(1, 2))
        faulty += [utterance_id for utterance_id, good in zip(ids, finite, strict=True) if not good]
        if advance is not None:
            advance(len(ids))
    store.drop_pages()
    if faulty:
        raise FeatureError(not_finite(store, faulty, len(utterance_ids)))


def not_finite(store: FeatureStore, faulty: Sequence[str], number: int) -> str:
    """Return the error message for utterances whose features are not finite, out of ``number`` utterances."""
    return (
        f"{store.path}: the features of {len(faulty)} of {number} utterances are NaN, infinite or too large to be "
        f"normalised ({listed(faulty)}); extract them again into a store with another --name, or exclude them"
    )
