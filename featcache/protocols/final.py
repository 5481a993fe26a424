"""Folds of a protocol → one fold without a test part, for heads that are used on new audio.

Early stopping needs a validation part. It is the validation part of the protocol's first fold; all other utterances
train. With most protocols these are speakers who do not train.
"""

from collections.abc import Sequence

from featcache.errors import listed
from featcache.manifest import Manifest
from featcache.protocols.base import Fold
from featcache.protocols.dialogues import split_dialogues

NAME = "final"


def final_fold(folds: Sequence[Fold], manifest: Manifest) -> Fold:
    """Return the fold that trains on all utterances but the validation part of the first fold.

    Args:
        folds: The folds of a protocol.
        manifest: The utterances in these folds.
    """
    held_out = set(folds[0].validation)
    train = tuple(utterance_id for utterance_id in manifest.utterance_ids if utterance_id not in held_out)
    return Fold(name=NAME, train=train, validation=folds[0].validation, test=())


def held_out_speakers(fold: Fold, manifest: Manifest) -> tuple[str, ...]:
    """Return the speakers of the validation part, sorted; empty if a speaker is unknown or trains as well."""
    speakers = {manifest[i].speaker_id for i in fold.validation}
    trained = {manifest[i].speaker_id for i in fold.train}
    return () if "" in speakers | trained or speakers & trained else tuple(sorted(speakers))


def check_final(fold: Fold, manifest: Manifest, protocol: str) -> list[str]:
    """Return warnings if the validation part is not independent of the training part.

    Args:
        fold: The fold, as :func:`final_fold` returns it.
        manifest: The utterances of the fold.
        protocol: Name of the protocol that chose the validation part.
    """
    warnings = split_dialogues([fold], manifest, whole=True)
    unknown = sum(utterance.speaker_id == "" for utterance in manifest)
    shared = {manifest[i].speaker_id for i in fold.validation} & {manifest[i].speaker_id for i in fold.train} - {""}
    if unknown:
        warnings.append(
            f"{unknown} of {len(manifest)} utterances have no speaker_id: speakers who train may also validate"
        )
    if shared:
        warnings.append(
            f"early stopping uses speakers who also train ({listed(sorted(shared))}), because protocol {protocol!r} "
            "does not hold speakers out for validation; choose another with --protocol, such as loso or group-kfold"
        )
    return warnings
