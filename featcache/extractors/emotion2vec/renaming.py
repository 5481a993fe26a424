"""State dict of FunASR or fairseq → sizes and parameters of featcache's emotion2vec."""

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from featcache.errors import ModelError
from featcache.extractors.emotion2vec.sizes import CONV_KERNEL, CONV_STRIDE, MODEL_TYPE

if TYPE_CHECKING:
    from torch import Tensor

# Part of the original names → part of featcache's names. A block's number is added to the number of prenet blocks.
AUDIO = "modality_encoders.AUDIO."
BLOCK = {
    "attn.qkv": "attention.qkv",
    "attn.proj": "attention.out",
    "norm1": "layer_norm",
    "mlp.fc1": "intermediate",
    "mlp.fc2": "output",
    "norm2": "final_layer_norm",
}
FIXED = {
    f"{AUDIO}project_features.1": "feature_projection.layer_norm",
    f"{AUDIO}project_features.2": "feature_projection.projection",
    f"{AUDIO}context_encoder.norm": "encoder.layer_norm",
}
SCALE, TOKENS = f"{AUDIO}alibi_scale", f"{AUDIO}extra_tokens"
# Parts that compute the hidden states. Other parts are used in pre-training or classification only, as is the decoder.
USED, DECODER = (AUDIO, "blocks.", "norm."), f"{AUDIO}decoder."
# Entries of a checkpoint that contain the state dict.
WRAPPERS = ("state_dict", "model_state_dict", "model")
HEAD_SIZE = 64  # of all published models
EXPECTED = "expected the state dict of emotion2vec from FunASR or fairseq"


def convert(state_dict: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, "Tensor"]]:
    """Convert the parameters of emotion2vec from FunASR or fairseq.

    Decoder, classifier and moving averages are left out.

    Args:
        state_dict: Parameter name → tensor, or a checkpoint with such a dictionary as ``model`` or ``state_dict``.

    Returns:
        The content of config.json, and the parameters of model.safetensors.

    Raises:
        ModelError: the dictionary does not describe an emotion2vec model, or one of another architecture.
    """
    found = _with_plain_names(state_dict)
    prenet = _count(found, f"{AUDIO}context_encoder.blocks.")
    renamed: dict[str, Tensor] = {}
    for name, tensor in found.items():
        if name in (SCALE, TOKENS):
            continue
        new = _new_name(name, prenet)
        if new is None:
            raise ModelError(f"the checkpoint has a parameter {name!r}, which featcache's emotion2vec does not have")
        renamed[new] = tensor
    num_blocks = prenet + _count(found, "blocks.")
    if TOKENS in found:
        renamed["encoder.extra_tokens"] = found[TOKENS].flatten(0, -2)
    sizes = _sizes(renamed)
    scales = _scales(found, num_blocks, sizes["hidden_size"])
    # Copies, because safetensors refuses parameters that share memory.
    renamed |= {f"encoder.layers.{i}.attention.alibi_scale": scale.clone() for i, scale in enumerate(scales)}
    sizes |= {"num_hidden_layers": num_blocks, "num_attention_heads": scales.shape[1]}
    return sizes, {name: tensor.contiguous() for name, tensor in renamed.items()}


def _with_plain_names(state_dict: Mapping[str, Any]) -> dict[str, "Tensor"]:
    """Return the parameters of the encoder without the prefix that wrappers such as a classifier give them."""
    for wrapper in WRAPPERS:
        if isinstance(state_dict.get(wrapper), Mapping):
            state_dict = state_dict[wrapper]
    first = f"{AUDIO}local_encoder.conv_layers.0.0.weight"
    prefixes = [name.removesuffix(first) for name in state_dict if isinstance(name, str) and name.endswith(first)]
    prefix = min((one for one in prefixes if "_ema" not in one), key=len, default=None)
    if prefix is None:
        raise ModelError(f"the checkpoint has no parameter {first!r}; {EXPECTED}")
    plain = {name.removeprefix(prefix): value for name, value in state_dict.items() if str(name).startswith(prefix)}
    used = {name: value for name, value in plain.items() if name.startswith(USED) and not name.startswith(DECODER)}
    return {name: value for name, value in used.items() if hasattr(value, "shape")}


