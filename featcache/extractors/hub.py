"""Id on the Hugging Face hub → files of the model in the hub's local cache, downloaded on request.

Only huggingface_hub is used, so that every version of transformers gets the same files.
"""

import logging
from pathlib import Path

from featcache.errors import FeatcacheError, in_one_line
from featcache.extractors.download import download, is_unreachable
from featcache.extractors.origin import find_fetched
from featcache.extractors.safetensors_revision import (
    INDEX,
    WEIGHTS,
    cached_conversion,
    cached_repository,
    find_conversion,
    is_offline,
)
from featcache.extractors.untrusted import refusal

CONFIG = "config.json"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
"""Suffixes of files that may contain a pickle."""

log = logging.getLogger(__name__)


class Repository:
    """Files of a repository on the hub.

    All files belong to the commit of config.json. Only the weights may belong to another one, if that commit contains
    them as a pickle: see :mod:`featcache.extractors.safetensors_revision`.

    Args:
        source: Id on the hub.
        revision: Branch, tag or commit; None for the branch ``main``.

    Raises:
        ModelError: the repository has no config.json.
        OSError: the hub cannot be reached and the local cache does not contain the model, or the hub has no such model
            or revision; the message is the reason.
    """

    def __init__(self, source: str, revision: str | None) -> None:
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

        self.source = source
        self._is_unreachable = False
        try:
            self._config_file = download(source, CONFIG, revision)
        except LocalEntryNotFoundError as error:
            raise OSError(reason_of(error, source, revision)) from error
        except EntryNotFoundError as error:
            raise refusal(source, self._without_config(revision)) from error
        except Exception as error:  # The service and the network may raise anything.
            raise OSError(reason_of(error, source, revision)) from error

    @property
    def commit(self) -> str:
        """Commit of config.json."""
        return self._config_file.parent.name

    def find(self, name: str, beside: Path | None = None) -> Path | None:
        """Return the path of a file, or None if the model has no file of this name.

        Without network, only files in the local cache are found.

        Args:
            name: File name.
            beside: Path of a file of the same commit; by default config.json.

        Raises:
            OSError: the download failed; the message is the reason.
        """
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

        if name == CONFIG:
            return self._config_file
        try:
            return download(self.source, name, (beside or self._config_file).parent.name)
        except EntryNotFoundError as error:
            self._is_unreachable |= isinstance(error, LocalEntryNotFoundError) and not is_offline()
            return None
        except Exception as error:  # The service and the network may raise anything.
            raise OSError(reason_of(error, self.source, None)) from error

    def find_weights(self) -> Path | None:
        """Return the path of the safetensors weights or their index, or None if there are only other formats.

        Raises:
            OSError: the hub cannot be reached, or the download failed; the message is the reason.
        """
        found = self.find(WEIGHTS) or self.find(INDEX) or self._converted()
        if found is None and self._is_unreachable:
            raise OSError("the hub cannot be reached")
        return found

    def pickled(self) -> str | None:
        """Return the name of a file with pickled weights in the same commit, or None."""
        names = {path.name for path in self._config_file.parent.iterdir()}
        if not is_offline():
            names |= _names(self.source, self.commit)
        return next((name for name in sorted(names) if name.endswith(PICKLES)), None)

    def _converted(self) -> Path | None:
        found = None
        if not is_offline():
            try:
                found = find_conversion(self.source, self.commit)
            except Exception as error:  # The service and the network may raise anything.
                log.info("%s: the hub cannot be asked for safetensors weights (%s)", self.source, in_one_line(error))
        if found is None:
            path = cached_conversion(self.source, self.commit)
        else:
            try:
                path = download(self.source, found.name, found.revision)
            except Exception as error:  # The service and the network may raise anything.
                raise OSError(reason_of(error, self.source, found.revision)) from error
            if path.parent.name != found.commit:
                raise OSError(f"{found.revision} changed from commit {found.commit} to {path.parent.name}; try again")
        if path is not None:
            where = found.revision if found else "the local cache"
            log.info(
                "%s: its own weights are a pickle; safetensors weights from %s, commit %s",
                *(self.source, where, path.parent.name),
            )
        return path

    def _without_config(self, revision: str | None) -> str:
        pickled = next((name for name in sorted(_names(self.source, revision)) if name.endswith(PICKLES)), None)
        if pickled is None:
            return f"it has no {CONFIG}"
        return (
            f"it has no {CONFIG}, and its weights are a pickle, {pickled}, which is never loaded; 'featcache fetch "
            f"{self.source} --convert' converts it if its format is known"
        )


def _names(source: str, revision: str | None) -> set[str]:
    """Return the names of all files of a repository; empty if the hub does not answer."""
    from huggingface_hub import HfApi

    try:
        return set(HfApi().list_repo_files(source, revision=revision))
    except Exception:  # The names only improve a message.
        return set()


def find_local(source: str) -> Path | None:
    """Return the folder of a model on this machine that contains its configuration, or None.

    Args:
        source: Id on the hub.

    Returns:
        A folder of the workspace that ``featcache fetch`` made, or a folder in the local cache of the hub. The weights
        may be in another folder of that cache.
    """
    from huggingface_hub import try_to_load_from_cache

    fetched = find_fetched(source, None)
    if fetched is not None:
        return fetched
    config = try_to_load_from_cache(source, CONFIG)
    if not isinstance(config, str):
        return None
    folder = Path(config).parent
    has_own = any((folder / name).is_file() for name in (WEIGHTS, INDEX))
    return folder if has_own or cached_conversion(source, folder.name) else None


def find_snapshot(source: str, revision: str | None) -> Path | None:
    """Return the folder in the hub's local cache with the files of one commit, or None.

    Args:
        source: Id on the hub.
        revision: Branch, tag or commit; None for the branch ``main``.
    """
    repository = cached_repository(source)
    ref = repository / "refs" / (revision or "main")
    commit = ref.read_text(encoding="utf-8", errors="replace").strip() if ref.is_file() else revision or ""
    folder = repository / "snapshots" / commit
    return folder if commit and folder.is_dir() and folder.parent.name == "snapshots" else None


def reason_of(error: Exception, source: str, revision: str | None) -> str:
    """Return in one line why the hub's client could not get a file.

    Args:
        error: Error of the client.
        source: Id on the hub.
        revision: Branch, tag or commit.
    """
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return (
            f"access is restricted; accept the conditions on https://huggingface.co/{source}, then run 'hf auth login'"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return "the hub has no model of this name, or it is private; check the name, or run 'hf auth login'"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"it has no revision {revision!r}"
    if isinstance(error, errors.LocalEntryNotFoundError):
        return "HF_HUB_OFFLINE is set" if is_offline() else "the hub cannot be reached"
    if is_unreachable(error):
        return "the hub cannot be reached"
    lines = str(error).strip().splitlines()
    line = lines[0].rstrip(".") if lines else type(error).__name__
    is_answer = isinstance(error, FeatcacheError | errors.HfHubHTTPError | ValueError)
    return line if is_answer else f"the download failed: {line}"
