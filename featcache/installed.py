"""Installed packages → their entry points, and the name and version of the package that contains a module."""

import logging
from collections.abc import Iterable
from functools import cache
from importlib import metadata

from featcache.errors import in_one_line

log = logging.getLogger(__name__)


@cache
def entry_points_of(group: str) -> dict[str, metadata.EntryPoint]:
    """Return name → entry point of a group, without importing anything.

    Args:
        group: Group name as packages declare it: ``featcache.heads``.
    """
    try:
        return {point.name: point for point in metadata.entry_points(group=group)}
    except Exception:  # The metadata of one package is damaged.
        points = (point for package in metadata.distributions() for point in _points_of(package))
        return {point.name: point for point in points if point.group == group}


def owner_of(point: metadata.EntryPoint) -> tuple[str, str]:
    """Return name and version of the package that declares an entry point; empty if its metadata is missing."""
    return name_and_version(point.dist) if point.dist else ("", "")


def name_and_version(package: metadata.Distribution) -> tuple[str, str]:
    """Return name and version of an installed package; empty if its metadata is missing."""
    try:
        return package.name or "", package.version or ""
    except Exception:
        return "", ""


@cache
def distribution_of(module: str) -> str:
    """Return the name of the installed package that contains a module; empty if no package contains it."""
    names = metadata.packages_distributions().get(module.partition(".")[0], [])
    for name in names:
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        return name
    return ""


def _points_of(package: metadata.Distribution) -> Iterable[metadata.EntryPoint]:
    try:
        return package.entry_points
    except Exception as error:
        name = name_and_version(package)[0] or "a package"
        log.warning("%s: the package's entry points cannot be read (%s)", name, in_one_line(error))
        return ()
