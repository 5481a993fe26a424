"""Name of a model and number of a stored layer → upper blocks of the model, ready to be trained."""

import inspect
from dataclasses import dataclass, replace
from typing import Any, Literal

from featcache.errors import ModelError
from featcache.extractors.base import SAME_IN_ANY_BATCH
from featcache.extractors.models import load
from featcache.extractors.pretrained import explained
from featcache.extractors.stored_start import StoredBatch
from featcache.extractors.text_models import load_text_model
from featcache.extractors.tokens import Tokeniser, most_tokens
from featcache.extractors.upper.adapters import AdapterOptions
from featcache.extractors.upper.model_source import ModelSource
from featcache.extractors.upper.self_check import check_same, difference, speech_layers, text_layers
from featcache.extractors.upper.text_encoder import cut_text
from featcache.extractors.upper.time_mask import TimeMask
from featcache.extractors.upper.training_options import recompute, set_dropout, set_layer_dropout
from featcache.extractors.upper.upper_blocks import UpperBlocks
from featcache.layer_selection import select_layers
from featcache.units import counted


@dataclass(frozen=True, kw_only=True)
class TuningOptions:
    """Options of the upper blocks that matter during training only.

    Attributes:
        dropout: Probability of every dropout in the blocks; None for the values of the model's configuration.
        layer_dropout: Probability of leaving out a block in a training step; None for the value of the model's
            configuration if only the last layer is wanted, otherwise 0.
        gradient_checkpointing: Whether to compute blocks again for their gradients, which saves memory.
        time_mask: Share of frames that are masked, as transformers masks them (``mask_time_prob``); from layer 0 only.
        adapters: Low-rank adapters that are trained in place of the blocks; None to train the blocks.
    """

    dropout: float | None = None
    layer_dropout: float | None = None
    gradient_checkpointing: bool = False
    time_mask: float = 0.0
    adapters: AdapterOptions | None = None


def load_upper(
    model: str,
    *,
    text: bool,
    from_layer: int,
    layers: str = "last",
    revision: str | None = None,
    weights: Literal["pretrained", "random"] = "pretrained",
    num_blocks: int | None = None,
    do_normalize: bool | None = None,
    expected_sha256: str | None = None,
    with_padding: bool = False,
    options: TuningOptions = TuningOptions(),
) -> UpperBlocks:
    """Load the blocks of a model above a stored layer, on the CPU, in float32.

    Args:
        model: Short name, name of s3prl, Hugging Face id, or folder.
        text: Whether it is a text model.
        from_layer: Number k of the stored layer, from 0 to the number of blocks - 1.
        layers: Layers that the blocks return, among k … N: ``last``, ``all``, or a list such as ``8-11``.
        revision: Branch, tag or commit on the Hugging Face hub.
        weights: ``pretrained`` or ``random``.
        num_blocks: Number of transformer blocks to keep, as for the store; None keeps all.
        do_normalize: Whether the store's waveforms were normalised; None for the model's own setting. Only
            :meth:`~featcache.extractors.upper.UpperBlocks.save` needs it.
        expected_sha256: SHA-256 of the weights of the store; None for any weights.
        with_padding: Whether the store contains the frames of the padding (``extract --keep-padding``).
        options: Options of training.

    Raises:
        ModelError: the model cannot be loaded, has other weights, or cannot be computed from a stored layer; a layer
            does not exist; or an option does not apply.
        MissingPackageError: adapters without PEFT.
    """
    source = ModelSource(
        model=model,
        text=text,
        weights=weights,
        revision=revision,
        num_blocks=num_blocks,
        do_normalize=do_normalize,
        weights_sha256=expected_sha256 or "",
    )
    upper = (_text if text else _speech)(source, from_layer, layers, with_padding, options)
    if options.adapters is not None:
        upper.add_adapters(options.adapters)
    if options.gradient_checkpointing:
        if not upper.encoder.masks_padding:
            raise ModelError(
                f"gradient checkpointing does not apply to {model}, which computes texts of each length separately"
            )
        recompute(upper.encoder.blocks)
    return upper


