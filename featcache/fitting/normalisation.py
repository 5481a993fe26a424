"""Features × folds → statistics of the normalisation, for training and for the saved heads."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from featcache.fitting.groups import group
from featcache.fitting.resolve import ResolvedFit
from featcache.normalise import SPEAKER, Normaliser, fit_normaliser
from featcache.runs.head_inputs import HeadInput
from featcache.runs.saved_statistics import write_statistics
from featcache.training.memory import WorkingCopy
from featcache.training.store_features import StoreFeatures

# (position of the run that provides the features, fold) → normaliser of each store.
Known = dict[tuple[int, int | None], list[Normaliser]]


def head_inputs(features: Sequence[StoreFeatures]) -> dict[str, dict[str, Any]]:
    """Return the entries of ``config.yaml`` for the features that heads take, by name of the store."""
    return {one.store.name: _head_input(one).settings() for one in features}


def _head_input(features: StoreFeatures) -> HeadInput:
    shift = features.store.frame_shift * features.averaged
    return HeadInput(
        store=features.store.name,
        layers=features.layer_names,
        hidden_size=features.store.hidden_size,
        frame_shift=None if np.isnan(shift) else float(shift),
        max_frames=None if features.pooling else features.max_frames,
        averaged_frames=features.averaged,
    )


def fit_normalisers(setup: ResolvedFit, features: Sequence[StoreFeatures], fold: int | None) -> list[Normaliser]:
    """Return the normaliser of each store, for all its layers.

    Args:
        setup: The resolved run.
        features: Features of its stores.
        fold: Number of the fold whose training part gives the statistics; None if they are the same in all folds.
    """
    train = setup.folds[fold - 1].train if fold else ()
    scalar, by = setup.config["scalar_norm"], setup.config["norm_by"] or SPEAKER
    return [
        fit_normaliser(one.store, setup.config["norm"], setup.measured, train, scalar=scalar, by=by) for one in features
    ]


def normalisers_of_runs(
    setups: Sequence[ResolvedFit], copies: Sequence[WorkingCopy], known: Known
) -> list[dict[int | None, list[Normaliser]]]:
    """Return the normalisers of each run by fold; the key is None if they are the same in all folds.

    Args:
        setups: One per run.
        copies: Dtypes and size of the in-memory features of each run.
        known: Normalisers that this process has used. The others, for trainings in other processes or before an
            interruption, are computed from the stored statistics without reading frames.
    """
    found: list[dict[int | None, list[Normaliser]]] = [{} for _ in setups]
    folds = range(1, max(len(setup.folds) for setup in setups) + 1)
    for item in group(setups, folds, copies):
        normalisers = known.get((item.lead, item.fold)) or fit_normalisers(setups[item.lead], item.features, item.fold)
        for member in item.members:
            found[member.run][item.fold] = normalisers
    return found


def write_normalisation(
    folder: Path, setup: ResolvedFit, normalisers: Mapping[int | None, Sequence[Normaliser]]
) -> None:
    """Write the statistics of a run; without normalisation, write nothing.

    Args:
        folder: The folder that becomes the run folder.
        setup: The resolved run.
        normalisers: Fold → normaliser of each store, for all its layers.
    """
    if setup.config["norm"] == "none":
        return
    stores: dict[str, dict[str, Any]] = {one.store.name: {} for one in setup.features}
    for fold, of_stores in sorted(normalisers.items(), key=lambda item: item[0] or 0):
        for one, normaliser in zip(setup.features, of_stores, strict=True):
            chosen = one.of_layers(normaliser)
            for name, mean in chosen.mean_.items():
                stores[one.store.name][name if fold is None else str(fold)] = mean, chosen.std_[name]
    write_statistics(folder, stores)
