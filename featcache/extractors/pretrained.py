"""Checked files → a frozen model of transformers, and why there is none in one line."""

import hashlib
import logging as std_logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from featcache.errors import ModelError
from featcache.extractors.checkpoint import Checkpoint, is_folder, without_copies
from featcache.machine import available_memory

if TYPE_CHECKING:
    import torch


def read_configuration(checkpoint: Checkpoint) -> Any:
    """The configuration of a checkpoint, as transformers reads it."""
    import transformers

    return transformers.AutoConfig.from_pretrained(str(checkpoint.folder), trust_remote_code=False)


def pretrained_module(model_class: Any, checkpoint: Checkpoint, config: Any, *, unused: tuple[str, ...] = ()) -> Any:
    """A model with all its weights, from safetensors.

    Args:
        model_class: Of transformers.
        checkpoint: Open, with its weights.
        config: The model's, as transformers read it.
        unused: Parameters may be missing in whose name one of these stands.

    Raises:
        ModelError: other weights are missing, or have another shape; the model is larger than the memory.
    """
    check_memory(model_class, config, checkpoint.source)
    module, report = model_class.from_pretrained(
        str(checkpoint.folder),
        config=config,
        use_safetensors=True,
        trust_remote_code=False,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # told below, in one line
    )
    # a name, or a name with two shapes, as the version of transformers has it
    mismatched = (item if isinstance(item, str) else item[0] for item in report["mismatched_keys"])
    absent = {*report["missing_keys"], *mismatched}
    missing = sorted(name for name in absent if not any(part in name for part in unused))
    if missing:
        raise ModelError(
            f"{checkpoint.source}: its weights lack {len(missing)} parameters of its {config.model_type} architecture "
            f"(first: {missing[0]}), which would be random; is this the right checkpoint?"
        )
    return module


def check_memory(model_class: Any, config: Any, source: str) -> None:
    """Refuse an architecture whose parameters do not fit into memory, before any of them is made.

    Raises:
        ModelError: they do not.
    """
    import torch

    with torch.device("meta"), torch.random.fork_rng(devices=[]):
        module = model_class(config)
    size = sum(parameter.numel() for parameter in module.parameters()) * torch.float32.itemsize
    if size > available_memory():
        raise ModelError(
            f"{source}: its architecture takes {size / 1e9:.1f} GB of memory and there are "
            f"{available_memory() / 1e9:.1f} GB; take a smaller model"
        )


def freeze(module: Any) -> None:
    """Evaluation mode, no gradients, float32: some checkpoints are kept in half precision."""
    module.float().eval().requires_grad_(False)


def hash_parameters(module: "torch.nn.Module") -> str:
    """The SHA-256 over all parameters, in order of their names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().view(-1).numpy().data)
    return digest.hexdigest()


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep progress bars, notes on unused heads and repeated tries to reach the hub off the terminal."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    hub = std_logging.getLogger("huggingface_hub")
    hub_level = hub.level
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    hub.setLevel(std_logging.ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        hub.setLevel(hub_level)
        if bars:
            logging.enable_progress_bar()


@contextmanager
def explained(model: str, instead: str = "") -> Iterator[None]:
    """Say in one line why a model could not be loaded or used, and what can be done instead.

    Inside, transformers works on files of other people: whatever it stumbles over is a fault of theirs.
    """
    try:
        yield
    except (ModelError, MemoryError):
        raise
    except OSError as error:  # transformers raises it for ids, files and networks alike
        if is_folder(model):
            raise ModelError(f"{model}: cannot be loaded ({_reason(error, model)})") from error
        raise ModelError(
            f"model {model!r} is not on this machine and could not be fetched from the Hugging Face hub "
            f"({_reason(error, model)}){instead}"
        ) from error
    except Exception as error:
        raise ModelError(f"{model}: cannot be loaded ({_reason(error, model)})") from error


def _reason(error: BaseException, model: str) -> str:
    """The first line of an error; classes whose messages tell little by themselves are named."""
    lines = without_copies(str(error), model).strip().splitlines()
    line = lines[0].rstrip(".") if lines else ""
    if line.endswith(":") and len(lines) > 1:  # what is wrong stands below
        line = f"{line} {lines[1].strip().rstrip('.')}"
    telling = isinstance(error, (ValueError, ImportError, OSError)) or type(error).__module__ != "builtins"
    if telling or type(error) is Exception:
        return line or type(error).__name__
    return f"{type(error).__name__}: {line}" if line else type(error).__name__
