"""Folder or Hugging Face id → temporary folder with the checked files of a model.

The files of a model are untrusted. transformers would follow the references in them: to weights in other places and
formats, code, adapters and their base models, and kernels on the hub. Therefore transformers never reads the model's
own folder, but a temporary one that :func:`open_checkpoint` creates. It contains copies of the JSON and vocabulary
files that are listed here, and links to the safetensors files. Each of them is a regular file inside the model's folder
and has the format of its file name. transformers cannot see any other file.
"""

import logging
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

from featcache.errors import ModelError
from featcache.extractors.hub import CONFIG, PICKLES, Repository
from featcache.extractors.origin import ORIGIN, find_fetched, is_unchanged, read_origin
from featcache.extractors.safetensors_revision import INDEX, WEIGHTS
from featcache.extractors.untrusted import checked_config, dump, parse_object, refusal
from featcache.files.content import HEAD_BYTES, describe_content
from featcache.files.regular import places_of_files

PREPROCESSOR = "preprocessor_config.json"
# Files that are read besides config.json and the weights: of speech models, of text models, and for transcription.
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

log = logging.getLogger(__name__)

# Size limit of one such file, in bytes; a tokenizer with 250,000 tokens takes 35 MB.
LARGEST = 256 * 2**20
# Size limit of the header in the safetensors format, in bytes.
LARGEST_HEADER = 100_000_000


class NoWeightsError(ModelError):
    """Model of the hub without safetensors weights."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Checked files of a model.

    Attributes:
        source: Folder of the model, or its id on the Hugging Face hub.
        home: Folder of its config.json: the folder of the model, or one in the local cache of the hub.
        folder: Temporary folder with the checked files, which exists while the checkpoint is open.
        config: Content of config.json, without entries that name files or code.
        revision: Commit on the hub; None for folders that 'featcache fetch' did not make.
        weights_revision: Commit of the weights on the hub, which differs from ``revision`` if that commit contains them
            as a pickle only; None like ``revision``, or if no weights are needed.
    """

    source: str
    home: Path
    folder: Path
    config: dict[str, Any]
    revision: str | None
    weights_revision: str | None

    def has(self, name: str) -> bool:
        """Return whether the model has a file of this name."""
        return (self.folder / name).is_file()


def is_folder(model: str) -> bool:
    """Return whether a model is given as a folder with a config.json, and not by name."""
    return os.path.lexists(os.path.join(model, CONFIG))


@contextmanager
def open_checkpoint(
    source: str,
    revision: str | None = None,
    *,
    names: Sequence[str] = (),
    weights: bool = True,
    prefixes: Callable[[Mapping[str, Any]], Sequence[str]] = lambda _config: ("",),
) -> Iterator[Checkpoint]:
    """Check the files of a model and make them available to transformers in a temporary folder.

    Args:
        source: Folder, or id on the Hugging Face hub.
        revision: Branch, tag or commit on the hub.
        names: Files to read besides config.json, if the model has them: ``SPEECH``, ``TEXT`` or ``TRANSCRIBER``.
        weights: Whether weights are needed.
        prefixes: Function from the content of config.json to the prefixes of the needed parameters, as
            :func:`prefix_of` takes them. If the weights are in several files, the others are not opened.

    Yields:
        The checked files; the temporary folder is deleted at the end.

    Raises:
        ModelError: a file is missing, is outside of the folder, is not a regular file or has another format than its
            name says.
        OSError: the hub cannot be reached and its local cache does not contain the model; or the hub has no such model
            or revision.
    """
    files = _files_of(source, revision)
    config_file = _config_file(files)
    with TemporaryDirectory(prefix=PREFIX) as temporary:
        folder = Path(temporary)
        _copy(source, config_file, folder / CONFIG)
        for name in names:
            path = files.find(name)
            if path is not None:
                _copy(source, path, folder / name)
        config = parse_object((folder / CONFIG).read_bytes())
        weights_file = _link_weights(files, folder, prefixes(config)) if weights else None
        commit, weights_commit = _commits(files, weights_file)
        yield Checkpoint(
            source=source,
            home=config_file.parent,
            folder=folder,
            config=config,
            revision=commit,
            weights_revision=weights_commit,
        )


