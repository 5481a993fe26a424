"""Version of torch → whether it loads tensors from a pickle without running anything else in it."""

import re

from featcache.errors import ModelError

# Advisories GHSA-53q9-r3pm-6pq6 (fixed in 2.6) and GHSA-63cw-57p8-fm3p (fixed in 2.10): in older versions, a file could
# run code in spite of weights_only=True.
SAFE_TORCH = (2, 10)


def check_torch(version: str) -> None:
    """Refuse versions of torch in which ``weights_only=True`` is known to be unsafe.

    Raises:
        ModelError: the version is too old.
    """
    numbers = re.match(r"(\d+)\.(\d+)", version)
    if numbers is None or (int(numbers[1]), int(numbers[2])) < SAFE_TORCH:
        needed = ".".join(map(str, SAFE_TORCH))
        raise ModelError(
            f"torch {version} is not safe for converting pickles, in spite of weights_only=True; install torch "
            f"{needed} or newer"
        )
