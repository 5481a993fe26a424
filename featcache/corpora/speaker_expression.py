"""Paths or ids of utterances × regular expression → speakers."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from featcache.corpora.expressions import compile_expression
from featcache.errors import ManifestError, listed
from featcache.utterances import Utterance

if TYPE_CHECKING:
    import regex

MOST_SECONDS = 5.0
"""Time limit for a regular expression, because some need centuries for a name of a few dozen characters."""


def speakers_from(utterances: Sequence[Utterance], expression: str) -> list[Utterance]:
    """Return the utterances with the speakers that a regular expression finds in their paths, or in their ids.

    Args:
        utterances: Utterances; their speakers are replaced.
        expression: Regular expression that is searched in each path, then in the id. Its group, or the whole match
            without one, is the speaker.

    Raises:
        ManifestError: the expression is not valid, has several groups, finds no speaker in some paths and ids, or
            takes too long.
    """
    pattern = _compiled(expression)
    latest = time.monotonic() + MOST_SECONDS
    speakers: dict[str, str] = {}

    def speaker_in(text: str) -> str:
        if text not in speakers:
            try:
                match = pattern.search(text, timeout=max(1e-3, latest - time.monotonic()))
            except TimeoutError:
                raise ManifestError(
                    f"--speaker-from {expression!r} took more than {MOST_SECONDS:g} s (at {text!r}); "
                    "avoid repetitions inside of repetitions, such as (a+)+"
                ) from None
            speakers[text] = (match[pattern.groups] or "") if match else ""  # group 0 is the whole match
        return speakers[text]

    found = [replace(u, speaker_id=speaker_in(u.path) or speaker_in(u.utterance_id)) for u in utterances]
    without = dict.fromkeys(u.path for u in found if not u.speaker_id)
    if without:
        num_paths = len({u.path for u in found})
        raise ManifestError(
            f"--speaker-from {expression!r} finds no speaker in {len(without)} of {num_paths} paths: "
            f"{listed(without)}; it must match the speaker in every path"
        )
    return found


def _compiled(expression: str) -> "regex.Pattern[str]":
    try:
        pattern = compile_expression(expression)
    except ValueError as error:
        raise ManifestError(f"--speaker-from {expression!r} is not a regular expression: {error}") from None
    if pattern.groups > 1:
        raise ManifestError(
            f"--speaker-from {expression!r} has {pattern.groups} groups, expected one around the speaker, "
            "such as '^([^/]+)/' for the first folder; write further groups as (?:…)"
        )
    return pattern
