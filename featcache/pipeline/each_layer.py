"""Run with ``layers: each`` → one run per layer of its store."""

from collections.abc import Mapping
from pathlib import Path

from featcache.cache.shards import read_catalogue, shard_numbers
from featcache.errors import ModelError, PipelineError, StoreError
from featcache.layer_selection import select_layers
from featcache.pipeline.schema import EACH, RunSpec, StoreSpec
from featcache.pipeline.stores import model_dimensions


def expanded(
    specs: Mapping[str, RunSpec], stores: Mapping[str, tuple[StoreSpec, Path]]
) -> dict[str, tuple[RunSpec, str]]:
    """Replace each run with ``layers: each`` by one run per layer.

    Args:
        specs: Name → run.
        stores: Name of a store in the pipeline → its specification and its folder in the cache.

    Returns:
        Name → run, and the name of the run in the pipeline. The runs of layers have the layer at the end of their name
        and title. A run is unchanged if the number of layers is not known, because its model is not on this machine.

    Raises:
        PipelineError: The store has no layers, or the name of a layer's run is that of another run.
    """
    found: dict[str, tuple[RunSpec, str]] = {}
    for name, spec in specs.items():
        layers = layers_of(*stores[spec.features[0]]) if spec.layers == EACH else None
        if layers is None:
            found[name] = spec, name
            continue
        for layer in layers:
            changed = {"layers": layer, "title": f"{spec.title}, layer {layer}"}
            if f"{name}-{layer}" in specs:
                raise PipelineError(
                    f"run {name!r} with 'layers: {EACH}' makes a run {name}-{layer}, which exists; rename it"
                )
            found[f"{name}-{layer}"] = spec.model_copy(update=changed), name
    return found


def layers_of(spec: StoreSpec, folder: Path) -> list[str] | None:
    """Return the names of the layers of a store: of the store in the cache, otherwise of the model's architecture.

    Args:
        spec: Specification of the store.
        folder: Folder of the store in the cache; it may be missing.

    Returns:
        Numbers of layers as texts; None if they are not known.

    Raises:
        PipelineError: The store has no layers.
    """
    layers = _stored(folder)
    if layers is None:
        known = model_dimensions(spec.encoder) if spec.is_model else (0, 0, 0)
        if known is None:
            return None
        most = min(known[0] - 1, spec.num_blocks or known[0])  # layer 0 is the input of the first block
        names = [str(layer) for layer in range(most + 1)]
        try:
            layers = [names[place] for place in select_layers(spec.layers or "all", names, num_blocks=most)]
        except ModelError:  # such as 'input': extraction checks the names
            return None
    numbered = [name for name in layers if name.isdigit()]
    if not numbered:
        raise PipelineError(f"{spec.encoder} has no layers; 'layers: {EACH}' needs the store of a model")
    return numbered


def _stored(folder: Path) -> list[str] | None:
    try:
        return list(read_catalogue(folder).attributes["layer_names"]) if shard_numbers(folder) else None
    except StoreError:
        return None
