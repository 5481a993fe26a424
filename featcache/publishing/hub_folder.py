"""``hf:owner/name[@revision]`` → the published folder in the local cache of the Hugging Face hub."""

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

from featcache.errors import ModelError, StoreError, listed
from featcache.extractors.hub import find_snapshot, reason_of
from featcache.extractors.safetensors_revision import is_offline
from featcache.files.checksums import CHECKSUMS, recorded_checksums
from featcache.publishing.published_files import files_to_read
from featcache.publishing.upload import check_repository
from featcache.runs.file_names import CONFIG, METRICS
from featcache.units import format_bytes

log = logging.getLogger(__name__)

PREFIX = "hf:"
_NEEDED = (CONFIG, METRICS, CHECKSUMS)


def is_hub_reference(reference: str) -> bool:
    """Return whether a text has the form of a reference to a folder on the hub: it begins with ``hf:``."""
    return reference.startswith(PREFIX)


def local_folder(reference: str) -> Path:
    """Return a published folder on the Hugging Face hub as a folder on this machine, after downloading it.

    Only the files that loading and predicting read are downloaded: text and safetensors, never a pickle or code.
    Without a network, the local cache of the hub is used.

    Args:
        reference: ``hf:owner/name`` or ``hf:owner/name@revision``, with a branch, tag or commit.

    Returns:
        The folder, which opens with :func:`featcache.load_run`.

    Raises:
        ModelError: the reference has another form, the hub cannot be reached and the cache does not contain the folder,
            or the hub has no such repository or revision.
        StoreError: the repository is no published folder, or its download is incomplete.
    """
    source, _, revision = reference.removeprefix(PREFIX).partition("@")
    if not is_hub_reference(reference) or (not revision and reference.endswith("@")):
        raise ModelError(f"{reference!r}: expected hf:OWNER/NAME or hf:OWNER/NAME@REVISION")
    check_repository(source)
    if ".." in revision.split("/") or revision.startswith("/"):
        raise ModelError(f"{reference!r}: expected a branch, tag or commit after @")
    folder = _cached(source, revision) if is_offline() else _downloaded(source, revision)
    return _checked(folder, reference)


def _downloaded(source: str, revision: str) -> Path:
    from huggingface_hub import HfApi, snapshot_download

    try:
        info = HfApi().model_info(source, revision=revision or None, files_metadata=True)
        sizes = {one.rfilename: int(one.size or 0) for one in info.siblings or ()}
        names = files_to_read(sizes)
        _check_names(f"{PREFIX}{source}", sizes)
        if find_snapshot(source, info.sha) is None:
            _announce(source, str(info.sha), {name: sizes[name] for name in names})
        # The branch, not its commit, so that the client remembers it for later work without a network.
        return Path(snapshot_download(source, revision=revision or None, allow_patterns=names))
    except StoreError:
        raise
    except Exception as error:  # The service and the network may raise anything.
        _use_cache(source, revision, error)
        return _cached(source, revision)


def _check_names(source: str, names: Iterable[str]) -> None:
    """Check that a repository has the files of a published folder.

    Raises:
        StoreError: a file is missing.
    """
    there = set(names)
    missing = [name for name in _NEEDED if name not in there]
    if missing:
        raise StoreError(f"{source} is no folder that 'featcache publish' wrote: it has no {', '.join(missing)}")


def _announce(source: str, commit: str, sizes: Mapping[str, int]) -> None:
    total = format_bytes(sum(sizes.values()))
    log.info("%s: %s (commit %s of https://huggingface.co/%s)", source, total, commit, source)


def _use_cache(source: str, revision: str, error: Exception) -> None:
    """Report that the cache is used in place of the hub.

    Raises:
        ModelError: the hub answered with an error, or the cache does not contain the folder.
    """
    from huggingface_hub.errors import HfHubHTTPError

    reason = reason_of(error, source, revision or None)
    if isinstance(error, HfHubHTTPError) or find_snapshot(source, revision or None) is None:
        raise ModelError(f"{PREFIX}{source}: cannot be downloaded ({reason})") from error
    log.info("%s: the local cache is used (%s)", source, reason)


def _cached(source: str, revision: str) -> Path:
    folder = find_snapshot(source, revision or None)
    if folder is None:
        raise ModelError(
            f"{PREFIX}{source} is not on this machine, and is not downloaded (HF_HUB_OFFLINE is set); run this once "
            "with a network, or copy the published folder here and give its path"
        )
    return folder


def _checked(folder: Path, source: str) -> Path:
    """Return a folder after checking that it has all files; their content is checked when it is read.

    Raises:
        StoreError: a file is missing.
    """
    _check_names(source, (name for name in _NEEDED if (folder / name).exists()))
    missing = [name for name in recorded_checksums(folder) or () if not (folder / name).exists()]
    if missing:
        raise StoreError(f"{source}: its download is incomplete ({listed(missing)}); run this again with a network")
    return folder
