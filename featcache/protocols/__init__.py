"""Manifest → folds: which utterances train, validate and test, and the check that nothing leaks."""

from collections.abc import Iterable, Sequence

from featcache.errors import ProtocolError, unknown_name
from featcache.manifest import Manifest
from featcache.protocols.base import Fold, Protocol, refuse_faulty, shared_speakers
from featcache.protocols.general import GENERAL
from featcache.protocols.published import PUBLISHED

__all__ = ["PROTOCOLS", "Fold", "Protocol", "check_folds", "default_protocol", "make_folds"]

MOST_SPEAKERS_FOR_LOSO = 12
PROTOCOLS = {protocol.name: protocol for protocol in (*GENERAL, *PUBLISHED)}


def default_protocol(manifest: Manifest) -> str:
    """The protocol for a manifest when none is asked for: its own split or folds, or one by speakers."""
    if len({utterance.labels.get("split", "") for utterance in manifest} - {""}) > 1:
        return "split"
    if len({utterance.labels.get("fold", "") for utterance in manifest} - {""}) > 2:
        return "folds"
    return "loso" if len(manifest.speaker_ids) <= MOST_SPEAKERS_FOR_LOSO else "group-kfold"


def make_folds(protocol: str, manifest: Manifest, target: str) -> list[Fold]:
    """Make the folds of a protocol from the utterances that carry a label, and check them.

    Raises:
        ProtocolError: an unknown protocol, one that does not fit the manifest, or folds that ``check_folds`` refuses.
        ManifestError: no utterance carries the label, or another that the protocol needs.
    """
    if protocol not in PROTOCOLS:
        raise ProtocolError(unknown_name("protocol", protocol, PROTOCOLS))
    labelled = manifest.subset(tuple(manifest.labels(target)))
    folds = PROTOCOLS[protocol].folds(labelled, target)
    check_folds(folds, labelled)
    return folds


def check_folds(folds: Sequence[Fold], manifest: Manifest, protocol: str | None = None) -> list[str]:
    """Refuse folds that leak, and tell what a reader of their results should know.

    Args:
        folds: Made by a protocol or by hand.
        manifest: Where their utterances stand.
        protocol: The protocol that made them, which the warnings then name.

    Returns:
        Warnings, one line each: test speakers that are heard in training or validation, utterances without a
        speaker, sizes other than the published ones.

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
