"""A settings dataclass → documentation and checks of the public function with its fields as keywords."""

import inspect
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from featcache.errors import did_you_mean
from featcache.settings.field import Dataclass, settings_of

P = ParamSpec("P")
R = TypeVar("R")

_WIDTH = 112


def documented(
    name: str, *kinds: type[Dataclass], expand: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator that documents the keywords of a public function, and refuses unknown keywords.

    The signature itself is written out in the code so that editors complete it. A test compares it with the fields.

    Args:
        name: Public name of the function, for messages: ``featcache.fit``.
        kinds: Settings dataclasses whose help texts describe the keywords.
        expand: Function that changes the given keywords before the call.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        known = inspect.signature(function).parameters
        function.__doc__ = with_arguments(function.__doc__ or "", kinds, known)

        @wraps(function)
        def checked(*args: P.args, **kwargs: P.kwargs) -> R:
            for keyword in kwargs:
                if keyword not in known:
                    raise TypeError(_unknown(name, keyword, known))
            given: Any = expand(kwargs) if expand is not None else kwargs
            return function(*args, **given)

        return checked

    return decorate


def with_arguments(doc: str, kinds: Sequence[type[Dataclass]], names: Mapping[str, Any]) -> str:
    """Return a docstring whose section ``Args`` begins with the fields of the settings.

    Args:
        doc: Docstring, with or without a section ``Args`` for further parameters.
        kinds: Settings dataclasses.
        names: Parameters of the function; other fields are omitted.
    """
    lines = [
        textwrap.fill(f"{name}: {about.help}", _WIDTH, initial_indent=" " * 8, subsequent_indent=" " * 12)
        for kind in kinds
        for name, (_, about) in settings_of(kind).items()
        if name in names
    ]
    entries = "\n".join(lines) + "\n"
    if "\n    Args:\n" in doc:
        return doc.replace("\n    Args:\n", "\n    Args:\n" + entries, 1)
    section = re.search(r"\n    (Returns|Raises|Example):\n", doc)
    where = section.start() if section else len(doc.rstrip())
    return f"{doc[:where].rstrip()}\n\n    Args:\n{entries}{doc[where:]}"


def without(values: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Return the local variables of a public function without the given names."""
    return {name: value for name, value in values.items() if name not in names}


def _unknown(function: str, keyword: str, known: Mapping[str, Any]) -> str:
    suggested = did_you_mean(keyword, known, at_most=1) or f"; options: {', '.join(known)}"
    return f"{function}() has no option {keyword!r}{suggested}"
