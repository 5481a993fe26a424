"""Names and values from the command line, YAML or Python → a settings dataclass, or an error in one line."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field
from functools import cache
from typing import Annotated, Any, TypeVar, get_args, get_type_hints

from featcache.errors import FeatcacheError, ModelError, did_you_mean, in_one_line, unknown_name
from featcache.settings.field import Dataclass, settings_of
from featcache.settings.types import Form

T = TypeVar("T", bound=Dataclass)

# Beginnings of pydantic's names of faults, and the expected value in words.
_TYPES = {
    "int_": "one integer",
    "float_": "one number",
    "finite_number": "a finite number",
    "bool_": "true or false",
    "string_": "text",
}
_BOUNDS = {"ge": "of at least {:g}", "gt": "above {:g}", "le": "of at most {:g}", "lt": "below {:g}"}
_QUOTED = re.compile(r"'([^']*)'")


def configured(kind: type[T], given: Mapping[str, Any], owner: str = "") -> T:
    """Return a settings dataclass with the values of a user; text is converted to the type of its field.

    Args:
        kind: Settings dataclass.
        given: Name → value, as text or as a value of its type; None keeps the default.
        owner: Owner of the options, for messages: ``head 'dense'``; empty for a command.

    Raises:
        ModelError: A name is unknown, a value is not accepted, or the dataclass raises an error.
    """
    from pydantic import ValidationError

    known, prefix = settings_of(kind), f"{owner}: " if owner else ""
    for name in given:
        if name not in known:
            told = unknown_name("option", name, known) if known else f"no option {name!r}; it has no options"
            raise ModelError(f"{prefix}{told}")
    try:
        checked = _schema(kind).model_validate({name: value for name, value in given.items() if value is not None})
        return kind(**{name: vars(checked)[name] for name in known})
    except ValidationError as error:
        fault = error.errors()[0]
        if not owner:  # Options of a command are shown as on the command line.
            fault["loc"] = ("--" + str(fault["loc"][0]).replace("_", "-"), *fault["loc"][1:])
        raise ModelError(f"{prefix}{describe_fault(fault)}") from None
    except FeatcacheError:
        raise
    except Exception as error:  # External dataclasses may raise anything: their types, names and checks are unknown.
        raise ModelError(f"{prefix}{kind.__name__} does not accept these options ({in_one_line(error)})") from error


def describe_fault(fault: Any) -> str:
    """Return one line about a value that pydantic refused: ``dropout takes one number, got 'high'``.

    Args:
        fault: Entry of ``ValidationError.errors()``.
    """
    name, kind, context = ".".join(map(str, fault["loc"])), fault["type"], fault.get("ctx", {})
    if kind == "missing":
        return f"{name} is missing"
    if kind == "value_error":
        return ": ".join(filter(None, (name, str(context["error"]))))  # A fault of everything has no name.
    kinds: dict[type, str] = {dict: "an object", list: "a list"}
    found = f", got {kinds.get(type(fault['input'])) or format(repr(fault['input']), '.80')}"
    if kind == "literal_error":
        # Pydantic quotes the names: "'a', 'b' or 'c'".
        suggested = did_you_mean(str(fault["input"]), _QUOTED.findall(context["expected"]), at_most=1)
        return f"{name} takes {context['expected'].replace(chr(39), '')}{found}{suggested}"
    bound = next((words.format(context[key]) for key, words in _BOUNDS.items() if key in context), "")
    expected = (
        f"a number {bound}" if bound else next((words for start, words in _TYPES.items() if kind.startswith(start)), "")
    )
    if expected:
        return f"{name} takes {expected}{found}"
    message = fault["msg"][0].lower() + fault["msg"][1:]
    return f"{name}: {message.replace('input should be', 'expected')}{found}"


def schema_fields(
    kind: type[Dataclass], names: Iterable[str] | None = None, checks: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return name → type and field for ``pydantic.create_model``, with bounds and help texts.

    Args:
        kind: Settings dataclass.
        names: Names of the fields; None for all.
        checks: Name → further validator of pydantic.
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
    """Return the text form of a type or of an optional type, or None if it has no form of its own."""
    for one in (hint, *get_args(hint)):
        for about in getattr(one, "__metadata__", ()):
            if isinstance(about, Form):
                return about
    return None


def _checking(hint: Any, bounds: Mapping[str, float], check: Any) -> Any:
    from pydantic import BeforeValidator
    from pydantic import Field as Checked

    if check is not None:  # None is the default of optional names, and needs no check.
        hint = Annotated[get_args(hint)[0], check] | None if type(None) in get_args(hint) else Annotated[hint, check]
    checks: Any = bounds
    form = form_of(hint)
    if form is not None:
        # The form also accepts a value of the type itself. None is left to optional types.
        hint = Annotated[hint, BeforeValidator(lambda value: None if value is None else form.read(value))]
    return Annotated[hint, Checked(**checks)] if bounds else hint


def _default(one: Field[Any]) -> dict[str, Any]:
    if one.default is not MISSING:
        return {"default": one.default}
    return {"default_factory": one.default_factory} if one.default_factory is not MISSING else {}
