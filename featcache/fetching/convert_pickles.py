"""Files with pickled weights → safetensors files and configuration, made by a separate process.

This process never loads a pickle. It passes paths on, and reads the safetensors files that the other process writes.
"""

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from featcache.errors import FeatcacheError
from featcache.extractors.checkpoint import plain_file
from featcache.extractors.hub import CONFIG
from featcache.extractors.pickles import Pickles
from featcache.extractors.safetensors_revision import INDEX, WEIGHTS
from featcache.extractors.untrusted import checked_config, dump, parse_object, refusal
from featcache.files.regular import read_regular, sha256_of_file
from featcache.files.values import parse_json

_MODULE = "featcache.fetching.convert_process"
# Size limit of an index of weights, in bytes.
_LARGEST_INDEX = 2**26


def pickle_names(source: str, index: Path) -> list[str]:
    """Return the file names in an index of pickled weights, sorted.

    Args:
        source: Name of the model, for messages.
        index: Path of the index.

    Raises:
        ModelError: the index is not valid, or lists a file outside of the folder.
    """
    try:
        content = parse_object(read_regular(index, _LARGEST_INDEX))
        names = set(content["weight_map"].values())
        valid = all(isinstance(one, str) and PurePosixPath(one).name == one and one.endswith(".bin") for one in names)
    except (ValueError, KeyError, AttributeError, TypeError):
        names, valid = set(), False
    if not names or not valid:
        raise refusal(source, f"{index.name} has no 'weight_map' from parameters to .bin files of the same folder")
    return sorted(names)


def convert_pickles(source: str, files: Iterable[Path], pickles: Pickles, target: Path) -> dict[str, str]:
    """Write the weights in pickles as safetensors, with their index and, if a converter makes it, the config.json.

    Args:
        source: Name of the model, for messages.
        files: Files with pickled weights, which have different names.
        pickles: Description of the files.
        target: Existing folder to write to.

    Returns:
        File name → SHA-256 of the pickles.

    Raises:
        ModelError: a file contains something else than tensors, or the other process ended early.
    """
    paths = [plain_file(source, path, path.parent) for path in files]
    given = {path.name: real for path, real in zip(files, paths, strict=True)}
    outputs = _output_names(len(given))
    request = {
        "files": {str(real): str(target / output) for real, output in zip(given.values(), outputs, strict=True)},
        "converter": pickles.converter,
    }
    answer = _run(source, ", ".join(given), request)
    if len(outputs) > 1:
        total = sum((target / output).stat().st_size for output in outputs)
        weight_map = {name: output for output in outputs for name in answer["names"][str(target / output)]}
        (target / INDEX).write_bytes(dump({"metadata": {"total_size": total}, "weight_map": weight_map}))
    if answer.get("config") is not None:
        config = parse_object(json.dumps(answer["config"]).encode())
        (target / CONFIG).write_bytes(dump(checked_config(source, CONFIG, config, target)))
    return {name: sha256_of_file(real) for name, real in given.items()}


def _output_names(number: int) -> list[str]:
    if number == 1:
        return [WEIGHTS]
    return [f"model-{part:05d}-of-{number:05d}.safetensors" for part in range(1, number + 1)]


def _run(source: str, names: str, request: Mapping[str, Any]) -> dict[str, Any]:
    """Run the other process, and return its answer.

    Raises:
        ModelError: it refused a file, or ended early.
    """
    # Without -P, Python would import modules from the current folder.
    command = [sys.executable, "-P", "-m", _MODULE]
    done = subprocess.run(command, input=json.dumps(request), capture_output=True, text=True, check=False)
    try:
        answer: dict[str, Any] = parse_json(done.stdout.encode(), dict, "the answer", "try again")
    except FeatcacheError:
        lines = done.stderr.strip().splitlines()
        reason = lines[-1] if lines and done.returncode > 0 else f"signal {-done.returncode}"
        raise refusal(source, f"the process that converts {names} ended early: {reason}") from None
    if "error" in answer:
        raise refusal(source, f"{names} is not converted: {answer['error']}")
    return answer
