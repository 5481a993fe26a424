"""Types of options with a text form of their own: ``a,b``, ``LABEL=VALUE``, ``1,7``, seeds."""

import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from os import PathLike
from typing import Annotated, Any, TypeAlias

# Source: Pepino et al. 2021 as run. Further seeds continue with the same step.
SEEDS = (123, 1234, 2345, 3456, 4567)
HIGHEST_SEED = 2**32 - 1
# Text for no value, of options that have none by default.
NONE = "none"


@dataclass(frozen=True)
class Form:
    """Text form of an option.

    Attributes:
        text: Form shown by ``--help``: ``NAME,NAME``.
        read: Function from text, or from the value itself, to the value. Its ValueError states what was expected.
        repeated: Whether the option can be given several times on the command line.
    """

    text: str
    read: Callable[[Any], Any]
    repeated: bool = False


def read_names(value: Any) -> tuple[str, ...]:
    """Return the names in ``a,b`` or in a list of names.

    Raises:
        ValueError: The value contains something other than names.
    """
    names = split_names(value)
    if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"expected names separated by commas, found {value!r}")
    return tuple(names)


def split_names(value: Any) -> Any:
    """Return the names in ``a,b``; other values are returned unchanged."""
    return tuple(name.strip() for name in value.split(",")) if isinstance(value, str) else value


def read_selection(value: Any) -> dict[str, tuple[str, ...]]:
    """Return label → selected values, from ``LABEL=VALUE,VALUE``, a list of such texts, or a dictionary.

    Raises:
        ValueError: The value has another form.
    """
    if isinstance(value, Mapping):
        return {str(label): read_names(values) for label, values in value.items()}
    found: dict[str, tuple[str, ...]] = {}
    expected = "expected LABEL=VALUE, or LABEL=VALUE,VALUE"
    for pair in _pairs(value, expected):
        label, separator, values = str(pair).partition("=")
        if not separator:
            raise ValueError(f"{pair!r}: {expected}")
        found[label] = (*found.get(label, ()), *values.split(","))
    return found


def read_assignments(value: Any) -> dict[str, Any]:
    """Return name → value, from ``NAME=VALUE``, a list of such texts, or a dictionary.

    Raises:
        ValueError: The value has another form, or one name has two values.
    """
    if isinstance(value, Mapping):
        return {str(name).strip().replace("-", "_"): one for name, one in value.items()}
    found: dict[str, Any] = {}
    expected = "expected NAME=VALUE"
    for pair in _pairs(value, expected):
        name, separator, one = str(pair).partition("=")
        name = name.strip().replace("-", "_")
        if not separator or not name:
            raise ValueError(f"{pair!r}: {expected}")
        if name in found:
            raise ValueError(f"{name} is given twice; keep one")
        found[name] = one
    return found


def _pairs(value: Any, expected: str) -> Sequence[Any]:
    pairs = [value] if isinstance(value, str) else value
    if not isinstance(pairs, Sequence):
        raise ValueError(f"{expected}, found {value!r:.80}")
    return pairs


def read_range(value: Any) -> tuple[float, float]:
    """Return the lowest and the highest value, from ``1,7`` or a pair of numbers.

    Raises:
        ValueError: The value has another form, or the first number is not the lower one.
    """
    try:
        low, high = (float(number) for number in (value.split(",") if isinstance(value, str) else value))
        if not -math.inf < low < high < math.inf:
            raise ValueError
    except (TypeError, ValueError):
        raise ValueError(f"{value!r}: expected two numbers, the lower one first, such as 1,7") from None
    return low, high


def read_seeds(value: Any) -> tuple[int, ...]:
    """Return seeds, from their number (see :func:`first_seeds`) or a list; ``123,`` is a list with one seed.

    Raises:
        ValueError: The value has another form, or a number cannot be a seed.
    """
    expected = "expected the number of seeds, or a list of seeds such as 123,1234"
    if isinstance(value, bool | bytes | Mapping) or not isinstance(value, Integral | Iterable):
        raise ValueError(f"{expected}, found {value!r}")
    try:
        if isinstance(value, Integral) or (isinstance(value, str) and "," not in value):
            number = int(str(value))
            if not 1 <= number <= 1000:
                raise ValueError
            return first_seeds(number)
        words = [word for word in value.split(",") if word.strip()] if isinstance(value, str) else value
        seeds = tuple(dict.fromkeys(int(word) if isinstance(word, str) else operator.index(word) for word in words))
        if not seeds or not all(0 <= seed <= HIGHEST_SEED for seed in seeds):
            raise ValueError
    except (TypeError, ValueError):
        raise ValueError(f"{expected}, found {value!r}") from None
    return seeds


def first_seeds(number: int) -> tuple[int, ...]:
    """Return the five seeds of Pepino et al. 2021, followed by further seeds with the same step."""
    return tuple(123 if i == 0 else 1234 + 1111 * (i - 1) for i in range(number))


def read_folders(value: Any) -> tuple[str, ...]:
    """Return folders or ``STORE=FOLDER``, from a text, a list of texts, or a dictionary of stores.

    Raises:
        ValueError: The value has another form.
    """
    if isinstance(value, Mapping):
        return tuple(f"{store}={folder}" for store, folder in value.items())
    folders = _pairs(str(value) if isinstance(value, PathLike) else value, "expected FOLDER or STORE=FOLDER")
    return tuple(map(str, folders))


def read_layers(value: Any) -> tuple[int, ...]:
    """Return the numbers of layers in ``8``, ``0,0`` or ``-1``, or in a list of numbers.

    Raises:
        ValueError: The value contains something other than numbers of layers.
    """
    try:
        words = value.split(",") if isinstance(value, str) else [value] if isinstance(value, Integral) else value
        numbers = tuple(int(word) if isinstance(word, str) else operator.index(word) for word in words)
        if isinstance(value, bool) or not numbers:
            raise ValueError
    except (TypeError, ValueError):
        raise ValueError(
            f"expected the number of a layer, or one for each store such as 0,8, found {value!r:.80}"
        ) from None
    return numbers


def read_texts(value: Any) -> tuple[str, ...]:
    """Return texts, from a single text or a list of texts; commas belong to the text.

    Raises:
        ValueError: The value contains something other than text.
    """
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, Sequence) or not all(isinstance(one, str) for one in texts):
        raise ValueError(f"expected a text or a list of texts, found {value!r:.80}")
    return tuple(texts)


Folders: TypeAlias = Annotated[tuple[str, ...], Form("[STORE=]PATH", read_folders, repeated=True)]
Layers: TypeAlias = Annotated[tuple[int, ...], Form("LAYER,LAYER", read_layers)]
Names: TypeAlias = Annotated[tuple[str, ...], Form("NAME,NAME", read_names)]
Texts: TypeAlias = Annotated[tuple[str, ...], Form("TEXT", read_texts, repeated=True)]
Selection: TypeAlias = Annotated[Mapping[str, tuple[str, ...]], Form("LABEL=VALUE", read_selection, repeated=True)]
Assignments: TypeAlias = Annotated[Mapping[str, Any], Form("NAME=VALUE", read_assignments, repeated=True)]
Range: TypeAlias = Annotated[tuple[float, float], Form("LOW,HIGH", read_range)]
Seeds: TypeAlias = Annotated[tuple[int, ...], Form("INTEGER or SEED,SEED", read_seeds)]
References: TypeAlias = Annotated[tuple[str, ...], Form("REFERENCE", read_names, repeated=True)]
