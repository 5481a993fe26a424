"""Means and standard deviations that normalise a run's features ↔ ``normalisation.safetensors``.

The file contains two float32 tensors per store, ``<store>.mean`` and ``<store>.std``, each (num_groups, num_layers,
hidden_size), with the layers that the heads take. A group is a speaker, or a value of the label ``norm_by``; for
``global`` normalisation it is the number of a fold. The names of the groups are JSON in the metadata of the file, under
``groups``. The standard deviation of constant values is infinite. Without normalisation the file does not exist.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from featcache.errors import StoreError
from featcache.files.checksums import recorded_checksums
from featcache.files.regular import replace_file
from featcache.files.values import damaged, parse_json
from featcache.runs.file_names import NORMALISATION
from featcache.runs.head_inputs import HeadInput
from featcache.runs.identity import PUBLISHED
from featcache.runs.parse import REFIT, open_tensors

GROUPS = "groups"
Array = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class SavedStatistics:
    """Means and standard deviations of groups.

    Attributes:
        groups: Names of the groups.
        pairs: Mean and standard deviation of each store, (num_groups, num_layers, hidden_size) float32 each.
    """

    groups: tuple[str, ...]
    pairs: tuple[tuple[Tensor, Tensor], ...]


def write_statistics(folder: Path, stores: Mapping[str, Mapping[str, tuple[Array, Array]]]) -> None:
    """Write the statistics of a run.

    Args:
        folder: The folder that becomes the run folder.
        stores: Store → group → mean and standard deviation, (num_layers, hidden_size) float32 each. All stores have the
            same groups.
    """
    from safetensors.numpy import save

    tensors, groups = {}, [*next(iter(stores.values()))]
    for store, of_groups in stores.items():
        for name, position in (("mean", 0), ("std", 1)):
            tensors[f"{store}.{name}"] = np.stack([of_groups[group][position] for group in groups])
    # There is only one entry of metadata, because safetensors writes several in random order.
    replace_file(folder / NORMALISATION, save(tensors, metadata={GROUPS: json.dumps(groups)}))


def read_statistics(folder: Path, inputs: Sequence[HeadInput], *, fold: int | None = None) -> SavedStatistics | None:
    """Read the statistics of a run.

    Args:
        folder: The run folder.
        inputs: The features that its heads take.
        fold: Number of the only fold to read, for ``global`` normalisation; None for all groups.

    Returns:
        The statistics; None for a run of an earlier release, which has no such file.

    Raises:
        StoreError: the file is damaged, or does not match ``config.yaml``.
    """
    path = folder / NORMALISATION
    if not path.is_symlink() and not path.exists() and NORMALISATION not in (recorded_checksums(folder) or {}):
        return None
    with open_tensors(folder, NORMALISATION) as tensors:
        groups = _groups(path, tensors.metadata() or {})
        rows = slice(None)
        if fold is not None:
            if str(fold) not in groups:
                raise damaged(path, f"no statistics of fold {fold}", REFIT)
            rows = slice(groups.index(str(fold)), groups.index(str(fold)) + 1)
        pairs = []
        for one in inputs:
            shape = [len(groups), one.num_layers, one.hidden_size]
            mean, std = (_rows(path, tensors, f"{one.store}.{name}", shape, rows) for name in ("mean", "std"))
            pairs.append((mean, std))
    return SavedStatistics(groups=tuple(groups[rows]), pairs=tuple(pairs))


def _groups(path: Path, metadata: Mapping[str, str]) -> list[str]:
    groups: list[Any] = parse_json(metadata.get(GROUPS, "").encode(), list, path, REFIT)
    if not all(isinstance(group, str) for group in groups) or len(set(groups)) < len(groups):
        raise damaged(path, f"{GROUPS}: expected different texts", REFIT)
    return groups


def _rows(path: Path, tensors: Any, name: str, shape: Sequence[int], rows: slice) -> Tensor:
    if name not in tensors.keys():  # noqa: SIM118, it is not a mapping
        raise damaged(path, f"{name} missing", REFIT)
    stored = tensors.get_slice(name)
    found, dtype = list(stored.get_shape()), stored.get_dtype()
    if found != list(shape) or dtype != "F32":
        raise damaged(path, f"{name}: expected F32 {list(shape)}, found {dtype} {found}", REFIT)
    values: Tensor = stored[rows].clone()  # a copy that does not need the file
    if torch.isnan(values).any():
        raise damaged(path, f"{name} contains NaN", REFIT)
    if (values <= 0).any() if name.endswith(".std") else torch.isinf(values).any():
        raise damaged(path, f"{name}: expected finite means and positive standard deviations", REFIT)
    return values


def missing_statistics(folder: Path, config: Mapping[str, Any] | None = None) -> StoreError:
    """Return the error for a head without saved statistics.

    Args:
        folder: The run folder, or a published folder, which never has the statistics of speakers.
        config: The content of its ``config.yaml``, if the head needs the statistics of speakers.
    """
    if config is not None and config.get(PUBLISHED) and config["norm"] == "speaker":
        return StoreError(
            f"{folder} was published without the statistics of its speakers; give the new speaker's own, from their "
            "recordings, with normalisation=[(mean, std)]"
        )
    return StoreError(
        f"{folder} has no {NORMALISATION}, which its heads need and earlier releases did not write; {REFIT}, or give "
        "the statistics with normalisation=[(mean, std)]"
    )
