"""Manifest → folds: which utterances train, validate and test, and the check that nothing leaks."""

from collections.abc import Iterable, Sequence

from featcache.corpora import CORPORA, Corpus
from featcache.errors import ManifestError, ProtocolError
from featcache.manifest import Manifest
from featcache.protocols.base import Fold, Protocol, check_made, refuse_faulty, shared_speakers
from featcache.protocols.dialogues import split_dialogues
from featcache.protocols.general import GENERAL
from featcache.protocols.published import PUBLISHED
from featcache.registry import Registry

__all__ = [
    "PROTOCOLS",
    "Fold",
    "Protocol",
    "check_folds",
    "default_of",
    "default_protocol",
    "make_folds",
    "mixes_speakers",
    "own_protocol",
    "owners",
]

MOST_SPEAKERS_FOR_LOSO = 12
PROTOCOLS: Registry[Protocol] = Registry(
    "protocol",
    "featcache.protocols",
    {protocol.name: protocol for protocol in (*GENERAL, *PUBLISHED)},
    base=Protocol,
    error=ProtocolError,
    instances=True,
)


def own_protocol(corpus: Corpus | None) -> str | None:
    """Return the protocol that a corpus has by default, whatever part of it is there, if it has one.

    Corpora of dialogues have their first published one that keeps speakers and their partners apart. Others have a
    general one that is among their own, as two speakers need.
    """
    known = {name: PROTOCOLS[name] for name in corpus.protocols if name in PROTOCOLS} if corpus else {}
    if corpus and corpus.dialogue:
        return next((name for name, one in known.items() if one.speaker_independent and one.partners_apart), None)
    return next((name for name, one in known.items() if one in GENERAL), None)


def default_protocol(manifest: Manifest, corpus: Corpus | None = None, target: str | None = None) -> str:
    """Return the protocol for a manifest when none is asked for.

    It is the corpus's own (:func:`own_protocol`). If the manifest lacks a part that this one needs, or for other
    corpora, it is the manifest's own split or folds, or one by speakers; for a part of a corpus of dialogues, one by
    whole sessions.

    Args:
        manifest: The utterances that take part.
        corpus: Which corpus they are of, where that is known.
        target: The label to predict; utterances without it do not count.
    """
    own = own_protocol(corpus)
    labelled = manifest.subset(tuple(manifest.labels(target))) if target else manifest
    if own and _can_be_made(own, labelled, target):
        return own
    if len({utterance.labels.get("split", "") for utterance in manifest} - {""}) > 1:
        return "split"
    if len({utterance.labels.get("fold", "") for utterance in manifest} - {""}) > 2:
        return "folds"
    if corpus and corpus.dialogue and _can_be_made("session-kfold", labelled, target):
        return "session-kfold"
    return "loso" if len(manifest.speaker_ids) <= MOST_SPEAKERS_FOR_LOSO else "group-kfold"


def _can_be_made(protocol: str, labelled: Manifest, target: str | None) -> bool:
    known = set(labelled.utterance_ids)
    try:
        for fold in _made(protocol, labelled, target or ""):
            refuse_faulty(fold, known)
    except (ProtocolError, ManifestError):
        return False
    return True


def default_of(corpus: Corpus) -> str:
    """Return in words which protocol a corpus has by default."""
    by_speakers = f"loso for up to {MOST_SPEAKERS_FOR_LOSO} speakers, group-kfold for more"
    own = own_protocol(corpus)
    if own:
        return own + (", which keeps speakers and their partners apart" if corpus.dialogue else "")
    return f"the manifest's split or fold where there is one, else {by_speakers}"


def make_folds(protocol: str, manifest: Manifest, target: str) -> list[Fold]:
    """Make the folds of a protocol from the utterances that carry a label, and check them.

    Raises:
        ProtocolError: an unknown protocol, one that does not fit the manifest, one from outside of featcache whose code
            fails, or folds that ``check_folds`` refuses.
        ManifestError: no utterance carries the label, or another that the protocol needs.
    """
    PROTOCOLS.find(protocol)
    labelled = manifest.subset(tuple(manifest.labels(target)))
    folds = _made(protocol, labelled, target)
    check_folds(folds, labelled)
    return folds


def _made(protocol: str, labelled: Manifest, target: str) -> list[Fold]:
    made = PROTOCOLS.find(protocol)
    with PROTOCOLS.guarding(protocol, "make folds"):
        return check_made(list(made.folds(labelled, target)))


def check_folds(folds: Sequence[Fold], manifest: Manifest, protocol: str | None = None) -> list[str]:
    """Refuse folds that leak, and tell what a reader of their results should know.

    Args:
        folds: Made by a protocol or by hand.
        manifest: Where their utterances stand.
        protocol: The protocol that made them, which the warnings then name.

    Returns:
        Warnings, one line each: test speakers that are heard in training or validation, sessions or dialogues that are
        split across parts, utterances without a speaker, sizes other than the published ones.

    Raises:
        ProtocolError: an empty part, an utterance that stands twice in a fold, or an id that the manifest has not.
    """
    speakers = {utterance.utterance_id: utterance.speaker_id for utterance in manifest}
    warnings = []
    for fold in folds:
        refuse_faulty(fold, speakers)
        warnings += shared_speakers(fold, speakers)
    known = PROTOCOLS[protocol] if protocol else None
    if known and not known.speaker_independent:
        warnings = [f"{warning}; protocol {protocol!r} does not keep speakers apart" for warning in warnings]
    warnings += split_dialogues(folds, manifest, whole=not (known and known.partners_apart))
    if known and known.published_sizes:
        sizes = [(len(fold.train), len(fold.validation), len(fold.test)) for fold in folds]
        if sizes != [known.published_sizes]:
            warnings.append(
                f"protocol {protocol!r} was published with {_written(known.published_sizes)} utterances to train, "
                f"validate and test, here they are {', '.join(map(_written, sizes))}; results do not compare"
            )
    unknown = sum(speaker == "" for speaker in speakers.values())
    if unknown:
        warnings.append(f"{unknown} of {len(speakers)} utterances have no speaker_id: speakers that leak go unnoticed")
    return warnings


def _written(sizes: Iterable[int]) -> str:
    return " / ".join(map(str, sizes))


def owners(protocol: str) -> list[Corpus]:
    """Return the corpora that a protocol was published for; none for a general one.

    Of corpora from outside of featcache, those that this process uses count.
    """
    return [corpus for corpus in CORPORA.loaded().values() if protocol in corpus.protocols]


def mixes_speakers(protocol: str) -> bool:
    """Whether test speakers are trained on too, as far as that is known of a finished run's protocol here."""
    return protocol in PROTOCOLS and not PROTOCOLS[protocol].speaker_independent
