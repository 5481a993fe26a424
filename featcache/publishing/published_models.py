"""Fine-tuned models of a run → the same models in a published folder, without paths of this machine."""

import json
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from featcache.errors import StoreError
from featcache.extractors.checkpoint import SPEECH, TEXT
from featcache.extractors.hub import CONFIG
from featcache.extractors.safetensors_revision import INDEX
from featcache.files.disk import reading, writing_tensors
from featcache.files.regular import read_regular, replace_file, replacing
from featcache.files.values import parse_json
from featcache.publishing.shareable import check_no_paths
from featcache.runs.file_names import model_name
from featcache.runs.parse import REFIT, check_files, open_tensors
from featcache.runs.reader import RunFolder
from featcache.runs.tuned_inputs import read_tuned_inputs
from featcache.units import counted, format_bytes
from featcache.workspace import check_name

log = logging.getLogger(__name__)

# Files of a model folder that loading reads.
WEIGHT_FILE = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors", re.ASCII)
READ_FILES = (CONFIG, INDEX, *SPEECH, *TEXT)
# Files with settings, among them the folder from which a model or a tokenizer was loaded.
_SETTINGS = (CONFIG, *SPEECH, "tokenizer_config.json")
_FOLDERS = ("_name_or_path", "name_or_path")


def write_models(folder: Path, run: RunFolder, heads: Iterable[tuple[int, int]]) -> None:
    """Write the fine-tuned models of some heads into a published folder.

    Args:
        folder: The published folder.
        run: The run; nothing is written if it is not fine-tuned.
        heads: Seeds and folds.

    Raises:
        StoreError: a file is damaged or has changed, or a setting of a model is a path on this machine.
    """
    stores = [check_name("store", one.store, run.path) for one in read_tuned_inputs(run.path, run.config)]
    names = [model_name(store, seed, fold) for seed, fold in heads for store in stores]
    if not names:
        return
    files = [(name, file) for name in names for file in _files(run.path / name)]
    size = sum((run.path / name / file).stat().st_size for name, file in files)
    log.info("%s: %s", counted(len(names), "fine-tuned model"), format_bytes(size))
    for name, file in files:
        _write(folder, run.path, f"{name}/{file}")


def _files(folder: Path) -> Iterator[str]:
    """Yield the names of the files of a model that are published."""
    with reading(folder):
        found = sorted(path.name for path in folder.glob("*"))
    if CONFIG not in found:
        raise StoreError(f"{folder} has no {CONFIG}; {REFIT}")
    yield from (name for name in found if name in READ_FILES or WEIGHT_FILE.fullmatch(name))


def _write(folder: Path, run: Path, name: str) -> None:
    path = run / name
    if path.suffix == ".safetensors":
        from safetensors.torch import save_file

        with open_tensors(run, name) as tensors, replacing(folder / name) as temporary, writing_tensors():
            weights = {key: tensors.get_tensor(key) for key in tensors.keys()}  # noqa: SIM118, it is not a mapping
            save_file(weights, temporary, metadata={"format": "pt"})  # transformers needs this entry
        return
    check_files(run, [name])
    content = read_regular(path)
    if path.name in _SETTINGS:
        settings = _without_folders(parse_json(content, dict, path, REFIT))
        check_no_paths(settings, path)
        content = json.dumps(settings, indent=2).encode()
    replace_file(folder / name, content)


def _without_folders(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _without_folders(one) for name, one in value.items() if name not in _FOLDERS}
    return [_without_folders(one) for one in value] if isinstance(value, list) else value
