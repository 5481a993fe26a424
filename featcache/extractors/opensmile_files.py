r"""Configuration file of openSMILE → private copy of it and of all included files, with a checksum.

A configuration may include files by paths relative to itself (``\{lld.conf.inc}``, also as the default of an option),
and the includes that the opensmile package provides: ``\{\cm[source{?}:…]}`` and ``\{\cm[sink{?}:…]}``. Absolute
paths are refused. A configuration can make openSMILE run any of its components, also those that write files. Therefore
:func:`~featcache.extractors.references.find_extractor` accepts only configurations that the user names in this process.
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

# Names of the includes that the opensmile package provides.
GIVEN = ("source", "sink", "bufferModeRbConf", "frameModeFunctionalsConf")
# Largest number of parent folders (``../``) in the path of an include.
MOST_LEVELS = 4
_INCLUDE = re.compile(rb"^[ \t]*\\\{(.*)\}[ \t]*\r?$", re.MULTILINE)
_OPTION = re.compile(r"\\cm\[(\w+)(?:\{([^}]*)\})?")


class CopiedConfiguration:
    """A configuration and the files that it includes, copied to a temporary folder.

    Args:
        path: Path of the ``.conf`` file.

    Attributes:
        path: Path of the copy.

    Raises:
        ModelError: a file cannot be read, or an include is not a relative path.
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
        """Return the file name and the SHA-256 of all files, which identify the configuration."""
        digest = hashlib.sha256()
        for name, content in sorted(self._files.items()):
            if name != self._source.name:
                digest.update(name.encode() + b"\0")
            digest.update(hashlib.sha256(content).digest())
        return {"feature_set": self._source.name, "configuration_sha256": digest.hexdigest()}

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Convert any error of openSMILE into a message of one line.

        Raises:
            ModelError: openSMILE does not accept the configuration.
        """
        try:
            yield
        except Exception as error:  # The opensmile package has no exception class of its own.
            raise ModelError(
                f"openSMILE does not accept {self._source} ({in_one_line(error)}); it must include "
                r"\{\cm[source{?}:source]} and \{\cm[sink{?}:sink]}, and define the requested level"
            ) from error

    def _collect(self, name: str) -> None:
        """Read a file and its includes; names are relative to the folder of the configuration."""
        if name in self._files:
            return
        path = self._source.parent / name
        try:
            content = self._files[name] = read_regular(path)
        except OSError as error:
            raise ModelError(f"{path}: the configuration file cannot be read ({error.strerror or error})") from error
        for found in _INCLUDE.findall(content):
            included = _path_of(found.decode("latin-1").strip())
            if included is None:
                continue
            inner = posixpath.normpath(posixpath.join(posixpath.dirname(name), included.replace("\\", "/")))
            if posixpath.isabs(inner) or inner.count("../") > MOST_LEVELS:
                raise ModelError(
                    f"{path} includes {included!r}, expected a path relative to {path.parent}; move the file there"
                )
            self._collect(inner)


def _path_of(included: str) -> str | None:
    """Return the path of an include, or of an option's default; None if the opensmile package provides the include."""
    option = _OPTION.match(included)
    if option is None:
        return included
    return None if option[1] in GIVEN else option[2]
