"""Stores × ``--from-layer`` → the upper blocks of their models, or an error about a store that has no such layer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from featcache.cache.identity import WEIGHTS
from featcache.cache.reader import FeatureStore
from featcache.errors import ModelError, StoreError
from featcache.extraction.store_models import model_of_store, models_by_store, naming_folder, workspace_of
from featcache.extractors.upper import (
    AdapterOptions,
    TuningOptions,
    UpperBlocks,
    check_peft,
    check_store,
    load_upper,
)
from featcache.heads import HeadSpec
from featcache.layer_selection import select_layers
from featcache.runs.tuned_inputs import TunedInput
from featcache.settings.field import non_default
from featcache.settings.finetunings import NOT_IN_FINETUNING, FinetuneSettings
from featcache.settings.searches import value_text
from featcache.training.store_features import ROUNDING, StoreFeatures
from featcache.units import counted

NOTE = "The blocks of {} after layer {} are trained from its stored layer {}, together with the head."
ADAPTERS_NOTE = (
    "Low-rank adapters (LoRA, rank {}) in the blocks of {} after layer {} are trained from its stored layer {}, "
    "together with the head; the other parameters of the blocks are not changed."
)
FROZEN_NOTE = "The blocks of {} after layer {} are computed from its stored layer {}, but not trained (control)."


@dataclass(frozen=True, kw_only=True)
class HeadFeatures:
    """Features as the head itself sees them: stored features, or the outputs of fine-tuned blocks.

    Attributes:
        layers: Names of the layers, for each store.
        hidden_sizes: Hidden size of each store.
        pooling: Pooling over all frames before the head; None if the head takes all frames.
        paired: Whether the frames of all stores are aligned in time.
    """

    layers: tuple[tuple[str, ...], ...]
    hidden_sizes: tuple[int, ...]
    pooling: str | None
    paired: bool

    @classmethod
    def of(cls, features: Sequence[StoreFeatures]) -> "HeadFeatures":
        """Return the features of a head on stored features."""
        return cls(
            layers=tuple(item.layer_names for item in features),
            hidden_sizes=tuple(item.store.hidden_size for item in features),
            pooling=features[0].pooling,
            paired=features[0].paired,
        )


def tuned_inputs(request: FinetuneSettings, spec: HeadSpec, stores: Sequence[FeatureStore]) -> tuple[TunedInput, ...]:
    """Return the blocks that a fine-tuning trains, one item per store.

    Raises:
        ModelError: an option or a head cannot be used for fine-tuning, or a store does not have the layer.
        StoreError: a store has no frames of a model.
    """
    _check_options(request, spec)
    numbers = request.from_layer or ()
    if len(numbers) != len(stores):
        names = "; ".join(f"{store.name}: {', '.join(_first_layers(store)) or 'none'}" for store in stores)
        given = f"--from-layer {','.join(map(str, numbers))}" if numbers else "--from-layer is missing"
        raise ModelError(f"{given}: expected the number of a stored layer for each store ({names})")
    if request.batch_seconds is not None and all(np.isnan(store.frame_shift) for store in stores):
        raise ModelError(
            f"--batch-seconds {request.batch_seconds:g}: {stores[0].name} has tokens, which have no duration; use "
            "--batch-size"
        )
    return tuple(_input(request, store, from_layer) for store, from_layer in zip(stores, numbers, strict=True))


def outputs_of_blocks(
    tuned: Sequence[TunedInput], stores: Sequence[FeatureStore], spec: HeadSpec, pooling: str | None
) -> HeadFeatures:
    """Return the outputs of the blocks, as the head sees them."""
    shifts = [store.frame_shift for store in stores]
    aligned = len(stores) == 1 or bool(not np.isnan(shifts).any() and np.ptp(shifts) < ROUNDING)
    return HeadFeatures(
        layers=tuple(one.layers for one in tuned),
        hidden_sizes=tuple(store.hidden_size for store in stores),
        pooling=pooling,
        paired=spec.pairs_frames and aligned,
    )


def tuned_notes(request: FinetuneSettings, tuned: Sequence[TunedInput]) -> list[str]:
    """Return the notes for the report: which blocks were trained."""
    trained = NOTE if request.lora is None else ADAPTERS_NOTE.replace("{}", str(request.lora), 1)
    note = trained if request.blocks_learning_rate else FROZEN_NOTE
    return [note.format(one.store, one.from_layer, one.from_layer) for one in tuned]


def load_blocks(
    request: FinetuneSettings, tuned: Sequence[TunedInput], stores: Sequence[FeatureStore]
) -> dict[str, UpperBlocks]:
    """Load the pretrained blocks of all stores.

    Args:
        request: The settings of the fine-tuning.
        tuned: The blocks, one item per store.
        stores: The stores, which record the model and the checksum of its weights.

    Returns:
        Name of each store → blocks of its model.

    Raises:
        FeatcacheError: a model is not here or has other weights, or its blocks cannot be trained from a stored layer.
    """
    identities = {store.name: store.identity for store in stores}
    models = models_by_store(request.model, identities)
    options = _options(request)
    found = {}
    for one, store in zip(tuned, stores, strict=True):
        model = models.get(one.store)
        with naming_folder(one.store, one.store, identities, model):
            found[one.store] = upper_of_store(
                store, model, from_layer=one.from_layer, layers=",".join(one.layers), options=options
            )
    return found


def blocks_key(
    request: FinetuneSettings, tuned: Sequence[TunedInput], stores: Sequence[FeatureStore]
) -> tuple[Any, ...]:
    """Return what :func:`load_blocks` depends on: its result is equal for equal keys."""
    return request.model, _options(request), tuple(tuned), tuple(store.path for store in stores)


def _check_options(request: FinetuneSettings, spec: HeadSpec) -> None:
    """Check that no option is given that changes normalised features.

    Raises:
        ModelError: an option or the head cannot be used.
        MissingPackageError: adapters without PEFT.
    """
    if not spec.is_network:
        raise ModelError(
            f"head {request.head!r} is fitted by a solver, which cannot train blocks; use a network, such as ffn"
        )
    if request.norm != "none":
        raise ModelError(f"--norm {request.norm}: the blocks need stored layers as they are; use --norm none")
    if request.group_by_length and request.batch_seconds is not None:
        raise ModelError("--group-by-length: batches of --batch-seconds are of similar length; remove one of both")
    for name, value in non_default(request).items():
        if name in NOT_IN_FINETUNING:
            raise ModelError(
                f"--{name.replace('_', '-')} {value_text(name, value)}: not available for fine-tuning; remove it"
            )
        if name.startswith("lora_") and request.lora is None:
            raise ModelError(
                f"--{name.replace('_', '-')} {value_text(name, value)}: there are no adapters; add --lora RANK"
            )
    if request.lora is not None:
        check_peft()


def _input(request: FinetuneSettings, store: FeatureStore, from_layer: int) -> TunedInput:
    if store.identity.is_view:
        raise StoreError(f"{store.path} contains augmented speech; expected the clean speech in --features")
    settings, given = store.identity.settings, from_layer
    if from_layer < 0:
        from_layer += store.num_blocks
    if store.num_blocks and not 0 <= from_layer < store.num_blocks:
        last = store.num_blocks - 1
        expected = f"0 to {last}, or -1 (the last block) to -{store.num_blocks}" if last else "0, or -1"
        raise ModelError(
            f"--from-layer {given}: the model of {store.name} has {counted(store.num_blocks, 'block')}; expected "
            f"{expected}"
        )
    check_store(store.name, settings, store.layer_names, from_layer=from_layer, pooled=store.pooled_only)
    names = [str(layer) for layer in range(from_layer, store.num_blocks + 1)]
    try:
        chosen = select_layers(request.layers, names, num_blocks=store.num_blocks)
    except ModelError as error:
        raise ModelError(f"--layers {request.layers}: {error}") from error
    return TunedInput(store=store.name, from_layer=from_layer, layers=tuple(names[i] for i in chosen))


def upper_of_store(
    store: FeatureStore, model: str | None, *, from_layer: int, layers: str, options: TuningOptions | None = None
) -> UpperBlocks:
    """Load the upper blocks of the model that made a store.

    Args:
        store: The store, which records the model and the checksum of its weights.
        model: Folder of the model, if the user gave one.
        from_layer: Number of the stored layer from which the blocks start.
        layers: Layers that the blocks return.
        options: Options of training; None for the defaults.

    Raises:
        FeatcacheError: the model is not here or has other weights, or its blocks cannot be computed from this layer.
    """
    identity = store.identity
    source, recorded = model_of_store(identity, model, workspace_of(store))
    kept = ("revision", "weights", "num_blocks", "do_normalize")
    given: dict[str, Any] = {name: recorded[name] for name in kept if name in recorded}
    return load_upper(
        source,
        text=identity.reads_text,
        from_layer=from_layer,
        layers=layers,
        expected_sha256=identity.settings.get(WEIGHTS),
        with_padding=store.padded_frames is not None,
        options=options or TuningOptions(),
        **given,
    )


def _first_layers(store: FeatureStore) -> list[str]:
    """Return the stored layers from which blocks of the model can be trained."""
    return [name for name in store.layer_names if name.isdecimal() and int(name) < store.num_blocks]


def _options(request: FinetuneSettings) -> TuningOptions:
    return TuningOptions(
        dropout=request.blocks_dropout,
        layer_dropout=request.layer_dropout,
        gradient_checkpointing=request.gradient_checkpointing,
        time_mask=request.time_mask,
        adapters=_adapters(request),
    )


def _adapters(request: FinetuneSettings) -> AdapterOptions | None:
    if request.lora is None:
        return None
    return AdapterOptions(
        rank=request.lora, alpha=request.lora_alpha, dropout=request.lora_dropout, modules=request.lora_modules
    )
