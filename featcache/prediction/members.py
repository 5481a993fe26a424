"""RUN → the runs whose heads predict: one run, or the members of an ensemble."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from featcache.errors import StoreError
from featcache.files.values import damaged
from featcache.fitting.voters import TABLES, Voter
from featcache.runs.file_names import CONFIG, HEADS, seed_and_fold
from featcache.runs.parse import REFIT
from featcache.runs.reader import RunFolder
from featcache.workspace import Workspace, check_name

HARD, SOFT = "hard", "soft"
# Settings that are equal in all members, because their outputs are combined.
_SHARED = ("corpus", "task", "classes")

HeadKey = tuple[int, int]
"""Seed and fold of a head."""


@dataclass(frozen=True, kw_only=True)
class Voters:
    """Heads that predict together.

    Attributes:
        run: The run or ensemble that the user named.
        members: The runs whose heads predict: the run itself, or the members of the ensemble.
        vote: ``hard`` or ``soft`` for an ensemble; None for a run.
        keys: Seeds and folds; each member has one head for each.
    """

    run: RunFolder
    members: tuple[RunFolder, ...]
    vote: str | None
    keys: tuple[HeadKey, ...]

    @property
    def task(self) -> str:
        """``classification``, ``regression`` or ``multilabel``."""
        return str(self.members[0].config["task"])

    @property
    def num_heads(self) -> int:
        """Number of heads of all members."""
        return len(self.keys) * len(self.members)


def voters_of(run: RunFolder, workspace: Workspace) -> Voters:
    """Return the heads of a run, an ensemble or a published folder.

    The members of an ensemble are searched by their names, in ``data/runs`` and beside the ensemble. A path in its
    configuration is never followed.

    Args:
        run: The run.
        workspace: Folder of corpora, caches and runs.

    Raises:
        StoreError: the run has no heads; a member is missing, or has changed since the ensemble was made.
    """
    if "members" not in run.config:
        return Voters(run=run, members=(run,), vote=None, keys=_keys_of([run]))
    if run.config["vote"] not in (HARD, SOFT):
        raise damaged(run.path / CONFIG, f"vote: expected {HARD} or {SOFT}", REFIT)
    members = tuple(_member(run, label, workspace) for label in run.config["members"])
    if not members:
        raise damaged(run.path / CONFIG, "members: expected at least one", REFIT)
    _check_unchanged(run, members)
    for member in members[1:]:
        if differing := [key for key in _SHARED if member.config.get(key) != members[0].config.get(key)]:
            raise StoreError(f"{member.path} and {members[0].path} differ in {', '.join(differing)}; {REFIT}")
    return Voters(run=run, members=members, vote=run.config["vote"], keys=_keys_of(members))


def _keys_of(members: Sequence[RunFolder]) -> tuple[HeadKey, ...]:
    found = []
    for member in members:
        names = (path.stem for path in (member.path / HEADS).glob("*.safetensors"))
        found.append(sorted(key for key in map(seed_and_fold, names) if key))
        if not found[-1]:
            raise StoreError(f"{member.path} has no heads; {REFIT}")
        if found[-1] != found[0]:
            raise StoreError(f"{member.path} and {members[0].path} have heads of different seeds or folds; {REFIT}")
    return tuple(found[0])


def _member(ensemble: RunFolder, label: str, workspace: Workspace) -> RunFolder:
    """Return a member from its name, or from the last part of its path as the ensemble recorded it."""
    name = re.split(r"[\\/]", label.rstrip("\\/"))[-1]
    if name.endswith(TABLES):
        raise StoreError(f"{ensemble.path}: its member {name!r} is a table without heads; predict with another run")
    folders = workspace.runs(ensemble.config["corpus"]), ensemble.path.parent
    for folder in folders:
        check_name("run", name, folder, advice=f"{ensemble.path / CONFIG} is damaged")
        if (folder / name).is_dir():
            return RunFolder(folder / name)
    raise StoreError(
        f"{ensemble.path}: its member {name!r} is not in {folders[0]}; copy the run there, or predict with another run"
    )


def _check_unchanged(ensemble: RunFolder, members: Sequence[RunFolder]) -> None:
    recorded: dict[str, Any] = ensemble.config.get("candidates_sha256", {})
    for label, member in zip(ensemble.config["members"], members, strict=True):
        found = Voter(member.path, member).sha256()
        if recorded.get(label, found) != found:
            raise StoreError(
                f"{member.path} has changed since the ensemble {ensemble.path} was made; make the ensemble again"
            )