def _new_name(name: str, prenet: int) -> str | None:
    """Return featcache's name of a parameter, or None if it has no such parameter."""
    part, _, kind = name.rpartition(".")
    if kind not in ("weight", "bias"):
        return None
    if part in FIXED:
        return f"{FIXED[part]}.{kind}"
    conv = re.fullmatch(rf"{re.escape(AUDIO)}local_encoder\.conv_layers\.(\d+)\.(0|2\.1)", part)
    if conv and (conv[2], kind) != ("0", "bias"):
        return f"feature_extractor.conv_layers.{conv[1]}.{'conv' if conv[2] == '0' else 'layer_norm'}.{kind}"
    position = re.fullmatch(rf"{re.escape(AUDIO)}relative_positional_encoder\.([1-9]\d*)\.0", part)
    if position:  # Number 0 transposes.
        return f"encoder.pos_conv_embed.layers.{int(position[1]) - 1}.{kind}"
    block = re.fullmatch(rf"({re.escape(AUDIO)}context_encoder\.)?blocks\.(\d+)\.(.+)", part)
    if block and block[3] in BLOCK:
        number = int(block[2]) + (0 if block[1] else prenet)
        return f"encoder.layers.{number}.{BLOCK[block[3]]}.{kind}"
    return None


def _scales(found: Mapping[str, "Tensor"], num_blocks: int, hidden_size: int) -> "Tensor":
    """Return the scales of the attention biases (blocks, heads); the original has one for all blocks, or for each."""
    if SCALE not in found:
        raise ModelError(f"the checkpoint has no parameter {SCALE!r}; {EXPECTED}, whose attention has linear biases")
    # (blocks or 1, 1, heads or 1, 1, 1); older checkpoints lack the first axis.
    scale = found[SCALE].reshape(-1, *found[SCALE].shape[-4:])
    if scale.ndim != 5 or scale.shape[0] not in (1, num_blocks) or scale[0].numel() != scale.shape[2]:
        shape = tuple(found[SCALE].shape)
        raise ModelError(f"the checkpoint has {SCALE!r} of shape {shape}, expected ({num_blocks} or 1, 1, heads, 1, 1)")
    heads = scale.shape[2] if scale.shape[2] > 1 else hidden_size // HEAD_SIZE
    return scale.reshape(-1, scale.shape[2]).expand(num_blocks, heads)


def _sizes(renamed: Mapping[str, "Tensor"]) -> dict[str, Any]:
    """Return the content of config.json: the sizes of the parameters, and the published strides."""
    convolutions = _count(renamed, "feature_extractor.conv_layers.")
    try:
        shapes = [
            renamed[f"feature_extractor.conv_layers.{number}.conv.weight"].shape for number in range(convolutions)
        ]
        kernels = tuple(shape[2] for shape in shapes)
        _, group_size, position_kernel = renamed["encoder.pos_conv_embed.layers.0.weight"].shape
        num_extra_tokens, hidden_size = renamed["encoder.extra_tokens"].shape
        intermediate_size = renamed["encoder.layers.0.intermediate.weight"].shape[0]
    except KeyError as error:
        raise ModelError(f"the checkpoint has no parameter for {error.args[0]}; {EXPECTED}") from None
    except (IndexError, ValueError):
        raise ModelError(f"the checkpoint has parameters of unexpected shapes; {EXPECTED}") from None
    if kernels != CONV_KERNEL:
        raise ModelError(f"the checkpoint has convolutions with kernels of {kernels}, expected {CONV_KERNEL}")
    return {
        "model_type": MODEL_TYPE,
        "hidden_size": hidden_size,
        "intermediate_size": intermediate_size,
        "conv_dim": [shape[0] for shape in shapes],
        "conv_kernel": list(CONV_KERNEL),
        "conv_stride": list(CONV_STRIDE),
        "num_conv_pos_embeddings": _count(renamed, "encoder.pos_conv_embed.layers."),
        "conv_pos_kernel_size": position_kernel,
        "num_conv_pos_embedding_groups": hidden_size // max(1, group_size),
        "num_extra_tokens": num_extra_tokens,
        "layer_norm_eps": 1e-5,
        "do_normalize": True,
    }


def _count(names: Iterable[str], beginning: str) -> int:
    """Return the number of parts whose names have the same beginning, followed by a number from 0.

    Raises:
        ModelError: a number is missing.
    """
    rests = (name.removeprefix(beginning) for name in names if name.startswith(beginning))
    numbers = {rest.partition(".")[0] for rest in rests}
    missing = next((number for number in range(len(numbers)) if str(number) not in numbers), None)
    if missing is not None:
        raise ModelError(f"the checkpoint has no parameter {beginning}{missing}; {EXPECTED}")
    return len(numbers)
