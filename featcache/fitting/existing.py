"""Settings × run folders → the run that is the same and exists already, and the conditions under which it was made."""

import glob
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from featcache.errors import StoreError
from featcache.runs.identity import differences, hash_of, identity
from featcache.runs.parse import read_config
from featcache.runs.reader import RunFolder
from featcache.runs.writer import UnfinishedRun
from featcache.workspace import MOST_NAME_BYTES

log = logging.getLogger(__name__)

DIGITS = 6


def folder_of(runs: Path, config: Mapping[str, Any]) -> Path:
    """Where a run without a name of its own goes, or is.

    Earlier releases made other names of the same settings: a run that they made, or began, is recognised by what its
    configuration says.
    """
    layers = "" if config["layers"] in ("all", "-") else f"_{config['layers']}"
    head, protocol = (_in_name(config[part]) for part in ("head", "protocol"))
    settings = f"{layers}_{head}_{config['norm']}_{protocol}_"
    room = MOST_NAME_BYTES - len(settings.encode()) - DIGITS  # the hash tells them apart
    begin = "+".join(config["features"]).encode()[:room].decode(errors="ignore") + settings
    folder = runs / f"{begin}{hash_of(identity(config))[:DIGITS]}"
    if folder.exists() or UnfinishedRun.is_begun(folder):
        return folder
    pattern = glob.escape(begin) + "[0-9a-f]" * DIGITS
    others = [*runs.glob(pattern), *(path.with_name(path.name[1:-11]) for path in runs.glob(f".{pattern}.unfinished"))]
    same = (path for path in sorted(others) if _is_same(path, config))
    return next(same, folder)


def _in_name(part: str) -> str:
    """Return what a folder's name says of a part: of a file without its folder, and nothing that paths forbid."""
    return re.sub(r"[^\w.+-]+", "-", part.rpartition("/")[2]).strip(".-")


def finished_run(folder: Path, config: Mapping[str, Any], *, overwrite: bool) -> RunFolder | None:
    """The run of these settings, where it is finished.

    Raises:
        StoreError: what is there is another run, or none.
    """
    try:
        run = RunFolder(folder)
    except StoreError as error:
        if folder.exists() and not overwrite:
            raise StoreError(f"{error}; give this one another --name, or replace that one with --overwrite") from error
        return None
    if overwrite:
        return None
    differing = differences(run.config, config)
    if differing:
        raise StoreError(
            f"{folder} is a run with other settings ({', '.join(differing)} differ); "
            "give this one another --name, or replace that one with --overwrite"
        )
    return run


def _is_same(folder: Path, config: Mapping[str, Any]) -> bool:
    for path in (folder, UnfinishedRun.folder_of(folder)):
        try:
            if not differences(read_config(path), config):
                return True
        except StoreError:
            continue
    return False
