"""Stores × manifest × folds → what is refused or told before anything is trained."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np

from featcache.cache.reader import FeatureCache, FeatureStore
from featcache.corpora import Corpus
from featcache.errors import ManifestError, ProtocolError, StoreError, listed
from featcache.labels import lookalikes
from featcache.manifest import Manifest, Utterance
from featcache.normalise import SPEAKER
from featcache.protocols import PROTOCOLS, Fold, owners
from featcache.protocols.general import GENERAL
from featcache.settings.extractor_configs import MANIFEST
from featcache.targets.targets import PredictionTarget
from featcache.transcripts.text import Transcript, read_words

# Of durations, in seconds: what frames leave over at the end of an utterance.
ROUNDING = 0.1
Recording = tuple[str, float, float]
Stretch = tuple[float, float, str]


@contextmanager
def explained(
    whole: Manifest, chosen: Manifest, taken: Manifest, *, limit: int | None, select: Mapping[str, Sequence[str]]
) -> Iterator[None]:
    """Add to an error about utterances that are missing why they do not take part.

    Args:
        whole: All utterances of the corpus.
        chosen: Those that the user chose.
        taken: Those of them that have features.
        limit: What chose them.
        select: The same.
    """
    try:
        yield
    except (ProtocolError, ManifestError) as error:
        causes = [f"--limit {limit}"] if limit is not None and limit < len(whole) else []
        causes += [f"--select {column}={','.join(values)}" for column, values in select.items()]
        if len(taken) < len(chosen):
            causes.append(f"{len(chosen) - len(taken)} have no features, as after 'featcache extract --limit'")
        if not causes:
            raise
        if len(taken) == len(whole):
            raise  # each utterance takes part, so none of these choices is the cause
        told = f"{error}; only {len(taken)} of {len(whole)} utterances take part: {', '.join(causes)}"
        raise type(error)(told) from error


@contextmanager
def of_another_corpus(protocol: str | None, corpus: Corpus | None) -> Iterator[None]:
    """Say of a protocol that cannot be made that it was published for another corpus, where it was."""
    try:
        yield
    except (ProtocolError, ManifestError) as error:
        titles = " and ".join(owner.title for owner in owners(protocol or "") if owner != corpus)
        if not titles or corpus in owners(protocol or ""):
            raise
        if corpus is None or not corpus.classes:
            told = f"{error}; protocol {protocol!r} was published for {titles}"
        else:
            own = ", ".join((*corpus.protocols, *(general.name for general in GENERAL)))
            told = f"protocol {protocol!r} was published for {titles}, but this is {corpus.title}; choose among: {own}"
        raise ProtocolError(told) from error


def foreign(protocol: str, corpus: Corpus | None) -> list[str]:
    """A warning where a protocol serves that was published for another corpus."""
    theirs = owners(protocol)
    if corpus is None or not theirs or corpus in theirs:
        return []
    titles = " and ".join(owner.title for owner in theirs)
    return [f"protocol {protocol!r} was published for {titles}, not for {corpus.title}; results do not compare"]


def check_recordings(stores: Sequence[FeatureStore], utterance_ids: Sequence[str], cache: FeatureCache) -> list[str]:
    """Refuse stores that were made of different audio, which their ids do not tell.

    Text has no audio: it is compared with the transcripts that it was made of, as they are now.

    Args:
        stores: Whose features are used together.
        utterance_ids: The utterances that take part.
        cache: Where the stores lie.

    Returns:
        Warnings, one line each: stores whose audio is not known, or whose transcripts have changed.

    Raises:
        StoreError: an utterance whose features are of different audio files, or of other times in them.
    """
    warnings = [warning for store in stores if store.is_of_words for warning in _changed_words(store, cache)]
    of_audio = [store for store in stores if not store.is_of_words]
    if len(of_audio) < 2:
        return warnings
    known: dict[str, tuple[Recording, str]] = {}
    for store in of_audio:
        found = dict(zip(utterance_ids, store.recordings(utterance_ids), strict=True))
        told = {i: recording for i, recording in found.items() if recording[0]}
        other = [i for i, recording in told.items() if i in known and known[i][0] != recording]
        if other:
            raise StoreError(
                f"{known[other[0]][1]} and {store.name} are of different audio in {len(other)} of {len(utterance_ids)} "
                f"utterances ({listed(other)}); run 'featcache extract' again for the one that is out of date, or give "
                "another corpus a name of its own with --corpus"
            )
        known = {i: (recording, store.name) for i, recording in told.items()} | known
    return [*warnings, *_of_unknown_audio(of_audio, utterance_ids)]


def _of_unknown_audio(stores: Sequence[FeatureStore], utterance_ids: Sequence[str]) -> Iterator[str]:
    for number, store in enumerate(stores):
        without = sum(sha256 == "" for sha256 in store.audio_sha256(utterance_ids))
        if not without:
            continue
        first = stores[1 if number == 0 else 0]
        lengths = [one.durations(utterance_ids) for one in (first, store)]
        differing = int((np.abs(lengths[0] - lengths[1]) > ROUNDING).sum())  # one that is not known is NaN
        told = f", and {differing} of them differ in length" if differing else ""
        yield (
            f"{store.name} does not say of which audio {without} of {len(utterance_ids)} utterances are, as imported "
            f"features do not: whether it is that of {first.name} is not known{told}"
        )


def _changed_words(store: FeatureStore, cache: FeatureCache) -> list[str]:
    """A warning where the transcripts that a store was made of are others now."""
    transcripts = store.metadata.get("transcripts", MANIFEST)
    try:
        now = read_words(cache.path, cache.manifest, None if transcripts == MANIFEST else transcripts)
    except (StoreError, ManifestError):
        return []  # features outlive what they were made of
    ids = [i for i in store.utterance_ids if i in now]
    stored = store.audio_sha256(ids)
    other = [i for i, sha in zip(ids, stored, strict=True) if sha and sha != Transcript(text=now[i].transcript).sha256]
    if not other:
        return []
    of = "the manifest" if transcripts == MANIFEST else repr(transcripts)
    return [
        f"{store.name} was made of other transcripts than {of} has now in {len(other)} of {len(ids)} utterances "
        f"({listed(other)}); run the same 'featcache extract' again"
    ]


def shared_audio(folds: Sequence[Fold], stores: Sequence[FeatureStore], utterance_ids: Sequence[str]) -> list[str]:
    """A warning where a fold trains or validates on the very audio that it tests, under another id.

    Args:
        folds: What trains, validates and tests.
        stores: The first of them that knows its audio tells the same file, and times in it, from others.
        utterance_ids: All utterances of the folds.
    """
    store = next((one for one in stores if not one.is_of_words and all(one.audio_sha256(utterance_ids))), None)
    if store is None:
        return []
    of_file: dict[str, list[Stretch]] = {}
    for utterance_id, (sha256, start, end) in zip(utterance_ids, store.recordings(utterance_ids), strict=True):
        of_file.setdefault(sha256, []).append((start, end, utterance_id))
    several = [sorted(stretches) for stretches in of_file.values() if len(stretches) > 1]
    leaks = {fold.name: pairs for fold in folds if (pairs := dict(_leaks(fold, several)))}
    if not leaks:
        return []
    shared = {utterance_id for pairs in leaks.values() for utterance_id in pairs}
    examples = dict.fromkeys(pair for pairs in leaks.values() for pair in pairs.items())
    told = ", ".join(f"{one!r} is {other!r}" for one, other in list(examples)[:3])
    return [
        f"{len(leaks)} of {len(folds)} folds test or validate on audio that they also learn from under another id: "
        f"{len(shared)} utterances ({told}); leave copies out, because they make scores too good"
    ]


def _leaks(fold: Fold, files: Sequence[Sequence[Stretch]]) -> Iterator[tuple[str, str]]:
    """Tested or validated utterances, each with one that has some of its audio and is learned from or validated on.

    Args:
        fold: What trains, validates and tests.
        files: The stretches of each file, sorted by their beginnings.
    """
    part_of = dict.fromkeys(fold.train, 0) | dict.fromkeys(fold.validation, 1) | dict.fromkeys(fold.test, 2)
    for stretches in files:
        # of what began before, the stretch of each part that ends last; of what begins later, the first
        for order, farther in ((stretches, _ends_later), (stretches[::-1], _begins_earlier)):
            nearest: dict[int, Stretch] = {}
            for stretch in order:
                part = part_of.get(stretch[2])
                if part is None:
                    continue
                for earlier in range(part):
                    other = nearest.get(earlier)
                    if other and other[0] < stretch[1] and stretch[0] < other[1]:
                        yield stretch[2], other[2]
                if part not in nearest or farther(stretch, nearest[part]):
                    nearest[part] = stretch


def _ends_later(one: Stretch, other: Stretch) -> bool:
    return one[1] > other[1]


def _begins_earlier(one: Stretch, other: Stretch) -> bool:
    return one[0] <= other[0]


def alike(manifest: Manifest, columns: Sequence[str]) -> list[str]:
    """Return warnings about values that look alike but count as different, and about blanks that count as a value.

    Args:
        manifest: The utterances that take part.
        columns: ``speaker_id``, and labels.
    """
    warnings = []
    for column in dict.fromkeys(columns):
        values = {u.utterance_id: u.speaker_id if column == SPEAKER else u.labels.get(column, "") for u in manifest}
        blank = [i for i, value in values.items() if value and not value.strip()]
        if blank:
            warnings.append(
                f"{column} is blank, but not empty, in {len(blank)} utterances ({listed(blank)}), and counts as a "
                "value; empty it in the manifest"
            )
        for group in lookalikes(value for value in values.values() if value):
            first = [next(i for i, value in values.items() if value == one) for one in group]
            told = ", ".join(f"{one!r} (utterance {i!r})" for one, i in list(zip(group, first, strict=True))[:3])
            warnings.append(f"{column} has values that look alike and count as different: {told}; write them alike")
    return warnings


def unlabelled(taken: Manifest, manifest: Manifest, labels: Sequence[str], protocol: str) -> tuple[Utterance, ...]:
    """Return the utterances that a protocol would take if they had a label.

    Args:
        taken: The utterances that were chosen and have features.
        manifest: Those of them in the folds.
        labels: What is predicted is made of them.
        protocol: What made the folds.
    """
    select, within = PROTOCOLS[protocol].select, set(manifest.utterance_ids)
    return tuple(
        u
        for u in taken
        if u.utterance_id not in within
        and not _is_labelled(u, labels)
        and all(u.labels.get(column, "") in values for column, values in select.items())
    )


def left_out(taken: Manifest, manifest: Manifest, target: PredictionTarget, protocol: str) -> list[str]:
    """Return notes on the utterances that neither train, validate nor test; the arguments are those of a task."""
    within = set(manifest.utterance_ids)
    others = [u for u in taken if u.utterance_id not in within]
    without = sum(not _is_labelled(u, target.labels) for u in others)
    notes = []
    if without:
        notes.append(
            f"{without} of {len(taken)} utterances have no label {target.name!r}; they neither train, validate nor "
            "test."
        )
    if len(others) > without:
        notes.append(f"{len(others) - without} of {len(taken)} utterances are no part of protocol {protocol!r}.")
    return notes


def _is_labelled(utterance: Utterance, labels: Sequence[str]) -> bool:
    return all(utterance.labels.get(label, "") != "" for label in labels)
