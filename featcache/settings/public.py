"""A settings dataclass → the documentation and the checks of the public function that takes its fields as keywords."""

import difflib
import inspect
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from featcache.settings.field import Dataclass, settings_of

P = ParamSpec("P")
R = TypeVar("R")

_WIDTH = 112


def documented(
    name: str, *kinds: type[Dataclass], expand: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Describe the keywords of a public function by the fields of its settings, and refuse unknown keywords.

    The signature itself is written out, so that editors complete it; a test compares it with the fields.

    Args:
        name: The public name of the function, for messages: ``featcache.fit``.
        kinds: The settings.
        expand: Changes the keywords that are given before the function is called.
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
        doc: The docstring; it may have a section ``Args`` for further parameters.
        kinds: The settings.
        names: The parameters of the function; other fields are left out.
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
    """Return the options among the local variables of a public function, all but some."""
    return {name: value for name, value in values.items() if name not in names}


def _unknown(function: str, keyword: str, known: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(keyword, known, n=1, cutoff=0.5)
    told = f"; did you mean {near[0]!r}?" if near else f"; options: {', '.join(known)}"
    return f"{function}() has no option {keyword!r}{told}"