def _speech(source: ModelSource, k: int, layers: str, with_padding: bool, options: TuningOptions) -> UpperBlocks:
    loaded = load(source.model, weights=source.weights, revision=source.revision, num_blocks=source.num_blocks)
    source = _checked(source, loaded.weights_sha256)
    module, batch = loaded.module, StoredBatch()
    family = loaded.family(module, loaded.feature_extractor)
    family.check_starts()
    if family.input_shape is not None and not with_padding:
        raise ModelError(
            f"{family.title} attends to the silence after an utterance, which the store does not contain; extract with "
            "--keep-padding into a store of another --name"
        )
    num_blocks, names = len(family.blocks), _names(module)
    wanted = _wanted(source, layers, k, num_blocks)
    _set_up(module, wanted, num_blocks, options)
    time_mask = _time_mask(source, module, k, options.time_mask)
    with explained(source.model):
        expected = speech_layers(family, k)
        upper = UpperBlocks(
            family.cut(k, batch),
            from_layer=k,
            wanted=wanted,
            num_blocks=num_blocks,
            hidden_size=family.width,
            source=source,
            names=names,
            time_mask=time_mask,
        )
        check_same(upper, expected)
    return upper


def _text(source: ModelSource, k: int, layers: str, with_padding: bool, options: TuningOptions) -> UpperBlocks:
    if with_padding or options.time_mask or source.num_blocks is not None:
        raise ModelError(f"padding, time masking and --num-blocks do not apply to {source.model}, a text model")
    loaded = load_text_model(source.model, weights=source.weights, revision=source.revision)
    source = _checked(source, loaded.weights_sha256)
    module, batch = loaded.module, StoredBatch()
    names, accepted = _names(module), inspect.signature(module.forward).parameters
    with explained(source.model):
        limit = most_tokens(module, loaded.tokenizer)
        texts = text_layers(module, Tokeniser(loaded.tokenizer, accepted=accepted, max_tokens=limit))
        num_blocks, hidden_size = len(texts[0]) - 1, texts[0][0].shape[1]
        wanted = _wanted(source, layers, k, num_blocks)
        _set_up(module, wanted, num_blocks, replace(options, layer_dropout=0.0))
        encoder = cut_text(module, source.model, num_blocks, hidden_size, k, batch)
        upper = UpperBlocks(
            encoder,
            from_layer=k,
            wanted=wanted,
            num_blocks=num_blocks,
            hidden_size=hidden_size,
            source=source,
            names=names,
        )
        expected = [(one[k], one[-1]) for one in texts]
        # Where padding changes the result, or cannot be masked, only texts of the same length are computed together.
        encoder.masks_padding = encoder.accepts_mask
        encoder.masks_padding &= difference(upper, expected) <= SAME_IN_ANY_BATCH["float32"]
        check_same(upper, expected)
    return upper


def _checked(source: ModelSource, found: str) -> ModelSource:
    if source.weights_sha256 not in ("", found):
        raise ModelError(
            f"the weights of {source.model} (SHA-256 {found[:12]}…) are not those of the store "
            f"({source.weights_sha256[:12]}…); use the model from which the features were extracted, or "
            "extract them again"
        )
    return replace(source, weights_sha256=found)


def _names(module: Any) -> dict[int, str]:
    return {id(parameter): name for name, parameter in module.named_parameters()}


def _wanted(source: ModelSource, layers: str, k: int, num_blocks: int) -> tuple[str, ...]:
    if not 0 <= k < num_blocks:
        raise ModelError(
            f"--from-layer is {k}, but {source.model} has {counted(num_blocks, 'block')}; expected "
            + (f"0 to {num_blocks - 1}" if num_blocks > 1 else "0")
        )
    names = tuple(str(number) for number in range(k, num_blocks + 1))
    return tuple(names[position] for position in select_layers(layers, names, num_blocks=num_blocks))


def _set_up(module: Any, wanted: tuple[str, ...], num_blocks: int, options: TuningOptions) -> None:
    """Set the probabilities of dropout; the whole model is changed, before its lower parts are removed."""
    if options.dropout is not None:
        set_dropout(module, options.dropout)
    only_last = wanted == (str(num_blocks),)
    if options.layer_dropout and not only_last:
        raise ModelError(
            "LayerDrop leaves out blocks, but the head reads their layers; use --layers last, or no LayerDrop"
        )
    if options.layer_dropout is not None or not only_last:
        set_layer_dropout(module, options.layer_dropout or 0.0)


def _time_mask(source: ModelSource, module: Any, k: int, probability: float) -> TimeMask | None:
    if not probability:
        return None
    if k > 0:
        raise ModelError(f"time masking replaces frames of layer 0, but --from-layer is {k}; use 0, or no time masking")
    embedding = getattr(module, "masked_spec_embed", None)
    if embedding is None:
        raise ModelError(f"{source.model} has no vector for masked frames (masked_spec_embed); use no time masking")
    length, least = module.config.mask_time_length, module.config.mask_time_min_masks
    return TimeMask(embedding, probability=probability, length=length, min_masks=least)
