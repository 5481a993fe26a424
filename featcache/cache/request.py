"""What a store was asked for, in ``request.json``: written before the first shard, so that no kill makes it unknown.

The index says the same of a finished store, but an index is removed while shards are added, and may be lost. With the
request beside the shards, a store becomes finished as soon as everything that was asked for is in it or known to fail,
and a merge knows of a part that is still being extracted what is missing in it.

``utterance_ids`` are those asked for; ``num_in_corpus`` is how many the corpus has; ``num_parts`` is the number of
processes among which the work is shared. When the work is done, ``shards`` are the numbers of the shards that there
were then, else it is null, and ``failed`` are the ids of utterances that are known to fail. ``sha256`` is that of all
the rest. Stores of earlier releases have no such file.
"""

import hashlib
import json
import logging
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from featcache.errors import StoreError
from featcache.files.regular import read_regular, replace_file

REQUEST = "request.json"

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class StoreRequest:
    """What a store was asked for.

    Attributes:
        utterance_ids: All of them, of all processes together.
        num_in_corpus: How many utterances the corpus had; None where nobody knew.
        num_parts: Among how many processes the work was shared.
        shards: The numbers of the shards when all was done; None before.
        failed: Ids that were known to fail when all was done.
    """

    utterance_ids: tuple[str, ...]
    num_in_corpus: int | None = None
    num_parts: int = 1
    shards: tuple[int, ...] | None = None
    failed: tuple[str, ...] = ()

    def is_fulfilled(self, numbers: Collection[int], stored: Collection[str]) -> bool:
        """Whether the work came to its end and nothing has been added or lost since.

        Args:
            numbers: Of the shards that there are, ascending.
            stored: The ids of the utterances in them.
        """
        return self.shards == tuple(numbers) and {*stored, *self.failed}.issuperset(self.utterance_ids)


def read_request(folder: Path) -> StoreRequest | None:
    """What a store was asked for; None where it does not say.

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
    """What a store was asked for; None where it does not say, or the file is damaged, which is logged."""
    try:
        return read_request(folder)
    except StoreError as error:
        log.warning("%s", error)
        return None


def check_parts(folder: Path, num_parts: int, numbers: Collection[int]) -> None:
    """Refuse a part of one number of parts where parts of another number are not all finished.

    Args:
        folder: The store.
        num_parts: Among how many processes the work is shared now; one is always right, because it waits for all.
        numbers: Of the shards that there are, ascending.

    Raises:
        StoreError: the store is being filled in another number of parts.
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
    """Replace what a store says it was asked for, unless it says so already."""
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
    plain = asdict(request)
    digest = hashlib.sha256(json.dumps(plain).encode()).hexdigest()
    return (json.dumps({**plain, "sha256": digest}) + "\n").encode()
