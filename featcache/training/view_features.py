"""Features of the clean speech, and of views under further ids, for training and as a test condition."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from featcache.normalise import Normaliser
from featcache.training.store_features import StoreFeatures


@dataclass(frozen=True)
class ViewOfStore:
    """Features of one view, and the statistics that normalise them.

    Attributes:
        features: Features of the store of the view, with the same layers and frames as those of the clean speech.
        fit: Function that computes the statistics of the view itself; None for the statistics of the clean speech.
    """

    features: StoreFeatures
    fit: Callable[[], Normaliser] | None = None

    @cached_property
    def own(self) -> Normaliser | None:
        """Normaliser with the statistics of the view itself, of the layers that are used; None if there is none."""
        return None if self.fit is None else self.features.of_layers(self.fit())


class FeaturesWithViews(StoreFeatures):
    """Features of one store, in which views have ids of their own.

    Args:
        clean: Features of the clean speech.
        views: Name of a view → its features.
        originals: Id of an utterance in a view → name of the view and id of the utterance in its store.
    """

    def __init__(
        self, clean: StoreFeatures, views: Mapping[str, ViewOfStore], originals: Mapping[str, tuple[str, str]]
    ) -> None:
        self.__dict__.update(vars(clean))
        self._clean = clean
        self._views = views
        self._originals = originals

    def num_frames(self, utterance_id: str) -> int:
        features, original = self._place(utterance_id)
        return features.num_frames(original)

    def read(self, utterance_id: str, num_frames: int, normaliser: Normaliser) -> Tensor:
        features, original = self._place(utterance_id)
        if utterance_id in self._originals:
            normaliser = self._views[self._originals[utterance_id][0]].own or normaliser
        return features.read(original, num_frames, normaliser)

    def prefetch(self, utterance_ids: Sequence[str], num_frames: Sequence[int]) -> None:
        for utterance_id, number in zip(utterance_ids, num_frames, strict=True):
            features, original = self._place(utterance_id)
            features.prefetch([original], [number])

    def in_order(self, utterance_ids: Collection[str]) -> list[str]:
        """Return the ids in the order of the stores: the clean speech first, then one view after another."""
        wanted = set(utterance_ids)
        found = self._clean.in_order(wanted)
        ids = {place: utterance_id for utterance_id, place in self._originals.items() if utterance_id in wanted}
        for name, view in self._views.items():
            found += [ids[name, original] for original in view.features.store.utterance_ids if (name, original) in ids]
        return found

    def drop_pages(self) -> None:
        self._clean.drop_pages()
        for view in self._views.values():
            view.features.drop_pages()

    def of_stores(self, utterance_ids: Sequence[str]) -> list[tuple[StoreFeatures, list[str]]]:
        """Return the features of each store with the ids that it contains, out of the given ones."""
        found = [(self._clean, [i for i in utterance_ids if i not in self._originals])]
        for name, view in self._views.items():
            places = (self._originals[i] for i in utterance_ids if i in self._originals)
            found.append((view.features, [original for of_view, original in places if of_view == name]))
        return [(features, ids) for features, ids in found if ids]

    def _place(self, utterance_id: str) -> tuple[StoreFeatures, str]:
        place = self._originals.get(utterance_id)
        return (self._clean, utterance_id) if place is None else (self._views[place[0]].features, place[1])
