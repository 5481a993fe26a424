"""A configuration file of openSMILE → a copy that does not change, with a checksum of all that belongs to it.

A configuration may include files by paths relative to itself (``\\{lld.conf.inc}``, also as the default of an option),
and what the opensmile package gives: ``\\{\\cm[source{?}:…]}`` and ``\\{\\cm[sink{?}:…]}``. Absolute paths are refused.
openSMILE runs what a configuration says, such as components that write files;
:func:`~featcache.extractors.references.find_extractor` therefore only accepts what the user names in this process.
"""

import hashlib
import posixpath
import re
import shutil
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

from featcache.errors import ModelError, in_one_line
from featcache.files.regular import read_regular

# What the opensmile package gives for an include.
GIVEN = ("source", "sink", "bufferModeRbConf", "frameModeFunctionalsConf")
# How far up the paths of includes may lead.
MOST_LEVELS = 4
_INCLUDE = re.compile(rb"^[ \t]*\\\{(.*)\}[ \t]*\r?$", re.MULTILINE)
_OPTION = re.compile(r"\\cm\[(\w+)(?:\{([^}]*)\})?")


class CopiedConfiguration:
    """A configuration and the files that it includes, copied to a temporary folder.

    Args:
        path: The ``.conf`` file.

    Attributes:
        path: The copy.

    Raises:
        ModelError: the file cannot be read, or includes something else.
    """

    def __init__(self, path: str) -> None:
        self._source = Path(path)
        self._files: dict[str, bytes] = {}
        self._collect(self._source.name)
        temporary = mkdtemp(prefix="featcache-opensmile-")
        weakref.finalize(self, shutil.rmtree, temporary, ignore_errors=True)
        folder = Path(temporary).joinpath(*["copy"] * MOST_LEVELS)
        for name, content in self._files.items():
            copy = folder / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(content)
        self.path = folder / self._source.name

    def settings(self) -> dict[str, str]:
        """Return the name of the file and the SHA-256 of all files, which identify it."""
        digest = hashlib.sha256()
        for name, content in sorted(self._files.items()):
            if name != self._source.name:
                digest.update(name.encode() + b"\0")
            digest.update(hashlib.sha256(content).digest())
        return {"feature_set": self._source.name, "configuration_sha256": digest.hexdigest()}

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn whatever openSMILE raises into one line.

        Raises:
            ModelError: openSMILE does not accept the configuration.
        """
        try:
            yield
        except Exception as error:  # of the opensmile package, which has no class of its own for it
            raise ModelError(
                f"openSMILE does not accept {self._source} ({in_one_line(error)}); it must include "
                r"\{\cm[source{?}:source]} and \{\cm[sink{?}:sink]}, and have the level that is asked for"
            ) from error

    def _collect(self, name: str) -> None:
        """Read a file and what it includes; names are relative to the folder of the configuration."""
        if name in self._files:
            return
        path = self._source.parent / name
        try:
            content = self._files[name] = read_regular(path)
        except OSError as error:
            raise ModelError(f"{path}: no such configuration file ({error.strerror or error})") from error
        for found in _INCLUDE.findall(content):
            included = _path_of(found.decode("latin-1").strip())
            if included is None:
                continue
            inner = posixpath.normpath(posixpath.join(posixpath.dirname(name), included.replace("\\", "/")))
            if posixpath.isabs(inner) or inner.count("../") > MOST_LEVELS:
                raise ModelError(
                    f"{path} includes {included!r}, expected a path relative to {path.parent}; put the file there"
                )
            self._collect(inner)


def _path_of(included: str) -> str | None:
    """Return the path that an include names, be it as the default of an option; None for what needs none."""
    option = _OPTION.match(included)
    if option is None:
        return included
    return None if option[1] in GIVEN else option[2]
