"""Finished trainings → one record and one head each, which are kept until the run is finished."""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from featcache.errors import StoreError
from featcache.files.disk import writing
from featcache.files.regular import read_regular, remove_unfinished, replace_file, sha256_of_file
from featcache.files.values import parse_json
from featcache.runs.file_names import HEADS, MODELS, head_name, model_name, seed_and_fold, training_name
from featcache.runs.parse import REFIT

if TYPE_CHECKING:
    from torch import Tensor


# Beginning of the name of the folder of a model that is being written.
_UNFINISHED = ".unfinished-"


class SavedModel(Protocol):
    """A fine-tuned model that can be written."""

    def save(self, folder: Path) -> None:
        """Write the model into an empty folder."""


class TrainingRecords:
    """Records of the finished trainings of an unfinished run.

    Args:
        folder: Folder of the records, one JSON file per training.
        run: Folder that becomes the run folder; heads are written into it.
    """

    def __init__(self, folder: Path, run: Path) -> None:
        self._folder = folder
        self._run = run

    def keep(
        self,
        seed: int,
        fold: int,
        record: Mapping[str, Any],
        head: Mapping[str, "Tensor"],
        models: Mapping[str, SavedModel] = MappingProxyType({}),
    ) -> None:
        """Write one training: its models, the weights of its head, then the record, which marks it as finished.

        Args:
            seed: Seed of the training.
            fold: Number of its fold, from 1 on.
            record: Results as plain JSON values.
            head: Weights of the head by name.
            models: Fine-tuned models by name of the store.
        """
        from safetensors.torch import save

        weights = save(dict(head))
        # The checksums are compared when the run is resumed.
        content = {"sha256": _sha256(record), "head_sha256": hashlib.sha256(weights).hexdigest(), "record": record}
        if models:
            folders = {store: self._run / model_name(store, seed, fold) for store in models}
            for store, model in models.items():
                _write_model(folders[store], model)
            content["models_sha256"] = {store: _sha256_of_files(folder) for store, folder in folders.items()}
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
        for left in (self._run / MODELS).glob(f"*/{_UNFINISHED}*"):
            shutil.rmtree(left, ignore_errors=True)
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
            models = content.get("models_sha256") or {}
            found = {store: _sha256_of_files(self._run / model_name(store, seed, fold)) for store in models}
        except (OSError, StoreError):
            return None
        if "history" in content:  # a record of an earlier release, without checksums
            return content
        record, recorded = content.get("record"), (content.get("sha256"), content.get("head_sha256"))
        same = found == models and recorded == (_sha256(record), head) if isinstance(record, dict) else False
        return record if same else None

    def _record(self, seed: int, fold: int) -> Path:
        return self._folder / f"{training_name(seed, fold)}.json"

    def _head(self, seed: int, fold: int) -> Path:
        return self._run / head_name(seed, fold)


def _write_model(folder: Path, model: SavedModel) -> None:
    """Write a folder that gets its name only when it is complete."""
    unfinished = folder.with_name(f"{_UNFINISHED}{folder.name}")
    with writing(folder):
        for old in (unfinished, folder):
            shutil.rmtree(old, ignore_errors=True)
        unfinished.mkdir(parents=True)
        model.save(unfinished)
        for path in unfinished.iterdir():
            with open(path, "rb") as file:
                os.fsync(file.fileno())
        unfinished.rename(folder)


def _sha256_of_files(folder: Path) -> dict[str, str]:
    """Return name → SHA-256 of the files of a model.

    Raises:
        OSError: the folder does not exist, or contains something other than regular files.
    """
    return {path.name: sha256_of_file(path) for path in sorted(folder.iterdir())}


def _sha256(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record).encode()).hexdigest()
