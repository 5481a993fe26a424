"""Table of all families of speech models: one line each. :class:`Family` describes what an entry needs."""

from collections.abc import Mapping
from typing import Any

from featcache.errors import ModelError
from featcache.extractors.checkpoint import Checkpoint
from featcache.extractors.families.emotion2vec import Emotion2vec
from featcache.extractors.families.family import ARCHITECTURE, INPUT, Family
from featcache.extractors.families.waveform import Data2VecAudio, Hubert, UniSpeech, UniSpeechSat, Wav2Vec2, WavLM
from featcache.extractors.families.whisper_encoder import Whisper
from featcache.extractors.pretrained import read_configuration

__all__ = ["ARCHITECTURE", "FAMILIES", "INPUT", "Family", "family_of", "weight_prefixes"]

_TABLE: tuple[type[Family], ...] = (
    Wav2Vec2,
    Hubert,
    WavLM,
    UniSpeech,
    UniSpeechSat,
    Data2VecAudio,
    Whisper,
    Emotion2vec,
)
FAMILIES: dict[str, type[Family]] = {model_type: family for family in _TABLE for model_type in family.model_types}
"""``model_type`` of a configuration → family."""


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
