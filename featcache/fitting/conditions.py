"""Device, memory, packages → the conditions under which a run is computed: recorded, compared, kept by ``--resume``.

They change numbers, some by a little and some by more, and none of them is asked for. A run is therefore the same under
all of them, and what they were is recorded beside its settings.
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


def conditions(device: str, copy: WorkingCopy, head: str) -> dict[str, Any]:
    """What ``config.yaml`` records of a run that is computed now."""
    environment = {"torch": str(torch.__version__), "processor": torch.backends.cpu.get_cpu_capability()}
    environment |= {name: _version(name, head) for name in head_spec(head).packages}
    if device.startswith("cuda"):
        environment["gpu"] = torch.cuda.get_device_name(device)
    return {COMPUTED: {"device": device, **copy.settings()}, ENVIRONMENT: environment}


def _version(package: str, head: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError as error:
        raise MissingPackageError(f"head {head!r} needs the package {package!r}, which is not installed") from error


def recorded_copy(config: Mapping[str, Any]) -> WorkingCopy | None:
    """How a run that was begun holds its features; None where the configuration does not say.

    Raises:
        StoreError: it says what cannot be.
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
            f"{COMPUTED} of an interrupted run is {recorded}, expected the dtypes of its features and arithmetic; "
            "start anew with --overwrite"
        ) from error
