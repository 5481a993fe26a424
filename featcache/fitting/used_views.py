"""Options for views × stores × folds → further utterances of the training parts, and a test condition.

Training reads an utterance of a view under an id of its own, so that a training part may contain the clean utterance
and its views. Nothing else sees these ids: validation parts, statistics and tables have the ids of the manifest.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from featcache.augmentation.augmented_view import SEPARATOR, VIEW_SETTINGS
from featcache.cache.reader import FeatureCache, FeatureStore
from featcache.errors import ManifestError, StoreError, listed, unknown_name
from featcache.fitting.task import ResolvedTask, open_finished
from featcache.manifest import Manifest
from featcache.normalise import Normaliser, fit_normaliser
from featcache.protocols import Fold
from featcache.runs.identity import hash_of
from featcache.settings.fits import FitSettings
from featcache.training.store_features import StoreFeatures
from featcache.training.view_features import FeaturesWithViews, ViewOfStore
from featcache.units import counted

ALL = "all"
TRAIN_NOTE = (
    "Training parts also contain the {} {}: {}, beside the clean ones. Validation, test and the statistics of the "
    "normalisation use the clean speech."
)
TEST_NOTE = "The test utterances are from the view {}, not from the clean speech{}."
OWN_STATISTICS = (
    "; speaker normalisation takes their statistics from the augmented speech of the speaker, which is what a system "
    "in use would have"
)


@dataclass(frozen=True, kw_only=True)
class ResolvedViews:
    """Views of a fit.

    Attributes:
        stores: Name of a view → its stores, in the order of the clean stores.
        train: Names of the views to train on.
        test: Name of the view to test on; None for the clean speech.
        originals: Id of an utterance in a view → key of the view and id of the utterance.
        warnings: Warnings for the log and the report.
    """

    stores: Mapping[str, Sequence[FeatureStore]] = field(default_factory=dict)
    train: tuple[str, ...] = ()
    test: str | None = None
    originals: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def original(self, utterance_id: str) -> str:
        """Return the id in the manifest of an utterance that training sees."""
        return self.originals[utterance_id][1] if utterance_id in self.originals else utterance_id

    def seen(self, fold: Fold) -> Fold:
        """Return a fold as training sees it: views follow in the training part, and replace the test part."""
        views = [_id(name, i) for name in self.train for i in fold.train]
        train = (*fold.train, *(one for one in views if one in self.originals))
        test = fold.test if self.test is None else tuple(_id(_tested(self.test), i) for i in fold.test)
        return replace(fold, train=train, test=test)

    def config(self) -> dict[str, Any]:
        """Return the entries of ``config.yaml``; none if there are no views."""
        if not self.stores:
            return {}
        return {
            **({"train_views": list(self.train)} if self.train else {}),
            **({"test_view": self.test} if self.test else {}),
            "view_stores_sha256": {one.name: one.identity.fingerprint for of in self.stores.values() for one in of},
            "views_sha256": hash_of([sorted(self.originals), self._measured()]),
        }

    def _measured(self) -> list[list[str]]:
        """Return the ids of the utterances that may be part of the statistics of the test view, per store."""
        return [sorted(store) for store in self.stores[self.test]] if self.test else []

    def notes(self, norm: str) -> list[str]:
        """Return the notes for the report."""
        notes = []
        if self.train:
            copies = sum(view in self.train for view, _ in self.originals.values())
            views = "view" if len(self.train) == 1 else "views"
            notes.append(TRAIN_NOTE.format(views, ", ".join(self.train), counted(copies, "augmented utterance")))
        if self.test:
            notes.append(TEST_NOTE.format(self.test, OWN_STATISTICS if norm == "speaker" else ""))
        return notes

    def features(self, clean: Sequence[StoreFeatures], request: FitSettings, measured: Manifest) -> list[StoreFeatures]:
        """Return the features of each store together with those of its views.

        Args:
            clean: Features of the clean speech.
            request: The settings of the fit.
            measured: The utterances whose statistics normalise features.
        """
        if not self.stores:
            return list(clean)
        found: list[StoreFeatures] = []
        for position, one in enumerate(clean):
            views = {name: ViewOfStore(_like(one, self.stores[name][position], request.layers)) for name in self.train}
            if self.test:
                tested = self.stores[self.test][position]
                fit = _own_statistics(tested, request, measured) if request.norm == "speaker" else None
                views[_tested(self.test)] = ViewOfStore(_like(one, tested, request.layers), fit)
            found.append(FeaturesWithViews(one, views, self.originals))
        return found


def resolve_views(cache: FeatureCache, request: FitSettings, task: ResolvedTask) -> ResolvedViews:
    """Find the stores of the views, and check that they belong to the clean stores.

    Args:
        cache: The cache of the corpus.
        request: The settings of the fit.
        task: Utterances, folds and clean stores.

    Raises:
        StoreError: a view does not exist, is not finished, has other settings or audio than the clean store, or lacks
            test utterances.
        ManifestError: an id of the corpus looks like the id of a view.
    """
    known = _known_views(cache, task.stores[0].name)
    given = known if tuple(request.train_views) == (ALL,) else request.train_views
    if request.train_views and not given:
        raise StoreError(
            f"{task.stores[0].name} has no views in {cache.path}; make them with 'featcache extract --augment'"
        )
    train = tuple(dict.fromkeys(_view_name(name, task.stores) for name in given))
    test = None if request.test_view is None else _view_name(request.test_view, task.stores)
    stores = {name: _stores_of(cache, name, known, task) for name in dict.fromkeys((*train, *filter(None, (test,))))}
    originals: dict[str, tuple[str, str]] = {}
    warnings = []
    trained = list(dict.fromkeys(i for fold in task.folds for i in fold.train))
    for name in train:
        there = [i for i in trained if all(i in store for store in stores[name])]
        originals |= {_id(name, i): (name, i) for i in there}
        if len(there) < len(trained):
            gone = [i for i in trained if _id(name, i) not in originals]
            warnings.append(
                f"view {name} has {len(there)} of {len(trained)} training utterances; the others ({listed(gone)}) are "
                "used without it"
            )
    if test:
        tested = list(dict.fromkeys(i for fold in task.folds for i in fold.test))
        lacking = [i for i in tested if not all(i in store for store in stores[test])]
        if lacking:
            raise StoreError(
                f"view {test} lacks {len(lacking)} of {len(tested)} test utterances ({listed(lacking)}): not extracted "
                "(--limit), or failed (failures.csv); extract it again, or exclude them with --select"
            )
        originals |= {_id(_tested(test), i): (_tested(test), i) for i in tested}
    same = [i for i in task.manifest.utterance_ids if i in originals]
    if same:
        raise ManifestError(
            f"utterance {same[0]!r} has an id that featcache uses for a view; rename it in the manifest"
        )
    return ResolvedViews(stores=stores, train=train, test=test, originals=originals, warnings=tuple(warnings))


def _id(view: str, utterance_id: str) -> str:
    """Return the id under which training reads an utterance of a view."""
    return f"{utterance_id}{SEPARATOR}{view}"


def _tested(view: str) -> str:
    """Return the key of a view as a test condition; as a training view, it may be normalised in another way."""
    return f"{view}{SEPARATOR}test"


def _known_views(cache: FeatureCache, store: str) -> tuple[str, ...]:
    begin = store + SEPARATOR
    return tuple(name.removeprefix(begin) for name in cache if name.startswith(begin))


def _view_name(name: str, stores: Sequence[FeatureStore]) -> str:
    """Return the name of a view, which may also be given as the name of one of its stores."""
    begin = next((one.name + SEPARATOR for one in stores if name.startswith(one.name + SEPARATOR)), "")
    return name.removeprefix(begin)


def _stores_of(cache: FeatureCache, view: str, known: Sequence[str], task: ResolvedTask) -> list[FeatureStore]:
    """Return the stores of a view, in the order of the clean stores."""
    found = []
    for clean in task.stores:
        name = f"{clean.name}{SEPARATOR}{view}"
        if name not in cache:
            if view not in known:
                hint = "'featcache extract --augment' makes views"
                raise StoreError(unknown_name(f"view of {clean.name}", view, known, hint=hint))
            raise StoreError(
                f"{clean.name} has no view {view}, which {task.stores[0].name} has; extract it with the same --augment"
            )
        found.append(open_finished(cache, name))
        _check_same(clean, found[-1])
    first = found[0]
    for other in found[1:]:
        augmented = [{key: one.identity.settings.get(key) for key in VIEW_SETTINGS} for one in (first, other)]
        if augmented[0] != augmented[1]:
            raise StoreError(f"{first.name} and {other.name} have other augmentations; extract one of them again")
    return found


def _check_same(clean: FeatureStore, view: FeatureStore) -> None:
    """Check that a store contains augmented features of the same extractor and audio as a clean store."""
    if not view.identity.is_view:
        raise StoreError(f"{view.path} contains no augmented speech; expected a store of 'featcache extract --augment'")
    if clean.identity.is_view:
        raise StoreError(f"{clean.path} is a view itself; expected the clean speech in --features")
    differing = view.identity.without_view().differences(clean.identity)
    if differing:
        raise StoreError(
            f"{view.path} was made with other settings than {clean.name} ({', '.join(differing)} differ); extract it "
            "again with the same settings"
        )
    both = [i for i in clean.utterance_ids if i in view]
    pairs = zip(both, clean.recordings(both), view.recordings(both), strict=True)
    other = [i for i, recording, augmented in pairs if recording != augmented]
    if other:
        raise StoreError(
            f"{view.path} was made from other audio than {clean.name} in {len(other)} of {len(both)} utterances "
            f"({listed(other)}); extract both again"
        )


def _like(clean: StoreFeatures, store: FeatureStore, layers: str) -> StoreFeatures:
    """Return the features of a view with the layers and frames of the clean features."""
    return StoreFeatures(
        store,
        layers=layers,
        max_frames=clean.max_frames,
        pooling=clean.pooling,
        paired=clean.paired,
        averaged=clean.averaged,
    )


def _own_statistics(store: FeatureStore, request: FitSettings, measured: Manifest) -> Callable[[], Normaliser]:
    """Return a function that computes the statistics of each speaker over the utterances that a view has."""
    within = measured.subset([i for i in measured.utterance_ids if i in store])
    return partial(fit_normaliser, store, request.norm, within, (), scalar=request.scalar_norm, by=request.norm_by)
