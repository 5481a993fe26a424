"""The options of a search over settings, and their text form: ``OPTION=VALUE,VALUE`` or ``OPTION=log:LOW..HIGH``."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias

from featcache.settings.field import setting
from featcache.settings.types import NONE, Form

Choose = Literal["over-folds", "per-fold"]
OVER_FOLDS: Choose = "over-folds"
PER_FOLD: Choose = "per-fold"
# Option of the head in a search: set.hidden_units.
OF_HEAD = "set."
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_RANGE = re.compile(rf"(?:(float|int|log|log-int):)?({_NUMBER})\.\.({_NUMBER})")
_KINDS = ("float", "int", "log", "log-int")
_EXPECTED = "expected OPTION=VALUE,VALUE or OPTION=log:LOW..HIGH"


@dataclass(frozen=True, kw_only=True)
class Range:
    """Range of numbers to draw from.

    Attributes:
        low: Lowest number.
        high: Highest number.
        whole: Whether only integers are drawn.
        log: Whether the logarithm of the number is distributed uniformly.
    """

    low: float
    high: float
    whole: bool = False
    log: bool = False


def read_range_of_search(text: Any) -> Range | None:
    """Return the range in ``0.1..0.5``, ``int:64..512``, ``log:1e-5..1e-2`` or ``log-int:16..256``.

    Returns:
        The range; None for other text.

    Raises:
        ValueError: the text begins like a range, but is none.
    """
    if not isinstance(text, str):
        return None
    found = _RANGE.fullmatch(text.strip())
    if found is None:
        if text.partition(":")[0] in _KINDS:
            raise ValueError(f"{text!r}: expected a range such as log:1e-5..1e-2, int:64..512 or float:0.1..0.5")
        return None
    kind, low, high = found[1] or "float", float(found[2]), float(found[3])
    whole, log = kind.endswith("int"), kind.startswith("log")
    if not low < high or (log and low <= 0) or high - low == float("inf"):
        raise ValueError(f"{text!r}: expected the lower number first{', above 0 for log' if log else ''}")
    if whole and not (low.is_integer() and high.is_integer()):
        raise ValueError(f"{text!r}: expected two integers")
    return Range(low=low, high=high, whole=whole, log=log)


def read_sweep(value: Any) -> dict[str, Any]:
    """Return option → values to try, as a tuple, or a range as text.

    Args:
        value: ``OPTION=VALUES``, a list of such texts, or a dictionary. Values in a text are separated by ``|`` if it
            contains one, and by commas otherwise. In a dictionary they may be a list.

    Raises:
        ValueError: the value has another form, or one option has values twice.
    """
    if isinstance(value, Mapping):
        pairs = [(str(name), values) for name, values in value.items()]
    else:
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, Sequence):
            raise ValueError(f"{_EXPECTED}, found {value!r:.80}")
        pairs = [(str(text).partition("=")[0], str(text).partition("=")[2]) for text in texts]
    found: dict[str, Any] = {}
    for given, values in pairs:
        name = given.strip().replace("-", "_")
        if not name or values in ("", (), []):
            raise ValueError(f"{name or values!r}: {_EXPECTED}")
        if name in found:
            raise ValueError(f"{name} is given twice; keep one")
        found[name] = _values(values)
    return found


def _values(given: Any) -> Any:
    if isinstance(given, str):
        if read_range_of_search(given):
            return given.strip()
        return tuple(one.strip() for one in given.split("|" if "|" in given else ","))
    return tuple(given) if isinstance(given, list | tuple) else (given,)


def value_text(name: str, value: Any) -> str:
    """Return the value of an option as on the command line: ``anger=2,joy=1.5``, or ``gender:0.2`` for ``also``.

    No value is ``none``.

    Args:
        name: The option.
        value: Its value, checked, or as in ``config.yaml``.
    """
    if value is None or value in ([], (), {}):
        return NONE
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    if not isinstance(value, Mapping):
        return str(value)
    between = ":" if name == "also" else "="
    pairs = ((key, f"{one:g}" if isinstance(one, float) else one) for key, one in value.items())
    return ",".join(f"{key}{between}{one}" for key, one in pairs)


Sweep: TypeAlias = Annotated[Mapping[str, Any], Form("OPTION=VALUES", read_sweep, repeated=True)]


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """Search over settings."""

    sweep: Sweep = setting(
        help="Try several values of an option, such as learning_rate=1e-4,1e-3, and keep the best one on the "
        "validation part; set.hidden_units=64,128 for an option of the head. Values that contain commas are separated "
        "by |. With --trials also a range: log:1e-5..1e-2, int:64..512, log-int:16..256 or float:0.1..0.5. Can be "
        "repeated; without --trials every combination is tried.",
        factory=dict,
    )
    trials: int | None = setting(
        None, "Number of settings that Optuna draws from --sweep [default: every combination].", minimum=1
    )
    choose: Choose = setting(
        OVER_FOLDS,
        "Choose one setting by the validation parts of all folds (over-folds), or one for each fold by its own "
        "validation part (per-fold).",
    )