def _files_of(source: str, revision: str | None) -> "_Folder | Repository":
    """Return the files of a folder, of a folder in ``data/models`` with a model of the hub, or of the hub itself."""
    if os.path.isdir(source):
        return _Folder(source)
    fetched = find_fetched(source, revision)
    if fetched is None:
        return Repository(source, revision)
    log.info("%s: the files of %s are used", source, fetched)
    return _Folder(str(fetched), model=source)


def _commits(files: "_Folder | Repository", weights: Path | None) -> tuple[str | None, str | None]:
    """Return the commits of the configuration and of the weights on the hub, as far as they are known."""
    if isinstance(files, Repository):
        return files.commit, None if weights is None else weights.parent.name
    folder = Path(files.source)
    origin = read_origin(folder)
    if origin is None:
        return None, None
    if weights is not None and not is_unchanged(folder, origin):
        if files.model is None:  # The folder itself was named: it is a model of its own.
            return None, None
        raise refusal(
            files.model,
            f"the weights in {folder} are not those that its {ORIGIN} lists; pass the folder to --model if you changed "
            f"them, or remove it and run 'featcache fetch {files.model}'",
        )
    return origin.revision, None if weights is None else origin.weights_revision


def read_config(folder: Path) -> dict[str, Any]:
    """Return the content of the config.json in a model folder, without loading the model.

    Raises:
        ModelError: the file is missing, is a link to a file outside of the folder, or is not a valid configuration.
    """
    path = _config_file(_Folder(str(folder)))
    return checked_config(str(folder), CONFIG, _read_object(str(folder), path), folder)


def without_copies(text: str, model: str) -> str:
    """Return a message of transformers with the name of the model instead of the temporary folder."""
    return re.sub(rf"[^\s'\"`]*{PREFIX}\w+", lambda _: model, text)


class _Folder:
    """Files of a folder; ``model`` is the id on the hub if the folder was found by it."""

    def __init__(self, source: str, model: str | None = None) -> None:
        self.source = source
        self.model = model

    def find(self, name: str, beside: Path | None = None) -> Path | None:
        """Return the path of a file, or None if the model has no file of this name.

        Args:
            name: File name.
            beside: Path of a file that belongs to the same version of the model.
        """
        path = Path(self.source) / name
        return path if os.path.lexists(path) else None

    def find_weights(self) -> Path | None:
        """Return the path of the safetensors weights or their index, or None."""
        return self.find(WEIGHTS) or self.find(INDEX)

    def pickled(self) -> str | None:
        """Return the name of a file with pickled weights, or None."""
        return next((name for name in sorted(os.listdir(self.source)) if name.endswith(PICKLES)), None)


def _config_file(files: _Folder | Repository) -> Path:
    path = files.find(CONFIG)
    if path is None:
        raise refusal(files.source, f"it has no {CONFIG}")
    return path


def prefix_of(parameters: Iterable[str], prefixes: Sequence[str]) -> str:
    """Return the first prefix with which a parameter begins; the last prefix if there is none."""
    names = list(parameters)
    return next((one for one in prefixes if any(name.startswith(one) for name in names)), prefixes[-1])


def _link_weights(files: _Folder | Repository, folder: Path, prefixes: Sequence[str]) -> Path:
    """Link the weights into the temporary folder; if they are in several files, also write their index there.

    Returns:
        The path of the weights or their index.
    """
    source = files.source
    found = files.find_weights()
    if found is None:
        raise _without_weights(files)
    if found.name == WEIGHTS:
        _link(_safetensors(source, found), folder / WEIGHTS)
        return found
    index = found
    content = _read_object(source, index)
    weight_map, metadata = content.get("weight_map"), content.get("metadata")
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        raise refusal(source, f"{INDEX} has no 'weight_map' from parameters to files")
    if not weight_map:
        raise refusal(source, f"{INDEX} lists no file; download it again")
    for name in set(weight_map.values()):
        _check_name(source, name)
    prefix = prefix_of(weight_map, prefixes)
    weight_map = {
        parameter: PurePosixPath(name).as_posix()
        for parameter, name in weight_map.items()
        if parameter.startswith(prefix)
    }
    for name in sorted(set(weight_map.values())):
        shard = files.find(name, beside=index)
        if shard is None:
            raise refusal(source, f"{INDEX} lists {name!r}, which is missing; download all files of the model")
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        _link(_safetensors(source, shard, index.parent), folder / name)
    kept = {"metadata": metadata if isinstance(metadata, dict) else {}, "weight_map": weight_map}
    (folder / INDEX).write_bytes(dump(kept))
    return index


