"""Checkpoint → its feature extractor, which prepares the input of the model."""

from collections.abc import Sequence
from typing import Any

from featcache.errors import ModelError
from featcache.extractors.checkpoint import Checkpoint
from featcache.extractors.families import Family

LOWEST_RATE, HIGHEST_RATE = 1000, 192000
# Every description of a feature extractor contains at least one of these entries.
DESCRIBED = ("sampling_rate", "feature_size", "do_normalize", "feature_extractor_type")
# Entries that affect the features, with their values in all published models; stores record only other values.
USUAL = {"sampling_rate": 16000, "n_fft": 400, "hop_length": 160}


def read_feature_extractor(checkpoint: Checkpoint, config: Any, family: type[Family]) -> Any:
    """Create the feature extractor of a speech model from the checkpoint's files.

    Args:
        checkpoint: Open checkpoint.
        config: Configuration of the model.
        family: Family of the model.

    Returns:
        The feature extractor of transformers.

    Raises:
        ModelError: the files describe a feature extractor that does not fit the model.
    """
    import transformers

    expected = family.feature_extractor_name
    told, _ = transformers.FeatureExtractionMixin.get_feature_extractor_dict(str(checkpoint.folder))
    if not any(name in told for name in DESCRIBED):  # such as {"error": "Access denied"}
        raise _refusal(checkpoint, f"contains none of {', '.join(DESCRIBED)}; download it again")
    found = transformers.AutoFeatureExtractor.from_pretrained(str(checkpoint.folder), trust_remote_code=False)
    if not isinstance(found, getattr(transformers, expected)):
        raise _refusal(checkpoint, f"describes a {type(found).__name__}, expected a {expected}")
    rate = found.sampling_rate
    if isinstance(rate, bool) or not isinstance(rate, int) or not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise _refusal(checkpoint, f"has 'sampling_rate': {rate!r}, expected {LOWEST_RATE} to {HIGHEST_RATE} Hz")
    if not isinstance(getattr(found, "do_normalize", False), bool):  # Whisper has no such entry.
        raise _refusal(checkpoint, f"has 'do_normalize': {found.do_normalize!r}, expected true or false")
    reason = family.unfit(found, config)
    if reason:
        raise _refusal(checkpoint, reason)
    if getattr(found, "dither", 0.0) != 0.0:
        raise _refusal(
            checkpoint, f"adds random noise ('dither': {found.dither!r}), expected 0 for reproducible features"
        )
    return found


def unusual_settings(feature_extractor: Any, always: Sequence[str] = ()) -> dict[str, Any]:
    """Return the entries that affect the features and differ from all published models, by name.

    Args:
        feature_extractor: Feature extractor of the model.
        always: Names of further entries that are returned in any case.
    """
    found = {name: getattr(feature_extractor, name, usual) for name, usual in USUAL.items()}
    unusual = {name: value for name, value in found.items() if value != USUAL[name]}
    return unusual | {name: getattr(feature_extractor, name) for name in always}


def _refusal(checkpoint: Checkpoint, reason: str) -> ModelError:
    return ModelError(f"{checkpoint.source}: cannot be loaded (its preprocessor_config.json {reason})")
