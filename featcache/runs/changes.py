"""Conditions that two configurations record → what differs between them."""

from collections.abc import Mapping
from typing import Any

from featcache.runs.identity import COMPUTED, ENVIRONMENT
from featcache.units import format_bytes


def changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Compare the conditions that two configurations record.

    Returns:
        Texts such as ``features in int8 (now float32)``; what one of the two does not record is left out.
    """
    before, after = _describe(then), _describe(now)
    return [
        f"{name} {before[name]} (now {after[name]})".lstrip()
        for name in before
        if name in after and before[name] != after[name]
    ]


def _describe(config: Mapping[str, Any]) -> dict[str, str]:
    """Name of a condition → its value, as texts."""
    computed, environment = config.get(COMPUTED), config.get(ENVIRONMENT)
    told: dict[str, str] = {}
    if isinstance(computed, Mapping):
        # which of several alike GPUs it is changes no number
        told["device"] = str(computed.get("device", "")).partition(":")[0]
        told |= {
            name: str(computed[key])
            for name, key in (("features in", "working_copy"), ("arithmetic in", "compute"))
            if key in computed
        }
        room = computed.get("room")
        told["held"] = f"in windows of {format_bytes(room / 2)}" if isinstance(room, int | float) else "all at once"
    if isinstance(environment, Mapping):
        told |= {str(name): str(value) for name, value in environment.items()}
    return told
