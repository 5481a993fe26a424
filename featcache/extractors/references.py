"""What ``--model`` names → the class of an extractor and the options that the name decides; and back from settings.

To add an extractor, write its module and one line in :data:`EXTRACTORS`.
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
# Built-in names that take what follows a colon: opensmile:GeMAPSv01b, opensmile:FILE.conf.
WITH_ARGUMENT = ("opensmile",)
DESCRIPTORS = tuple(name for name in _BUILTIN if name not in WITH_ARGUMENT)
"""Built-in names that stand beside the models' in ``--model``."""

# What stores of a model say of their extractor, and its options; any other name is a reference.
_OF_MODELS: Mapping[str, type[Any]] = {"ssl": SSLConfig, "text": TextConfig}


@dataclass(frozen=True, kw_only=True)
class NamedExtractor:
    """An extractor that a reference names.

    Attributes:
        reference: As a store records it: of a file only its name, so that it means the same in another folder.
        extractor: The class.
        decided: Options that the reference decides; the user cannot give them.
        is_builtin: Whether it belongs to featcache.
    """

    reference: str
    extractor: type[Extractor]
    decided: Mapping[str, Any]
    is_builtin: bool


def find_extractor(model: str) -> NamedExtractor | None:
    """Return the extractor that a reference names; None if it names a model of speech or text.

    Raises:
        ModelError: code or a configuration of openSMILE that the user did not name; code that cannot be imported, or
            that is no extractor.
    """
    name, _, argument = model.partition(":")
    if name in WITH_ARGUMENT:
        if argument.endswith(CONFIGURATION) and not is_named(model):
            raise ModelError(
                f"openSMILE runs what {argument} says, and a file may not decide that; if you trust it, name it on the "
                f"command line: --model {name}:PATH/{Path(argument).name}"
            )
        if not argument:
            raise ModelError(f"{name} needs a feature set, as in {name}:GeMAPSv01b, or a file: {name}:FILE.conf")
        kind = EXTRACTORS.find(name)
        decided = {**kind.decided, str(kind.argument): argument}
        return NamedExtractor(reference=model, extractor=kind, decided=decided, is_builtin=True)
    if not is_reference(model):
        return None
    kind = EXTRACTORS.find(model)
    is_builtin = EXTRACTORS.is_builtin(model)
    return NamedExtractor(reference=portable(model), extractor=kind, decided=kind.decided, is_builtin=is_builtin)


def is_reference(model: str) -> bool:
    """Whether a name is that of an extractor, and not of a model; nothing is imported to find out."""
    if model.partition(":")[0] in WITH_ARGUMENT or EXTRACTORS.is_builtin(model):
        return True
    return model not in known_models() and (is_external(model) or model in EXTRACTORS)


def is_descriptors(model: str) -> bool:
    """Whether a name is that of an extractor without weights, which computes on the CPU.

    Raises:
        ModelError: as :func:`find_extractor`.
    """
    named = find_extractor(model)
    return named is not None and named.extractor.kind == "descriptors"


def store_name(model: str) -> str:
    """Return the name of the store that a model or an extractor fills."""
    if EXTRACTORS.is_builtin(model):
        return model
    if not is_reference(model):
        return short_name(model)
    name, _, argument = model.partition(":")
    if name in WITH_ARGUMENT:
        return f"{name}-{Path(argument).stem}".lower()
    return model.rpartition(":")[2].lower()


def portable(reference: str) -> str:
    """Return a reference as a store records it: the name of a file without its folder."""
    where, _, attribute = reference.rpartition(":")
    return f"./{Path(where).name}:{attribute}" if is_external(reference) and where.endswith(".py") else reference


def from_everywhere(model: str) -> str:
    """Return a name that means the same in any folder: paths of models, Python files and configurations absolute."""
    if is_reference(model):
        return absolute(model)
    return str(Path(model).absolute()) if Path(model).is_dir() else model


def is_named(reference: str) -> bool:
    """Whether the user named exactly this in this process."""
    return absolute(reference) in named_plugins()


def recorded_extractor(settings: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the reference and the options that make an extractor again, from the settings of its store.

    A model that was a folder, and an openSMILE configuration, are known by their names alone.

    Raises:
        StoreError: the settings name no extractor.
        ModelError: as :func:`find_extractor`.
    """
    recorded = settings.get("extractor")
    if not isinstance(recorded, str):
        raise StoreError("the store's settings name no extractor; it was not made by 'featcache extract'")
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
    """Return the options among settings; lists of names are joined, and each file's own sampling rate is 0."""
    found: dict[str, Any] = {}
    for name in (one.name for one in fields(config) if one.name not in decided):
        value = settings.get(name)
        if value is not None:
            found[name] = ",".join(map(str, value)) if name == "layers" and isinstance(value, list) else value
        elif name == "sampling_rate" and name in settings:
            found[name] = 0
    return found
