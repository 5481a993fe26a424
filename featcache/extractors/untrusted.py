"""JSON files of a model → plain objects without entries that would have code or other files read."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from featcache.errors import ModelError
from featcache.files.regular import resolved

DEEPEST = 64
# How models attend; others need packages or kernels that a file may not choose.
ATTENTION = ("eager", "sdpa")
ATTENTION_KEYS = ("attn_implementation", "_attn_implementation", "_attn_implementation_internal")
# Entries that have transformers import code, or read other files than it was given.
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
# Entries of a tokenizer that may be the names of files.
FILES = ("_file", "_files", "vocab", "merges", "tokenizer_object")
# No model has more blocks, nor a larger vocabulary or layer: with more, building it would not end or fill the memory.
MOST_BLOCKS = 1024
LARGEST_SIZE = 2**24
BLOCKS = ("layers", "layer", "blocks")
SIZES = ("size", "dim", "heads", "model", "embd", "embeddings", "positions", "kernel", "stride", "groups", "bins")


def parse_object(content: bytes) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ValueError: anything else; the message ends a sentence like "config.json is …".
    """
    try:
        found = json.loads(content)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except ValueError:  # JSON's own errors, and those of Unicode and of numbers with too many digits
        raise ValueError("not a valid JSON file") from None
    if not isinstance(found, dict):
        raise ValueError(f"not a JSON object but a {type(found).__name__}")
    if _is_deeper(found, DEEPEST):
        raise ValueError("nested too deeply")
    return found


def dump(content: Mapping[str, Any]) -> bytes:
    """The same as a JSON file."""
    return json.dumps(content, ensure_ascii=False).encode("utf-8", "surrogatepass")


def checked_config(source: str, name: str, content: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The settings of a model without entries that name files or code.

    Args:
        source: The model, for messages.
        name: Of the file.
        content: What it says.
        folder: Where the model is.

    Raises:
        ModelError: the settings ask for something that is never done: files elsewhere, other code for attention,
            weights under another name, quantised weights.
    """
    kept: dict[str, Any] = _without_files(source, name, content, folder)
    if name != "config.json":
        return kept
    if "model_type" in kept and not isinstance(kept["model_type"], str):
        raise refusal(source, f"{name} gives {kept['model_type']!r} for 'model_type', expected a name such as wav2vec2")
    for key in ATTENTION_KEYS:
        wanted = kept.get(key)
        if wanted is not None and wanted not in ATTENTION:
            raise refusal(
                source,
                f"{name} asks for the attention implementation {wanted!r}, expected {' or '.join(ATTENTION)}; "
                f"remove the entry {key!r} to use the default",
            )
    if kept.get("quantization_config") is not None:
        raise refusal(source, f"{name} says that its weights are quantised, expected float weights; take those instead")
    if kept.get("transformers_weights") is not None:
        raise refusal(
            source,
            f"{name} names its weights itself ({kept['transformers_weights']!r}), expected model.safetensors; rename "
            "the file and remove the entry 'transformers_weights'",
        )
    _check_sizes(source, name, kept)
    return kept


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
            # the usual name of each file is found without this; what is read must lie in the folder
            if _leads_out(folder, value):
                raise refusal(source, f"{name} names {value!r} as {key!r}, outside of the folder; remove this entry")
            continue
        kept[key] = _without_files(source, name, value, folder)
    return kept


def _leads_out(folder: Path, value: str) -> bool:
    """Whether a path leads out of a folder: upwards, or to something that is there."""
    if not Path(value).is_absolute():
        return ".." in value.replace("\\", "/").split("/")
    try:
        # a path that only the machine of its author had is no danger here
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
                raise refusal(source, f"{name} gives {number} for {key!r}, expected at most {most}")
            if last in BLOCKS and number < 0:  # a size of -1 may mean that there is no limit
                raise refusal(source, f"{name} gives {number} for {key!r}, expected 0 or more")


def _is_deeper(content: Any, most: int) -> bool:
    level = [content]
    for _ in range(most):
        inner = (one.values() if isinstance(one, dict) else one for one in level)
        level = [item for items in inner for item in items if isinstance(item, (dict, list))]
        if not level:
            return False
    return True


def refusal(source: str, reason: str) -> ModelError:
    """Return the error of one line for a model that is not loaded."""
    return ModelError(f"{source}: cannot be loaded ({reason})")
