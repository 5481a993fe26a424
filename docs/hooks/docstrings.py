"""Docstrings → sections of the reference, in the form that mkdocstrings reads."""

import inspect
import re
from functools import cache
from typing import Any

import griffe

ROLE = re.compile(r":(?:mod|func|class|meth|data|attr):`~?([^`]+)`")


@cache
def _public() -> dict[str, Any]:
    """Return the path of each public function → the function: its docstring gets the options when it is imported."""
    import featcache

    found = [getattr(featcache, name) for name in featcache.__all__]
    return {f"{one.__module__}.{one.__qualname__}": one for one in found if inspect.isfunction(one)}


class PlainDocstrings(griffe.Extension):
    """Add the options of the public functions, rename the heading of examples, and write roles as code."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring of one object before it is parsed."""
        if obj.docstring:
            text = inspect.getdoc(_public()[obj.path]) if obj.path in _public() else obj.docstring.value
            text = re.sub(r"^Example:$", "Examples:", text or "", flags=re.MULTILINE)
            obj.docstring.value = ROLE.sub(r"`\1`", text)
