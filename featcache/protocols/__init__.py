"""Manifest → folds of training, validation and test utterances, checked for leaks."""

from collections.abc import Iterable, Sequence

from featcache.corpora import CORPORA, Corpus
from featcache.errors import ManifestError, ProtocolError
from featcache.manifest import Manifest
from featcache.protocols.across import ACROSS
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
    {protocol.name: protocol for protocol in (*GENERAL, *ACROSS, *PUBLISHED)},
    base=Protocol,
    error=ProtocolError,
    instances=True,
)


def own_protocol(corpus: Corpus | None) -> str | None:
    """Return the name of a corpus's own default protocol, or None.

    For a corpus of dialogues, this is its first published protocol that keeps speakers and their partners apart. For
    another corpus, it is a general protocol that the corpus lists, such as ``two-speakers``.
    """
    known = {name: PROTOCOLS[name] for name in corpus.protocols if name in PROTOCOLS} if corpus else {}
    if corpus and corpus.dialogue:
        return next((name for name, one in known.items() if one.speaker_independent and one.partners_apart), None)
    return next((name for name, one in known.items() if one in GENERAL), None)


def default_protocol(manifest: Manifest, corpus: Corpus | None = None, target: str | None = None) -> str:
    """Return the name of the default protocol for a manifest.

    This is the corpus's own protocol (:func:`own_protocol`) if the manifest contains the speakers or sessions that it
    needs. Otherwise, it is the first that applies: the manifest's label ``split``, its label ``fold``, whole sessions
    for a corpus of dialogues, or speakers.

    Args:
        manifest: The utterances.
        corpus: The corpus of the utterances, if known.
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
    """Return a description of the default protocol of a corpus."""
    by_speakers = f"loso for up to {MOST_SPEAKERS_FOR_LOSO} speakers, group-kfold for more"
    own = own_protocol(corpus)
    if own:
        return own + (", which keeps speakers and their partners apart" if corpus.dialogue else "")
    return f"the manifest's split or fold if it has one, otherwise {by_speakers}"


def make_folds(protocol: str, manifest: Manifest, target: str, *, tested: bool = True) -> list[Fold]:
    """Make the folds of a protocol from the utterances that have a label, and check them.

    Args:
        protocol: A name in ``PROTOCOLS``, or a reference to a protocol that the user named.
        manifest: The utterances.
        target: The label to predict; utterances without it are left out.
        tested: Whether every fold needs a test part.

    Returns:
        The folds, in the order of the protocol.

    Raises:
        ProtocolError: the protocol is unknown, does not fit the manifest, or is code from outside of featcache that
            fails; or a fold is faulty, see ``check_folds``.
        ManifestError: no utterance has the label, or another label that the protocol needs.
    """
    PROTOCOLS.find(protocol)
    labelled = manifest.subset(tuple(manifest.labels(target)))
    folds = _made(protocol, labelled, target)
    for fold in folds:
        refuse_faulty(fold, set(labelled.utterance_ids), tested=tested)
    return folds


def _made(protocol: str, labelled: Manifest, target: str) -> list[Fold]:
    made = PROTOCOLS.find(protocol)
    with PROTOCOLS.guarding(protocol, "make folds"):
        return check_made(list(made.folds(labelled, target)))


def check_folds(folds: Sequence[Fold], manifest: Manifest, protocol: str | None = None) -> list[str]:
    """Refuse folds that leak utterances, and return warnings about other leaks.

    Args:
        folds: Folds made by a protocol or by hand.
        manifest: The utterances of the folds.
        protocol: Name of the protocol that made the folds, for the warnings.

    Returns:
        Warnings, one line each: test speakers in the training or validation part, sessions or dialogues split across
        parts, utterances without a speaker, or sizes that differ from the published ones.

    Raises:
        ProtocolError: a part is empty, a fold contains an utterance twice, or an id is not in the manifest.
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
                f"protocol {protocol!r} was published with {_written(known.published_sizes)} utterances for training, "
                f"validation and test, found {', '.join(map(_written, sizes))}; results are not comparable"
            )
    unknown = sum(speaker == "" for speaker in speakers.values())
    if unknown:
        warnings.append(f"{unknown} of {len(speakers)} utterances have no speaker_id: leaking speakers stay undetected")
    return warnings


def _written(sizes: Iterable[int]) -> str:
    return " / ".join(map(str, sizes))


def owners(protocol: str) -> list[Corpus]:
    """Return the corpora for which a protocol was published; empty for a general protocol.

    Corpora from outside of featcache are included if this process uses them.
    """
    return [corpus for corpus in CORPORA.loaded().values() if protocol in corpus.protocols]


def mixes_speakers(protocol: str) -> bool:
    """Return whether a run's protocol is known here and may have the same speakers in training and test."""
    return protocol in PROTOCOLS and not PROTOCOLS[protocol].speaker_independent
