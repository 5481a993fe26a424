"""Repository with pickled weights → the commit that contains the same weights as safetensors.

Many repositories contain their weights as a pickle only, such as ``pytorch_model.bin``. A program of Hugging Face, the
conversion bot, opens pull requests that add ``model.safetensors``. Anyone can open a pull request with any weights.
Therefore a commit is accepted only if it is on the branch ``main`` or in a pull request by this bot, and if it contains
the same configuration and the same pickle as the commit of the model.
"""

import filecmp
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
BOT = "SFconvertbot"
# Files that must be the same in both commits, as far as they exist.
_SAME = re.compile(r"config\.json|pytorch_model[\w.-]*\.bin(\.index\.json)?")
COMMIT = re.compile(r"\w{1,64}")


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """Commit with safetensors weights.

    Attributes:
        revision: Branch or reference on the hub: ``main`` or ``refs/pr/1``.
        commit: Commit.
        name: File name of the weights, or of their index.
        sizes: File name → size in bytes of all safetensors files of the commit.
    """

    revision: str
    commit: str
    name: str
    sizes: Mapping[str, int]


def is_offline() -> bool:
    """Return whether the user forbids all requests to the hub, with ``HF_HUB_OFFLINE``."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def cached_repository(source: str) -> Path:
    """Return the folder of a repository in the hub's local cache; it may be missing.

    Args:
        source: Id on the hub.
    """
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE) / f"models--{source.replace('/', '--')}"


def find_conversion(source: str, commit: str) -> Conversion | None:
    """Ask the hub for the commit that contains the weights of a model as safetensors.

    Args:
        source: Id on the hub.
        commit: Commit of the model.

    Returns:
        The newest commit of ``main`` if it contains them, because its authors merged them; otherwise that of a pull
        request by the bot, merged ones first. None if there is none.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RevisionNotFoundError

    api = HfApi()
    base = _blobs(api.model_info(source, revision=commit, files_metadata=True))
    # Some mirrors of the hub give no hashes. Then nothing can be compared.
    if not any(name.endswith(".bin") for name in base) or not all(base.values()):
        return None
    for revision in _revisions(api, source):
        try:
            info = api.model_info(source, revision=revision, files_metadata=True)
        except RevisionNotFoundError:  # The reference was deleted.
            continue
        sizes = {
            one.rfilename: int(one.size or 0) for one in info.siblings or () if one.rfilename.endswith(".safetensors")
        }
        names = {one.rfilename for one in info.siblings or ()}
        name = next((one for one in (WEIGHTS, INDEX) if one in names), None)
        if name and info.sha and COMMIT.fullmatch(info.sha) and _blobs(info) == base:
            return Conversion(revision=revision, commit=info.sha, name=name, sizes=sizes)
    return None


def _revisions(api: Any, source: str) -> Iterator[str]:
    yield "main"
    pulls = [one for one in api.get_repo_discussions(source) if one.is_pull_request and one.author == BOT]
    for status in ("merged", "open"):
        for pull in sorted(pulls, key=lambda one: -one.num):
            if pull.status == status:
                yield f"refs/pr/{pull.num}"


def _blobs(info: Any) -> dict[str, str | None]:
    """Return file name → hash of its content, for the files that must be the same."""
    siblings = (one for one in info.siblings or () if _SAME.fullmatch(one.rfilename))
    return {one.rfilename: one.lfs["sha256"] if one.lfs else one.blob_id for one in siblings}


def cached_conversion(source: str, commit: str) -> Path | None:
    """Return the path of converted weights, or of their index, in the hub's local cache, or None.

    The author of a pull request is not known here. A client that verifies it put the commit into the cache, or the user
    did.

    Args:
        source: Id on the hub.
        commit: Commit of the model.
    """
    repository = cached_repository(source)
    own = repository / "snapshots" / commit
    for other in _cached_commits(repository):
        folder = repository / "snapshots" / other
        path = next((folder / name for name in (WEIGHTS, INDEX) if (folder / name).is_file()), None)
        if other != commit and path is not None and _same_files(own, folder):
            return path
    return None


def _cached_commits(repository: Path) -> Iterator[str]:
    refs = repository / "refs"
    # The client keeps the reference refs/pr/1 in the file refs/refs/pr/1.
    pulls = [path for folder in (refs / "refs" / "pr", refs / "pr") if folder.is_dir() for path in folder.iterdir()]
    numbered = sorted((path for path in pulls if path.name.isdecimal()), key=lambda path: -int(path.name))
    for path in (refs / "main", *numbered):
        if path.is_file():
            with open(path, encoding="utf-8", errors="replace") as file:
                commit = file.read(65).strip()
            if COMMIT.fullmatch(commit):
                yield commit


def _same_files(own: Path, other: Path) -> bool:
    """Return whether the files of both snapshots that must be the same are the same, as far as both contain them."""
    names = [path.name for path in own.iterdir() if _SAME.fullmatch(path.name)] if own.is_dir() else []
    both = [(own / name, other / name) for name in names if (own / name).is_file() and (other / name).is_file()]
    return all(os.path.samefile(*paths) or filecmp.cmp(*paths, shallow=False) for paths in both)
