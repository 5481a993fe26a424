"""A field of a settings dataclass: the help text, default and bounds of one option."""

from collections.abc import Callable
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, ClassVar, Protocol

_KEY = "setting"


class Dataclass(Protocol):
    """Any dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Help text and bounds of an option.

    Attributes:
        help: Help text: a noun phrase or an imperative, with the unit. It ends with a full stop. A default that is
            computed is stated at the end: ``Name of the store [default: the model's name].``
        minimum: Smallest accepted number.
        maximum: Largest accepted number.
        above: Largest number that is no longer accepted.
        identity: Whether the option affects results and therefore belongs to the identity of a store or run.
    """

    help: str
    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    identity: bool = True

    def bounds(self) -> dict[str, float]:
        """Return the bounds under the names that pydantic uses."""
        named = {"ge": self.minimum, "le": self.maximum, "gt": self.above}
        return {name: bound for name, bound in named.items() if bound is not None}


def setting(
    default: Any = MISSING,
    help: str = "",
    *,
    factory: Callable[[], Any] | None = None,
    minimum: float | None = None,
    maximum: float | None = None,
    above: float | None = None,
    identity: bool = True,
) -> Any:
    """Return a field of a settings dataclass, from which the command line, YAML and documentation are derived.

    Args:
        default: Default value. Without a default the option is required.
        help: Help text: a noun phrase or an imperative, with the unit, such as ``Highest pitch, in Hz.``
        factory: Function that makes the default, for example ``dict``.
        minimum: Smallest accepted number.
        maximum: Largest accepted number.
        above: Numbers must be larger than this one.
        identity: Whether the option affects results.

    Returns:
        A field for :func:`dataclasses.dataclass`.

    Example:
        >>> @dataclass(frozen=True, kw_only=True)
        ... class PitchConfig:
        ...     f0_max: float = setting(400.0, "Highest pitch, in Hz.", above=0)
    """
    metadata = {
        _KEY: Setting(help=help, minimum=minimum, maximum=maximum, above=above, identity=identity),
    }
    if factory is not None:
        return field(default_factory=factory, metadata=metadata)
    return field(default=default, metadata=metadata)


def settings_of(kind: type[Dataclass]) -> dict[str, tuple[Field[Any], Setting]]:
    """Return name → field and setting of a dataclass; fields without :func:`setting` have an empty help text."""
    return {one.name: (one, one.metadata.get(_KEY, Setting(help=""))) for one in fields(kind)}


def help_of(one: Field[Any], about: Setting) -> str:
    """Return the help text of an option with its default at the end: ``Adam epsilon [default: 1e-7]``.

    Args:
        one: Field of the option.
        about: Setting of the field. A default that its help text states already is kept.
    """
    default = one.default
    if default is True:
        shown = f"--{one.name.replace('_', '-')}"
    elif isinstance(default, float) and 0 < default < 1e-3:
        shown = f"{default:.0e}".replace("e-0", "e-")
    else:
        shown = f"{default:g}" if isinstance(default, float) else str(default)
    if not isinstance(default, str | int | float) or default is False or not shown or "[default: " in about.help:
        return about.help
    return f"{about.help.removesuffix('.')} [default: {shown}]."


def non_default(instance: Dataclass) -> dict[str, Any]:
    """Return name → value of the fields that differ from their defaults."""
    found = {}
    for one in fields(instance):
        default = one.default_factory() if one.default_factory is not MISSING else one.default
        if getattr(instance, one.name) != default:
            found[one.name] = getattr(instance, one.name)
    return found


def values_of(instance: Dataclass, kind: type[Dataclass] | None = None) -> dict[str, Any]:
    """Return name → value of the fields.

    Args:
        instance: Settings.
        kind: Base class to whose fields the result is limited.
    """
    return {one.name: getattr(instance, one.name) for one in fields(kind or instance)}
