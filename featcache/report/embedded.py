"""Scripts, styles and data → parts of a page that are safe to embed, and the policy that allows no others.

The policy forbids every request to a network and every script and style that is not part of featcache.
"""

import base64
import hashlib
import json
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from featcache.terminal.escape import escaped

STYLE = "page.css"
# Characters that could end a script element or a line of JavaScript.
_ACTIVE = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}


class Embedded:
    """Text that is part of a page as it is.

    Args:
        text: Content of a style or script element.
    """

    def __init__(self, text: str) -> None:
        self._text = text

    def __html__(self) -> str:
        return self._text


@cache
def asset(name: str) -> Embedded:
    """Return a style or script of this folder."""
    return Embedded(_text_of(name))


def script_data(value: Any) -> Embedded:
    """Return plain values as JSON for a script element; control characters in texts are escaped.

    Args:
        value: Dictionaries with text keys, lists, texts, finite numbers and None.
    """
    text = json.dumps(_escaped(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Embedded(text.translate(_ACTIVE))


def policy(scripts: Sequence[str]) -> str:
    """Return the Content-Security-Policy of a page.

    Audio is allowed from the disk, or from the server of the page itself.

    Args:
        scripts: Names of the scripts of this folder that the page contains.
    """
    allowed = " ".join(map(_hash_of, scripts)) or "'none'"
    return (
        f"default-src 'none'; img-src data:; media-src 'self' file:; style-src {_hash_of(STYLE)}; "
        f"script-src {allowed}; base-uri 'none'; form-action 'none'"
    )


@cache
def _text_of(name: str) -> str:
    return (files("featcache.report") / name).read_text(encoding="utf-8")


def _hash_of(name: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(_text_of(name).encode()).digest()).decode()}'"


def _escaped(value: Any) -> Any:
    if isinstance(value, str):
        return escaped(value)
    if isinstance(value, dict):
        return {escaped(name): _escaped(one) for name, one in value.items()}
    return [_escaped(one) for one in value] if isinstance(value, list | tuple) else value
