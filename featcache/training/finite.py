"""Stored statistics → are the features that a fit would read finite? No frame is read to find out."""

from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np

from featcache.cache.reader import FeatureStore
from featcache.errors import FeatureError, listed
from featcache.training.store_features import StoreFeatures

Statistic = Literal["mean", "max", "std"]
# Utterances whose statistics are in memory at a time.
CHUNK = 256


def check_finite(features: StoreFeatures, utterance_ids: Sequence[str], *, norm: str) -> None:
    """Refuse features that are not finite, or whose deviations are not.

    Args:
        features: The store and the layers that are read.
        utterance_ids: The utterances that are trained on, tested, or count in a speaker's statistics.
        norm: The normalisation; ``none`` needs no deviations.

    Raises:
        FeatureError: infinite or missing numbers, with the utterances that have them.
    """
    kinds: list[Statistic] = ["mean"]
    if norm != "none":
        kinds.append("std")
    if features.pooling and "max" in features.pooling:
        kinds.append("max")
    refuse_not_finite(features.store, utterance_ids, features.layers, kinds)


def refuse_not_finite(
    store: FeatureStore, utterance_ids: Sequence[str], layers: Sequence[int], kinds: Iterable[Statistic] = ("mean",)
) -> None:
    """Refuse utterances one of whose stored statistics is not finite; a single frame that is not shows in the mean.

    Args:
        store: Whose statistics are read.
        utterance_ids: Which utterances.
        layers: Positions of the layers that count.
        kinds: Which statistics.

    Raises:
        FeatureError: there are some, with their ids.
    """
    faulty = []
    for first in range(0, len(utterance_ids), CHUNK):
        ids = utterance_ids[first : first + CHUNK]
        finite = np.ones(len(ids), dtype=bool)
        for kind in kinds:
            finite &= np.isfinite(store.pooled(kind, ids)[:, list(layers)]).all(axis=(1, 2))
        faulty += [utterance_id for utterance_id, good in zip(ids, finite, strict=True) if not good]
    store.drop_pages()
    if faulty:
        raise FeatureError(not_finite(store, faulty, len(utterance_ids)))


def not_finite(store: FeatureStore, faulty: Sequence[str], number: int) -> str:
    """The message for utterances, among a number of them, whose features are not finite."""
    return (
        f"{store.path}: the features of {len(faulty)} of {number} utterances are NaN, infinite or too large to be "
        f"normalised ({listed(faulty)}); extract them again into a store of another --name, or leave them out"
    )
