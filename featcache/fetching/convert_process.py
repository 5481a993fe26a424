"""Pickled weights → safetensors, in a process of its own: ``python -m featcache.fetching.convert_process``.

The process reads a JSON object from standard input: ``files`` (path of a pickle → path of the safetensors file to
write) and ``converter`` (``package.module:function``, or empty). It writes one JSON object to standard output:
``config`` and ``names`` (path of a safetensors file → names of its parameters), or ``error``. torch loads tensors only:
nothing else in a pickle is imported or run.
"""

import json
import os
import re
import sys
import zipfile
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from featcache.errors import ModelError
from featcache.fetching.safe_torch import check_torch
from featcache.machine import available_memory


class RefusedError(Exception):
    """File that is not converted; the message is the reason."""


def main() -> None:
    """Read the request, convert the files, and print the result."""
    answer: dict[str, Any]
    try:
        answer = convert(json.load(sys.stdin))
    except RefusedError as error:
        answer = {"error": str(error)}
    except MemoryError:
        answer = {"error": "there is not enough memory to convert it"}
    json.dump(answer, sys.stdout)


def convert(request: Mapping[str, Any]) -> dict[str, Any]:
    """Convert the files of a request; see the description of the module.

    Raises:
        RefusedError: torch is too old, or a file contains something else than tensors.
    """
    import torch

    try:
        check_torch(torch.__version__)
    except ModelError as error:
        raise RefusedError(str(error)) from error
    config, names = None, {}
    for source, target in request["files"].items():
        content = _load(source)
        if request["converter"]:
            module, _, function = request["converter"].partition(":")
            try:
                config, content = getattr(import_module(module), function)(content)
            except ModelError as error:
                raise RefusedError(str(error)) from error
            except Exception as error:  # The content may have any form.
                reason = f"{type(error).__name__}: {_first_line(str(error))}"
                raise RefusedError(f"its content has another form ({reason})") from error
        names[target] = _save(content, target)
    return {"config": config, "names": names}


def _load(path: str) -> Any:
    import torch

    _check_archive(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path) or None)
    except MemoryError:
        raise
    except Exception as error:  # The file may contain anything.
        text = str(error)
        found = re.search(r"(?:GLOBAL|class|global|function) [`']?((?:\w+\.)+\w+)", text)
        reason = f"it contains {found[1]}" if found else _first_line(text)
        raise RefusedError(f"it contains more than tensors, and nothing of it was run ({reason})") from error


def _check_archive(path: str) -> None:
    """Refuse compressed archives: torch writes none, would read wrong numbers, and they can unpack to any size."""
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except Exception as error:  # The archive may contain anything.
        raise RefusedError(f"it is a damaged archive ({_first_line(str(error))})") from error
    is_compressed = any(one.compress_type != zipfile.ZIP_STORED for one in entries)
    if is_compressed or sum(one.file_size for one in entries) > os.path.getsize(path):
        raise RefusedError("it is a compressed archive, expected a file as torch.save writes it")


def _first_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:200] if lines else "torch cannot read it"


def _save(content: Any, target: str) -> list[str]:
    """Write tensors to a safetensors file, each in memory of its own, and return their names."""
    import torch
    from safetensors.torch import save_file

    if not isinstance(content, Mapping) or not content:
        raise RefusedError(f"expected tensors by name, found {type(content).__name__}")
    for name, tensor in content.items():
        if not isinstance(name, str):  # It is not shown, because it may be an object of any size.
            raise RefusedError(f"expected tensors by name, found a name of type {type(name).__name__}")
        if not isinstance(tensor, torch.Tensor):
            raise RefusedError(f"expected tensors by name, found {name[:100]!r}: {type(tensor).__name__}")
    _check_sizes(content)
    try:
        tensors = {name: tensor.detach().clone().contiguous() for name, tensor in content.items()}
        save_file(tensors, target, metadata={"format": "pt"})
    except Exception as error:  # Some types of tensors have no place in the format.
        raise RefusedError(f"its tensors cannot be stored as safetensors ({_first_line(str(error))})") from error
    return sorted(tensors)


def _check_sizes(content: Mapping[str, Any]) -> None:
    """Refuse tensors that do not fit into memory: in a pickle, tensors can share numbers, and repeat them."""
    needed = sum(tensor.numel() * tensor.element_size() for tensor in content.values())
    most = available_memory()
    if needed > most:
        raise RefusedError(f"its tensors need {needed / 1e9:.1f} GB of memory, expected at most {most / 1e9:.1f} GB")


if __name__ == "__main__":
    main()
