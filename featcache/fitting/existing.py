"""Settings × run folders → the run with the same settings, if it exists already."""

import glob
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from featcache.errors import StoreError
from featcache.runs.identity import FROM_LAYER, differences, hash_of, identity
from featcache.runs.parse import read_config
from featcache.runs.reader import RunFolder
from featcache.runs.writer import UnfinishedRun, unfinished_runs
from featcache.workspace import MOST_NAME_BYTES

log = logging.getLogger(__name__)

DIGITS = 6
REMEDY = "use another --name, or replace it with --overwrite"
# The name of a result does not name the runs of its settings, and --overwrite would train all of them again.
REMEDY_OF_SETTING = "remove this folder to train the setting again"


def folder_of(runs: Path, config: Mapping[str, Any]) -> Path:
    """Return the run folder of a run without a given name.

    Earlier releases made other names from the same settings. Their runs, finished or not, are recognised by their
    configuration.

    Args:
        runs: Folder of the runs of a corpus.
        config: Content of ``config.yaml``.
    """
    layers = "" if config["layers"] in ("all", "-") else f"_{config['layers']}"
    if FROM_LAYER in config:
        begin = "-".join(map(str, config[FROM_LAYER]))
        layers = f"_from-{begin}{'' if config['layers'] == 'last' else layers or '_all'}"
    head, protocol = (_in_name(config[part]) for part in ("head", "protocol"))
    settings = f"{layers}_{head}_{config['norm']}_{protocol}_"
    room = MOST_NAME_BYTES - len(settings.encode()) - DIGITS  # long names differ in the hash
    begin = "+".join(config["features"]).encode()[:room].decode(errors="ignore") + settings
    folder = runs / f"{begin}{hash_of(identity(config))[:DIGITS]}"
    if folder.exists() or UnfinishedRun.is_begun(folder):
        return folder
    pattern = glob.escape(begin) + "[0-9a-f]" * DIGITS
    others = [*runs.glob(pattern), *unfinished_runs(runs, pattern)]
    same = (path for path in sorted(others) if _is_same(path, config))
    return next(same, folder)


def _in_name(part: str) -> str:
    """Return a head or protocol as part of a folder name: a file without its folder, without forbidden characters."""
    return re.sub(r"[^\w.+-]+", "-", part.rpartition("/")[2]).strip(".-")


def finished_run(folder: Path, config: Mapping[str, Any], *, overwrite: bool, remedy: str = REMEDY) -> RunFolder | None:
    """Return the finished run of a folder; None if it does not exist or is replaced.

    Args:
        folder: The run folder.
        config: Content of ``config.yaml`` that the run must match.
        overwrite: Whether to replace an existing run.
        remedy: Advice if the folder contains something else.

    Raises:
        StoreError: the folder contains another run, or is not a finished run.
    """
    run = existing_run(folder, overwrite=overwrite, remedy=remedy)
    differing = [] if run is None else differences(run.config, config)
    if differing:
        raise StoreError(f"{folder} is a run with other settings ({', '.join(differing)} differ); {remedy}")
    return run


def existing_run(folder: Path, *, overwrite: bool, remedy: str = REMEDY) -> RunFolder | None:
    """Return the run of a folder, whatever its settings; None if it does not exist or is replaced.

    Args:
        folder: The run folder.
        overwrite: Whether to replace an existing run.
        remedy: Advice if the folder contains something else.

    Raises:
        StoreError: the folder is not a finished run.
    """
    if overwrite or not folder.exists():
        return None
    try:
        return RunFolder(folder)
    except StoreError as error:
        raise StoreError(f"{error}; {remedy}") from error


def _is_same(folder: Path, config: Mapping[str, Any]) -> bool:
    for path in (folder, UnfinishedRun.folder_of(folder)):
        try:
            if not differences(read_config(path), config):
                return True
        except StoreError:
            continue
    return False
