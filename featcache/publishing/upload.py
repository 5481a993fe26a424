"""Published folder → repository on the Hugging Face hub."""

import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING

from featcache.errors import ModelError, in_one_line
from featcache.extractors.hub import reason_of
from featcache.extractors.safetensors_revision import is_offline
from featcache.publishing.published_files import published_files
from featcache.units import counted, format_bytes

if TYPE_CHECKING:
    from huggingface_hub import HfApi

log = logging.getLogger(__name__)

# Name of the kind "owner/name" that the hub accepts: no part begins or ends with a dot or a hyphen.
_REPOSITORY = re.compile(r"[\w](?:[\w.-]*[\w])?/[\w](?:[\w.-]*[\w])?", re.ASCII)
MOST_CHARACTERS = 96


def check_repository(name: str) -> str:
    """Check that a name is a valid id of a repository on the hub, and return it.

    Raises:
        ModelError: the name has another form.
    """
    if not _REPOSITORY.fullmatch(name) or len(name) > MOST_CHARACTERS or "--" in name or ".." in name:
        raise ModelError(f"{name!r} is no id on the Hugging Face hub; expected OWNER/NAME, such as mylab/emotion-head")
    return name


def upload(folder: Path, repository: str, *, private: bool) -> None:
    """Upload the files of a published folder; they are listed first.

    Other files in the folder are not uploaded. The token is the one that huggingface_hub saved at its login, or the one
    in ``$HF_TOKEN``.

    Args:
        folder: Folder that ``featcache publish`` wrote.
        repository: Id of the repository, which is made if it does not exist.
        private: Whether the repository must be private.

    Raises:
        ModelError: there is no login, the repository is public but must be private, or the upload failed.
    """
    from huggingface_hub import HfApi, get_token

    check_repository(repository)
    if is_offline():
        raise ModelError(f"{repository}: cannot be uploaded (HF_HUB_OFFLINE is set); unset it, and run this again")
    if get_token() is None:
        raise ModelError(f"{repository}: you are not logged in to the Hugging Face hub; run 'hf auth login' first")
    files = published_files(folder)
    for name, size in files.items():
        log.info("%s: %s", name, format_bytes(size))
    kind = "private" if private else "public, unless it exists and is private"
    total = f"{counted(len(files), 'file')}, {format_bytes(sum(files.values()))}"
    log.info("uploading %s, to https://huggingface.co/%s (%s)", total, repository, kind)
    try:
        _upload(HfApi(), folder, repository, list(files), private=private)
    except ModelError:
        raise
    except Exception as error:  # The service and the network may raise anything.
        raise ModelError(f"{repository}: cannot be uploaded ({_reason(error, repository)})") from error


def _upload(api: "HfApi", folder: Path, repository: str, names: list[str], *, private: bool) -> None:
    api.create_repo(repository, repo_type="model", private=private or None, exist_ok=True)
    if private and not api.model_info(repository).private:
        raise ModelError(
            f"{repository} exists and is public, and nothing was uploaded; make it private on its page, or choose "
            "another name"
        )
    api.upload_folder(
        repo_id=repository,
        repo_type="model",
        folder_path=folder,
        allow_patterns=names,
        commit_message="Upload heads of featcache",
    )


def _reason(error: Exception, repository: str) -> str:
    from huggingface_hub.errors import HfHubHTTPError

    if isinstance(error, HfHubHTTPError) and error.response is not None and error.response.status_code in (401, 403):
        return "your login may not write there; check OWNER and the rights of your token, or run 'hf auth login'"
    reason = reason_of(error, repository, None).removeprefix("the download failed: ")
    return reason if reason else in_one_line(error)
