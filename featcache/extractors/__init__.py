"""Signal or text → features: self-supervised speech models, eGeMAPS, spectrograms, text encoders."""

from dataclasses import fields
from functools import partial
from typing import TYPE_CHECKING, Any

from featcache.errors import ModelError
from featcache.extractors.models import short_name
from featcache.settings.extractor_configs import EgemapsConfig, SpectrogramConfig, SSLConfig, TextConfig

if TYPE_CHECKING:
    from collections.abc import Callable

    from featcache.extractors.base import Extractor

# Names that stand beside the models' in ``--model``.
DESCRIPTORS = ("egemaps", "egemaps-functionals", "spectrogram")


def store_name(model: str) -> str:
    """The name of the store that a model, or a set of descriptors, fills."""
    return model if model in DESCRIPTORS else short_name(model)


def create_extractor(model: str, *, text: bool = False, device: str = "cpu", **options: Any) -> "Extractor":
    """Make an extractor.

    Args:
        model: One of :data:`DESCRIPTORS`, a short model name, a Hugging Face id or a folder.
        text: Whether the model reads words, and not audio.
        device: Where models run, as torch names it; several, separated by commas, share the batches.
        options: Fields of the extractor's configuration; None leaves the default, ``sampling_rate=0`` is each
            file's own.

    Raises:
        ModelError: the model is unknown or cannot be loaded, or an option does not apply to it.
    """
    given = {name: value for name, value in options.items() if value is not None}
    if text:
        if model in DESCRIPTORS:
            raise ModelError(f"{model} reads audio, expected a model of text such as tinybert; use it with --model")
        from featcache.extractors.text import TextExtractor

        return _on_devices(partial(TextExtractor, _configure(TextConfig, model, {"model": model, **given})), device)
    if given.get("sampling_rate") == 0:
        given["sampling_rate"] = None
    if model in ("egemaps", "egemaps-functionals"):
        from featcache.extractors.egemaps import EgemapsExtractor

        given["level"] = "functionals" if model.endswith("functionals") else "lld"
        return EgemapsExtractor(_configure(EgemapsConfig, model, given))
    if model == "spectrogram":
        from featcache.extractors.spectrogram import SpectrogramExtractor

        return SpectrogramExtractor(_configure(SpectrogramConfig, model, given))
    from featcache.extractors.ssl import SSLExtractor

    return _on_devices(partial(SSLExtractor, _configure(SSLConfig, model, {"model": model, **given})), device)


def _on_devices(make: "Callable[..., Extractor]", device: str) -> "Extractor":
    copies = [make(device=name) for name in device.split(",")]
    if len(copies) == 1:
        return copies[0]
    from featcache.extractors.several import SeveralDevices

    return SeveralDevices(copies)


def usable_device(device: str) -> str:
    """Where a model will run.

    Args:
        device: As torch names it, or ``auto``: the first GPU of CUDA, or else Apple's (``mps``), or else the CPU.

    Raises:
        ModelError: there is no such device here.
    """
    if device == "cpu":
        return device
    import torch

    if device == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"--device {device} cannot be used here ({reason}); cpu always can") from error
    return device


def usable_devices(devices: str) -> str:
    """Where the copies of a model will run.

    Args:
        devices: As :func:`usable_device` takes them, separated by commas; ``cpu`` may stand several times.

    Raises:
        ModelError: one of them is not here, or a GPU stands twice.
    """
    names = [usable_device(name) for name in devices.split(",")]
    gpus = [f"{name}:0" if name in ("cuda", "mps") else name for name in names if name != "cpu"]
    twice = sorted({name for name in gpus if gpus.count(name) > 1})
    if twice:
        raise ModelError(f"--device {devices} names {twice[0]} twice; one copy of the model is enough for a GPU")
    return ",".join(names)


def _configure(config: Any, model: str, given: dict[str, Any]) -> Any:
    strange = sorted(given.keys() - {field.name for field in fields(config)})
    if strange:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in strange)
        raise ModelError(f"{options} does not apply to {model!r}")
    return config(**given)
