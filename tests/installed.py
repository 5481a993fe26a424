"""Small packages that are installed into a folder, as by pip, and removed from memory after a test."""

import importlib
import sys
from contextlib import contextmanager

from featcache import registry
from featcache.corpora import CORPORA
from featcache.installed import entry_points_of
from featcache.protocols import PROTOCOLS


def install(folder, name, modules, entry_points=None, version="1.2"):
    """Write modules and the metadata of a distribution.

    Args:
        folder: Folder of installed packages.
        name: Name of the distribution.
        modules: Name → source code.
        entry_points: Group → {name: "module:attribute"}.
        version: Version of the distribution.
    """
    for module, code in modules.items():
        path = folder / f"{module.replace('.', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code, encoding="utf-8")
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "top_level.txt").write_text("".join(f"{module.partition('.')[0]}\n" for module in modules))
    (info / "RECORD").write_text("".join(f"{module.replace('.', '/')}.py,,\n" for module in modules))
    groups = (entry_points or {}).items()
    text = "".join(f"[{group}]\n" + "".join(f"{n} = {v}\n" for n, v in points.items()) for group, points in groups)
    (info / "entry_points.txt").write_text(text)
    forget()


def forget():
    """Clear caches, so that the next look-up finds the packages that are installed now."""
    entry_points_of.cache_clear()
    importlib.invalidate_caches()


@contextmanager
def installed_in(folder):
    """Let Python find the packages in a folder; at the end, forget them and all parts that a test named or loaded."""
    named, modules = dict(registry._named), set(sys.modules)
    sys.path.insert(0, str(folder))
    forget()
    try:
        yield folder
    finally:
        sys.path.remove(str(folder))
        registry._named.clear()
        registry._named.update(named)
        for one in (CORPORA, PROTOCOLS):
            one._loaded.clear()
        for module in set(sys.modules) - modules:
            loaded = sys.modules[module]
            # A package without __init__.py has a path but no file.
            places = [getattr(loaded, "__file__", None) or "", *map(str, getattr(loaded, "__path__", ()))]
            if any(one.startswith(str(folder)) for one in places) or module.startswith("featcache_plugin_"):
                del sys.modules[module]
        forget()
