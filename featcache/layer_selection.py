"""Layer specification (``all | local | last | 0,4-8``) → positions in the layers of a store or model."""

import re
from collections.abc import Sequence

from featcache.errors import ModelError, did_you_mean, listed


def select_layers(spec: str, layer_names: Sequence[str], *, num_blocks: int) -> tuple[int, ...]:
    """Return the positions of the selected layers.

    Args:
        spec: ``all``; ``local`` for layer 0; ``last`` for layer ``num_blocks``; or names and ranges of numbers,
            separated by commas, such as ``0,4-8``.
        layer_names: Names of the available layers.
        num_blocks: Number of transformer blocks of the model.

    Returns:
        Positions in ``layer_names``, in the order of ``layer_names``, without repetition.

    Raises:
        ModelError: a layer is not available, or the specification is empty.
    """
    if spec == "all":
        return tuple(range(len(layer_names)))
    wanted: set[str] = set()
    for part in spec.replace(" ", "").split(","):
        span = re.fullmatch(r"(\d+)-(\d+)", part)
        numbers = [str(number) for number in range(int(span[1]), int(span[2]) + 1)] if span else []
        wanted.update(numbers or [{"local": "0", "last": str(num_blocks)}.get(part, part)])
    missing = sorted(wanted - set(layer_names), key=lambda name: (not name.isdigit(), name.zfill(9)))
    if missing:
        raise ModelError(
            f"no layer {listed(missing)} among {', '.join(layer_names)}; "
            f"expected all, local, last, or a list such as 0,4-8{_nearest(missing, layer_names)}"
        )
    return tuple(i for i, name in enumerate(layer_names) if name in wanted)


def _nearest(missing: Sequence[str], layer_names: Sequence[str]) -> str:
    """Return a suggestion for the first missing name that is not a number."""
    words = [name for name in missing if not name.isdigit()]
    return did_you_mean(words[0], ("all", "local", "last", *layer_names)) if words else ""
