"""State of a training that runs → one safetensors file, from which the training goes on after it was killed."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featcache.files.disk import reading, remove, writing_tensors
from featcache.files.regular import open_regular, replacing
from featcache.files.values import damaged, parse_json

if TYPE_CHECKING:
    from torch import Tensor

# Keys in the header of the file.
_KEY, _VALUES, _SHA256 = "training", "values", "sha256"
AGAIN = "this training starts again"


@dataclass(frozen=True, kw_only=True)
class TrainingState:
    """State of a training after an evaluation.

    Attributes:
        tensors: Weights, sums of the optimiser, and states of generators, by name.
        values: Counts, results so far, and states of generators, as plain JSON values.
    """

    tensors: Mapping[str, "Tensor"]
    values: Mapping[str, Any]


class CheckpointFile:
    """File with the last state of one training; a new state replaces it in one step.

    The file has a checksum, and names the training and the settings of its run. It is never a pickle.

    Args:
        path: The file.
        key: Text that identifies the run and the training.

    Attributes:
        path: The file.
    """

    def __init__(self, path: Path, key: str) -> None:
        self.path = path
        self._key = key

    def write(self, checkpoint: TrainingState) -> None:
        """Replace the file.

        Raises:
            DiskError: the file cannot be written; the earlier one is kept.
        """
        from safetensors.torch import save_file

        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.tensors.items()}
        values = json.dumps(checkpoint.values)
        header = {_KEY: self._key, _VALUES: values, _SHA256: _sha256(tensors, values)}
        with replacing(self.path, "the earlier state of the training is kept") as temporary, writing_tensors():
            save_file(tensors, temporary, metadata=header)

    def read(self) -> TrainingState | None:
        """Return the state; None if there is no file. The file may come from anyone.

        Raises:
            StoreError: the file is damaged, or belongs to another training.
            DiskError: the file cannot be read.
        """
        from safetensors import SafetensorError, safe_open

        if not self.path.is_symlink() and not self.path.exists():
            return None
        with reading(self.path), open_regular(self.path):  # safetensors would wait for the writer of a named pipe
            pass
        try:
            with safe_open(self.path, framework="pt") as file:
                header = file.metadata() or {}
                names = file.keys()
                tensors = {name: file.get_tensor(name).clone() for name in names}
        except SafetensorError as error:
            reason = " ".join(str(error).split())
            raise damaged(self.path, f"cannot be read as safetensors: {reason}", AGAIN) from error
        values = header.get(_VALUES, "")
        if header.get(_KEY) != self._key:
            raise damaged(self.path, "it belongs to another training", AGAIN)
        if header.get(_SHA256) != _sha256(tensors, values):
            raise damaged(self.path, "it has changed since it was written", AGAIN)
        return TrainingState(tensors=tensors, values=parse_json(values.encode(), dict, self.path, AGAIN))

    def remove(self) -> None:
        """Remove the file, if it exists."""
        remove(self.path)


def _sha256(tensors: Mapping[str, "Tensor"], values: str) -> str:
    """Return the SHA-256 of tensors on the CPU and of the values."""
    import torch

    described = {name: [str(tensor.dtype), list(tensor.shape)] for name, tensor in sorted(tensors.items())}
    found = hashlib.sha256(json.dumps([described, values]).encode())
    for name in described:
        found.update(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()
