"""Address → client of the Dask scheduler at this address.

A Dask scheduler and its workers execute any code that a client sends: they unpickle tasks, and by default they ask for
no password and do not encrypt. Anyone who can reach the port of the scheduler or of a worker can use the account that
runs it. Run them only on a network where every machine and user is trusted (the private network of a cluster,
``127.0.0.1``, an SSH tunnel), never on an address that the internet or a shared network can reach. If others share the
network, use Dask's TLS certificates (``distributed.security``). featcache only sends its own functions and plain
values.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from featcache.errors import ClusterError
from featcache.units import counted

if TYPE_CHECKING:
    from distributed import Client

log = logging.getLogger(__name__)

CONNECT_SECONDS = 10


@contextmanager
def connected(address: str) -> Iterator["Client"]:
    """Connect to a Dask scheduler and yield the client.

    Args:
        address: Address of the scheduler, such as ``tcp://host:8786``.

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
        total = sum(threads.values())
        log.info("%s: %s, %s", address, counted(len(threads), "worker"), counted(total, "thread"))
        if not threads:
            log.warning("%s has no workers yet; the work starts when the first worker joins", address)
        yield client
