"""Repository on the hub → its commit, licence, and the sizes of the files that featcache reads."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from featcache.errors import ModelError
from featcache.extractors.checkpoint import TRANSCRIBER
from featcache.extractors.hub import CONFIG, find_snapshot, reason_of
from featcache.extractors.safetensors_revision import (
    INDEX,
    WEIGHTS,
    Conversion,
    cached_conversion,
    find_conversion,
    is_offline,
)
from featcache.units import format_bytes

log = logging.getLogger(__name__)

# Longest name of a licence that is shown and recorded.
_LONGEST_LICENSE = 200
_ELSEWHERE = "; run the same command with --out FOLDER where there is a network, and copy FOLDER here"


@dataclass(frozen=True, kw_only=True)
class Contents:
    """Content of a repository at one commit.

    Attributes:
        source: Id on the hub.
        commit: Commit.
        license: Licence that the model card states; empty if it states none.
        sizes: File name → size in bytes, of all files.
        conversion: Other commit with safetensors weights, if this one contains a pickle only.
    """

    source: str
    commit: str
    license: str
    sizes: Mapping[str, int]
    conversion: Conversion | None

    @property
    def has_safetensors(self) -> bool:
        """Whether this commit contains safetensors weights."""
        return WEIGHTS in self.sizes or INDEX in self.sizes

    def needed(self, pickles: tuple[str, ...] = ()) -> dict[str, int]:
        """Return file name → size of the files that are read: configurations, vocabularies and weights.

        Args:
            pickles: Names of pickled weights that are converted; empty for safetensors weights.
        """
        names = [CONFIG, *TRANSCRIBER]
        weights = {one: size for one, size in self.sizes.items() if _is_weights(one, pickles, self.sizes)}
        converted = self.conversion.sizes if self.conversion and not pickles else {}
        return {one: self.sizes[one] for one in names if one in self.sizes} | weights | dict(converted)


def _is_weights(name: str, pickles: tuple[str, ...], sizes: Mapping[str, int]) -> bool:
    if pickles:
        return name in pickles
    if WEIGHTS in sizes:
        return name == WEIGHTS
    return name == INDEX or (name.startswith("model-") and name.endswith(".safetensors"))


def read_contents(source: str, revision: str | None) -> Contents:
    """Ask the hub for the content of a repository; if all requests are forbidden, read its local cache.

    Args:
        source: Id on the hub.
        revision: Branch, tag or commit.

    Raises:
        ModelError: the hub cannot be reached, or has no such model or revision.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    if is_offline():
        return _cached_contents(source, revision)
    try:
        info = HfApi().model_info(source, revision=revision, files_metadata=True)
        sizes = {one.rfilename: int(one.size or 0) for one in info.siblings or ()}
        is_pickled = WEIGHTS not in sizes and INDEX not in sizes
        conversion = find_conversion(source, str(info.sha)) if is_pickled else None
        license = _license(info)
    except Exception as error:  # The service and the network may raise anything.
        elsewhere = "" if isinstance(error, HfHubHTTPError) else _ELSEWHERE  # An answer is the same everywhere.
        raise ModelError(f"{source}: cannot be downloaded ({reason_of(error, source, revision)}){elsewhere}") from error
    return Contents(source=source, commit=str(info.sha), license=license, sizes=sizes, conversion=conversion)


def _cached_contents(source: str, revision: str | None) -> Contents:
    folder = find_snapshot(source, revision)
    if folder is None:
        raise ModelError(f"{source}: not on this machine, and not downloaded (HF_HUB_OFFLINE is set){_ELSEWHERE}")
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    weights, conversion = cached_conversion(source, folder.name), None
    if weights is not None:
        size = {weights.name: weights.stat().st_size}
        conversion = Conversion(revision="the cache", commit=weights.parent.name, name=weights.name, sizes=size)
    return Contents(source=source, commit=folder.name, license="", sizes=sizes, conversion=conversion)


def announce(model: str, contents: Contents, needed: Mapping[str, int]) -> None:
    """Log the size, licence and commits of a model, before its download.

    Args:
        model: Name of the model, as the user gave it.
        contents: Content of its repository.
        needed: File name → size in bytes of the files that are downloaded.
    """
    page = f"https://huggingface.co/{contents.source}"
    license = contents.license or f"not stated; see {page}"
    most = "at most " if INDEX in needed else ""  # Only the index lists the files with needed parameters.
    log.info("%s: %s%s (commit %s of %s)", model, most, format_bytes(sum(needed.values())), contents.commit, page)
    log.info("%s: licence %s", model, license)
    if contents.conversion and not contents.has_safetensors and needed.keys() >= contents.conversion.sizes.keys():
        revision, commit = contents.conversion.revision, contents.conversion.commit
        log.info("%s: its weights are a pickle; safetensors weights come from %s, commit %s", model, revision, commit)


def _license(info: Any) -> str:
    """Return the licence of a model card; for other licences than the usual ones, its name or address."""
    card = info.card_data or {}
    found = [card.get(name) for name in ("license", "license_name", "license_link")]
    given = [str(one) for one in found if one and one != "other"]
    return given[0][:_LONGEST_LICENSE] if given else ""
