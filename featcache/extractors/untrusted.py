"""JSON files of a model → plain objects, without entries that would load code or other files."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from featcache.errors import ModelError
from featcache.files.regular import resolved

DEEPEST = 64
"""Largest depth of nested JSON objects and lists."""
# Accepted attention implementations; others need packages or kernels, which a model's file may not choose.
ATTENTION = ("eager", "sdpa")
ATTENTION_KEYS = ("attn_implementation", "_attn_implementation", "_attn_implementation_internal")
# Removed entries: they would make transformers import code or read other files.
DROPPED = frozenset(
    {
        "_experts_implementation",
        "auto_map",
        "base_model_pp_plan",
        "base_model_tp_plan",
        "configuration_files",
        "custom_pipelines",
        "distributed_config",
        "experts_implementation",
        "fast_tokenizer_files",
        "fusion_config",
        "kernel_config",
        "use_kernels",
    }
)
# Endings of entries that may contain file names.
FILES = ("_file", "_files", "vocab", "merges", "tokenizer_object")
# Limits above those of any real model; a model with larger sizes would take too long to build, or fill the memory.
MOST_BLOCKS = 1024
LARGEST_SIZE = 2**24
BLOCKS = ("layers", "layer", "blocks")
SIZES = ("size", "dim", "heads", "model", "embd", "embeddings", "positions", "kernel", "stride", "groups", "bins")


def parse_object(content: bytes) -> dict[str, Any]:
    """Parse a JSON object.

    Raises:
        ValueError: the content is not a JSON object; the message continues a sentence such as "config.json is …".
    """
    try:
        found = json.loads(content)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except ValueError:  # invalid JSON, invalid Unicode, or a number with too many digits
        raise ValueError("not a valid JSON file") from None
    if not isinstance(found, dict):
        raise ValueError(f"not a JSON object but a {type(found).__name__}")
    if _is_deeper(found, DEEPEST):
        raise ValueError("nested too deeply")
    return found


def dump(content: Mapping[str, Any]) -> bytes:
    """Return the content of a JSON file for an object."""
    return json.dumps(content, ensure_ascii=False).encode("utf-8", "surrogatepass")


def checked_config(source: str, name: str, content: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Check the configuration of a model and remove entries that name files or code.

    Args:
        source: Name of the model, for messages.
        name: Name of the file.
        content: Content of the file.
        folder: Folder of the model.

    Returns:
        The other entries.

    Raises:
        ModelError: the configuration requests files outside of the folder, other code for attention, weights under
            another name, or quantised weights; or a size is out of range.
    """
    kept: dict[str, Any] = _without_files(source, name, content, folder)
    if name != "config.json":
        return kept
    if "model_type" in kept and not isinstance(kept["model_type"], str):
        raise refusal(source, f"{name} has 'model_type': {kept['model_type']!r}, expected a name such as wav2vec2")
    _check_parts(source, name, kept)
    if kept.get("quantization_config") is not None:
        raise refusal(source, f"{name} describes quantised weights, expected float weights; use unquantised weights")
    if kept.get("transformers_weights") is not None:
        raise refusal(
            source,
            f"{name} gives another name of its weights ({kept['transformers_weights']!r}), expected model.safetensors; "
            "rename the file and remove the entry 'transformers_weights'",
        )
    return kept


def _check_parts(source: str, name: str, config: Mapping[str, Any]) -> None:
    """Check attention and sizes of a configuration, and of the configurations of its parts, such as an encoder."""
    for key in ATTENTION_KEYS:
        wanted = config.get(key)
        if wanted is not None and wanted not in ATTENTION:
            raise refusal(
                source,
                f"{name} requests the attention implementation {wanted!r}, expected {' or '.join(ATTENTION)}; "
                f"remove the entry {key!r} to use the default",
            )
    _check_sizes(source, name, config)
    for part in config.values():
        if isinstance(part, dict):
            _check_parts(source, name, part)


def _without_files(source: str, name: str, content: Any, folder: Path) -> Any:
    if isinstance(content, list):
        return [_without_files(source, name, item, folder) for item in content]
    if not isinstance(content, dict):
        return content
    kept = {}
    for key, value in content.items():
        if key in DROPPED:
            continue
        if key.endswith(FILES) and isinstance(value, str):
            # transformers finds files with the usual names without this entry. Other paths must not leave the folder.
            if _leads_out(folder, value):
                raise refusal(source, f"{name} has {key!r}: {value!r}, outside of the folder; remove this entry")
            continue
        kept[key] = _without_files(source, name, value, folder)
    return kept


def _leads_out(folder: Path, value: str) -> bool:
    """Return whether a path leads out of a folder: by ``..``, or as an absolute path that exists."""
    if not Path(value).is_absolute():
        return ".." in value.replace("\\", "/").split("/")
    try:
        # Paths on the machine of the model's author are common in such files and harmless if they do not exist here.
        return Path(value).exists() and not resolved(value).is_relative_to(resolved(folder))
    except (OSError, RuntimeError, ValueError):
        return True


def _check_sizes(source: str, name: str, config: Mapping[str, Any]) -> None:
    for key, value in config.items():
        last = key.rpartition("_")[2]
        if last not in BLOCKS and last not in SIZES:
            continue
        most = MOST_BLOCKS if last in BLOCKS else LARGEST_SIZE
        for number in value if isinstance(value, list) else [value]:
            if not isinstance(number, (int, float)):
                continue
            if not abs(number) <= most:
                raise refusal(source, f"{name} has {key!r}: {number}, expected at most {most}")
            if last in BLOCKS and number < 0:  # Sizes may be negative: -1 can mean that there is no limit.
                raise refusal(source, f"{name} has {key!r}: {number}, expected 0 or more")


def _is_deeper(content: Any, most: int) -> bool:
    level = [content]
    for _ in range(most):
        inner = (one.values() if isinstance(one, dict) else one for one in level)
        level = [item for items in inner for item in items if isinstance(item, (dict, list))]
        if not level:
            return False
    return True


def refusal(source: str, reason: str) -> ModelError:
    """Return the error for a model that is not loaded, with a message of one line.

    Args:
        source: Name of the model.
        reason: Reason for the refusal.
    """
    return ModelError(f"{source}: cannot be loaded ({reason})")
