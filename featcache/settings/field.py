"""A field of a settings dataclass: what an option is for, and what may stand there."""

from collections.abc import Callable
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, ClassVar, Protocol

_KEY = "setting"


class Dataclass(Protocol):
    """Any dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is known of an option beside its name, type and default.

    Attributes:
        help: What it is for, in one or two sentences.
        minimum: The lowest number that may stand there.
        maximum: The highest.
        above: A number that may not be reached from above.
        identity: Whether another value makes other numbers, so that it belongs to the identity of what is made.
    """

    help: str
    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    identity: bool = True

    def bounds(self) -> dict[str, float]:
        """Return the bounds as pydantic names them."""
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
    """Return a field of a settings dataclass.

    Args:
        default: What it is unless the user says otherwise.
        help: What it is for, in one or two sentences.
        factory: Makes the default, where it is a dictionary.
        minimum: The lowest number that may stand there.
        maximum: The highest.
        above: A number that must be exceeded.
        identity: Whether another value makes other numbers.

    Example:
        >>> @dataclass(frozen=True, kw_only=True)
        ... class PitchConfig:
        ...     f0_max: float = setting(400.0, "Highest pitch that is looked for, in Hz.", above=0)
    """
    metadata = {
        _KEY: Setting(help=help, minimum=minimum, maximum=maximum, above=above, identity=identity),
    }
    if factory is not None:
        return field(default_factory=factory, metadata=metadata)
    return field(default=default, metadata=metadata)


def settings_of(kind: type[Dataclass]) -> dict[str, tuple[Field[Any], Setting]]:
    """Return name → field and what is known of it; of fields without :func:`setting` nothing is known."""
    return {one.name: (one, one.metadata.get(_KEY, Setting(help=""))) for one in fields(kind)}


def non_default(instance: Dataclass) -> dict[str, Any]:
    """Return name → value of the fields that differ from their defaults."""
    found = {}
    for one in fields(instance):
        default = one.default_factory() if one.default_factory is not MISSING else one.default
        if getattr(instance, one.name) != default:
            found[one.name] = getattr(instance, one.name)
    return found


def values_of(instance: Dataclass, kind: type[Dataclass] | None = None) -> dict[str, Any]:
    """Return name → value of the fields, or of those that the instance has in common with a base class."""
    return {one.name: getattr(instance, one.name) for one in fields(kind or instance)}
