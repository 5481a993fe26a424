"""Names and values from a command line, YAML or Python → a settings dataclass, or one line that says what is wrong."""

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field
from functools import cache
from typing import Annotated, Any, TypeVar, get_type_hints

from featcache.errors import ModelError, unknown_name
from featcache.settings.field import Dataclass, settings_of

T = TypeVar("T", bound=Dataclass)


def configured(kind: type[T], given: Mapping[str, Any], owner: str) -> T:
    """Make a settings dataclass of values that a user gives; text becomes what the field's type asks for.

    Args:
        kind: The dataclass.
        given: Name → value, as text or as what it stands for.
        owner: Whose options these are, for messages: ``head 'dense'``.

    Raises:
        ModelError: an unknown name, or a value that may not stand there.
    """
    from pydantic import ValidationError

    known = settings_of(kind)
    for name in given:
        if name not in known:
            told = unknown_name("option", name, known) if known else f"unknown option {name!r}; it has none"
            raise ModelError(f"{owner}: {told}")
    try:
        checked = _schema(kind).model_validate(dict(given))
    except ValidationError as error:
        fault = error.errors()[0]
        raise ModelError(f"{owner}: {describe_fault(fault)}") from error
    return kind(**{name: getattr(checked, name) for name in known})


def describe_fault(fault: Any) -> str:
    """Return what pydantic found wrong with a value, in featcache's words."""
    name = ".".join(map(str, fault["loc"]))
    if fault["type"] == "missing":
        return f"{name} is missing"
    if fault["type"] == "value_error":
        return f"{name}: {fault['ctx']['error']}"
    found = "" if isinstance(fault["input"], dict | list) else f", found {fault['input']!r:.80}"
    message = fault["msg"][0].lower() + fault["msg"][1:]
    return f"{name}: {message.replace('input should be', 'expected')}{found}"


def schema_fields(kind: type[Dataclass], names: Iterable[str] | None = None) -> dict[str, Any]:
    """Return name → type and field for ``pydantic.create_model``, with bounds and help texts.

    Args:
        kind: The dataclass.
        names: Which fields; by default all.
    """
    from pydantic import Field as Checked

    hints, known = get_type_hints(kind, include_extras=True), settings_of(kind)
    found: dict[str, Any] = {}
    for name in known if names is None else names:
        one, about = known[name]
        checks: Any = {"description": about.help, **_default(one)}
        found[name] = (_bounded(hints[name], about.bounds()), Checked(**checks))
    return found


@cache
def _schema(kind: type[Dataclass]) -> Any:
    from pydantic import ConfigDict, create_model

    config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True, protected_namespaces=())
    return create_model(kind.__name__, __config__=config, **schema_fields(kind))


def _bounded(hint: Any, bounds: Mapping[str, float]) -> Any:
    from pydantic import Field as Checked

    checks: Any = bounds
    return Annotated[hint, Checked(**checks)] if bounds else hint


def _default(one: Field[Any]) -> dict[str, Any]:
    if one.default is not MISSING:
        return {"default": one.default}
    return {"default_factory": one.default_factory} if one.default_factory is not MISSING else {}
