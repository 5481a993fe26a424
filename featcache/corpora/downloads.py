"""Files from which anybody may download a corpus, as its authors offer them: addresses, sizes and checksums."""

import re
from collections.abc import Sequence
from typing import Annotated, Literal
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, Field, model_validator

from featcache.errors import FeatcacheError
from featcache.settings.yaml_schema import YamlPart
from featcache.workspace import check_name

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz")
"""Suffixes of the files that are unpacked; other files are kept as they are."""
_CHECKSUM = re.compile(r"md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}")

Checked = Literal["authors", "public readers", ""]
"""How something about a corpus was established: from its authors, or from public code that uses it."""


def _address(text: str) -> str:
    parts = urlsplit(text)
    _ = parts.port  # raises an error for anything but a number
    if parts.scheme not in ("http", "https") or not parts.hostname or not text.isprintable() or " " in text:
        raise ValueError(f"expected an address that begins with https:// or http://, found {text!r:.80}")
    return text


def _checksum(text: str) -> str:
    if text and not _CHECKSUM.fullmatch(text):
        raise ValueError(f"expected md5: or sha256: and hexadecimal digits in lower case, found {text!r:.80}")
    return text


def _file_name(text: str) -> str:
    try:
        return check_name("file", text, advice="give another with 'name'") if text else ""
    except FeatcacheError as error:
        raise ValueError(str(error)) from error


class RemoteFile(YamlPart):
    """A file that anybody may download without an application: an archive, or a file of labels."""

    address: Annotated[str, AfterValidator(_address)] = Field(description="Address, with https:// or http://.")
    name: Annotated[str, AfterValidator(_file_name)] = Field(
        default="", description="Name of the file [default: the end of the address]."
    )
    size: Annotated[int, Field(gt=0)] | None = Field(
        default=None, description="Size in bytes, if published [default: the server is asked]."
    )
    checksum: Annotated[str, AfterValidator(_checksum)] = Field(
        default="", description="Published checksum, such as md5:bc69…; or sha256:…"
    )
    folder: Annotated[str, AfterValidator(_file_name)] = Field(
        default="", description="Folder in the corpus into which it is unpacked, if the archive has none."
    )
    checked: Checked = Field(
        default="", description="How the address was established: from the authors, or from public code that uses it."
    )

    @model_validator(mode="after")
    def _check(self) -> "RemoteFile":
        try:
            check_name("file", self.file_name, advice="give another with 'name'")
        except FeatcacheError as error:
            raise ValueError(str(error)) from error
        return self

    @property
    def file_name(self) -> str:
        """Name of the file on this machine."""
        return self.name or unquote(urlsplit(self.address).path).rpartition("/")[2]

    @property
    def is_archive(self) -> bool:
        """Whether the file is unpacked."""
        return self.file_name.lower().endswith(ARCHIVES)


def check_downloads(files: Sequence[RemoteFile]) -> None:
    """Check that the files of a corpus have different names, also on disks that do not distinguish case.

    Raises:
        ValueError: two files have the same name.
    """
    names = [one.file_name.casefold() for one in files]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"download: two files have the name {name!r}; give one of them another 'name'")
