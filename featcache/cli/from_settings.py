"""A settings dataclass → the options of a command, with their types, bounds and help texts."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import MISSING
from functools import wraps
from typing import Annotated, Any, get_args, get_type_hints

import typer

from featcache.settings.checked import form_of
from featcache.settings.field import Dataclass, Setting, settings_of
from featcache.settings.types import Form

Command = Callable[..., None]


def command_of(*kinds: type[Dataclass], as_text: Sequence[str] = ()) -> Callable[[Command], Command]:
    """Give a command the options of its settings.

    The command is called with its own parameters and with ``given``: option → value of those options that the user
    gives. All others keep the defaults of the function that the command calls.

    Args:
        kinds: The settings.
        as_text: Options that the command reads itself, because it takes several values: ``dense,lstm``.
    """

    def decorate(function: Command) -> Command:
        own = [one for one in inspect.signature(function).parameters.values() if one.name != "given"]
        types = {name: hint for kind in kinds for name, hint in get_type_hints(kind, include_extras=True).items()}
        forms = {name: form for name, hint in types.items() if (form := form_of(hint))}
        known = [item for kind in kinds for item in settings_of(kind).items()]
        options = [
            _parameter(name, types[name], name in as_text, *field_and_setting) for name, field_and_setting in known
        ]

        @wraps(function)
        def run(ctx: typer.Context, **values: Any) -> None:
            chosen = [one.name for one in options if _is_given(ctx, one.name)]
            given = {name: _read(forms.get(name), name, values[name]) for name in chosen}
            function(**{one.name: values[one.name] for one in own}, given=given)

        context = inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
        parameters = [context, *own, *options]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {one.name: one.annotation for one in parameters}
        return run

    return decorate


def _is_given(ctx: typer.Context, name: str) -> bool:
    source = ctx.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"


def _parameter(name: str, hint: Any, as_text: bool, field: Any, about: Setting) -> inspect.Parameter:
    form = form_of(hint)
    default = inspect.Parameter.empty if field.default is field.default_factory is MISSING else field.default
    details: dict[str, Any] = {
        "help": about.help,
        "show_default": isinstance(default, str | int | float) and not isinstance(default, bool),
    }
    if form is not None:
        hint, default = (list[str] if form.repeated else str) | None, None
        details["metavar"] = form.text
    elif as_text:
        hint = str
    else:
        details |= _bounds(hint, about)
    flags = [f"--{name.replace('_', '-')}"] if default is False else []
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[hint, typer.Option(*flags, **details)],
    )


def _bounds(hint: Any, about: Setting) -> dict[str, float]:
    bounds = {"min": about.minimum, "max": about.maximum}
    number = int if int in (hint, *get_args(hint)) else float
    return {name: number(bound) for name, bound in bounds.items() if bound is not None}


def _read(form: Form | None, name: str, value: Any) -> Any:
    if form is None:
        return value
    try:
        return form.read(value)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=f"--{name.replace('_', '-')}") from None
