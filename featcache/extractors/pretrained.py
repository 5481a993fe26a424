"""Checked files → frozen model of transformers, or an error message of one line."""

import hashlib
import logging as std_logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from featcache.errors import DiskError, ModelError
from featcache.extractors.checkpoint import Checkpoint, NoWeightsError, is_folder, without_copies
from featcache.machine import available_memory
from featcache.units import counted
from featcache.workspace import Workspace

if TYPE_CHECKING:
    import torch

UNTRAINED_INSTEAD = ", or use --weights random (untrained)"
"""End of the advice about a missing model that can be built untrained; predictions need the trained one."""


def read_configuration(checkpoint: Checkpoint) -> Any:
    """Return transformers' configuration of a checkpoint."""
    import transformers

    return transformers.AutoConfig.from_pretrained(str(checkpoint.folder), trust_remote_code=False)


def pretrained_module(model_class: Any, checkpoint: Checkpoint, config: Any, *, unused: tuple[str, ...] = ()) -> Any:
    """Load a model with all its weights, from safetensors files.

    Args:
        model_class: Class of transformers.
        checkpoint: Open checkpoint with weights.
        config: Configuration of the model, from transformers.
        unused: Parts of parameter names; parameters with such a name may be missing.

    Returns:
        The model.

    Raises:
        ModelError: other weights are missing or have a wrong shape, or the model does not fit into memory.
    """
    check_memory(model_class, config, checkpoint.source)
    module, report = model_class.from_pretrained(
        str(checkpoint.folder),
        config=config,
        use_safetensors=True,
        trust_remote_code=False,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # reported below, in one line
    )
    # Depending on the version of transformers, an item is a name, or a name with two shapes.
    mismatched = (item if isinstance(item, str) else item[0] for item in report["mismatched_keys"])
    absent = {*report["missing_keys"], *mismatched}
    refuse_missing(checkpoint, config, absent, unused)
    return module


def refuse_missing(checkpoint: Checkpoint, config: Any, absent: Iterable[str], unused: tuple[str, ...]) -> None:
    """Refuse a checkpoint without all weights of its model.

    Args:
        checkpoint: Open checkpoint.
        config: Configuration of the model.
        absent: Names of the parameters that the checkpoint does not have in the right shape.
        unused: Parts of parameter names; parameters with such a name may be missing.

    Raises:
        ModelError: other parameters are missing.
    """
    missing = sorted(name for name in absent if not any(part in name for part in unused))
    if missing:
        are = "is" if len(missing) == 1 else "are"
        raise ModelError(
            f"{checkpoint.source}: {counted(len(missing), 'parameter')} of its {config.model_type} architecture {are} "
            f"missing or of another shape or type in its weights (first: {missing[0]}) and would be random; check that "
            "this is the right checkpoint"
        )


def check_memory(model_class: Any, config: Any, source: str) -> None:
    """Refuse an architecture whose parameters do not fit into memory, before allocating them.

    Args:
        model_class: Class of transformers.
        config: Configuration of the model.
        source: Name of the model, for messages.

    Raises:
        ModelError: the parameters do not fit into memory.
    """
    import torch

    with torch.device("meta"), torch.random.fork_rng(devices=[]):
        module = model_class(config)
    size = count_parameters(module) * torch.float32.itemsize
    if size > available_memory():
        raise ModelError(
            f"{source}: its architecture needs {size / 1e9:.1f} GB of memory, but only "
            f"{available_memory() / 1e9:.1f} GB are available; use a smaller model"
        )


def freeze(module: Any) -> None:
    """Convert a model to float32, since some checkpoints are in half precision, and turn off training and gradients."""
    module.float().eval().requires_grad_(False)


def count_parameters(module: "torch.nn.Module") -> int:
    """Return the number of parameters of a model; shared parameters count once, buffers not at all."""
    return sum(parameter.numel() for parameter in module.parameters())


def hash_parameters(module: "torch.nn.Module", rename: Callable[[str], str] = str) -> str:
    """Return the SHA-256 of all parameters, in order of their names.

    Args:
        module: Model.
        rename: Function from the name of a parameter to a name that is the same in all versions of transformers.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted((rename(name), tensor) for name, tensor in module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().view(-1).numpy().data)
    return digest.hexdigest()


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Hide progress bars, notes on unused heads and notes on repeated requests to the hub."""
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


def ways_to_get(model: str, *, untrained: bool) -> str:
    """Return the end of a message about a model that is not on this machine: what the user can do.

    Args:
        model: Name of the model, as the user gave it.
        untrained: Whether the model can be built untrained, without network.
    """
    instead = UNTRAINED_INSTEAD if untrained else ""
    return (
        f"; run 'featcache fetch {model} --out FOLDER' where there is a network and copy FOLDER into "
        f"{Workspace.at().models} here{instead}"
    )


@contextmanager
def explained(model: str, instead: str = "") -> Iterator[None]:
    """Convert any error inside the block into a message of one line.

    Inside the block, transformers reads untrusted files. Therefore any exception is reported as a fault of these files.

    Args:
        model: Name of the model, for messages.
        instead: Advice for the user, at the end of the message if the model cannot be downloaded; see
            :func:`ways_to_get`.

    Raises:
        ModelError: the model cannot be downloaded, loaded or used.
        DiskError: the block raised it.
    """
    try:
        yield
    except NoWeightsError as error:
        raise ModelError(f"{error}{instead}") from error
    except (DiskError, ModelError, MemoryError):
        raise
    except OSError as error:  # wrong ids, unreadable files and network errors
        if is_folder(model):
            raise ModelError(f"{model}: cannot be loaded ({_reason(error, model)})") from error
        raise ModelError(
            f"model {model!r} is not on this machine and could not be downloaded from the Hugging Face hub "
            f"({_reason(error, model)}){instead}"
        ) from error
    except Exception as error:
        raise ModelError(f"{model}: cannot be loaded ({_reason(error, model)})") from error


def _reason(error: BaseException, model: str) -> str:
    """Return the first line of an error, with the class if the message alone is not clear."""
    lines = without_copies(str(error), model).strip().splitlines()
    line = lines[0].rstrip(".") if lines else ""
    if line.endswith(":") and len(lines) > 1:  # The reason is in the next line.
        line = f"{line} {lines[1].strip().rstrip('.')}"
    telling = isinstance(error, (ValueError, ImportError, OSError)) or type(error).__module__ != "builtins"
    if telling or type(error) is Exception:
        return line or type(error).__name__
    return f"{type(error).__name__}: {line}" if line else type(error).__name__
