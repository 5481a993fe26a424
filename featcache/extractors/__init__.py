"""Signal or text → features: speech models, openSMILE, spectrograms, text encoders, and extractors of users."""

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
    """Create an extractor.

    Args:
        model: Name or reference in :data:`EXTRACTORS`, short model name, Hugging Face id, or folder.
        text: Whether the model reads text instead of audio.
        device: Torch device for models, such as ``cuda:1``. Several devices, separated by commas, share the batches.
        options: Fields of the extractor's configuration, as text or as values. None keeps the default;
            ``sampling_rate=0`` keeps each file's own rate.

    Returns:
        The extractor, with its model loaded.

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
    """Return the extractor of a reference and its configuration, without loading a model.

    Args:
        model: Name or reference in :data:`EXTRACTORS`, short model name, Hugging Face id, or folder.
        text: Whether the model reads text instead of audio.
        options: Fields of the configuration, as text or as values; None keeps the default.

    Returns:
        The extractor (None for a speech or text model), and its configuration.

    Raises:
        ModelError: as :func:`find_extractor`, or an option does not apply to the extractor.
    """
    given = {name: value for name, value in options.items() if value is not None}
    if text and is_reference(model):
        raise ModelError(f"{model} reads audio, expected a text model such as tinybert; use it with --model")
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
    """Return the device on which a model will run.

    Args:
        device: Torch device, or ``auto``: the first CUDA GPU if there is one, else Apple's GPU (``mps``), else the CPU.

    Returns:
        The torch device.

    Raises:
        ModelError: this machine has no such device.
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
        if device.partition(":")[0] not in ("cuda", "mps"):  # torch lists the devices of every build.
            raise ModelError(f"no device {device!r}; expected cpu, cuda, cuda:1, mps or auto") from error
        reason = str(error).splitlines()[0]
        raise ModelError(f"--device {device} is not available here ({reason}); use --device cpu") from error
    return device


def usable_devices(devices: str) -> str:
    """Return the devices on which the copies of a model will run.

    Args:
        devices: Devices as for :func:`usable_device`, separated by commas; ``cpu`` may be repeated.

    Returns:
        The torch devices, separated by commas.

    Raises:
        ModelError: a device is not available, or a GPU is named twice.
    """
    names = [usable_device(name) for name in devices.split(",")]
    gpus = [f"{name}:0" if name in ("cuda", "mps") else name for name in names if name != "cpu"]
    twice = sorted({name for name in gpus if gpus.count(name) > 1})
    if twice:
        raise ModelError(f"--device {devices} names {twice[0]} twice; a GPU runs one copy of the model, name it once")
    return ",".join(names)


def _configure(config: Any, model: str, given: "Mapping[str, Any]", decided: "Mapping[str, Any]") -> Any:
    """Return the configuration that combines the options of the user with the options that the name fixes.

    Raises:
        ModelError: an option is unknown or belongs to another extractor, or a value is invalid.
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
    if type(given.get("max_seconds")) is int:  # earlier releases stored whole numbers as int
        kept["max_seconds"] = given["max_seconds"]
    if getattr(made_of, "sampling_rate", None) == 0:
        kept["sampling_rate"] = None
    return replace(made_of, **kept)


# All options of the built-in extractors, to distinguish an option that does not apply from a mistyped one.
_OPTIONS = {
    name
    for config in vars(extractor_configs).values()
    if isinstance(config, type) and issubclass(config, AudioConfig | SSLConfig | TextConfig)
    for name in settings_of(config)
}
