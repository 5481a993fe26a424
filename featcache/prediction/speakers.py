"""Paths of new audio → speakers, whose statistics normalise their features."""

from collections.abc import Sequence
from dataclasses import replace

from featcache.corpora.speaker_expression import speakers_from
from featcache.errors import ManifestError, listed
from featcache.utterances import Utterance

THE_SPEAKER = "speaker"
"""Id of the speaker of all audio with ``--one-speaker``."""


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
        return speakers_from(utterances, speaker_from), True
    if one_speaker:
        known = sorted({utterance.speaker_id for utterance in utterances} - {""})
        if len(known) > 1:
            raise ManifestError(
                f"--one-speaker, but the audio has {len(known)} known speakers: {listed(known)}; omit --one-speaker"
            )
        speaker = known[0] if known else THE_SPEAKER
        return [replace(utterance, speaker_id=speaker) for utterance in utterances], True
    return list(utterances), all(utterance.speaker_id for utterance in utterances)
