"""Stores of fine-tuned models × folds → warnings if a model trained on utterances that a fold tests."""

from collections.abc import Collection, Iterator, Mapping, Sequence

from featcache.cache.joint import JointStore, split_id
from featcache.cache.reader import FeatureCache, FeatureStore
from featcache.cache.tuned_store import TunedOrigin, fold_by_utterance, read_tested
from featcache.errors import listed
from featcache.protocols import Fold
from featcache.units import counted

UNKNOWN = (
    "{store}: its models were fine-tuned in the run {run}, on this corpus; whether they trained on the tested "
    "utterances is not known, because the test parts of that run are missing"
)
OF_ONE = (
    "{store}: its model was fine-tuned in fold {fold} of the run {run}, and may have trained on {number} of the tested "
    "utterances ({ids}), in {leaking} of {folds}; their scores are too optimistic: fit only the fold of the model, "
    "with --fold {fold} and its protocol, {protocol}"
)
OF_SEVERAL = (
    "{store}: in {leaking} of {folds}, training utterances have features of models of the run {run} that trained on "
    "utterances which the fold tests ({number}: {ids}); the scores are too optimistic: for each fold F, extract with "
    "--model {run} --fold F, and fit with --fold F"
)


def seen_by_models(stores: Sequence[FeatureStore], folds: Sequence[Fold], cache: FeatureCache) -> list[str]:
    """Return a warning for each store whose models trained on utterances that the folds test.

    A model of a fold may have trained on every utterance of its corpus except those in the test part of the fold:
    validation utterances chose the model. A fold is clean if all of its features, also those of the training part, are
    from models that did not train on its test part.

    Args:
        stores: The stores of the fit.
        folds: Training, validation and test parts.
        cache: The cache of the stores.

    Raises:
        StoreError: the record of the fine-tuned models is damaged.
    """
    return [warning for store in stores for warning in _of_store(store, folds, cache)]


def _of_store(store: FeatureStore, folds: Sequence[Fold], cache: FeatureCache) -> Iterator[str]:
    origin = TunedOrigin.of(store.identity)
    if origin is None:
        return
    parts = store.parts if isinstance(store, JointStore) else {cache.name: store}
    if origin.corpus not in parts:
        return
    ids = {
        utterance_id: own
        for fold in folds
        for utterance_id in (*fold.train, *fold.validation, *fold.test)
        if (own := _own_id(utterance_id, origin.corpus, joint=isinstance(store, JointStore))) is not None
    }
    told = {"store": store.name, "run": origin.run, "fold": origin.fold, "protocol": origin.protocol}
    tested = read_tested(parts[origin.corpus].path, origin)
    if tested is None:
        if any(utterance_id in ids for fold in folds for utterance_id in fold.test):
            yield UNKNOWN.format(**told)
        return
    model_of = (
        fold_by_utterance(tested, origin.folds) if origin.fold is None else dict.fromkeys(ids.values(), origin.fold)
    )
    leaks = [found for fold in folds if (found := list(_seen(fold, ids, model_of, tested)))]
    if leaks:
        seen = list(dict.fromkeys(utterance_id for found in leaks for utterance_id in found))
        numbers = {
            "leaking": len(leaks),
            "folds": counted(len(folds), "fold"),
            "number": len(seen),
            "ids": listed(seen),
        }
        yield (OF_SEVERAL if origin.fold is None else OF_ONE).format(**told, **numbers)


def _own_id(utterance_id: str, corpus: str, *, joint: bool) -> str | None:
    """Return the id of an utterance in the corpus of the models; None for an utterance of another corpus."""
    if not joint:
        return utterance_id
    of_corpus, own = split_id(utterance_id)
    return own if of_corpus == corpus else None


def _seen(
    fold: Fold, ids: Mapping[str, str], model_of: Mapping[str, int], tested: Mapping[int, Collection[str]]
) -> Iterator[str]:
    """Yield the test utterances on which a model that made features of the fold may have trained."""
    everything = (*fold.train, *fold.validation, *fold.test)
    models = {model_of[ids[one]] for one in everything if one in ids and ids[one] in model_of}
    for utterance_id in fold.test:
        if utterance_id in ids and not all(ids[utterance_id] in tested.get(number, ()) for number in models):
            yield utterance_id
