"""Stores × manifest × folds → errors and warnings before anything is trained."""

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
from featcache.units import counted

# Tolerance for durations in seconds: the end of an utterance may not fill a whole frame.
ROUNDING = 0.1
Recording = tuple[str, float, float]
Stretch = tuple[float, float, str]


@contextmanager
def explained(
    whole: Manifest, chosen: Manifest, taken: Manifest, *, limit: int | None, select: Mapping[str, Sequence[str]]
) -> Iterator[None]:
    """Add the reasons why utterances are left out to an error in the block.

    Args:
        whole: All utterances of the corpus.
        chosen: The utterances that the user selected.
        taken: The selected utterances that have features.
        limit: Option ``limit`` of the user.
        select: Option ``select`` of the user.

    Raises:
        ProtocolError: the block raised it.
        ManifestError: the block raised it.
    """
    try:
        yield
    except (ProtocolError, ManifestError) as error:
        causes = [f"--limit {limit}"] if limit is not None and limit < len(whole) else []
        causes += [f"--select {column}={','.join(values)}" for column, values in select.items()]
        if len(taken) < len(chosen):
            causes.append(f"{len(chosen) - len(taken)} have no features, for example after 'featcache extract --limit'")
        if not causes:
            raise
        if len(taken) == len(whole):
            raise  # all utterances take part, so these options are not the cause
        told = f"{error}; only {len(taken)} of {len(whole)} utterances take part: {', '.join(causes)}"
        raise type(error)(told) from error


@contextmanager
def of_another_corpus(protocol: str | None, corpus: Corpus | None) -> Iterator[None]:
    """Add to an error in the block that the protocol was published for another corpus, if it was.

    Raises:
        ProtocolError: the block raised an error, and the protocol was published for another corpus.
    """
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
    """Return a warning if a protocol was published for another corpus."""
    theirs = owners(protocol)
    if corpus is None or not theirs or corpus in theirs:
        return []
    titles = " and ".join(owner.title for owner in theirs)
    return [f"protocol {protocol!r} was published for {titles}, not for {corpus.title}; results are not comparable"]


def check_recordings(stores: Sequence[FeatureStore], utterance_ids: Sequence[str], cache: FeatureCache) -> list[str]:
    """Check that all stores were extracted from the same audio.

    Text features have no audio: their transcripts are compared with the current transcripts.

    Args:
        stores: Stores whose features are used together.
        utterance_ids: The utterances that take part.
        cache: The cache of the stores.

    Returns:
        Warnings, one line each: stores whose audio is unknown, or whose transcripts have changed.

    Raises:
        StoreError: features of an utterance are from different audio files, or from different times in a file.
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
                f"{known[other[0]][1]} and {store.name} were extracted from different audio in {len(other)} of "
                f"{len(utterance_ids)} utterances ({listed(other)}); run 'featcache extract' again for the store that "
                "is out of date, or give another corpus its own name with --corpus"
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
        differing = int((np.abs(lengths[0] - lengths[1]) > ROUNDING).sum())  # an unknown duration is NaN
        told = f"; {differing} of them differ in length" if differing else ""
        yield (
            f"{store.name} does not record the audio of {without} of {len(utterance_ids)} utterances (imported "
            f"features do not), so it cannot be compared with the audio of {first.name}{told}"
        )


def _changed_words(store: FeatureStore, cache: FeatureCache) -> list[str]:
    """Return a warning if the transcripts of a store have changed since extraction."""
    transcripts = store.metadata.get("transcripts", MANIFEST)
    try:
        now = read_words(cache.path, cache.manifest, None if transcripts == MANIFEST else transcripts)
    except (StoreError, ManifestError):
        return []  # features remain valid if their transcripts were removed
    ids = [i for i in store.utterance_ids if i in now]
    stored = store.audio_sha256(ids)
    other = [i for i, sha in zip(ids, stored, strict=True) if sha and sha != Transcript(text=now[i].transcript).sha256]
    if not other:
        return []
    of = "the manifest" if transcripts == MANIFEST else repr(transcripts)
    return [
        f"transcripts of {len(other)} of {len(ids)} utterances in {of} have changed since {store.name} was extracted "
        f"({listed(other)}); run the same 'featcache extract' again"
    ]


def shared_audio(folds: Sequence[Fold], stores: Sequence[FeatureStore], utterance_ids: Sequence[str]) -> list[str]:
    """Return a warning if a fold trains or validates on audio that it also tests, under another id.

    Args:
        folds: Training, validation and test parts.
        stores: Stores; the first one that records its audio identifies equal files and overlapping times.
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
        f"{len(leaks)} of {len(folds)} folds test or validate on audio that they also train on, under another id: "
        f"{counted(len(shared), 'utterance')} ({told}); exclude copies, because they make scores too optimistic"
    ]


def _leaks(fold: Fold, files: Sequence[Sequence[Stretch]]) -> Iterator[tuple[str, str]]:
    """Yield pairs of utterances that share audio: a later part (test, validation) and an earlier one of the fold.

    Args:
        fold: Training, validation and test part.
        files: Time intervals of the utterances of each file, sorted by their start.
    """
    part_of = dict.fromkeys(fold.train, 0) | dict.fromkeys(fold.validation, 1) | dict.fromkeys(fold.test, 2)
    for stretches in files:
        # Forward: keep the interval of each part that ends last. Backward: keep the one that starts first.
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
    """Return warnings about values that look alike but are different, and about blanks that count as a value.

    Args:
        manifest: The utterances that take part.
        columns: ``speaker_id``, or labels.
    """
    warnings = []
    for column in dict.fromkeys(columns):
        values = {u.utterance_id: u.speaker_id if column == SPEAKER else u.labels.get(column, "") for u in manifest}
        blank = [i for i, value in values.items() if value and not value.strip()]
        if blank:
            warnings.append(
                f"{column} contains only spaces in {counted(len(blank), 'utterance')} ({listed(blank)}), "
                "which counts as a value; leave it empty in the manifest"
            )
        for group in lookalikes(value for value in values.values() if value):
            first = [next(i for i, value in values.items() if value == one) for one in group]
            told = ", ".join(f"{one!r} (utterance {i!r})" for one, i in list(zip(group, first, strict=True))[:3])
            warnings.append(f"{column} has values that look alike but are different: {told}; write them the same way")
    return warnings


def unlabelled(taken: Manifest, manifest: Manifest, labels: Sequence[str], protocol: str) -> tuple[Utterance, ...]:
    """Return the utterances that a protocol would use if they had a label.

    Args:
        taken: The utterances that were selected and have features.
        manifest: The utterances in the folds.
        labels: Labels of the target.
        protocol: Protocol of the folds.
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
    """Return notes on the utterances that are in no fold.

    Args:
        taken: The utterances that were selected and have features.
        manifest: The utterances in the folds.
        target: Target of the task.
        protocol: Protocol of the folds.
    """
    within = set(manifest.utterance_ids)
    others = [u for u in taken if u.utterance_id not in within]
    without = sum(not _is_labelled(u, target.labels) for u in others)
    notes = []
    if without:
        notes.append(
            f"{without} of {len(taken)} utterances have no label {target.name!r}; they are not used for training, "
            "validation or testing."
        )
    if len(others) > without:
        notes.append(f"{len(others) - without} of {len(taken)} utterances are not part of protocol {protocol!r}.")
    return notes


def _is_labelled(utterance: Utterance, labels: Sequence[str]) -> bool:
    return all(utterance.labels.get(label, "") != "" for label in labels)
