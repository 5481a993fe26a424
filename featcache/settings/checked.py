"""Names and values from a command line, YAML or Python → a settings dataclass, or one line that says what is wrong."""

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field
from functools import cache
from typing import Annotated, Any, TypeVar, get_args, get_type_hints

from featcache.errors import FeatcacheError, ModelError, in_one_line, unknown_name
from featcache.settings.field import Dataclass, settings_of
from featcache.settings.types import Form

T = TypeVar("T", bound=Dataclass)


def configured(kind: type[T], given: Mapping[str, Any], owner: str = "") -> T:
    """Make a settings dataclass of values that a user gives; text becomes what the field's type asks for.

    Args:
        kind: The dataclass.
        given: Name → value, as text or as what it stands for; None leaves the default.
        owner: Whose options these are, for messages: ``head 'dense'``; empty for those of a command.

    Raises:
        ModelError: an unknown name, a value that may not stand there, or a dataclass that cannot be filled so.
    """
    from pydantic import ValidationError

    known, prefix = settings_of(kind), f"{owner}: " if owner else ""
    for name in given:
        if name not in known:
            told = unknown_name("option", name, known) if known else f"unknown option {name!r}; it has none"
            raise ModelError(f"{prefix}{told}")
    try:
        checked = _schema(kind).model_validate({name: value for name, value in given.items() if value is not None})
        return kind(**{name: vars(checked)[name] for name in known})
    except ValidationError as error:
        fault = error.errors()[0]
        raise ModelError(f"{prefix}{describe_fault(fault)}") from None
    except FeatcacheError:
        raise
    except Exception as error:  # of a dataclass from outside of featcache: its types, its names, its own checks
        raise ModelError(f"{prefix}{kind.__name__} takes no such options ({in_one_line(error)})") from error


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


def schema_fields(
    kind: type[Dataclass], names: Iterable[str] | None = None, checks: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return name → type and field for ``pydantic.create_model``, with bounds and help texts.

    Args:
        kind: The dataclass.
        names: Which fields; by default all.
        checks: Name → a further validator of pydantic.
    """
    from pydantic import Field as Checked

    hints, known = get_type_hints(kind, include_extras=True), settings_of(kind)
    found: dict[str, Any] = {}
    for name in known if names is None else names:
        one, about = known[name]
        described: Any = {"description": about.help, **_default(one)}
        found[name] = (_checking(hints[name], about.bounds(), (checks or {}).get(name)), Checked(**described))
    return found


@cache
def _schema(kind: type[Dataclass]) -> Any:
    from pydantic import ConfigDict, create_model

    if "model_config" in settings_of(kind):
        raise TypeError("an option cannot be called model_config")
    config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())
    return create_model(kind.__name__, __config__=config, **schema_fields(kind))


def form_of(hint: Any) -> Form | None:
    """Return the form of a type, or of an optional type, as text; None if it has no form of its own."""
    for one in (hint, *get_args(hint)):
        for about in getattr(one, "__metadata__", ()):
            if isinstance(about, Form):
                return about
    return None


def _checking(hint: Any, bounds: Mapping[str, float], check: Any) -> Any:
    from pydantic import BeforeValidator
    from pydantic import Field as Checked

    if check is not None:  # of names; an optional one is checked where it is given
        hint = Annotated[get_args(hint)[0], check] | None if type(None) in get_args(hint) else Annotated[hint, check]
    checks: Any = bounds
    form = form_of(hint)
    if form is not None:
        # pydantic reads the text only where it is no value yet, and leaves None to optional types
        hint = Annotated[hint, BeforeValidator(lambda value: None if value is None else form.read(value))]
    return Annotated[hint, Checked(**checks)] if bounds else hint


def _default(one: Field[Any]) -> dict[str, Any]:
    if one.default is not MISSING:
        return {"default": one.default}
    return {"default_factory": one.default_factory} if one.default_factory is not MISSING else {}
