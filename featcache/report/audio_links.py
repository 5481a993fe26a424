"""Manifest, folder of the audio → links from a page to the audio of each utterance, relative and inside the corpus."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from featcache.files.audio_shards import row_in_shard
from featcache.files.regular import resolved
from featcache.manifest import Manifest, Utterance

# Containers that current browsers play. FLAC and Opus depend on the browser and its age.
PLAYED = (".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".m4a", ".mp4", ".webm", ".aac")


@dataclass(frozen=True, kw_only=True)
class AudioLinks:
    """Links to audio.

    Attributes:
        base: Address of the corpus folder relative to the page, percent-encoded, with a slash at the end.
        links: Utterance id → address below ``base``, percent-encoded; a segment ends in ``#t=start,end``.
        missing: Utterances whose audio file does not exist or lies outside of the corpus folder. Audio that is embedded
            in Parquet or Arrow files has no link, but is not missing.
        unplayable: Suffixes of files that browsers do not play.
    """

    base: str
    links: dict[str, str]
    missing: tuple[str, ...]
    unplayable: tuple[str, ...]


def address_of(path: Path, page: Path) -> str | None:
    """Return the relative address of a file or folder on a page, percent-encoded; None if it is on another drive.

    Args:
        path: The file or folder.
        page: Folder of the page.
    """
    try:
        relative = Path(os.path.relpath(resolved(path), resolved(page))).as_posix()
    except ValueError:
        return None
    # Without ./, a name with a colon would be read as the scheme of an address.
    return f"./{quote(os.fsencode(relative))}"


def audio_links(manifest: Manifest, root: Path, page: Path) -> AudioLinks | None:
    """Return the links from a page to the audio of a corpus.

    Args:
        manifest: The utterances.
        root: Folder that the paths of the manifest are relative to.
        page: Folder of the page.

    Returns:
        The links; None if there is no relative path, because the folders are on different drives.
    """
    base = address_of(root, page)
    if base is None:
        return None
    paths = {utterance.path for utterance in manifest}
    embedded = {path for path in paths if row_in_shard(path) is not None}
    there = _inside(paths - embedded, root)
    links = {u.utterance_id: quote(u.path) + _segment(u) for u in manifest if u.path in there}
    suffixes = {PurePosixPath(path).suffix.lower() for path in there}
    return AudioLinks(
        base=f"{base}/",
        links=links,
        missing=tuple(u.utterance_id for u in manifest if u.path not in there | embedded),
        unplayable=tuple(sorted(suffixes - set(PLAYED))),
    )


def _inside(paths: Iterable[str], root: Path) -> set[str]:
    """Return the paths of files in a folder; a symbolic link to a file outside does not count."""
    top = resolved(root)
    return {path for path in paths if resolved(file := root / path).is_relative_to(top) and os.path.isfile(file)}


def _segment(utterance: Utterance) -> str:
    """Return the media fragment of a segment, in seconds: ``#t=3.2,5``."""
    if utterance.start is None and utterance.end is None:
        return ""
    end = "" if utterance.end is None else f",{utterance.end:.10g}"
    return f"#t={utterance.start or 0:.10g}{end}"
