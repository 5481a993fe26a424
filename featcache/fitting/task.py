"""Stores × protocol × target → utterances, folds and the target of the prediction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from featcache.cache.joint import JointCache, JointStore, corpus_of_cache, split_id
from featcache.cache.reader import FeatureCache, FeatureStore
from featcache.corpora import Corpus
from featcache.errors import ManifestError, StoreError, listed
from featcache.fitting.checks import (
    alike,
    check_recordings,
    explained,
    foreign,
    left_out,
    of_another_corpus,
    shared_audio,
    unlabelled,
)
from featcache.fitting.chosen_fold import only_fold
from featcache.fitting.seen_by_models import seen_by_models
from featcache.manifest import Manifest, Utterance
from featcache.normalise import SPEAKER
from featcache.protocols import PROTOCOLS, Fold, check_folds, default_protocol, make_folds
from featcache.protocols.dialogues import dialogue_labels
from featcache.protocols.final import check_final, final_fold
from featcache.protocols.fractions import fraction_notes, fraction_warnings, reduced_folds
from featcache.targets.targets import Classes, PredictionTarget, labelled, make_target, split
from featcache.utterances import NO_TARGETS, VOTES


@dataclass(frozen=True, kw_only=True)
class ResolvedTask:
    """Utterances, folds and target of a fit or a probe.

    Attributes:
        stores: Feature stores.
        manifest: The utterances in the folds.
        unlabelled: Further utterances that the protocol would use, with features but without a label.
        protocol: Name of the protocol.
        final: Whether the only fold has no test part, see :mod:`featcache.protocols.final`.
        target: Target of the prediction.
        folds: Training, validation and test parts.
        notes: Notes for the report.
        warnings: Warnings for the log and the report.
    """

    stores: list[FeatureStore]
    manifest: Manifest
    unlabelled: tuple[Utterance, ...]
    protocol: str
    final: bool
    target: PredictionTarget
    folds: list[Fold]
    notes: list[str]
    warnings: list[str]


def resolve_task(
    cache: FeatureCache,
    names: Sequence[str],
    *,
    protocol: str | None,
    target: str | None,
    task: str | None = None,
    label_range: tuple[float, float] | None = None,
    select: Mapping[str, Sequence[str]] | None = None,
    limit: int | None = None,
    final: bool = False,
    fold: int | None = None,
    train_fraction: float = 1.0,
) -> ResolvedTask:
    """Resolve the utterances, the folds and the target.

    Args:
        cache: The cache of the corpus.
        names: Names of the stores; utterances that are missing in one of them are left out.
        protocol: Name of the protocol; by default see :func:`~featcache.protocols.default_protocol`.
        target: Label to predict; by default that of the protocol or corpus.
        task: ``classification`` or ``regression``; by default inferred from the label.
        label_range: Lowest and highest possible value of a dimensional label; by default as the corpus defines.
        select: Label → values; only utterances with these labels take part.
        limit: Size of a random subset, the same as in ``extract`` with this limit.
        final: Whether to train on all utterances but the validation part of the protocol's first fold.
        fold: Number of the only fold to use; None for all.
        train_fraction: Fraction of the speakers in each training part. The utterances of the complete folds stay in
            the manifest, so that all fractions share features in memory.

    Returns:
        Utterances, folds and target, with notes and warnings.

    Raises:
        FeatcacheError: a name is unknown, a store is unfinished, features are from different audio, or the protocol or
            target cannot be used for these utterances.
    """
    known, select = corpus_of_cache(cache), select or {}
    if len(set(names)) < len(names):
        raise ManifestError(f"--features names a store twice: {', '.join(names)}")
    stores = [open_finished(cache, store) for store in names]
    _check_labelled(cache, target)
    chosen = selected(cache.manifest, select, limit)
    taken, warnings = _without_missing(chosen, stores)
    with explained(cache.manifest, chosen, taken, limit=limit, select=select):
        protocol, name, folds = resolve_folds(taken, known, protocol=protocol, target=target, tested=not final)
        folds, notes = only_fold(folds, None if final else fold)
        in_folds = {i for fold in folds for part in (fold.train, fold.validation, fold.test) for i in part}
        manifest = taken.subset(tuple(in_folds))
        if final:
            folds = [final_fold(folds, manifest)]
        predicted = make_target(
            manifest, name, known, task=task, label_range=label_range, where=partial(_place_of, cache)
        )
        complete = folds
        folds = _reduced(complete, manifest, train_fraction, predicted)
        warnings += check_final(folds[0], manifest, protocol) if final else check_folds(folds, manifest, protocol)
        warnings += predicted.check_folds(folds, manifest)
    warnings += foreign(protocol, known)
    warnings += check_recordings(stores, manifest.utterance_ids, cache)
    warnings += shared_audio(folds, stores, manifest.utterance_ids)
    groups = (
        ["fold"] if protocol == "folds" else [label for label in dialogue_labels() if label in manifest.label_columns]
    )
    warnings += alike(manifest, [SPEAKER, *groups, *(predicted.labels if isinstance(predicted, Classes) else ())])
    warnings += seen_by_models(stores, folds, cache)
    notes += left_out(taken, manifest, predicted, protocol)
    if train_fraction != 1:
        notes += fraction_notes(folds, complete, manifest, train_fraction)
        warnings += fraction_warnings(folds, complete, manifest, train_fraction)
    return ResolvedTask(
        stores=stores,
        manifest=manifest,
        unlabelled=unlabelled(taken, manifest, predicted.labels, protocol),
        protocol=protocol,
        final=final,
        target=predicted,
        folds=folds,
        notes=notes,
        warnings=warnings,
    )


def _reduced(folds: list[Fold], manifest: Manifest, fraction: float, target: PredictionTarget) -> list[Fold]:
    label = None if not isinstance(target, Classes) else lambda utterance_id: target.label(manifest[utterance_id])
    return reduced_folds(folds, manifest, fraction, label)


def _place_of(cache: FeatureCache, utterance_id: str) -> str:
    if isinstance(cache, JointCache):
        corpus, own = split_id(utterance_id)
        return _place_of(cache.caches[corpus], own)
    row = cache.manifest.utterance_ids.index(utterance_id) + 2  # below the header
    return f"utterance {utterance_id!r} (row {row} of {cache.path / 'manifest.csv'})"


def selected(manifest: Manifest, select: Mapping[str, Sequence[str]], limit: int | None) -> Manifest:
    """Return the utterances of a manifest that ``select`` and ``limit`` choose.

    Raises:
        ManifestError: a label does not exist, or no utterance remains.
    """
    manifest = manifest.limited(limit)
    return manifest.select(**select) if select else manifest


def resolve_folds(
    manifest: Manifest, corpus: Corpus | None, *, protocol: str | None, target: str | None, tested: bool = True
) -> tuple[str, str, list[Fold]]:
    """Return the protocol, the target, and the folds of the utterances with that target, regardless of features.

    Args:
        manifest: The utterances that take part.
        corpus: The corpus, which has a default target and protocol; None if unknown.
        protocol: Name of the protocol; None for the default.
        target: Label to predict; None for the default.
        tested: Whether every fold needs a test part.

    Raises:
        ManifestError: there is no default target, or the target does not exist.
        ProtocolError: the protocol cannot make folds of these utterances.
    """
    with of_another_corpus(protocol, corpus):
        if protocol is None:
            column = _column(manifest, target or (corpus.target if corpus else None))
            protocol = default_protocol(manifest, corpus, column)
        if target is None:
            published = PROTOCOLS[protocol].target if protocol in PROTOCOLS else None
            target = published or (corpus.target if corpus else _only_label(manifest))
        column = _column(manifest, target) or ""
        return protocol, target, make_folds(protocol, labelled(manifest, target), column, tested=tested)


def _column(manifest: Manifest, target: str | None) -> str | None:
    """Return the first label of a target."""
    return None if target is None else split(manifest, target)[0][0]


def _check_labelled(cache: FeatureCache, target: str | None) -> None:
    """Raise an error if no utterance of a cache has a label, unless the target is a column such as ``split``."""
    if target not in NO_TARGETS and not any(utterance.has_label for utterance in cache.manifest):
        raise ManifestError(
            f"no utterance of {cache.name} has a label, which a fit needs; add a column such as 'emotion' to the "
            "manifest.csv beside the audio and extract again (the features are kept), or use a finished run on this "
            "audio with 'featcache predict'"
        )


def open_finished(cache: FeatureCache, name: str) -> FeatureStore:
    """Open a store whose extraction has finished.

    Raises:
        StoreError: there is no such store, or its extraction has not finished.
    """
    store = cache[name]
    pairs = [(store, cache)]
    if isinstance(cache, JointCache) and isinstance(store, JointStore):
        pairs = [(part, cache.caches[corpus]) for corpus, part in store.parts.items()]
    for part, of_part in pairs:
        if not part.complete:
            raise StoreError(
                f"{part.path} is not finished: it contains {len(part)} of {len(of_part.manifest)} utterances; "
                "run the same 'featcache extract' again to continue"
            )
    return store


def _without_missing(manifest: Manifest, stores: Sequence[FeatureStore]) -> tuple[Manifest, list[str]]:
    there = [i for i in manifest.utterance_ids if all(i in store for store in stores)]
    if not there:
        raise StoreError(f"no utterance has features in {' and '.join(store.name for store in stores)}")
    missing = len(manifest) - len(there)
    warnings = []
    if missing:
        gone = [i for i in manifest.utterance_ids if i not in set(there)]
        warnings.append(
            f"{missing} of {len(manifest)} utterances have no features and are left out ({listed(gone)}): "
            "not extracted (--limit), or failed (failures.csv)"
        )
    return manifest.subset(there), warnings


def _only_label(manifest: Manifest) -> str:
    columns = [column for column in manifest.label_columns if not column.startswith(VOTES)]
    if len(columns) == 1:
        return columns[0]
    raise ManifestError(f"which label to predict? choose with --target: {', '.join(columns)}")
