"""Folder or Hugging Face id → the files of a model that may be read, each checked, in a folder of their own.

A model is other people's data. transformers would follow what its files name: weights elsewhere, in any format, code,
adapters and their base models, kernels on the hub. It therefore never sees the model's own folder, but a temporary one
that :func:`open_checkpoint` makes. There lie copies of the JSON and vocabulary files that are known here, and links to
the safetensors files; each of them is a regular file inside the model's folder, of the format that its name promises.
Whatever is not there does not exist.
"""

import os
import re
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

from featcache.errors import ModelError
from featcache.extractors.untrusted import checked_config, dump, parse_object, refusal
from featcache.files.content import HEAD_BYTES, describe_content
from featcache.files.regular import resolved

CONFIG = "config.json"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
PREPROCESSOR = "preprocessor_config.json"
# What beside config.json and weights is read of a speech model, of a text model, of a model that transcribes.
SPEECH = (PREPROCESSOR, "processor_config.json")
TEXT = (
    "added_tokens.json",
    "bpe.codes",
    "dict.txt",
    "emoji.json",
    "entity_vocab.json",
    "merges.txt",
    "normalizer.json",
    "prophetnet.tokenizer",
    "sentencepiece.bpe.model",
    "sentencepiece.model",
    "source.spm",
    "special_tokens_map.json",
    "spiece.model",
    "spm.model",
    "target.spm",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
)
TRANSCRIBER = (*SPEECH, *TEXT, "generation_config.json")
PREFIX = "featcache-model-"
# More than any of them takes; tokenizers of 250,000 tokens have 35 MB.
LARGEST = 256 * 2**20
# The most that the safetensors format allows for its header.
LARGEST_HEADER = 100_000_000


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The files of a model that may be read.

    Attributes:
        source: The model's folder, or its id on the Hugging Face hub.
        folder: Where they are, while the checkpoint is open.
        config: What its config.json says, without entries that name files or code.
        revision: The commit that was resolved; None for folders.
    """

    source: str
    folder: Path
    config: dict[str, Any]
    revision: str | None

    def has(self, name: str) -> bool:
        """Whether the model has such a file."""
        return (self.folder / name).is_file()


def is_folder(model: str) -> bool:
    """Whether a model is a folder that holds one, and not a name."""
    return os.path.lexists(os.path.join(model, CONFIG))


@contextmanager
def open_checkpoint(
    source: str, revision: str | None = None, *, names: Sequence[str] = (), weights: bool = True
) -> Iterator[Checkpoint]:
    """Check the files of a model and lay them where transformers may read them.

    Args:
        source: A folder, or an id on the Hugging Face hub.
        revision: Branch, tag or commit on the hub.
        names: What is read beside config.json, as far as the model has it: ``SPEECH``, ``TEXT`` or ``TRANSCRIBER``.
        weights: Whether weights are needed.

    Raises:
        ModelError: a file is missing, lies outside of the folder, is no regular file or is not what its name promises.
        OSError: the hub cannot be reached and the model is not in its cache, as transformers raises it.
    """
    files = _Folder(source) if os.path.isdir(source) else _Repository(source, revision)
    config_file = _config_file(files)
    with TemporaryDirectory(prefix=PREFIX) as temporary:
        folder = Path(temporary)
        _copy(source, config_file, folder / CONFIG)
        for name in names:
            path = files.find(name)
            if path is not None:
                _copy(source, path, folder / name)
        if weights:
            _link_weights(files, folder)
        yield Checkpoint(
            source=source,
            folder=folder,
            config=parse_object((folder / CONFIG).read_bytes()),
            revision=config_file.parent.name if isinstance(files, _Repository) else None,
        )


def read_config(folder: Path) -> dict[str, Any]:
    """What the config.json of a model folder says; nothing of the model is loaded.

    Raises:
        ModelError: it is missing, lies elsewhere, or is no configuration.
    """
    path = _config_file(_Folder(str(folder)))
    return checked_config(str(folder), CONFIG, _read_object(str(folder), path), folder)


def without_copies(text: str, model: str) -> str:
    """A message of transformers in which the temporary folder is called by the name of the model."""
    return re.sub(rf"[^\s'\"`]*{PREFIX}\w+", lambda _: model, text)


class _Folder:
    """Files of a folder."""

    def __init__(self, source: str) -> None:
        self.source = source

    def find(self, name: str, beside: Path | None = None) -> Path | None:
        """The path of a file; None where there is none of this name.

        Args:
            name: Of the file.
            beside: Another file of the same version of the model.
        """
        path = Path(self.source) / name
        return path if os.path.lexists(path) else None

    def find_index(self) -> Path | None:
        """The index of weights in several files."""
        return self.find(INDEX)


class _Repository(_Folder):
    """Files of a repository on the hub, fetched when they are asked for; all of the commit that config.json is of."""

    def __init__(self, source: str, revision: str | None) -> None:
        from transformers.utils.hub import cached_file

        super().__init__(source)
        self._revision = revision
        self._config_file = Path(cached_file(source, CONFIG, revision=revision))

    def find(self, name: str, beside: Path | None = None) -> Path | None:
        from transformers.utils.hub import cached_file

        if name == CONFIG:
            return self._config_file
        commit = (beside or self._config_file).parent.name
        # offline, the hub's client knows only what is in its cache
        optional = {"_raise_exceptions_for_missing_entries": False, "_raise_exceptions_for_connection_errors": False}
        path = cached_file(self.source, name, revision=commit, **optional)
        return None if path is None else Path(path)

    def find_index(self) -> Path | None:
        return self.find(INDEX) or self._converted()

    def _converted(self) -> Path | None:
        """The safetensors weights, or their index, that the hub's own service made of a repository's pickle."""
        from huggingface_hub.constants import HF_HUB_OFFLINE
        from transformers.safetensors_conversion import auto_conversion

        if HF_HUB_OFFLINE or self._revision not in (None, "main"):
            return None
        quiet = {"_raise_exceptions_for_missing_entries": False, "_raise_exceptions_for_gated_repo": False}
        try:
            found = auto_conversion(self.source, revision="main", **quiet)
        except Exception as error:  # whatever the service or the network answer
            raise OSError(f"it has no {WEIGHTS}, and the hub did not convert its pickle: {error}") from error
        return None if not found or found[0] is None else Path(found[0])


def _config_file(files: _Folder) -> Path:
    path = files.find(CONFIG)
    if path is None:
        raise refusal(files.source, f"it has no {CONFIG}")
    return path


def _link_weights(files: _Folder, folder: Path) -> None:
    """Give the weights a place beside the configuration; in shards, as the index says."""
    source = files.source
    single = files.find(WEIGHTS)
    index = None if single else files.find_index()
    if index is not None and index.name == WEIGHTS:  # the hub converted it
        single, index = index, None
    if single is not None:
        _link(_safetensors(source, single), folder / WEIGHTS)
        return
    if index is None:
        raise ModelError(_without_weights(source))
    content = _read_object(source, index)
    weight_map, metadata = content.get("weight_map"), content.get("metadata")
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        raise refusal(source, f"{INDEX} has no 'weight_map' from parameters to files")
    if not weight_map:
        raise refusal(source, f"{INDEX} names no file; fetch it again")
    for name in set(weight_map.values()):
        _check_name(source, name)
    weight_map = {parameter: PurePosixPath(name).as_posix() for parameter, name in weight_map.items()}
    for name in sorted(set(weight_map.values())):
        shard = files.find(name, beside=index)
        if shard is None:
            raise refusal(source, f"{INDEX} names {name!r}, which is not there; fetch all files of the model")
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        _link(_safetensors(source, shard, index.parent), folder / name)
    kept = {"metadata": metadata if isinstance(metadata, dict) else {}, "weight_map": weight_map}
    (folder / INDEX).write_bytes(dump(kept))


def _without_weights(source: str) -> str:
    if os.path.isdir(source):
        names = sorted(os.listdir(source))
        if "adapter_config.json" in names:
            return (
                f"{source}: cannot be loaded (it holds an adapter, adapter_config.json, and no {WEIGHTS}; merge it "
                "into its base model and save that)"
            )
        pickled = [name for name in names if name.endswith((".bin", ".pt", ".pth", ".ckpt", ".pkl"))]
        if pickled:
            return f"{source} holds pickled weights ({pickled[0]}), which are never loaded; save them as safetensors"
    return f"{source}: cannot be loaded (it has no file {WEIGHTS} or {INDEX}; put its weights there)"


def _check_name(source: str, name: str) -> None:
    """Refuse the name that an index gives to a file that is no safetensors file below the folder, before looking."""
    parts = PurePosixPath(name).parts
    if not parts or PurePosixPath(name).is_absolute() or ".." in parts or any(c in name for c in "\\:\0"):
        raise refusal(source, f"{INDEX} names {name!r}, which is not inside the folder")
    if not name.endswith(".safetensors"):
        raise refusal(source, f"{INDEX} names {name!r}, expected safetensors; other weights are never loaded")


def plain_file(source: str, path: Path, folder: Path | None = None) -> Path:
    """Follow the links of a file that a model has, and check where they end. Every loader reads only what this returns.

    Args:
        source: The model, for messages.
        path: The file.
        folder: The model's folder; by default the file's own.

    Returns:
        The path without links.

    Raises:
        ModelError: it is not inside the folder, or no regular file. Snapshots in a cache of the Hugging Face hub may
            link to the blobs of the same repository.
    """
    home = resolved(folder or path.parent)
    inside = [home, home.parent.parent / "blobs"] if home.parent.name == "snapshots" else [home]
    try:
        real = path.resolve(strict=True)
        mode = real.stat().st_mode
    except (OSError, RuntimeError) as error:  # a loop of links, or nothing at their end
        raise refusal(source, f"{path.name} is a link to nothing; replace it with the file") from error
    if not any(real.is_relative_to(one) for one in inside):
        raise refusal(source, f"{path.name} is a link to {real}, outside of the folder; put the file itself there")
    if not stat.S_ISREG(mode):
        raise refusal(source, f"{path.name} is no regular file")
    return real


def _safetensors(source: str, path: Path, folder: Path | None = None) -> Path:
    """A file of weights, without links; its header is as long as the format allows and begins as it must."""
    real = plain_file(source, path, folder)
    head, size = _head(real), real.stat().st_size
    length = int.from_bytes(head[:8], "little")
    # a header of 640 bytes begins like a pickle, so that the content is described only where the structure is wrong
    if head[8:9] != b"{" or length > LARGEST_HEADER:
        found = describe_content(head) or "something else"
        raise refusal(source, f"{path.name} is not a safetensors file but {found}")
    if length > size - 8:
        raise refusal(source, f"{path.name} is incomplete: its header has {length} bytes, the file {size}")
    return real


def _copy(source: str, path: Path, target: Path) -> None:
    """Copy a small file, without entries that name files or code."""
    name, folder = target.name, path.parent
    if name.endswith(".json"):
        content = _read_object(source, path)
        if "config" in name or name == "special_tokens_map.json":
            content = checked_config(source, name, content, folder)
        target.write_bytes(dump(content))
        return
    content_bytes = _read(source, path)
    found = describe_content(content_bytes[:HEAD_BYTES], text=False)
    if found is not None:
        raise refusal(source, f"{name} is not a vocabulary but {found}")
    target.write_bytes(content_bytes)


def _read(source: str, path: Path) -> bytes:
    real = plain_file(source, path)
    if real.stat().st_size > LARGEST:
        raise refusal(source, f"{path.name} has {real.stat().st_size} bytes, expected at most {LARGEST}")
    return real.read_bytes()


def _read_object(source: str, path: Path) -> dict[str, Any]:
    content = _read(source, path)
    try:
        return parse_object(content)
    except ValueError as error:
        found = describe_content(content[:HEAD_BYTES], text=False)
        reason = f"{error}, but {found}" if found else str(error)
        raise refusal(source, f"{path.name} is {reason}") from error


def _link(real: Path, target: Path) -> None:
    """Give a file a second path, without copying it where the system can."""
    for give in (os.symlink, os.link):
        try:
            give(real, target)
        except OSError:  # Windows lets few users link, and hard links end at a file system
            continue
        return
    shutil.copyfile(real, target)


def _head(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(HEAD_BYTES)
