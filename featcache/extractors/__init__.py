"""Signal or text → features: self-supervised speech models, openSMILE, spectrograms, text encoders, other people's."""

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from featcache.errors import ModelError, unknown_name
from featcache.extractors.outside import check_declarations, made
from featcache.extractors.references import (
    DESCRIPTORS,
    EXTRACTORS,
    NamedExtractor,
    find_extractor,
    is_descriptors,
    is_reference,
    store_name,
)
from featcache.settings import extractor_configs
from featcache.settings.checked import configured
from featcache.settings.extractor_configs import AudioConfig, SSLConfig, TextConfig
from featcache.settings.field import settings_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from featcache.extractors.base import Extractor

__all__ = [
    "DESCRIPTORS",
    "EXTRACTORS",
    "configuration_of",
    "create_extractor",
    "find_extractor",
    "is_descriptors",
    "is_reference",
    "store_name",
    "usable_device",
    "usable_devices",
]


def create_extractor(model: str, *, text: bool = False, device: str = "cpu", **options: Any) -> "Extractor":
    """Make an extractor.

    Args:
        model: A name or reference of :data:`EXTRACTORS`, a short model name, a Hugging Face id or a folder.
        text: Whether the model reads words, and not audio.
        device: Where models run, as torch names it; several, separated by commas, share the batches.
        options: Fields of the extractor's configuration, as text or as values; None leaves the default,
            ``sampling_rate=0`` is each file's own.

    Raises:
        ModelError: the model is unknown or cannot be loaded, or an option does not apply to it.
    """
    named, config = configuration_of(model, text=text, options=options)
    if named is not None:
        return _create_named(named, config, model, device)
    if text:
        from featcache.extractors.text import TextExtractor

        return _on_devices(partial(TextExtractor, config), device)
    from featcache.extractors.ssl import SSLExtractor

    return _on_devices(partial(SSLExtractor, config), device)


def configuration_of(
    model: str, *, text: bool = False, options: "Mapping[str, Any]"
) -> tuple[NamedExtractor | None, Any]:
    """Return the extractor that a reference names, None for a model, and its configuration; no model is loaded.

    Raises:
        ModelError: as :func:`find_extractor`, or an option that does not apply to it.
    """
    given = {name: value for name, value in options.items() if value is not None}
    if text and is_reference(model):
        raise ModelError(f"{model} reads audio, expected a model of text such as tinybert; use it with --model")
    named = None if text else find_extractor(model)
    if named is None:
        return None, _configure(TextConfig if text else SSLConfig, model, given, {"model": model})
    if not named.is_builtin:
        check_declarations(named.reference, named.extractor)
    return named, _configure(named.extractor.Config, named.reference, given, named.decided)


def _create_named(named: NamedExtractor, config: Any, model: str, device: str) -> "Extractor":
    kind = named.extractor
    if named.is_builtin:
        extractor = kind(config)
        settings = {"extractor": model.partition(":")[0], **extractor.description.settings}
        extractor.description = replace(extractor.description, settings=settings)
        return extractor
    origin = EXTRACTORS.origin(model)
    make = partial(made, named, config, origin)
    return _on_devices(make, device) if kind.kind == "model" else make()


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


def _configure(config: Any, model: str, given: "Mapping[str, Any]", decided: "Mapping[str, Any]") -> Any:
    """Return the configuration of what the user gives and what the name decides.

    Raises:
        ModelError: an option of another extractor, an unknown one, or a value that may not stand there.
    """
    allowed = {name for name in settings_of(config) if name not in decided}
    strange = sorted(given.keys() - allowed)
    unknown = [name for name in strange if name not in _OPTIONS and name not in decided]
    if unknown:
        raise ModelError(f"{model!r}: {unknown_name('option', unknown[0], allowed)}")
    if strange:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in strange)
        raise ModelError(f"{options} does not apply to {model!r}")
    made_of = configured(config, {**given, **decided}, repr(model))
    kept: dict[str, Any] = {}
    if type(given.get("max_seconds")) is int:  # stores of an earlier release record a whole number as one
        kept["max_seconds"] = given["max_seconds"]
    if getattr(made_of, "sampling_rate", None) == 0:
        kept["sampling_rate"] = None
    return replace(made_of, **kept)


# All options of built-in extractors: one of them that does not apply is told from a mistyped one.
_OPTIONS = {
    name
    for config in vars(extractor_configs).values()
    if isinstance(config, type) and issubclass(config, AudioConfig | SSLConfig | TextConfig)
    for name in settings_of(config)
}
