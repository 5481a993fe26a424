"""Checked safetensors files → module that transformers cannot load itself: an own class, or a part of a model."""

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from featcache.extractors.checkpoint import Checkpoint, prefix_of
from featcache.extractors.pretrained import check_memory, refuse_missing
from featcache.extractors.safetensors_revision import INDEX, WEIGHTS
from featcache.extractors.untrusted import parse_object

if TYPE_CHECKING:
    from torch import Tensor


def own_module(
    model_class: Any,
    checkpoint: Checkpoint,
    config: Any,
    *,
    prefixes: Sequence[str] = ("",),
    unused: tuple[str, ...] = (),
) -> Any:
    """Create a module and fill it with the weights of a checkpoint.

    Args:
        model_class: Class of the module, which is created from the configuration.
        checkpoint: Open checkpoint with weights.
        config: Configuration of the module, with an entry ``model_type``.
        prefixes: Prefixes of the module's parameters in the checkpoint, as :func:`read_weights` takes them.
        unused: Parts of parameter names; parameters with such a name may be missing.

    Returns:
        The module, float32.

    Raises:
        ModelError: other weights are missing or have a wrong shape, or the module does not fit into memory.
    """
    import torch

    check_memory(model_class, config, checkpoint.source)
    with torch.random.fork_rng(devices=[]):
        module = model_class(config)
    expected = module.state_dict()
    found = read_weights(checkpoint, prefixes, expected)
    # Whole numbers are quantised weights, and complex ones would lose a part: their values are not the model's.
    fitting = {
        name: values
        for name, values in found.items()
        if values.shape == expected[name].shape and values.is_floating_point() == expected[name].is_floating_point()
    }
    refuse_missing(checkpoint, config, expected.keys() - fitting.keys(), unused)
    module.load_state_dict(fitting, strict=False)
    return module


def read_weights(checkpoint: Checkpoint, prefixes: Sequence[str], names: Any) -> dict[str, "Tensor"]:
    """Return the parameters with these names from the safetensors files of a checkpoint.

    Args:
        checkpoint: Open checkpoint with weights.
        prefixes: Prefixes that may stand before the names in the files. The first one that occurs is used; an empty
            prefix occurs always.
        names: Names without prefix; others are not read.

    Returns:
        Name without prefix → values, in the dtype of the file; names that the files do not have are missing.
    """
    from safetensors import safe_open

    files = [WEIGHTS]
    if checkpoint.has(INDEX):
        files = sorted(set(parse_object((checkpoint.folder / INDEX).read_bytes())["weight_map"].values()))
    places: dict[str, str] = {}
    for file in files:
        with safe_open(checkpoint.folder / file, framework="pt") as opened:
            places |= dict.fromkeys(opened.keys(), file)
    prefix = prefix_of(places, prefixes)
    wanted: dict[str, list[str]] = defaultdict(list)
    for name in names:
        if prefix + name in places:
            wanted[places[prefix + name]].append(name)
    found: dict[str, Tensor] = {}
    for file, of_file in wanted.items():
        with safe_open(checkpoint.folder / file, framework="pt") as opened:
            found |= {name: opened.get_tensor(prefix + name) for name in of_file}
    return found
