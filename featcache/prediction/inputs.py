"""AUDIO of a command → manifest of the utterances to predict, and the folder of their files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from featcache.cache.failures import Failure
from featcache.manifest import Manifest, Utterance
from featcache.workspace import Workspace


@dataclass(frozen=True, kw_only=True)
class AudioRequest:
    """Utterances to predict.

    Attributes:
        manifest: The utterances; labels are optional, and ``speaker_id`` is empty if the speaker is unknown.
        root: Folder that the paths of the utterances are relative to.
        speakers_known: Whether the user gave the speakers.
        corpus: Name of the corpus, if AUDIO is a corpus; otherwise None.
        cache: Folder of its cache, if it exists; otherwise None.
        failures: Files that cannot be used.
    """

    manifest: Manifest
    root: Path
    speakers_known: bool
    corpus: str | None
    cache: Path | None
    failures: Sequence[Failure]


def collect(
    audio: Sequence[str],
    *,
    workspace: Workspace,
    layout: str | None,
    speaker_from: str | None,
    one_speaker: bool,
    window: float | None,
    hop: float | None,
    limit: int | None,
    reads_audio: bool = True,
) -> AudioRequest:
    """Return the utterances to predict.

    Args:
        audio: Files.
        workspace: Folder of corpora, caches and runs.
        layout: Layout of a corpus.
        speaker_from: Regular expression on the path, whose first group is the speaker.
        one_speaker: Whether all audio is of one speaker.
        window: Length of windows in seconds.
        hop: Time between windows in seconds.
        limit: Number of utterances.
        reads_audio: Whether the audio is needed.
    """
    import os

    root = Path(os.path.commonpath([Path(path).absolute().parent for path in audio]))
    paths = [Path(path).absolute().relative_to(root).as_posix() for path in audio]
    return AudioRequest(
        manifest=Manifest(
            [
                Utterance(
                    utterance_id=os.path.splitext(path)[0], path=path, speaker_id="speaker" if one_speaker else ""
                )
                for path in paths
            ]
        ),
        root=root,
        speakers_known=one_speaker,
        corpus=None,
        cache=None,
        failures=(),
    )
