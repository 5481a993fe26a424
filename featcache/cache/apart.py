"""Files without a checksum → their content, read in a separate process because a damaged file can crash HDF5."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

_CODE = """
import importlib, json, pathlib, sys
function = getattr(importlib.import_module(sys.argv[1]), sys.argv[2])
for path in sys.argv[3:]:
    print(json.dumps(function(pathlib.Path(path))), flush=True)
"""
# Number of paths that always fits on one command line.
_AT_ONCE = 100


def read_apart(function: Callable[[Path], Any], paths: Sequence[Path]) -> Iterator[Any]:
    """Call a function of this package on each file, in a separate process.

    Args:
        function: Top-level function that takes a path and returns plain JSON values.
        paths: The files.

    Yields:
        The result for each file; None if the process crashed while reading it.
    """
    left = [str(path) for path in paths]
    # The other process gets the same module path as this one, without the current folder.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    while left:
        names, left = left[:_AT_ONCE], left[_AT_ONCE:]
        result = subprocess.run(
            [sys.executable, "-P", "-W", "ignore", "-c", _CODE, function.__module__, function.__qualname__, *names],
            env=environment,
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=False,
        )
        results = [json.loads(line) for line in result.stdout.splitlines()]
        yield from results
        if len(results) < len(names):
            yield None
            left = names[len(results) + 1 :] + left
