"""Options ``train``, ``test`` and ``label_map`` → the caches that a fit reads."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from featcache.cache.joint import JointCache, JointStore, shared_settings
from featcache.cache.reader import FeatureCache, FeatureStore
from featcache.errors import ManifestError, StoreError
from featcache.files.regular import resolved
from featcache.fitting.joint_fit import JointFit
from featcache.fitting.label_map import read_label_map
from featcache.protocols.across import CROSS, LEAVE_ONE_OUT
from featcache.runs.identity import hash_of
from featcache.settings.fits import FitSettings
from featcache.settings.loss_choice import SOFT
from featcache.workspace import MOST_NAME_BYTES, Workspace

# Options that read other stores or labels of one corpus.
_SINGLE = ("train_views", "test_view", "also")


def check_corpora(request: FitSettings) -> None:
    """Check that the options of several corpora fit together.

    Raises:
        ManifestError: they do not.
    """
    train, test, protocol = request.train, request.test, request.protocol
    told = ",".join(train)
    if not train:
        given = {"--test": ",".join(test), "--label-map": request.label_map}
        for option in (option for option, value in given.items() if value):
            raise ManifestError(f"{option} is for a fit on several corpora; name those that train with --train")
        return
    if request.corpus is not None:
        raise ManifestError(f"--corpus {request.corpus} and --train {told} exclude each other; remove --corpus")
    for name in _SINGLE:
        if getattr(request, name):
            raise ManifestError(f"--{name.replace('_', '-')} is for a fit on one corpus; remove it, or --train {told}")
    if request.loss == SOFT:
        raise ManifestError(f"--loss {SOFT} needs the votes of one corpus; remove it, or --train {told}")
    names = [*train, *test]
    if twice := [name for name, number in Counter(names).items() if number > 1]:
        raise ManifestError(f"the corpus {twice[0]!r} is named twice in --train and --test; a corpus trains or tests")
    if protocol not in (None, CROSS, LEAVE_ONE_OUT):
        raise ManifestError(
            f"--protocol {protocol} divides one corpus; with --train {told}, name test corpora with --test, or use "
            f"--protocol {LEAVE_ONE_OUT}"
        )
    if test and (protocol == LEAVE_ONE_OUT or request.final):
        why = "--final has no test part" if request.final else f"with {LEAVE_ONE_OUT}, each corpus of --train tests"
        raise ManifestError(f"{why}; remove --test {','.join(test)}")
    if not test and protocol != LEAVE_ONE_OUT and not request.final:
        raise ManifestError(
            f"--train {told} needs a test: name corpora with --test, or use --protocol {LEAVE_ONE_OUT} or --final"
        )
    if len(names) == 1:
        raise ManifestError(f"--train {told} is a single corpus; name more corpora, or use --corpus {told}")


def find_caches(workspace: Workspace, request: FitSettings) -> Path:
    """Return the folder of the cache that a fit reads; for several corpora, a folder that does not exist.

    Args:
        workspace: Folder of corpora, caches and runs.
        request: The settings of the fit.

    Raises:
        FeatcacheError: there is no such cache, options exclude each other, or two names are the same folder.
    """
    check_corpora(request)
    if not request.train:
        return workspace.find_cache(request.corpus)
    known: dict[Path, str] = {}
    for name in (*request.train, *request.test):
        folder = resolved(workspace.find_cache(name))
        if folder in known:
            raise StoreError(f"the corpora {known[folder]!r} and {name!r} are the same folder, {folder}; name one")
        known[folder] = name
    return workspace.caches / joint_name(request.train, request.test)


def joint_name(train: Sequence[str], test: Sequence[str]) -> str:
    """Return the name of the folder of the runs of several corpora: ``crema-d+ravdess-to-emodb``."""
    name = "-to-".join("+".join(sorted(names)) for names in (train, test) if names)
    if len(name.encode()) <= MOST_NAME_BYTES - len("-123456.yaml"):
        return name
    short = name.encode()[: MOST_NAME_BYTES // 2].decode(errors="ignore")
    return f"{short.rstrip(' .')}-{hash_of([sorted(train), sorted(test)])[:6]}"


def with_label_map(request: FitSettings) -> FitSettings:
    """Return a request with the content of its label map in place of the file, for other processes and the record.

    Raises:
        FeatcacheError: the file cannot be read, or is no label map.
    """
    content = request.label_map
    if content is None:
        return request
    if isinstance(content, str):
        content = read_label_map(Path(content))
    return replace(request, label_map={name: content.get(name) for name in (*request.train, *request.test)})


def open_cache(path: str | os.PathLike[str], request: FitSettings) -> FeatureCache:
    """Open the cache that a fit reads.

    Args:
        path: Folder of the cache, as :func:`find_caches` returns it.
        request: The settings of the fit.

    Raises:
        FeatcacheError: a cache cannot be opened, or the labels of several corpora have no common labels.
    """
    return JointFit(Path(path), request).cache() if request.train else FeatureCache(path)


def task_options(cache: FeatureCache, request: FitSettings) -> dict[str, Any]:
    """Return the options of a request for :func:`~featcache.fitting.task.resolve_task`.

    A joint cache has applied some of them to each of its corpora already.

    Args:
        cache: The cache, as :func:`open_cache` returns it.
        request: The settings of the fit.
    """
    names = ("protocol", "target", "task", "label_range", "select", "limit", "final", "fold", "train_fraction")
    asked = {name: getattr(request, name) for name in names}
    if isinstance(cache, JointCache):
        asked |= {"protocol": request.protocol or CROSS, "target": cache.target}
        asked |= {"label_range": None, "select": {}, "limit": None}
    return asked


def joint_notes(cache: FeatureCache, stores: Sequence[FeatureStore]) -> list[str]:
    """Return the notes of a joint cache for the report; none for the cache of one corpus."""
    shared = [shared_settings(store) for store in stores if isinstance(store, JointStore)]
    return [*cache.notes, *shared] if isinstance(cache, JointCache) else []


def joint_settings(cache: FeatureCache) -> dict[str, Any]:
    """Return the entries of ``config.yaml`` of a joint cache; none for the cache of one corpus."""
    return cache.settings if isinstance(cache, JointCache) else {}
