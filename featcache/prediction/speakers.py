"""Paths of new audio → speakers, whose statistics normalise their features."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from featcache.errors import ManifestError, listed
from featcache.utterances import Utterance

if TYPE_CHECKING:
    import regex

THE_SPEAKER = "speaker"
"""Id of the speaker of all audio with ``--one-speaker``."""
MOST_SECONDS = 5.0
"""Time limit for a regular expression, because some need centuries for a name of a few dozen characters."""


def with_speakers(
    utterances: Sequence[Utterance], *, speaker_from: str | None, one_speaker: bool
) -> tuple[list[Utterance], bool]:
    """Return the utterances with their speakers, and whether all speakers are known.

    Args:
        utterances: Utterances; their speakers may be known already, for example from a manifest.
        speaker_from: Regular expression that is searched in each path; its group, or the whole match without one, is
            the speaker.
        one_speaker: Whether one person speaks in all utterances.

    Raises:
        ManifestError: both options are given, the expression is not valid, has several groups, finds no speaker in
            some paths, or takes too long; or one speaker is announced and several are known.
    """
    if speaker_from is not None and one_speaker:
        raise ManifestError("--speaker-from and --one-speaker exclude each other; omit one of them")
    if speaker_from is not None:
        return _searched(utterances, speaker_from), True
    if one_speaker:
        known = sorted({utterance.speaker_id for utterance in utterances} - {""})
        if len(known) > 1:
            raise ManifestError(
                f"--one-speaker, but the audio has {len(known)} known speakers: {listed(known)}; omit --one-speaker"
            )
        speaker = known[0] if known else THE_SPEAKER
        return [replace(utterance, speaker_id=speaker) for utterance in utterances], True
    return list(utterances), all(utterance.speaker_id for utterance in utterances)


def _searched(utterances: Sequence[Utterance], expression: str) -> list[Utterance]:
    pattern = _compiled(expression)
    latest = time.monotonic() + MOST_SECONDS
    speakers: dict[str, str] = {}
    for path in dict.fromkeys(utterance.path for utterance in utterances):
        try:
            match = pattern.search(path, timeout=max(1e-3, latest - time.monotonic()))
        except TimeoutError:
            raise ManifestError(
                f"--speaker-from {expression!r} took more than {MOST_SECONDS:g} s (at {path!r}); "
                "avoid repetitions inside of repetitions, such as (a+)+"
            ) from None
        speakers[path] = (match[pattern.groups] or "") if match else ""  # group 0 is the whole match
    without = [path for path, speaker in speakers.items() if not speaker]
    if without:
        raise ManifestError(
            f"--speaker-from {expression!r} finds no speaker in {len(without)} of {len(speakers)} paths: "
            f"{listed(without)}; it must match the speaker in every path"
        )
    return [replace(utterance, speaker_id=speakers[utterance.path]) for utterance in utterances]


def _compiled(expression: str) -> "regex.Pattern[str]":
    import regex  # in place of re, because it has a time limit

    try:
        pattern: regex.Pattern[str] = regex.compile(expression)
    except (regex.error, RecursionError, OverflowError) as error:
        reason = " ".join(str(error).split())
        raise ManifestError(f"--speaker-from {expression!r} is not a regular expression: {reason}") from None
    if pattern.groups > 1:
        raise ManifestError(
            f"--speaker-from {expression!r} has {pattern.groups} groups, expected one around the speaker, "
            "such as '^([^/]+)/' for the first folder; write further groups as (?:…)"
        )
    return pattern
