"""Name of a store that a cache does not contain → the message for it."""

from collections.abc import Sequence
from pathlib import Path

from featcache.cache.request import REQUEST
from featcache.cache.shards import shard_numbers
from featcache.errors import listed, unknown_name

AGAIN = "if no extraction is running, run the same 'featcache extract' again to continue"


def missing_store(cache: Path, name: str, known: Sequence[str], hint: str) -> str:
    """Return the message for a store without features; it names extractions that have not written any yet.

    Args:
        cache: Folder of the cache.
        name: Name of the store.
        known: Names of the stores that could be used.
        hint: Advice if there is no such store at all.
    """
    begun = sorted(path.parent.name for path in cache.glob(f"*/{REQUEST}") if not shard_numbers(path.parent))
    if name in begun:
        return f"{cache / name} is not finished: it contains no features yet; {AGAIN}"
    told = unknown_name("store", name, known, hint=hint)
    return f"{told}; without features yet: {listed(begun)} ({AGAIN})" if begun else told
