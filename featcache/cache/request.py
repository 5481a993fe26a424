"""Request for a store ↔ ``request.json``, written before the first shard so that a killed process leaves it behind.

The index records the same for a finished store, but it is removed while shards are added, and may be lost. With this
file, a store counts as finished as soon as every requested utterance is stored or known to fail. A merge also learns
from it which utterances are missing in a part that is still being extracted.

``utterance_ids`` are the requested utterances, ``num_in_corpus`` is the number of utterances in the corpus, and
``num_parts`` is the number of processes that share the work. ``shards`` are the numbers of the shards at the end of the
work, and null before; ``failed`` are the ids of utterances that are known to fail. ``sha256`` covers all other entries.
Stores of earlier releases have no such file.
"""

import hashlib
import json
import logging
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featcache.errors import StoreError
from featcache.files.regular import read_regular, replace_file

REQUEST = "request.json"

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class StoreRequest:
    """Utterances that were requested for a store.

    Attributes:
        utterance_ids: Ids of the requested utterances, of all processes together.
        num_in_corpus: Number of utterances in the corpus; None if it is not known.
        num_parts: Number of processes that share the work.
        shards: Numbers of the shards at the end of the work; None before.
        failed: Ids of the utterances that were known to fail at the end of the work.
    """

    utterance_ids: tuple[str, ...]
    num_in_corpus: int | None = None
    num_parts: int = 1
    shards: tuple[int, ...] | None = None
    failed: tuple[str, ...] = ()

    def is_fulfilled(self, numbers: Collection[int], stored: Collection[str]) -> bool:
        """Return whether the work finished, and no shard was added or lost since.

        Args:
            numbers: Numbers of the existing shards, ascending.
            stored: Ids of the utterances in these shards.
        """
        return self.shards == tuple(numbers) and {*stored, *self.failed}.issuperset(self.utterance_ids)


def read_request(folder: Path) -> StoreRequest | None:
    """Return the request of a store; None if it is not recorded.

    Raises:
        StoreError: the file is damaged.
    """
    path = folder / REQUEST
    try:
        content = read_regular(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"{path} cannot be read ({error.strerror})") from error
    try:
        request = _from_json(json.loads(content))
    except (KeyError, OverflowError, RecursionError, TypeError, ValueError) as error:
        raise StoreError(f"{path}: damaged; remove it, and the next 'featcache extract' writes it again") from error
    if _to_json(request) != content:
        raise StoreError(f"{path}: its checksum is wrong; remove it, and the next 'featcache extract' writes it again")
    return request


def known_request(folder: Path) -> StoreRequest | None:
    """Return the request of a store; None if it is not recorded, or if the file is damaged, which is logged."""
    try:
        return read_request(folder)
    except StoreError as error:
        log.warning("%s", error)
        return None


def check_parts(folder: Path, num_parts: int, numbers: Collection[int]) -> None:
    """Check that a store is not being filled in another number of parts.

    Args:
        folder: Folder of the store.
        num_parts: Number of processes that share the work now; 1 is always allowed, because it locks the whole store.
        numbers: Numbers of the existing shards, ascending.

    Raises:
        StoreError: the store is being filled in another number of parts, and they have not all finished.
    """
    request = known_request(folder)
    if request is None or request.num_parts in (1, num_parts) or num_parts == 1:
        return
    if request.shards is None or request.shards != tuple(numbers):
        raise StoreError(
            f"{folder} is being filled in {request.num_parts} parts, and not all of them are finished; this is one of "
            f"{num_parts}: give --num-shards {request.num_parts}, or leave it out once the running parts have ended"
        )


def write_request(folder: Path, request: StoreRequest) -> None:
    """Write the request of a store, unless the file has this content already."""
    content, path = _to_json(request), folder / REQUEST
    if not path.is_file() or path.read_bytes() != content:
        replace_file(path, content)


def _from_json(found: dict[str, Any]) -> StoreRequest:
    shards = found["shards"]
    return StoreRequest(
        utterance_ids=tuple(_text(value) for value in found["utterance_ids"]),
        num_in_corpus=None if found["num_in_corpus"] is None else int(found["num_in_corpus"]),
        num_parts=int(found["num_parts"]),
        shards=None if shards is None else tuple(int(number) for number in shards),
        failed=tuple(_text(value) for value in found["failed"]),
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _to_json(request: StoreRequest) -> bytes:
    plain = vars(request)  # asdict would copy every id
    digest = hashlib.sha256(json.dumps(plain).encode()).hexdigest()
    return (json.dumps({**plain, "sha256": digest}) + "\n").encode()
