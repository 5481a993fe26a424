"""Cache × options → a fine-tuned run: the upper blocks of models are trained from a stored layer, with a head."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from featcache.extractors.references import from_everywhere
from featcache.fitting.fit import train_requests
from featcache.fitting.repeat import expanded
from featcache.runs.reader import RunFolder
from featcache.settings.checked import configured
from featcache.settings.finetunings import FinetuneSettings
from featcache.settings.fits import LayerWeighting, Norm, Pooling, Task
from featcache.settings.public import documented, without
from featcache.settings.training_loop import Criterion, Optimizer, Sampler, Schedule


@documented("featcache.finetune", FinetuneSettings, expand=partial(expanded, kind=FinetuneSettings))
def finetune(
    *,
    from_layer: int | Sequence[int] | None = None,
    head: str = "dense",
    set: Mapping[str, Any] | None = None,
    norm: Norm = "none",
    seeds: int | Sequence[int] = 5,
    features: str | Sequence[str] = (),
    model: str | os.PathLike[str] | Sequence[str] | Mapping[str, str] = (),
    layers: str = "last",
    layer_weighting: LayerWeighting = "abs",
    pooling: Pooling | None = None,
    max_frames: int | None = None,
    protocol: str | None = None,
    target: str | None = None,
    task: Task | None = None,
    label_range: tuple[float, float] | None = None,
    select: Mapping[str, str | Sequence[str]] | None = None,
    limit: int | None = None,
    loss: str | None = None,
    class_weights: str | Mapping[str, float] = "none",
    final: bool = False,
    fold: int | None = None,
    train_fraction: float = 1.0,
    blocks_learning_rate: float = 1e-5,
    blocks_dropout: float | None = None,
    layer_dropout: float | None = None,
    time_mask: float = 0.0,
    batch_seconds: float | None = None,
    group_by_length: bool = False,
    max_steps: int | None = None,
    accumulate: int = 1,
    clip_norm: float | None = None,
    gradient_checkpointing: bool = False,
    learning_rate: float = 1e-4,
    batch_size: int | None = None,
    max_epochs: int = 100,
    patience: int = 4,
    clip_value: float = 1.0,
    epsilon: float = 1e-7,
    mixup: float = 0.0,
    optimizer: Optimizer = "adam",
    weight_decay: float | None = None,
    schedule: Schedule = "constant",
    warmup: float = 0.0,
    stop_on: Criterion = "loss",
    evaluate_every: int | None = None,
    sampler: Sampler = "shuffled",
    corpus: str | None = None,
    device: str = "cpu",
    plugin: str | Sequence[str] = (),
    memory: str | None = None,
    jobs: int = 1,
    scheduler: str | None = None,
    name: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    config: str | os.PathLike[str] | None = None,
    home: str | os.PathLike[str] | None = None,
) -> RunFolder:
    """Train the upper blocks of cached models together with a head, over all folds and seeds of a protocol.

    Training starts from a stored layer, so that the parts of the model below it are never computed. The run folder has
    the results of a fit, and a folder with the fine-tuned model of each training.

    Args:
        home: Folder of corpora, caches and runs; by default ``$FEATCACHE_HOME``, or ``data``.

    Returns:
        The finished run. A run with the same settings that exists already is returned as it is.

    Raises:
        FeatcacheError: a fit with these options is not possible, see :func:`fit`; a store does not have the layer, or
            its model is not here, has other weights, or cannot be trained from stored layers.
        TypeError: an option does not exist.
    """
    return _trained(without(locals(), "home"), home)


def finetune_given(given: Mapping[str, Any]) -> RunFolder:
    """Fine-tune with the options that the user gave on the command line.

    Raises:
        FeatcacheError: see :func:`finetune`.
    """
    return _trained(expanded(given, kind=FinetuneSettings), None)


def _trained(given: Mapping[str, Any], home: str | os.PathLike[str] | None) -> RunFolder:
    request = configured(FinetuneSettings, given)
    models = tuple(map(_from_any_folder, request.model))  # workers of Dask have other current folders
    [run] = train_requests([replace(request, model=models)], home=home)
    return run


def _from_any_folder(model: str) -> str:
    """Return ``[STORE=]FOLDER`` with the absolute path of the folder; other names are not changed."""
    store, separator, folder = model.partition("=")
    if os.path.isdir(model) or not separator:
        return from_everywhere(model)
    return f"{store}={from_everywhere(folder)}"
