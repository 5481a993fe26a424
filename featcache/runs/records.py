"""Finished trainings → one record and one head each, which are kept until the run is finished."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featcache.errors import StoreError
from featcache.files.regular import read_regular, remove_unfinished, replace_file, sha256_of_file
from featcache.files.values import parse_json
from featcache.runs.file_names import HEADS, head_name, seed_and_fold, training_name
from featcache.runs.parse import REFIT

if TYPE_CHECKING:
    from torch import Tensor


class TrainingRecords:
    """Records of the finished trainings of an unfinished run.

    Args:
        folder: Folder of the records, one JSON file per training.
        run: Folder that becomes the run folder; heads are written into it.
    """

    def __init__(self, folder: Path, run: Path) -> None:
        self._folder = folder
        self._run = run

    def keep(self, seed: int, fold: int, record: Mapping[str, Any], head: Mapping[str, "Tensor"]) -> None:
        """Write one training: first the weights of its head, then the record, which marks it as finished.

        Args:
            seed: Seed of the training.
            fold: Number of its fold, from 1 on.
            record: Results as plain JSON values.
            head: Weights of the head by name.
        """
        from safetensors.torch import save

        weights = save(dict(head))
        # The checksums are compared when the run is resumed.
        content = {"sha256": _sha256(record), "head_sha256": hashlib.sha256(weights).hexdigest(), "record": record}
        replace_file(self._head(seed, fold), weights)
        replace_file(self._record(seed, fold), json.dumps(content).encode())

    def finished(self) -> set[tuple[int, int]]:
        """Return seed and fold of each finished training; empty after the run is finished."""
        if not self._run.exists():
            return set()
        found = (seed_and_fold(path.stem) for path in self._folder.glob("*.json"))
        return {one for one in found if one is not None}

    def read_all(self, seeds: Sequence[int]) -> list[tuple[int, int, dict[str, Any]]]:
        """Return seed, fold and record of each finished training, ordered by fold, then by seed.

        Args:
            seeds: All seeds of the run, in their order.

        Raises:
            StoreError: a record or its head is damaged.
        """
        found = []
        for seed, fold in sorted(self.finished(), key=lambda one: (one[1], seeds.index(one[0]))):
            record = self._read(seed, fold)
            if record is None:
                raise StoreError(f"{self._record(seed, fold)} or its head is damaged; --resume trains it again")
            found.append((seed, fold, record))
        return found

    def remove_damaged(self) -> list[str]:
        """Remove damaged records, records of damaged heads, and incomplete files of a killed process.

        Returns:
            The names of the trainings whose records were removed.
        """
        for folder in (self._folder, self._run, self._run / HEADS):
            remove_unfinished(folder)
        damaged = [one for one in sorted(self.finished()) if self._read(*one) is None]
        for one in damaged:
            self._record(*one).unlink()
        return [training_name(*one) for one in damaged]

    def _read(self, seed: int, fold: int) -> dict[str, Any] | None:
        """Return the record of a training; None if the record or the head has changed since it was written."""
        try:
            path = self._record(seed, fold)
            content: dict[str, Any] = parse_json(read_regular(path), dict, path, REFIT)
            head = sha256_of_file(self._head(seed, fold))
        except (OSError, StoreError):
            return None
        if "history" in content:  # a record of an earlier release, without checksums
            return content
        record, recorded = content.get("record"), (content.get("sha256"), content.get("head_sha256"))
        return record if isinstance(record, dict) and recorded == (_sha256(record), head) else None

    def _record(self, seed: int, fold: int) -> Path:
        return self._folder / f"{training_name(seed, fold)}.json"

    def _head(self, seed: int, fold: int) -> Path:
        return self._run / head_name(seed, fold)


def _sha256(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record).encode()).hexdigest()
