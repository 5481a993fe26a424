"""Address → a client of the Dask scheduler there."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from featcache.errors import ClusterError

if TYPE_CHECKING:
    from distributed import Client

log = logging.getLogger(__name__)

CONNECT_SECONDS = 10


@contextmanager
def connected(address: str) -> Iterator["Client"]:
    """A client of the Dask scheduler at this address.

    Raises:
        ClusterError: Dask is not installed, or no scheduler answers.
    """
    try:
        from distributed import Client
    except ImportError:
        raise ClusterError("--scheduler needs Dask, which is not installed: pip install 'featcache[dask]'") from None
    try:
        client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ClusterError(
            f"--scheduler {address}: no Dask scheduler answers ({error}); expected an address such as tcp://host:8786"
        ) from error
    with client:
        threads = client.nthreads()
        log.info("%s: %d workers, %d threads", address, len(threads), sum(threads.values()))
        if not threads:
            log.warning("%s has no workers yet; the work begins when one joins", address)
        yield client
