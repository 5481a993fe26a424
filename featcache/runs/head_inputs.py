"""Features that heads take ↔ ``head_inputs`` in ``config.yaml``; for runs of earlier releases, shapes of weights."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from featcache.errors import StoreError
from featcache.files.values import check_types, checked, damaged
from featcache.heads import HEADS, SOLVERS
from featcache.heads.base import frame_sizes
from featcache.runs.file_names import CONFIG
from featcache.runs.identity import HEAD_INPUTS
from featcache.runs.parse import REFIT

Shapes = Mapping[str, tuple[int, ...]]
_NUMBER_OR_NOTHING = (int, float, type(None))
_TYPES: dict[str, tuple[type, ...]] = {
    "layers": (list,),
    "hidden_size": (int,),
    "frame_shift": _NUMBER_OR_NOTHING,
    "max_frames": (int, type(None)),
    "averaged_frames": (int,),
}
# Key of an earlier release in place of averaged_frames: true means 2.
_IN_PAIRS = "averaged_in_pairs"


@dataclass(frozen=True, kw_only=True)
class HeadInput:
    """The features of one store, as a head takes them before normalisation.

    Attributes:
        store: Name of the feature store.
        layers: Names of the layers, in their order; a single empty name for a store without layers.
        hidden_size: Number of values of one layer of one frame.
        frame_shift: Frame shift in seconds; None if frames are not steps in time, or for runs of an earlier release.
        max_frames: Number of frames that are used, counted from the beginning; None for all.
        averaged_frames: Number of neighbouring frames of the store that are averaged first, such as two eGeMAPS frames
            of 10 ms for one frame of 20 ms of a model; 1 for no averaging.
    """

    store: str
    layers: tuple[str, ...]
    hidden_size: int
    frame_shift: float | None = None
    max_frames: int | None = None
    averaged_frames: int = 1

    @property
    def num_layers(self) -> int:
        """Number of layers."""
        return len(self.layers)

    def settings(self) -> dict[str, Any]:
        """Return the entries of ``config.yaml`` under the name of the store."""
        values = asdict(self)
        del values["store"]
        return {**values, "layers": list(self.layers)}


def read_head_inputs(folder: Path, config: Mapping[str, Any], shapes: Shapes) -> list[HeadInput]:
    """Return the features that the heads of a run take, one item per store.

    Args:
        folder: The run folder, for messages.
        config: The content of its ``config.yaml``.
        shapes: Name → shape of the saved weights of one head, for runs that do not record the sizes of the features.

    Raises:
        StoreError: the configuration is damaged, or the weights belong to another head.
    """
    path, stores = folder / CONFIG, list(config["features"])
    if HEAD_INPUTS not in config:
        return _inputs_of_earlier_run(path, config, stores, shapes)
    recorded: dict[str, Any] = config[HEAD_INPUTS]
    if list(recorded) != stores:
        raise damaged(path, f"{HEAD_INPUTS} names other stores than features", REFIT)
    return [_input(path, name, recorded[name]) for name in stores]


def check_shapes(path: Path, expected: Shapes, found: Shapes) -> None:
    """Check that saved tensors have the shapes that the configuration implies.

    Args:
        path: The file, for messages.
        expected: Name → shape of each tensor of the head.
        found: Name → shape of each saved tensor.

    Raises:
        StoreError: a tensor is missing, or has another shape.
    """
    for name in [*sorted(expected), *sorted(found)]:
        if expected.get(name) != found.get(name):
            told = f"expected shape {expected.get(name, 'none')}, found {found.get(name, 'none')}"
            raise damaged(path, f"{name} of a head: {told}", REFIT)


def _input(path: Path, store: str, recorded: Any) -> HeadInput:
    values: dict[str, Any] = checked(recorded, dict, f"{path}, {HEAD_INPUTS},", REFIT)
    where = f"{path}, {HEAD_INPUTS}, {store},"
    if isinstance(values.get(_IN_PAIRS), bool):
        values = {**values, "averaged_frames": 2 if values[_IN_PAIRS] else 1}
    check_types(values, _TYPES, where, REFIT, required=_TYPES)
    layers, shift, most = values["layers"], values["frame_shift"], values["max_frames"]
    smallest = min(values["hidden_size"], values["averaged_frames"])
    if not layers or not all(isinstance(name, str) for name in layers) or smallest < 1:
        raise damaged(
            where, "layers, hidden_size and averaged_frames: expected names of layers and positive numbers", REFIT
        )
    if (shift is not None and not 0 < shift < math.inf) or (most is not None and most < 1):
        raise damaged(where, "frame_shift and max_frames: expected positive numbers or null", REFIT)
    return HeadInput(store=store, **{name: values[name] for name in _TYPES} | {"layers": tuple(layers)})


def _inputs_of_earlier_run(
    path: Path, config: Mapping[str, Any], stores: Sequence[str], shapes: Shapes
) -> list[HeadInput]:
    """Return the inputs with sizes from the weights; the layers were not recorded and are named by position."""
    try:
        sizes = _hidden_sizes(config, len(stores), shapes)
        if sizes is None:
            raise StoreError(f"{path} is from an earlier release, which did not record the feature sizes; {REFIT}")
    except (IndexError, KeyError) as error:
        raise damaged(path, f"the saved weights do not belong to head {config['head']!r}", REFIT) from error
    numbers = [shapes.get(f"averages.{i}.scalars", (1,))[0] for i in range(len(stores))]
    return [
        HeadInput(store=store, layers=tuple(map(str, range(number))), hidden_size=size)
        for store, number, size in zip(stores, numbers, sizes, strict=True)
    ]


def _hidden_sizes(config: Mapping[str, Any], num_stores: int, shapes: Shapes) -> list[int] | None:
    """Return the hidden size of each store; None if it cannot be inferred from the weights."""
    if config["head"] in SOLVERS:
        [size] = frame_sizes([1], config["pooling"])
        return [shapes["coef"][1] // size]
    return HEADS.find(config["head"]).hidden_sizes_of(shapes, num_stores, config["pooling"])
