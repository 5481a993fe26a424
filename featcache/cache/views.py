"""Shards → virtual datasets over all of them, for HDFView and plain h5py."""

from collections.abc import Mapping
from typing import Any

import h5py
import numpy.typing as npt

from featcache.cache import layout

# Shape and dtype over all shards, and whether its entries are frames; otherwise they are utterances.
View = tuple[tuple[int, ...], str, bool]


def write_views(file: h5py.File, tables: Mapping[int, npt.NDArray[Any]], views: Mapping[str, View]) -> None:
    """Write virtual datasets over all shards into the index.

    Args:
        file: The index.
        tables: Number of each shard → its table of utterances, in order.
        views: Name of a dataset in the shards → its view.
    """
    for name, (shape, dtype, of_frames) in views.items():
        axis = 1 if name == "hidden_states" else 0
        view = h5py.VirtualLayout(shape=shape, dtype=dtype)
        first = 0
        for number, table in tables.items():
            length = int(table["num_frames"].sum()) if of_frames else len(table)
            part = (*shape[:axis], length, *shape[axis + 1 :])
            place = (*(slice(None),) * axis, slice(first, first + length))
            view[place] = h5py.VirtualSource(layout.shard_name(number), name, shape=part)
            first += length
        file.create_virtual_dataset(name, view)
