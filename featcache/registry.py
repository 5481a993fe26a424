"""Reference → class: built-in parts, parts of installed packages, and parts that the user names.

A part is a head, an extractor, a corpus or a protocol. A reference is one of:

- a name: a built-in part, or an entry point of an installed package in the group of the registry, such as
  ``featcache.heads``;
- ``package.module:Class``;
- ``./file.py:Class``;
- ``./file.yaml``, for a corpus (:mod:`featcache.corpora.registered`).

A file never decides which code is imported. Names are safe in any file, because somebody installed the package. The
other forms are used only if the user named them in this process: as an argument of a command or a function, or
with ``--plugin`` (:func:`name_plugins`).
"""

import importlib
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar, cast

from featcache.errors import FeatcacheError, ModelError, in_one_line, unknown_name
from featcache.files.python_file import module_of_file
from featcache.files.regular import sha256_of_file
from featcache.installed import distribution_of, entry_points_of, owner_of
from featcache.settings.types import split_names

T = TypeVar("T")

# Suffix of a configuration file that follows the colon of a name and decides what runs: opensmile:FILE.conf.
CONFIGURATION = ".conf"
DESCRIPTIONS = (".yaml", ".yml")
"""Suffixes of files that describe a part, and contain no code."""

log = logging.getLogger(__name__)

# Options that accept several references, separated by commas.
_SEVERAL = ("head", "heads", "plugin")

# Reference that the user named → the same reference with an absolute path, because a process may change its folder.
_named: dict[str, str] = {}
_loading = threading.RLock()


def is_external(reference: str) -> bool:
    """Check whether a reference has the form ``package.module:Class`` or ``./file.py:Class``."""
    where, colon, attribute = reference.rpartition(":")
    return bool(colon) and attribute.isidentifier() and (_is_file(where) or _is_module(where))


def name_plugins(references: str | Iterable[str]) -> None:
    """Allow your own heads, extractors, corpora and protocols for the rest of this process.

    Files such as runs and pipelines may refer to code outside featcache, which is imported only if you have named it
    here, or with ``--plugin`` on the command line. This function itself imports nothing.

    Args:
        references: One reference or several. Each is ``package.module:Class`` or ``./file.py:Class``; without
            ``:Class``, all parts of that module or file are allowed. Names of built-in parts and entry points change
            nothing, because they are always allowed.

    Returns:
        None.

    Raises:
        ModelError: a reference is not text.

    Example:
        >>> featcache.name_plugins(["./head.py:Attentive", "mylab.corpora"])
    """
    several = isinstance(references, Iterable) and not isinstance(references, str)
    given: list[Any] = list(references) if several else [references]
    for one in given:
        if not isinstance(one, str):
            raise ModelError(f"expected package.module:Class, ./file.py:Class or the name of a part, found {one!r:.80}")
    _named.update((one, absolute(one)) for one in given)


def naming(*options: str) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """Return a function that allows all parts named in the options of a command or function, and returns the options.

    Call it only with options that the user gave, never with the content of a file.

    Args:
        *options: Names of the options that may name parts.
    """

    def named(given: Mapping[str, Any]) -> dict[str, Any]:
        for option in options:
            value = given.get(option) or ()
            if isinstance(value, os.PathLike):  # the folder of a model or run
                continue
            name_plugins(split_names(value) if option in _SEVERAL else value)
        return dict(given)

    return named


def named_descriptions() -> dict[str, Path]:
    """Return reference → absolute path of all descriptions given to :func:`name_plugins`."""
    return {one: Path(place) for one, place in tuple(_named.items()) if one.endswith(DESCRIPTIONS)}


def named_plugins() -> tuple[str, ...]:
    """Return all references given to :func:`name_plugins`, with absolute paths, for use in another process."""
    return tuple(dict.fromkeys(tuple(_named.values())))


