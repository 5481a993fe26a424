"""Name → frozen text encoder and its tokenizer; pretrained, or the same architecture untrained, which reads bytes."""

import inspect
from dataclasses import dataclass
from typing import Any, Literal

import torch

from featcache.errors import ModelError
from featcache.extractors.checkpoint import TEXT, open_checkpoint
from featcache.extractors.models import FAMILIES, RANDOM_WEIGHTS_SEED, model_id_of, of_other_kind, resolve
from featcache.extractors.pretrained import (
    check_memory,
    explained,
    freeze,
    hash_parameters,
    pretrained_module,
    quiet_transformers,
    read_configuration,
)
from featcache.extractors.tokens import EXAMPLE

# What decides on a model's numbers beside its weights and their shapes.
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
        module: transformers' encoder, in evaluation mode, without gradients, float32.
        tokenizer: transformers' own; of an untrained model one that takes the bytes of UTF-8 for tokens.
        model_id: Hugging Face id or folder name.
        revision: The commit that was resolved; None for folders and untrained models.
        weights_sha256: Over all parameters, in order of their names.
    """

    module: Any
    tokenizer: Any
    model_id: str
    revision: str | None
    weights_sha256: str


def load_text_model(
    model: str, *, weights: Literal["pretrained", "random"] = "pretrained", revision: str | None = None
) -> LoadedTextModel:
    """Load a text encoder, frozen.

    Args:
        model: A short name, a Hugging Face id, or a folder with ``config.json``, safetensors weights and a tokenizer.
        weights: ``random`` builds the architecture untrained, always with the same weights. It reads bytes, which need
            no vocabulary: so the short names need no network for this.
        revision: Branch, tag or commit on the Hugging Face hub.

    Raises:
        ModelError: unknown name; not a text model; weights or a tokenizer that are missing, incomplete or pickled; a
            tokenizer with more tokens than the model knows; a hub that cannot be reached.
    """
    source, entry = resolve(model, text=True)
    untrained_instead = "; '--weights random' builds it untrained, offline" if entry else ""
    with quiet_transformers(), explained(model, untrained_instead):
        if weights == "random":
            module, tokenizer = _untrained(source, entry, revision)
            revision = None
        else:
            module, tokenizer, revision = _pretrained(source, revision)
        _check_vocabulary(model, module, tokenizer)
    freeze(module)
    return LoadedTextModel(
        module=module,
        tokenizer=tokenizer,
        model_id=model_id_of(source),
        revision=revision,
        weights_sha256=hash_parameters(module),
    )


def _pretrained(source: str, revision: str | None) -> tuple[Any, Any, str | None]:
    import transformers

    with open_checkpoint(source, revision, names=TEXT) as checkpoint:
        config = read_configuration(checkpoint)
        # what follows the last layer is not run, and many checkpoints lack it
        model_class = _model_class(config, source)
        module = pretrained_module(model_class, checkpoint, config, unused=("pooler", "decoder"))
        tokenizer = transformers.AutoTokenizer.from_pretrained(str(checkpoint.folder), trust_remote_code=False)
        return _encoder(module), tokenizer, checkpoint.revision


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
    config.pad_token_id = tokenizer.pad_token_id  # some models count positions from it
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(RANDOM_WEIGHTS_SEED)
        return _encoder(model_class(config)), tokenizer


def _model_class(config: Any, source: str) -> Any:
    """transformers' class of a model that encodes text, which is one that it also knows how to train on text."""
    from transformers.models.auto import modeling_auto as auto

    if config.model_type in FAMILIES:
        raise ModelError(of_other_kind(source, config.model_type, text=True))
    kind = type(config)
    if kind in auto.MODEL_FOR_TEXT_ENCODING_MAPPING:
        return auto.MODEL_FOR_TEXT_ENCODING_MAPPING[kind]
    if kind in auto.MODEL_FOR_MASKED_LM_MAPPING or kind in auto.MODEL_FOR_CAUSAL_LM_MAPPING:
        return auto.MODEL_MAPPING[kind]
    raise ModelError(f"{source} is a {config.model_type!r} model, expected one of text such as bert or roberta")


def _encoder(module: Any) -> Any:
    """What makes a model's hidden states: not its decoder, nor the pooler that follows them."""
    if "add_pooling_layer" in inspect.signature(type(module).__init__).parameters:
        module.pooler = None
    has_decoder = module.config.is_encoder_decoder and hasattr(module, "decoder")
    return module.get_encoder() if has_decoder else module


def _check_vocabulary(model: str, module: Any, tokenizer: Any) -> None:
    # where the files of a tokenizer are missing, transformers makes one to which every word is unknown
    ids = [number for number in tokenizer(EXAMPLE)["input_ids"] if number not in tokenizer.all_special_ids]
    if not any(letter.isalnum() for token in tokenizer.convert_ids_to_tokens(ids) for letter in token):
        raise ModelError(
            f"{model}: its tokenizer knows no word; put the tokenizer of the checkpoint (tokenizer.json or vocab.txt) "
            "beside its weights"
        )
    largest = max(tokenizer.get_vocab().values())
    known = module.get_input_embeddings().num_embeddings
    if largest >= known:
        raise ModelError(
            f"{model} knows {known} tokens, but its tokenizer's go up to number {largest}; take the tokenizer that the "
            "model was trained with, and for --weights random a model with room for bytes"
        )
