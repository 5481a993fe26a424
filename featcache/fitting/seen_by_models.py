"""Stores of fine-tuned models × folds → warnings if a model trained on utterances that a fold tests."""

from collections.abc import Collection, Iterator, Mapping, Sequence

from featcache.cache.joint import JointStore, split_id
from featcache.cache.known_audio import KnownAudio, audio_store, tells_audio
from featcache.cache.reader import FeatureCache, FeatureStore
from featcache.cache.tuned_store import TunedOrigin, fold_by_utterance, read_tested
from featcache.errors import listed
from featcache.protocols import Fold
from featcache.units import counted

UNKNOWN = (
    "{store}: its models were fine-tuned in the run {run}, on {corpus}; whether they trained on the tested "
    "utterances is not known, because the test parts of that run are missing"
)
OF_ONE = (
    "{store}: its model was fine-tuned in fold {fold} of the run {run}, and may have trained on {number} of the tested "
    "utterances ({ids}), in {leaking} of {folds}; their scores are too optimistic: fit only the fold of the model, "
    "with --fold {fold} and its protocol, {protocol}"
)
OF_OTHER_CORPUS = (
    "{store}: its model was fine-tuned in fold {fold} of the run {run} on {corpus}, and may have trained on the audio "
    "of {number} of the tested utterances ({ids}), in {leaking} of {folds}; their scores are too optimistic: test "
    "other audio, or fit {corpus} with --fold {fold}"
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
    from models that did not train on its test part. In a corpus of another name, an utterance is known by its audio.

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
    in_folds = {i for fold in folds for part in (fold.train, fold.validation, fold.test) for i in part}
    own = _own_ids(sorted(in_folds), parts, origin.corpus, joint=isinstance(store, JointStore))
    told = {name: getattr(origin, name) for name in ("run", "fold", "protocol", "corpus")} | {"store": store.name}
    tested = next((one for part in parts.values() if (one := read_tested(part.path, origin)) is not None), None)
    if tested is None:
        if any(utterance_id in own for fold in folds for utterance_id in fold.test):
            yield UNKNOWN.format(**told)
        return
    every_id = {i for ids in own.values() for i in ids}
    model_of = fold_by_utterance(tested, origin.folds) if origin.fold is None else dict.fromkeys(every_id, origin.fold)
    leaks = [found for fold in folds if (found := list(_seen(fold, own, model_of, tested)))]
    if leaks:
        seen = list(dict.fromkeys(utterance_id for found in leaks for utterance_id in found))
        numbers = {
            "leaking": len(leaks),
            "folds": counted(len(folds), "fold"),
            "number": len(seen),
            "ids": listed(seen),
        }
        of_fold = OF_ONE if origin.corpus in parts else OF_OTHER_CORPUS
        yield (OF_SEVERAL if origin.fold is None else of_fold).format(**told, **numbers)


def _own_ids(
    utterance_ids: Sequence[str], parts: Mapping[str, FeatureStore], corpus: str, *, joint: bool
) -> dict[str, Sequence[str]]:
    """Return utterance id → ids in the corpus of the models; utterances of other audio are missing.

    Args:
        utterance_ids: Ids of the fit.
        parts: Corpus → store.
        corpus: Corpus of the models.
        joint: Whether the ids begin with their corpus.
    """
    of_corpora: dict[str, dict[str, str]] = {name: {} for name in parts}
    for utterance_id in utterance_ids:
        name, own = split_id(utterance_id) if joint else (next(iter(parts)), utterance_id)
        of_corpora[name][utterance_id] = own
    found: dict[str, Sequence[str]] = {}
    for name, part in parts.items():
        if name == corpus:
            found |= {utterance_id: (own,) for utterance_id, own in of_corpora[name].items()}
            continue
        known = KnownAudio.read(part.path)
        audio = part if tells_audio(part) else audio_store(part.path.parent, ())
        if known is None or audio is None:
            continue
        stored = {utterance_id: own for utterance_id, own in of_corpora[name].items() if own in audio}
        for utterance_id, recording in zip(stored, audio.recordings(list(stored.values())), strict=True):
            if same := known.overlapping(*recording):
                found[utterance_id] = same
    return found


def _seen(
    fold: Fold, own: Mapping[str, Sequence[str]], model_of: Mapping[str, int], tested: Mapping[int, Collection[str]]
) -> Iterator[str]:
    """Yield the test utterances on which a model that made features of the fold may have trained."""
    everything = (*fold.train, *fold.validation, *fold.test)
    models = {model_of[i] for one in everything for i in own.get(one, ()) if i in model_of}
    for utterance_id in fold.test:
        if any(i not in tested.get(number, ()) for i in own.get(utterance_id, ()) for number in models):
            yield utterance_id
