"""A settings dataclass → the options of a command, with their types, bounds and help texts."""

import inspect
from collections.abc import Callable, Collection, Sequence
from dataclasses import MISSING, Field
from functools import wraps
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer

from featcache.cli.parsing import NAME, metavar_of, read_value
from featcache.settings.augmentations import ViewSettings
from featcache.settings.auxiliary_targets import AuxiliarySettings
from featcache.settings.checked import form_of
from featcache.settings.field import Dataclass, Setting, help_of, settings_of
from featcache.settings.finetunings import BlockSettings
from featcache.settings.fits import FeatureSettings, HeadSettings, TargetSettings, TrainingConfig
from featcache.settings.loss_choice import LossSettings
from featcache.settings.searches import SearchSettings
from featcache.settings.several_corpora import CorporaSettings
from featcache.settings.train_fractions import FractionSettings
from featcache.settings.training_loop import AugmentationSettings, LoopSettings

Command = Callable[..., None]

# Options of text whose value is a name. The others are shown as TEXT.
_NAMES = {"corpus", "head", "layout", "model", "name", "protocol", "text", "transcripts"}

# Settings → heading of their options on a help page. All other options are listed last.
_SECTIONS: dict[type[Dataclass], str] = {
    HeadSettings: "Head and normalisation",
    FeatureSettings: "Features",
    ViewSettings: "Augmented views",
    BlockSettings: "Blocks of the model",
    TargetSettings: "Labels and folds",
    FractionSettings: "Labels and folds",
    LossSettings: "Loss",
    AuxiliarySettings: "Loss",
    TrainingConfig: "Training steps",
    LoopSettings: "Training steps",
    AugmentationSettings: "Random changes of training batches",
    SearchSettings: "Search over settings",
    CorporaSettings: "Several corpora",
}


def command_of(
    *kinds: type[Dataclass], as_text: Sequence[str] = (), omit: Collection[str] = ()
) -> Callable[[Command], Command]:
    """Give a command the options of its settings.

    The command is called with its own parameters and with ``given``: option → value of the options that the user
    gives. All other options keep the defaults of the function that the command calls.

    Args:
        kinds: Settings dataclasses.
        as_text: Options that the command reads itself, because they accept several values: ``dense,lstm``.
        omit: Settings that are no options of the command.
    """

    def decorate(function: Command) -> Command:
        own = [one for one in inspect.signature(function).parameters.values() if one.name != "given"]
        types = {name: hint for kind in kinds for name, hint in get_type_hints(kind, include_extras=True).items()}
        known = {name: item for kind in kinds for name, item in settings_of(kind).items()}
        known = {name: item for name, item in known.items() if name not in omit}
        sections = {
            name: title
            for part, title in _SECTIONS.items()
            if any(issubclass(kind, part) for kind in kinds)
            for name in vars(part)["__annotations__"]
        }
        options = [
            _parameter(name, types[name], name in as_text, sections.get(name), *item) for name, item in known.items()
        ]

        def read(name: str, value: Any) -> Any:
            return _read(f"--{name.replace('_', '-')}", types[name], known[name][1], value, name in as_text)

        @wraps(function)
        def run(ctx: typer.Context, **values: Any) -> None:
            given = {one.name: read(one.name, values[one.name]) for one in options if _is_given(ctx, one.name)}
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


def _parameter(
    name: str, hint: Any, as_text: bool, section: str | None, field: Field[Any], about: Setting
) -> inspect.Parameter:
    """Return an option as a parameter of the command. Its value is text unless it is a flag."""
    form, kind = form_of(hint), _kind(hint)
    required = field.default is field.default_factory is MISSING
    details: dict[str, Any] = {"help": help_of(field, about), "show_default": False, "rich_help_panel": section}
    flag = f"--{name.replace('_', '-')}"
    flags = [flag]  # named: some releases of typer take a metavar that equals the name as the name of the option
    if kind is bool:
        hint, default = bool | None, None if field.default is None else bool(field.default)
        flags = [flag] if default is False else [f"{flag}/--no-{flag.removeprefix('--')}"]
    else:
        hint, default = (list[str] if form and form.repeated else str) | None, None
        details["metavar"] = form.text if form else metavar_of(kind, NAME if name in _NAMES else "TEXT")
        if as_text and get_origin(kind) is not Literal:
            details["metavar"] += f",{details['metavar']}"
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if required else default,
        annotation=Annotated[hint, typer.Option(*flags, **details)],
    )


def _kind(hint: Any) -> Any:
    """Return the type of an option: ``float`` for ``float | None``."""
    if get_origin(hint) is Literal:
        return hint
    return next((one for one in get_args(hint) if one is not NoneType), hint)


def _read(option: str, hint: Any, about: Setting, value: Any, as_text: bool) -> Any:
    """Return the value of an option from its text.

    Raises:
        BadParameter: The text has another form, or is out of bounds.
    """
    form = form_of(hint)
    if form is None:
        is_read = as_text or isinstance(value, bool)
        return value if is_read else read_value(option, value, _kind(hint), about.minimum, about.maximum)
    try:
        return form.read(value)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None
