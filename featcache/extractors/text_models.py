"""Short name, Hugging Face id or folder → frozen text encoder and tokenizer, pretrained or untrained."""

import inspect
from dataclasses import dataclass
from typing import Any, Literal

import torch

from featcache.errors import ModelError
from featcache.extractors.checkpoint import TEXT, open_checkpoint
from featcache.extractors.families import FAMILIES
from featcache.extractors.models import RANDOM_WEIGHTS_SEED, model_id_of, of_other_kind, resolve
from featcache.extractors.pretrained import (
    check_memory,
    explained,
    freeze,
    hash_parameters,
    pretrained_module,
    quiet_transformers,
    read_configuration,
    ways_to_get,
)
from featcache.extractors.tokens import EXAMPLE

# Configuration entries that affect the features, in addition to the weights and their shapes.
ARCHITECTURE = (
    "activation",
    "activation_function",
    "feed_forward_proj",
    "global_attn_every_n_layers",
    "hidden_act",
    "hidden_activation",
    "inner_group_num",
    "layer_norm_eps",
    "layer_norm_epsilon",
    "local_attention",
    "max_relative_positions",
    "model_type",
    "norm_eps",
    "num_attention_heads",
    "num_hidden_groups",
    "num_hidden_layers",
    "pad_token_id",
    "pos_att_type",
    "position_biased_input",
    "position_buckets",
    "relative_attention",
    "relative_attention_max_distance",
    "rope_theta",
    "scale_embedding",
)


@dataclass(frozen=True, kw_only=True)
class LoadedTextModel:
    """A frozen text encoder, ready to run.

    Attributes:
        module: Encoder of transformers, in evaluation mode, without gradients, float32.
        tokenizer: Tokenizer of transformers. For an untrained model, its tokens are the bytes of UTF-8.
        model_id: Hugging Face id or folder name.
        revision: Commit on the hub; None for folders and untrained models.
        weights_revision: Commit of the weights on the hub; it differs from ``revision`` if that commit contains them as
            a pickle only.
        weights_sha256: SHA-256 of all parameters, in order of their names.
        whole: Model of transformers with the module, in order to save it; None unless requested.
    """

    module: Any
    tokenizer: Any
    model_id: str
    revision: str | None
    weights_revision: str | None
    weights_sha256: str
    whole: Any = None


def load_text_model(
    model: str,
    *,
    weights: Literal["pretrained", "random"] = "pretrained",
    revision: str | None = None,
    keep_whole: bool = False,
) -> LoadedTextModel:
    """Load a text encoder, frozen.

    Args:
        model: Short name, Hugging Face id, or folder with ``config.json``, safetensors weights and a tokenizer.
        weights: ``pretrained``, or ``random`` for the untrained architecture, always with the same random weights. Its
            tokens are bytes, which need no vocabulary; therefore short names need no network for ``random``.
        revision: Branch, tag or commit on the Hugging Face hub.
        keep_whole: Whether to keep the parts that are not needed for features, such as a decoder.

    Returns:
        The model, its tokenizer, and the information that identifies it.

    Raises:
        ModelError: the name is unknown; the model is not a text model; its weights or tokenizer are missing, incomplete
            or pickled; the tokenizer has more tokens than the model; the hub cannot be reached.
    """
    source, entry = resolve(model, text=True)
    instead = ways_to_get(model, untrained=entry is not None)
    with quiet_transformers(), explained(model, instead):
        if weights == "random":
            whole, tokenizer = _untrained(source, entry, revision)
            commit = weights_commit = None
        else:
            whole, tokenizer, commit, weights_commit = _pretrained(source, revision)
        module = _encoder(whole)
        _check_vocabulary(model, module, tokenizer)
    freeze(whole)
    return LoadedTextModel(
        module=module,
        tokenizer=tokenizer,
        model_id=model_id_of(source),
        revision=commit,
        weights_revision=weights_commit,
        weights_sha256=hash_parameters(module),
        whole=whole if keep_whole else None,
    )


def _pretrained(source: str, revision: str | None) -> tuple[Any, Any, str | None, str | None]:
    import transformers

    with open_checkpoint(source, revision, names=TEXT) as checkpoint:
        config = read_configuration(checkpoint)
        # Pooler and decoder are not run, and many checkpoints do not contain them.
        model_class = _model_class(config, source)
        module = pretrained_module(model_class, checkpoint, config, unused=("pooler", "decoder"))
        tokenizer = transformers.AutoTokenizer.from_pretrained(str(checkpoint.folder), trust_remote_code=False)
        return module, tokenizer, checkpoint.revision, checkpoint.weights_revision


def _untrained(source: str, entry: dict[str, Any] | None, revision: str | None) -> tuple[Any, Any]:
    import transformers

    if entry:
        config = transformers.AutoConfig.for_model(entry["family"], **entry["config"])
    else:
        with open_checkpoint(source, revision, weights=False) as checkpoint:
            config = read_configuration(checkpoint)
    tokenizer = transformers.ByT5Tokenizer(extra_ids=0)
    model_class = _model_class(config, source)
    check_memory(model_class, config, source)
    config.pad_token_id = tokenizer.pad_token_id  # Some models count positions from this number.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(RANDOM_WEIGHTS_SEED)
        return model_class(config), tokenizer


def _model_class(config: Any, source: str) -> Any:
    """Return the class of a text model: one that transformers lists for text encoding or for language modelling."""
    from transformers.models.auto import modeling_auto as auto

    if config.model_type in FAMILIES:
        raise ModelError(of_other_kind(source, config.model_type, text=True))
    kind = type(config)
    if kind in auto.MODEL_FOR_TEXT_ENCODING_MAPPING:
        return auto.MODEL_FOR_TEXT_ENCODING_MAPPING[kind]
    if kind in auto.MODEL_FOR_MASKED_LM_MAPPING or kind in auto.MODEL_FOR_CAUSAL_LM_MAPPING:
        return auto.MODEL_MAPPING[kind]
    raise ModelError(f"{source} is a {config.model_type!r} model, expected a text model such as bert or roberta")


def _encoder(module: Any) -> Any:
    """Return the part of a model that computes the hidden states, without decoder and pooler."""
    if "add_pooling_layer" in inspect.signature(type(module).__init__).parameters:
        module.pooler = None
    has_decoder = module.config.is_encoder_decoder and hasattr(module, "decoder")
    return module.get_encoder() if has_decoder else module


def _check_vocabulary(model: str, module: Any, tokenizer: Any) -> None:
    # If the files of a tokenizer are missing, transformers creates one in which every word is an unknown token.
    ids = [number for number in tokenizer(EXAMPLE)["input_ids"] if number not in tokenizer.all_special_ids]
    if not any(letter.isalnum() for token in tokenizer.convert_ids_to_tokens(ids) for letter in token):
        raise ModelError(
            f"{model}: its tokenizer has no vocabulary; copy the tokenizer of the checkpoint (tokenizer.json or "
            "vocab.txt) into the folder of the weights"
        )
    largest = max(tokenizer.get_vocab().values())
    known = module.get_input_embeddings().num_embeddings
    if largest >= known:
        raise ModelError(
            f"{model} has {known} tokens, but its tokenizer has numbers up to {largest}; use the tokenizer that the "
            "model was trained with, or for --weights random a model with enough tokens for bytes"
        )