def absolute(reference: str) -> str:
    """Return a reference that is valid in every folder: paths of code and configuration files become absolute."""
    where, colon, attribute = reference.rpartition(":") if is_external(reference) else (reference, "", "")
    if _is_file(where) or where.endswith(DESCRIPTIONS):
        return f"{Path(where).absolute()}{colon}{attribute}"
    name, _, configuration = reference.partition(":")
    return f"{name}:{Path(configuration).absolute()}" if configuration.endswith(CONFIGURATION) else reference


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Origin of a part from outside featcache, for the record.

    Attributes:
        reference: Reference as the user gave it.
        distribution: Name of the installed package; empty for a file or module that belongs to no package.
        version: Version of the package.
        sha256: SHA-256 of the file, if the code belongs to no installed package.
    """

    reference: str
    distribution: str = ""
    version: str = ""
    sha256: str = ""

    def settings(self) -> dict[str, str]:
        """Return the origin as plain values, without empty ones."""
        return {name: value for name, value in vars(self).items() if value}


class Registry(Mapping[str, T], Generic[T]):
    """Mapping from references to parts. Iteration yields the names of built-in parts, then of entry points.

    Args:
        kind: Kind of the parts, for messages: ``head``.
        group: Group of the entry points: ``featcache.heads``.
        builtin: Name → part, or ``module:attribute`` of a part that is imported at its first use.
        base: Base class of the parts; with ``instances``, their class.
        error: Class of the errors.
        instances: Whether parts are instances; a class is then called without arguments.
    """

    def __init__(
        self,
        kind: str,
        group: str,
        builtin: Mapping[str, T | str],
        *,
        base: type,
        error: type[FeatcacheError],
        instances: bool = False,
    ) -> None:
        self.kind = kind
        self._group = group
        self._builtin = builtin
        self._base = base
        self._error = error
        self._instances = instances
        self._loaded: dict[str, T] = {}

    def __iter__(self) -> Iterator[str]:
        yield from self._builtin
        yield from (name for name in entry_points_of(self._group) if name not in self._builtin)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, reference: object) -> bool:
        if not isinstance(reference, str):
            return False
        return reference in self._builtin or self._is_allowed(reference) or reference in entry_points_of(self._group)

    def __getitem__(self, reference: str) -> T:
        """Return a part.

        Raises:
            KeyError: there is no such part, or it is not allowed; :meth:`find` explains why.
            FeatcacheError: the code cannot be imported, or is not such a part. The class is that of the registry.
        """
        if reference not in self:
            raise KeyError(reference)
        return self.find(reference)

    def find(self, reference: str) -> T:
        """Return a part, or explain why it cannot be used.

        Raises:
            FeatcacheError: there is no such part, the user did not name code from outside featcache, the code cannot
                be imported, or it is not such a part. The class is that of the registry.
        """
        if reference in self._builtin:
            part = self._builtin[reference]
            return cast(T, _attribute_of(part, self._error, self.kind)) if isinstance(part, str) else part
        if reference in (installed := entry_points_of(self._group)):
            return self._checked(reference, self._load_entry_point(reference, installed[reference]))
        if not self._is_allowed(reference):
            raise self._error(self.refusal(reference))
        return self._checked(reference, _attribute_of(_allowed_as(reference) or reference, self._error, self.kind))

    def refusal(self, reference: str) -> str:
        """Return in one line why a reference that is not ``in`` the registry cannot be used."""
        if not is_external(reference):
            return unknown_name(self.kind, reference, self)
        return (
            f"{self.kind} {reference!r} is code from outside of featcache, and a file may not decide which code "
            f"runs; if you trust it, name it on the command line: --plugin {reference}, or in Python: "
            f"featcache.name_plugins([{reference!r}])"
        )

    def loaded(self) -> dict[str, T]:
        """Return reference → part for built-in parts and for outside parts that this process has used.

        Nothing is imported. Built-in parts that are given as text are left out until their first use.
        """
        builtin = {name: part for name, part in self._builtin.items() if not isinstance(part, str)}
        return {**builtin, **self._loaded}

    def available(self) -> dict[str, T]:
        """Return reference → part for all parts that can be used; installed and named code is imported.

        Code that cannot be imported is ignored with a warning. For a file or module that the user named without
        ``:Class``, all instances of the base class count.
        """
        found: dict[str, T] = {}
        for reference in (*self, *self._named_references()):
            try:
                part = self.find(reference)
            except self._error as error:
                log.warning("%s; it is ignored", error)
                continue
            if not any(part is known or part == known for known in found.values()):
                found[reference] = part
        return found

    def _named_references(self) -> Iterator[str]:
        """Yield the references of the named parts that may be of this kind."""
        for reference, place in tuple(_named.items()):
            if not is_external(reference) and not _is_file(reference):
                continue
            where, _, attribute = reference.rpartition(":") if is_external(reference) else (reference, "", "")
            code = place.removesuffix(f":{attribute}") if attribute else place
            try:
                found = vars(_module_of(code, self._error, f"{self.kind} {reference!r}"))
            except self._error as error:
                log.warning("%s; it is ignored", error)
                continue
            names = [attribute] if attribute else list(found)
            yield from (f"{where}:{name}" for name in names if self._may_be_part(found.get(name), bool(attribute)))

    def _may_be_part(self, value: Any, chosen: bool) -> bool:
        return isinstance(value, self._base) or (chosen and _is_subclass(value, self._base))

    @contextmanager
    def guarding(self, reference: str, task: str) -> Iterator[None]:
        """Report an exception from the code of an outside part in one line; built-in parts keep their tracebacks.

        Args:
            reference: Reference of the part.
            task: Task of the part in this block, for the message: ``make folds``.

        Raises:
            FeatcacheError: the code raised an exception that is neither a FeatcacheError nor an OSError. The class is
                that of the registry.
        """
        try:
            yield
        except (FeatcacheError, OSError):
            raise
        except (Exception, SystemExit) as error:
            if reference in self._builtin:
                raise
            raise self._error(f"{self.kind} {reference!r} could not {task} ({in_one_line(error)})") from error

    def is_builtin(self, reference: str) -> bool:
        """Check whether a part belongs to featcache."""
        return reference in self._builtin

    def origin(self, reference: str) -> Origin | None:
        """Return the origin of a part; None for a built-in part.

        Raises:
            FeatcacheError: the part cannot be used, see :meth:`find`.
        """
        if reference in self._builtin:
            return None
        self.find(reference)
        where = (_allowed_as(reference) or reference).rpartition(":")[0]
        if installed := entry_points_of(self._group).get(reference):
            where, (name, version) = installed.module, owner_of(installed)
            if name:
                return Origin(reference=reference, distribution=name, version=version)
        if name := "" if _is_file(where) else distribution_of(where):
            return Origin(reference=reference, distribution=name, version=metadata.version(name))
        code = where if _is_file(where) else getattr(sys.modules.get(where), "__file__", None)
        return Origin(reference=reference, sha256=sha256_of_file(code) if code else "")

    def _is_allowed(self, reference: str) -> bool:
        return is_external(reference) and _allowed_as(reference) is not None

    def _load_entry_point(self, name: str, point: metadata.EntryPoint) -> Any:
        try:
            return point.load()
        except (Exception, SystemExit) as error:
            package = owner_of(point)[0] or point.value
            raise self._error(
                f"{self.kind} {name!r} of the package {package} cannot be imported ({in_one_line(error)})"
            ) from error

    def _checked(self, reference: str, part: Any) -> T:
        if self._instances and isinstance(part, type) and issubclass(part, self._base):
            try:
                part = part()
            except (Exception, SystemExit) as error:  # The code of the part may raise anything.
                told = in_one_line(error)
                raise self._error(f"{self.kind} {reference!r} cannot be created without arguments ({told})") from error
        is_part = isinstance(part, self._base) if self._instances else _is_subclass(part, self._base)
        if not is_part:
            expected = f"{self._base.__module__}.{self._base.__name__}"
            article = "an instance" if self._instances else "a subclass"
            told = " ".join(repr(part).split())
            raise self._error(f"{self.kind} {reference!r} is {told:.80}, expected {article} of {expected}")
        self._loaded[reference] = part
        return cast(T, part)


def _is_subclass(part: Any, base: type) -> bool:
    return isinstance(part, type) and issubclass(part, base)


def _is_file(where: str) -> bool:
    return where.endswith(".py")


def _is_module(where: str) -> bool:
    return bool(where) and all(part.isidentifier() for part in where.split("."))


def _allowed_as(reference: str) -> str | None:
    """Return the reference under which the user allowed a part; None if the user did not allow it.

    A file is recognised by its file name. Therefore a run made with ``./head.py:Class`` can be opened from another
    folder with ``--plugin path/to/head.py``.
    """
    where, _, attribute = reference.rpartition(":")
    if not _is_file(where):
        return reference if reference in _named or where in _named else None
    found = {}
    for named in tuple(_named.values()):
        place, _, chosen = named.rpartition(":") if is_external(named) else (named, "", attribute)
        if _is_file(place) and chosen == attribute and Path(place).name == Path(where).name:
            found[Path(place)] = f"{place}:{attribute}"
    # If several named files have this file name, none of them is chosen.
    alone = next(iter(found.values())) if len(found) == 1 else None
    return found.get(Path(where).absolute(), alone)


def _attribute_of(reference: str, error_class: type[FeatcacheError], kind: str) -> Any:
    where, _, attribute = reference.rpartition(":")
    module = _module_of(where, error_class, f"{kind} {reference!r}")
    if not hasattr(module, attribute):
        raise error_class(f"{kind} {reference!r}: {where} has no {attribute!r}")
    return getattr(module, attribute)


def _module_of(where: str, error_class: type[FeatcacheError], wanted: str) -> ModuleType:
    """Import the module or file of a part."""
    try:
        with _loading:
            return module_of_file(Path(where)) if _is_file(where) else importlib.import_module(where)
    except FileNotFoundError as error:
        raise error_class(f"{wanted}: no such file {where}") from error
    except (Exception, SystemExit) as error:  # The code of the part may raise anything.
        hint = ""
        if isinstance(error, ModuleNotFoundError) and error.name and where.startswith(error.name):
            hint = "; install its package, or name its file: ./file.py:Class"
        raise error_class(f"{wanted} cannot be imported ({in_one_line(error)}){hint}") from error
