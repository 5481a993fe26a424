"""Files without a checksum → what HDF5 finds in them, read in another process: a damaged file may crash HDF5."""

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
# As many as surely fit on a command line.
_AT_ONCE = 100


def read_apart(function: Callable[[Path], Any], paths: Sequence[Path]) -> Iterator[Any]:
    """Call a function of this package on files, in a process of its own.

    Args:
        function: Top-level, of a file; its results are plain JSON values.
        paths: The files.

    Yields:
        Its result for each file; None where the process died over it.
    """
    left = [str(path) for path in paths]
    # no module from the current folder; those that this process finds are found by the other one too
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
