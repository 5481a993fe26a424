"""Configurations of two runs → the differences between their conditions: device, dtypes, packages."""

from collections.abc import Mapping
from typing import Any

from featcache.runs.identity import COMPUTED, ENVIRONMENT
from featcache.units import format_bytes


def changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Compare the conditions that two configurations record.

    Args:
        then: The earlier configuration.
        now: The current configuration.

    Returns:
        One text per difference, such as ``features in int8 (now float32)``. Conditions that only one configuration
        records are not compared.
    """
    before, after = _describe(then), _describe(now)
    return [
        f"{name} {before[name]} (now {after[name]})".lstrip()
        for name in before
        if name in after and before[name] != after[name]
    ]


def _describe(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the name and value of each condition, as text."""
    computed, environment = config.get(COMPUTED), config.get(ENVIRONMENT)
    told: dict[str, str] = {}
    if isinstance(computed, Mapping):
        # The number of the GPU does not affect results.
        told["device"] = str(computed.get("device", "")).partition(":")[0]
        told |= {
            name: str(computed[key])
            for name, key in (("features in", "working_copy"), ("training in", "compute"), ("threads", "threads"))
            if key in computed
        }
        room = computed.get("room")
        told["features read"] = (
            f"in windows of {format_bytes(room / 2)}" if isinstance(room, int | float) else "all at once"
        )
    if isinstance(environment, Mapping):
        told |= {"CPU" if name == "processor" else str(name): str(value) for name, value in environment.items()}
    return told
