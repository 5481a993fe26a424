"""Device, memory, packages → the conditions under which a run is computed.

They affect results, but do not identify a run, because the user does not choose them. They are recorded in addition
to the settings, reported if they have changed, and ``--resume`` keeps the dtypes.
"""

import math
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from featcache.errors import MissingPackageError, StoreError
from featcache.heads import head_spec
from featcache.runs.identity import COMPUTED, ENVIRONMENT
from featcache.training.memory import DTYPES, WorkingCopy


def conditions(device: str, copy: WorkingCopy, head: str, *, threads: int | None = None) -> dict[str, Any]:
    """Return the conditions of a run that is computed now, as ``config.yaml`` records them.

    Args:
        device: Device of heads and features.
        copy: Dtypes and size of the in-memory features.
        head: Name of the head, whose packages are recorded.
        threads: Number of threads that compute one training on the CPU, whose sums depend on it; None if it is not
            known, or always 1.

    Raises:
        MissingPackageError: the head needs a package that is not installed.
    """
    environment = {"torch": str(torch.__version__), "processor": torch.backends.cpu.get_cpu_capability()}
    environment |= {name: _version(name, head) for name in head_spec(head).packages}
    if device.startswith("cuda"):
        environment["gpu"] = torch.cuda.get_device_name(device)
    of_cpu = {"threads": threads} if threads is not None and device == "cpu" else {}
    return {COMPUTED: {"device": device, **copy.settings(), **of_cpu}, ENVIRONMENT: environment}


def _version(package: str, head: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError as error:
        raise MissingPackageError(f"head {head!r} needs the package {package!r}, which is not installed") from error


def recorded_copy(config: Mapping[str, Any]) -> WorkingCopy | None:
    """Return the dtypes and size of the in-memory features of an interrupted run; None if they are not recorded.

    Raises:
        StoreError: the recorded values are invalid.
    """
    recorded = config.get(COMPUTED)
    if recorded is None:
        return None
    try:
        room = recorded.get("room")
        if room is not None and not 0 < float(room) < math.inf:
            raise ValueError
        return WorkingCopy(
            dtype=DTYPES[recorded["working_copy"]],
            compute=DTYPES[recorded["compute"]],
            room=None if room is None else float(room),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise StoreError(
            f"{COMPUTED} of an interrupted run is {recorded}, expected the dtypes of its features and of training; "
            "start again with --overwrite"
        ) from error
