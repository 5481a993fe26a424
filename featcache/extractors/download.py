"""File of a repository on the hub → its path in the hub's local cache; an interrupted download of weights continues.

huggingface_hub 1 and newer start an interrupted file again from its beginning. Therefore large files are written here
into the client's cache first, under the name that the client expects, after checking their SHA-256.
"""

import os
import re
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from featcache.errors import DiskError
from featcache.extractors.safetensors_revision import cached_repository, is_offline
from featcache.files.locks import FOREVER, held
from featcache.files.regular import sha256_of_file

if TYPE_CHECKING:
    from huggingface_hub import HfFileMetadata

# Suffixes of files whose download continues after an interruption.
_LARGE = (".safetensors", ".bin", ".pt")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def download(source: str, name: str, revision: str | None) -> Path:
    """Return the path of a file in the hub's local cache, after downloading it if it is not there.

    Args:
        source: Id on the hub.
        name: File name.
        revision: Branch, tag, reference or commit; None for the branch ``main``.

    Raises:
        EntryNotFoundError: the repository has no such file, or the hub cannot be reached and the cache does not contain
            it (``LocalEntryNotFoundError``).
        Exception: any other error of the hub's client.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.errors import LocalEntryNotFoundError

    if not isinstance(try_to_load_from_cache(source, name, revision=revision), str) and not is_offline():
        url = hf_hub_url(source, name, revision=revision)
        try:
            found = get_hf_file_metadata(url)
        except Exception as error:  # The client reports it.
            if is_unreachable(error):  # The client would try again for half a minute.
                raise LocalEntryNotFoundError("the hub cannot be reached") from error
        else:
            if name.endswith(_LARGE):
                _continue_download(source, name, url, found)
    return Path(hf_hub_download(source, name, revision=revision))


def is_unreachable(error: BaseException | None) -> bool:
    """Return whether no connection was made: the name of the hub was not found, or the connection was refused."""
    while error is not None and not isinstance(error, socket.gaierror | ConnectionRefusedError):
        error = error.__cause__ or error.__context__
    return error is not None


def _continue_download(source: str, name: str, url: str, found: "HfFileMetadata") -> None:
    """Download a large file into the client's cache, from where an earlier call was interrupted.

    Files without a SHA-256 are left to the client.
    """
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    if not found.etag or not _SHA256.fullmatch(found.etag) or not found.size:
        return
    repository = cached_repository(source)
    blob = repository / "blobs" / found.etag
    partial = blob.with_suffix(".featcache")
    lock = repository.parent / ".locks" / repository.name / f"{found.etag}.featcache.lock"
    location = found.location or url
    headers = build_hf_headers()
    if urlsplit(location)[:2] != urlsplit(url)[:2]:  # A token is sent to the hub only, and never without encryption.
        headers.pop("authorization", None)
    with ExitStack() as stack:
        try:
            stack.enter_context(held(lock, f"{source} is being downloaded", wait=FOREVER))
        except DiskError:  # The cache is read-only, or its file system has no locks: the client knows what to do.
            return
        if blob.exists():
            return
        blob.parent.mkdir(parents=True, exist_ok=True)
        have = partial.stat().st_size if partial.exists() else 0
        if have > found.size:
            partial.unlink()
            have = 0
        with open(partial, "ab") as file:
            http_get(
                location, file, resume_size=have, headers=headers, expected_size=found.size, displayed_filename=name
            )
        if sha256_of_file(partial) != found.etag:
            partial.unlink()
            raise OSError(f"the SHA-256 of {name} differs from the hub's; try again")
        os.replace(partial, blob)
