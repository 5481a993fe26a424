"""Help pages of commands, and mistakes in calling them → one line that names the nearest option or command."""

import re
from typing import Any

from typer import BadParameter
from typer.core import TyperCommand

from featcache.errors import did_you_mean

# Base class of all mistakes in calling a command. Typer has it from click, or from a copy of click of its own.
UsageError: type[Any] = BadParameter.__bases__[0]

# Common names of options whose spelling is too different from ours.
_ALIASES = {
    "--batch": "--batch-size",
    "--bs": "--batch-size",
    "--dropout": "--set dropout=…",
    "--epochs": "--max-epochs",
    "--gpu": "--device",
    "--hidden-units": "--set hidden_units=…",
    "--lr": "--learning-rate",
    "--normalisation": "--norm",
    "--normalization": "--norm",
    "--num-workers": "--workers",
    "--store-name": "--name",
}

# Number of options above which a help page has headings.
_LONG = 30


class Command(TyperCommand):
    """A command whose help page shows arguments in capitals, and its example in one line."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the parts of the usage line: ``[OPTIONS] INTO PART...``."""
        options = [self.options_metavar] if self.options_metavar else []
        return [*options, *(_usage(one) for one in self.get_params(ctx) if _is_argument(one))]

    def sections(self, ctx: Any) -> dict[str, list[tuple[str, str]]]:
        """Return heading → names and help texts of the arguments and options; a long command has several headings."""
        parameters = [one for one in self.get_params(ctx) if not getattr(one, "hidden", False)]
        arguments = [(_name(one), getattr(one, "help", "") or "") for one in parameters if _is_argument(one)]
        shown = [(one, row) for one in parameters if not _is_argument(one) and (row := _option_row(one, ctx))]
        sections: dict[str, list[tuple[str, str]]] = {"Arguments": arguments}
        if len(shown) > _LONG:
            sections |= {title: [] for one, _ in shown if (title := getattr(one, "rich_help_panel", None))}
        for one, row in shown:
            title = getattr(one, "rich_help_panel", None)
            sections.setdefault(title if title in sections else "Options", []).append(row)
        return {title: rows for title, rows in sections.items() if rows}

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments and the options under their headings."""
        for title, rows in self.sections(ctx).items():
            with formatter.section(title):
                formatter.write_dl(rows)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the example; it can be copied because it is not folded."""
        if self.epilog:
            formatter.write(f"\n  {self.epilog}\n")


def _is_argument(parameter: Any) -> bool:
    return bool(parameter.param_type_name == "argument")


def _name(argument: Any) -> str:
    return f"{argument.metavar or argument.name.upper()}{'...' if argument.nargs != 1 else ''}"


def _usage(argument: Any) -> str:
    return _name(argument) if argument.required else f"[{_name(argument)}]"


def _option_row(option: Any, ctx: Any) -> tuple[str, str] | None:
    row: tuple[str, str] | None = option.get_help_record(ctx)
    if row is None:
        return None
    return row[0], f"{option.help.removesuffix('.')} [required]." if option.required else option.help


def told_usage(error: Any) -> str:
    """Return in one line what is wrong with a call, and the nearest option or command.

    Args:
        error: A mistake in calling a command (``UsageError``).
    """
    kind, option = type(error).__name__, getattr(error, "option_name", "")
    if kind == "NoSuchOption":
        return _unknown_option(option, error.ctx)
    if kind == "BadOptionUsage":
        return f"{option} takes no value" if "not take" in error.message else f"{option} needs a value"
    if kind == "MissingParameter":
        return f"{_shown(error)} is missing"
    if kind == "BadParameter":
        return f"{_shown(error)}{'' if error.message.startswith('takes ') else ':'} {error.message}".strip(": ")
    extra = re.match(r"Got unexpected extra argument(?:s|\(s\))? \((.*)\)", error.message)
    return f"unexpected argument: {extra[1]}" if extra else error.format_message()


def _shown(error: Any) -> str:
    """Return the name of the option or argument that is wrong."""
    if error.param_hint:
        return error.param_hint if isinstance(error.param_hint, str) else " ".join(error.param_hint)
    if error.param is None:
        return ""
    return _name(error.param) if _is_argument(error.param) else str(error.param.opts[0])


def unknown_command(name: str, known: Any) -> str:
    """Return the message for an unknown command, with the nearest command or all of them.

    Args:
        name: Name that was called.
        known: Names of all commands.
    """
    return f"no command {name!r}{did_you_mean(name, known) or '; commands: ' + ', '.join(known)}"


def _unknown_option(option: str, ctx: Any) -> str:
    """Return the message for an unknown option: an alias, the command that has it, or the nearest option."""
    options = _options_of(ctx.command, ctx)
    alias = _ALIASES.get(option, "")
    commands = ctx.parent.command.commands if ctx.parent else {}
    having = [f"'featcache {name}'" for name, command in commands.items() if option in _options_of(command, ctx)]
    if alias.split(" ")[0] in options:
        told = f"; did you mean {alias}?"
    elif having:
        *others, last = having
        named = f"{', '.join(others)} and {last}" if others else last
        told = f"; {named} {'have' if others else 'has'} it"
    else:
        told = did_you_mean(option, options, at_most=1).replace("'", "")
    return f"no option {option}{told}"


def _options_of(command: Any, ctx: Any) -> list[str]:
    return [
        name
        for one in command.get_params(ctx)
        if not _is_argument(one)
        for name in (*one.opts, *one.secondary_opts)
        if name.startswith("--")
    ]
