"""Name in ``--model`` ↔ class of an extractor and the options that the name fixes.

To add a built-in extractor, write a module and add a line to ``_BUILTIN``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from featcache.errors import ModelError, StoreError
from featcache.extractors.base import Extractor
from featcache.extractors.models import known_models, short_name
from featcache.registry import CONFIGURATION, Registry, absolute, is_external, named_plugins
from featcache.settings.extractor_configs import SSLConfig, TextConfig

_BUILTIN: dict[str, type[Extractor] | str] = {
    "egemaps": "featcache.extractors.egemaps:EgemapsExtractor",
    "egemaps-functionals": "featcache.extractors.egemaps:EgemapsFunctionals",
    "compare2016": "featcache.extractors.opensmile_sets:Compare2016",
    "compare2016-functionals": "featcache.extractors.opensmile_sets:Compare2016Functionals",
    "spectrogram": "featcache.extractors.spectrogram:SpectrogramExtractor",
    "logmel": "featcache.extractors.logmel:LogMelExtractor",
    "opensmile": "featcache.extractors.opensmile_sets:OpensmileExtractor",
}
EXTRACTORS: Registry[type[Extractor]] = Registry(
    "extractor", "featcache.extractors", _BUILTIN, base=Extractor, error=ModelError
)
# Built-in names with an argument after a colon: opensmile:GeMAPSv01b, opensmile:FILE.conf.
WITH_ARGUMENT = ("opensmile",)
DESCRIPTORS = tuple(name for name in _BUILTIN if name not in WITH_ARGUMENT)
"""Built-in extractors that ``--model`` accepts by name alone, besides the models."""

# "extractor" in a store's settings → options, for speech and text models; any other value is a reference.
_OF_MODELS: Mapping[str, type[Any]] = {"ssl": SSLConfig, "text": TextConfig}


@dataclass(frozen=True, kw_only=True)
class NamedExtractor:
    """Extractor that a reference names.

    Attributes:
        reference: Reference as a store records it: a file without its folder, so that the folder can be moved.
        extractor: Class of the extractor.
        decided: Options that the reference fixes; the user cannot change them.
        is_builtin: Whether the extractor belongs to featcache.
    """

    reference: str
    extractor: type[Extractor]
    decided: Mapping[str, Any]
    is_builtin: bool


def find_extractor(model: str) -> NamedExtractor | None:
    """Return the extractor that a reference names, or None if the name is that of a speech or text model.

    Args:
        model: Name or reference, as in ``--model``.

    Returns:
        The class and its fixed options.

    Raises:
        ModelError: the user did not name this code or openSMILE configuration in this process; the code cannot be
            imported, or is not an extractor.
    """
    name, _, argument = model.partition(":")
    if name in WITH_ARGUMENT:
        if argument.endswith(CONFIGURATION) and not is_named(model):
            raise ModelError(
                f"openSMILE executes {argument}, and a file may not decide which configuration is executed; if you "
                f"trust it, name it on the command line: --model {name}:PATH/{Path(argument).name}"
            )
        if not argument:
            raise ModelError(
                f"{name} needs a feature set, such as {name}:GeMAPSv01b, or a configuration file: {name}:FILE.conf"
            )
        kind = EXTRACTORS.find(name)
        decided = {**kind.decided, str(kind.argument): argument}
        return NamedExtractor(reference=model, extractor=kind, decided=decided, is_builtin=True)
    if not is_reference(model):
        return None
    kind = EXTRACTORS.find(model)
    is_builtin = EXTRACTORS.is_builtin(model)
    return NamedExtractor(reference=portable(model), extractor=kind, decided=kind.decided, is_builtin=is_builtin)


def is_reference(model: str) -> bool:
    """Return whether a name is that of an extractor, and not of a model, without importing anything."""
    if model.partition(":")[0] in WITH_ARGUMENT or EXTRACTORS.is_builtin(model):
        return True
    return model not in known_models() and (is_external(model) or model in EXTRACTORS)


def is_descriptors(model: str) -> bool:
    """Return whether a name is that of an extractor without weights, which computes on the CPU.

    Raises:
        ModelError: as :func:`find_extractor`.
    """
    named = find_extractor(model)
    return named is not None and named.extractor.kind == "descriptors"


def store_name(model: str) -> str:
    """Return the name of the store for a model or an extractor."""
    if EXTRACTORS.is_builtin(model):
        return model
    if not is_reference(model):
        return short_name(model)
    name, _, argument = model.partition(":")
    if name in WITH_ARGUMENT:
        return f"{name}-{Path(argument).stem}".lower()
    return model.rpartition(":")[2].lower()


def portable(reference: str) -> str:
    """Return a reference as a store records it: a file name without its folder."""
    where, _, attribute = reference.rpartition(":")
    return f"./{Path(where).name}:{attribute}" if is_external(reference) and where.endswith(".py") else reference


def from_everywhere(model: str) -> str:
    """Return a name that is valid in any folder, with absolute paths of models, Python files and configurations."""
    if is_reference(model):
        return absolute(model)
    return str(Path(model).absolute()) if Path(model).is_dir() else model


def is_named(reference: str) -> bool:
    """Return whether the user named exactly this reference in this process."""
    return absolute(reference) in named_plugins()


def recorded_extractor(settings: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the reference and the options that create an extractor again, from the settings of its store.

    For a model folder or an openSMILE configuration, the settings contain only the name, without the path.

    Args:
        settings: Settings of a store.

    Returns:
        The reference, and the options by name.

    Raises:
        StoreError: the settings name no extractor, or one that is not installed.
        ModelError: as :func:`find_extractor`.
    """
    recorded = settings.get("extractor")
    if not isinstance(recorded, str):
        raise StoreError("the store's settings name no extractor; the store was not made by 'featcache extract'")
    if recorded in _OF_MODELS:
        options = _options(settings, _OF_MODELS[recorded], decided=())
        return str(settings.get("model_id", recorded)), options | ({"text": True} if recorded == "text" else {})
    if not is_reference(recorded):
        raise StoreError(f"the store's settings name the extractor {recorded!r}, which is not installed here")
    kind = EXTRACTORS.find(recorded)
    reference = kind.recorded_as(recorded, settings)
    decided = [*kind.decided, kind.argument or ""]
    return reference, _options(settings, kind.Config, decided=decided)


def _options(settings: Mapping[str, Any], config: type[Any], decided: Any) -> dict[str, Any]:
    """Return the options in the settings of a store; lists of names are joined, and each file's own rate becomes 0."""
    found: dict[str, Any] = {}
    for name in (one.name for one in fields(config) if one.name not in decided):
        value = settings.get(name)
        if value is not None:
            found[name] = ",".join(map(str, value)) if name == "layers" and isinstance(value, list) else value
        elif name == "sampling_rate" and name in settings:
            found[name] = 0
    return found
