"""Python file that the user named → module."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from featcache.files.regular import sha256_of_file


def module_of_file(path: Path) -> ModuleType:
    """Import a file once per content. The module name contains the checksum, so that it cannot hide another module.

    Args:
        path: Python file.

    Raises:
        ImportError: it is no Python file. Its code may raise anything.
    """
    name = f"featcache_plugin_{path.stem}_{sha256_of_file(path)[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
