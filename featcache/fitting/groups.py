"""Runs → groups of trainings that share the same normalised features in memory and are trained together."""

from collections.abc import Sequence
from dataclasses import dataclass

from featcache.fitting.resolve import ResolvedFit
from featcache.training.memory import WorkingCopy
from featcache.training.store_features import StoreFeatures

# Settings that are equal in all runs of a group, in addition to the stores and the utterances. ``fused`` exists only
# for several stores. The checksums identify utterances that are only part of the speakers' statistics, and views.
SHARED = (
    *("norm", "norm_by", "scalar_norm", "pooling", "max_frames", "fused", "unlabelled_sha256"),
    *("train_views", "test_view", "view_stores_sha256", "views_sha256"),
)


@dataclass(frozen=True, kw_only=True)
class Member:
    """The trainings of one run in one fold.

    Attributes:
        run: Position among the runs.
        fold: Number of the fold, from 1 on.
        layers: Slice of the group's layers that the run uses, per store.
    """

    run: int
    fold: int
    layers: tuple[slice, ...]


@dataclass(frozen=True, kw_only=True)
class TrainingGroup:
    """Trainings that share the same features in memory.

    Attributes:
        features: Features of each store, with the layers of all members.
        lead: Position of the run that provides the features.
        fold: Number of the fold whose statistics normalise the features; None if they are the same in all folds.
        members: Trainings of each run and fold.
    """

    features: Sequence[StoreFeatures]
    lead: int
    fold: int | None
    members: list[Member]


def group(
    setups: Sequence[ResolvedFit], folds: Sequence[int], copies: Sequence[WorkingCopy | None] | None = None
) -> list[TrainingGroup]:
    """Group runs with the same stores, normalisation, frames and folds, if one run uses the layers of all others.

    Args:
        setups: One per run.
        folds: Numbers of the folds to train, from 1 on; a run with fewer folds trains all of its own.
        copies: Dtypes and size of the in-memory features of each run, None if unknown; a group has equal ones.

    Returns:
        The groups; with ``global`` normalisation, one group per fold.
    """
    copies = copies or [None] * len(setups)
    families: list[list[int]] = []
    widest_first = sorted(range(len(setups)), key=lambda run: -sum(len(f.layers) for f in setups[run].features))
    for run in widest_first:
        alike = (family for family in families if copies[family[0]] == copies[run])
        family = next((family for family in alike if _within(setups[run], setups[family[0]])), None)
        if family is None:
            families.append([run])
        else:
            family.append(run)
    groups = []
    for family in families:
        lead = setups[family[0]]
        there = [fold for fold in folds if fold <= len(lead.folds)]
        of_folds = [[fold] for fold in there] if lead.config["norm"] == "global" else [there]
        for together in of_folds:
            groups.append(
                TrainingGroup(
                    features=lead.features,
                    lead=family[0],
                    fold=together[0] if lead.config["norm"] == "global" else None,
                    members=[
                        Member(run=run, fold=fold, layers=_slices(setups[run], lead) or ())
                        for fold in together
                        for run in sorted(family)
                    ],
                )
            )
    return groups


def _within(one: ResolvedFit, lead: ResolvedFit) -> bool:
    same = all(one.config.get(key) == lead.config.get(key) for key in SHARED)
    same = same and list(one.config["features"]) == list(lead.config["features"]) and _same_utterances(one, lead)
    return same and _slices(one, lead) is not None


def _same_utterances(one: ResolvedFit, lead: ResolvedFit) -> bool:
    """Return whether two runs read the same utterances and normalise them in the same way in each fold.

    Training parts of another size (``train_fraction``) only matter for the statistics of ``global`` normalisation.
    """
    if one.config["utterances_sha256"] == lead.config["utterances_sha256"]:
        return True
    if one.config["norm"] == "global" or one.manifest.utterance_ids != lead.manifest.utterance_ids:
        return False
    tested = [[(fold.validation, fold.test) for fold in setup.folds] for setup in (one, lead)]
    return tested[0] == tested[1]


def _slices(one: ResolvedFit, lead: ResolvedFit) -> tuple[slice, ...] | None:
    """Return the position of a run's layers in the layers of the lead, one slice per store; None if there is none."""
    found = []
    for mine, all_layers in zip(one.features, lead.features, strict=True):
        if mine.averaged != all_layers.averaged or mine.layers[0] not in all_layers.layers:
            return None
        first = all_layers.layers.index(mine.layers[0])
        stretch = slice(first, first + len(mine.layers))
        if all_layers.layers[stretch] != mine.layers:
            return None
        found.append(stretch)
    return tuple(found)
