"""Table of all families of speech models: one line each. :class:`Family` describes what an entry needs."""

from collections.abc import Mapping
from typing import Any

from featcache.errors import ModelError
from featcache.extractors.checkpoint import Checkpoint
from featcache.extractors.families.conformer import Wav2Vec2Conformer
from featcache.extractors.families.emotion2vec import Emotion2vec
from featcache.extractors.families.family import ARCHITECTURE, INPUT, Family
from featcache.extractors.families.mel_stack import Wav2Vec2Bert
from featcache.extractors.families.qwen2_audio import Qwen2AudioEncoder
from featcache.extractors.families.spectrogram_patches import SpectrogramTransformer
from featcache.extractors.families.waveform import Data2VecAudio, Hubert, UniSpeech, UniSpeechSat, Wav2Vec2, WavLM
from featcache.extractors.families.whisper_encoder import Whisper
from featcache.extractors.families.xvector import XVECTOR, UniSpeechSatXVector, Wav2Vec2XVector, WavLMXVector, XVector
from featcache.extractors.pretrained import read_configuration

__all__ = [
    "ARCHITECTURE",
    "FAMILIES",
    "INPUT",
    "XVECTOR",
    "XVECTOR_FAMILIES",
    "Family",
    "family_of",
    "weight_prefixes",
    "xvector_family",
]

_TABLE: tuple[type[Family], ...] = (
    Wav2Vec2,
    Hubert,
    WavLM,
    UniSpeech,
    UniSpeechSat,
    Data2VecAudio,
    Whisper,
    Wav2Vec2Conformer,
    Wav2Vec2Bert,
    SpectrogramTransformer,
    Qwen2AudioEncoder,
    Emotion2vec,
)
FAMILIES: dict[str, type[Family]] = {model_type: family for family in _TABLE for model_type in family.model_types}
"""``model_type`` of a configuration → family."""
XVECTOR_FAMILIES: dict[str, type[XVector]] = {
    model_type: family
    for family in (Wav2Vec2XVector, WavLMXVector, UniSpeechSatXVector)
    for model_type in family.model_types
}
"""``model_type`` of a configuration → family of the speaker recognition models, which compute x-vectors."""


def weight_prefixes(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the prefixes of the parameters that a model needs, from the content of its ``config.json``."""
    return FAMILIES.get(config.get("model_type", ""), Family).weight_prefixes


def family_of(checkpoint: Checkpoint) -> type[Family]:
    """Return the family of a checkpoint.

    Raises:
        ModelError: the checkpoint is not a speech model of a known family.
    """
    model_type = checkpoint.config.get("model_type")
    if model_type not in FAMILIES:
        model_type = read_configuration(checkpoint).model_type  # raises an error if it is not known at all
    if model_type not in FAMILIES:
        raise ModelError(
            f"{checkpoint.source} is a {model_type!r} model, expected a speech model of one of: {', '.join(FAMILIES)}; "
            "use text models with --text"
        )
    return FAMILIES[model_type]


def xvector_family(family: type[Family], source: str, architectures: Any = None) -> type[XVector]:
    """Return the family of speaker recognition models with the encoder of another family.

    Args:
        family: Family of the encoder.
        source: Name of the model, for messages.
        architectures: ``architectures`` of a checkpoint; None if there are no weights.

    Raises:
        ModelError: transformers has no x-vectors for this encoder, or the checkpoint contains none.
    """
    found = XVECTOR_FAMILIES.get(family.model_types[0])
    if found is None:
        known = ", ".join(XVECTOR_FAMILIES)
        raise ModelError(f"{source} is a {family.model_types[0]!r} model, but x-vectors need one of: {known}")
    if architectures is not None and found.class_name not in architectures:
        raise ModelError(
            f"{source} contains {architectures}, but --layers {XVECTOR} needs a {found.class_name}; use a speaker "
            "recognition model such as wavlm-base-plus-sv, or other layers"
        )
    return found