def _without_weights(files: _Folder | Repository) -> ModelError:
    source = files.source
    if os.path.isdir(source) and "adapter_config.json" in os.listdir(source):
        return refusal(
            source,
            f"it contains an adapter, adapter_config.json, but no {WEIGHTS}; merge the adapter into its base model and "
            "save the result",
        )
    pickled = files.pickled()
    if pickled:
        text = (
            f"{source} contains pickled weights ({pickled}), which are never loaded; 'featcache fetch {source} "
            "--convert' converts them in a separate process"
        )
        return NoWeightsError(text) if isinstance(files, Repository) else ModelError(text)
    text = f"{source}: cannot be loaded (it has no file {WEIGHTS} or {INDEX}; add the weights)"
    return NoWeightsError(text.replace("; add the weights", "")) if isinstance(files, Repository) else ModelError(text)


def _check_name(source: str, name: str) -> None:
    """Refuse a file name in an index, before opening the file, unless it is a safetensors file inside the folder."""
    parts = PurePosixPath(name).parts
    if not parts or PurePosixPath(name).is_absolute() or ".." in parts or any(c in name for c in "\\:\0"):
        raise refusal(source, f"{INDEX} lists {name!r}, which is not inside the folder")
    if not name.endswith(".safetensors"):
        raise refusal(source, f"{INDEX} lists {name!r}, expected a .safetensors file; other formats are never loaded")


def plain_file(source: str, path: Path, folder: Path | None = None) -> Path:
    """Resolve the links of a model's file and check the target; loaders read only the returned path.

    In a cache of the Hugging Face hub, the files of a snapshot may link to the blobs of the same repository.

    Args:
        source: Name of the model, for messages.
        path: Path of the file.
        folder: Folder of the model; by default the folder of the file.

    Returns:
        The path without links.

    Raises:
        ModelError: the file is not inside the folder, or is not a regular file.
    """
    try:
        real = path.resolve(strict=True)
        mode = real.stat().st_mode
    except (OSError, RuntimeError) as error:  # The links form a loop, or the target does not exist.
        raise refusal(source, f"{path.name} is a broken link; replace it with the file") from error
    if not any(map(real.is_relative_to, places_of_files(folder or path.parent))):
        raise refusal(source, f"{path.name} is a link to {real}, outside of the folder; copy the file into the folder")
    if not stat.S_ISREG(mode):
        raise refusal(source, f"{path.name} is not a regular file")
    return real


def _safetensors(source: str, path: Path, folder: Path | None = None) -> Path:
    """Return the path of a weights file without links, after checking the length and the start of its header."""
    real = plain_file(source, path, folder)
    head, size = _head(real), real.stat().st_size
    length = int.from_bytes(head[:8], "little")
    # A valid file whose header has 640 bytes begins like a pickle. Therefore the structure is checked first, and the
    # content is described only if the structure is wrong.
    if head[8:9] != b"{" or length > LARGEST_HEADER:
        found = describe_content(head) or "something else"
        raise refusal(source, f"{path.name} is not a safetensors file but {found}")
    if length > size - 8:
        raise refusal(source, f"{path.name} is incomplete: its header needs {length} bytes, but the file has {size}")
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
    """Make a file available under a second path, as a link if the system allows it, otherwise as a copy."""
    for give in (os.symlink, os.link):
        try:
            give(real, target)
        except OSError:  # Windows restricts symbolic links, and hard links need the same file system.
            continue
        return
    shutil.copyfile(real, target)


def _head(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(HEAD_BYTES)
