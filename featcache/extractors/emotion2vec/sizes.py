"""config.json of an emotion2vec model → its checked sizes."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from featcache.extractors.untrusted import LARGEST_SIZE, MOST_BLOCKS, refusal

MODEL_TYPE = "emotion2vec"
SAMPLING_RATE = 16000
# The kernel sizes and strides of all published models, in samples or frames.
CONV_KERNEL = (10, 3, 3, 3, 3, 2, 2)
CONV_STRIDE = (5, 2, 2, 2, 2, 2, 2)
# Limits for the number of convolutions and of extra tokens, above those of any real model.
MOST_CONVOLUTIONS = 64
MOST_TOKENS = 1024
# Largest value of an entry; other entries are at most LARGEST_SIZE.
_MOST = {
    "num_hidden_layers": MOST_BLOCKS,
    "num_conv_pos_embeddings": MOST_CONVOLUTIONS,
    "num_extra_tokens": MOST_TOKENS,
}


@dataclass(kw_only=True)
class Emotion2vecConfig:
    """Sizes of an emotion2vec model, with the names of transformers' data2vec-audio; the defaults are the base model's.

    Attributes:
        hidden_size: Size of a frame in the transformer.
        num_hidden_layers: Number of transformer blocks: those of the prenet, followed by the others.
        num_attention_heads: Number of attention heads.
        intermediate_size: Size of the inner layer of a transformer block.
        conv_dim: Number of channels of each convolution of the local encoder.
        conv_kernel: Kernel size of each convolution of the local encoder.
        conv_stride: Stride of each convolution of the local encoder.
        num_conv_pos_embeddings: Number of positional convolutions.
        conv_pos_kernel_size: Kernel size of a positional convolution.
        num_conv_pos_embedding_groups: Number of groups of a positional convolution.
        num_extra_tokens: Number of learned vectors that the transformer reads in addition to the frames.
        layer_norm_eps: Constant that is added to the variance in the transformer's layer norms.
        do_normalize: Whether the waveform is normalised to zero mean and unit variance.
    """

    model_type: ClassVar[str] = MODEL_TYPE
    # Properties that other parts of featcache ask of every model that reads waveforms.
    feat_extract_norm: ClassVar[str] = "layer"
    _attn_implementation: ClassVar[str] = "eager"

    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    conv_dim: tuple[int, ...] = (512,) * 7
    conv_kernel: tuple[int, ...] = CONV_KERNEL
    conv_stride: tuple[int, ...] = CONV_STRIDE
    num_conv_pos_embeddings: int = 5
    conv_pos_kernel_size: int = 19
    num_conv_pos_embedding_groups: int = 16
    num_extra_tokens: int = 10
    layer_norm_eps: float = 1e-5
    do_normalize: bool = True


def configuration(source: str, content: Mapping[str, Any]) -> Emotion2vecConfig:
    """Check the sizes of an emotion2vec model.

    Args:
        source: Name of the model, for messages.
        content: Content of config.json; missing entries have the values of the base model, other entries are ignored.

    Returns:
        The configuration.

    Raises:
        ModelError: a value has the wrong type, is out of range or contradicts another one.
    """
    given: dict[str, Any] = {
        field.name: content[field.name] for field in fields(Emotion2vecConfig) if field.name in content
    }
    for name, value in list(given.items()):
        expected = _fault(name, value)
        if expected:
            raise refusal(source, f"config.json has {name!r}: {value!r}, expected {expected}")
        given[name] = tuple(value) if isinstance(value, list) else value
    config = Emotion2vecConfig(**given)
    lengths = {len(sizes) for sizes in (config.conv_dim, config.conv_kernel, config.conv_stride)}
    if len(lengths) > 1:
        raise refusal(source, "config.json has 'conv_dim', 'conv_kernel' and 'conv_stride' of different lengths")
    for name in ("num_attention_heads", "num_conv_pos_embedding_groups"):
        if config.hidden_size % getattr(config, name):
            raise refusal(
                source,
                f"config.json has {name!r}: {getattr(config, name)}, expected a divisor of 'hidden_size', which is "
                f"{config.hidden_size}",
            )
    span = _span(config)
    if span > SAMPLING_RATE:
        raise refusal(
            source, f"the convolutions in config.json read {span} samples for one frame, expected at most one second"
        )
    return config


def _fault(name: str, value: Any) -> str:
    """Return what was expected instead of a value, or an empty text if the value is valid."""
    default = getattr(Emotion2vecConfig, name)
    if isinstance(default, bool):
        return "" if isinstance(value, bool) else "true or false"
    if isinstance(default, float):
        valid = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 1
        return "" if valid else "a number between 0 and 1"
    if isinstance(default, tuple):
        valid = isinstance(value, (list, tuple)) and 1 <= len(value) <= MOST_CONVOLUTIONS
        valid = valid and all(_is_size(item, LARGEST_SIZE) for item in value)
        return "" if valid else f"a list of 1 to {MOST_CONVOLUTIONS} positive whole numbers"
    most = _MOST.get(name, LARGEST_SIZE)
    return "" if _is_size(value, most) else f"a whole number from 1 to {most}"


def _is_size(value: Any, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most


def _span(config: Emotion2vecConfig) -> int:
    """Return the number of samples that one frame depends on."""
    samples = 1
    for kernel, stride in zip(reversed(config.conv_kernel), reversed(config.conv_stride), strict=True):
        samples = (samples - 1) * stride + kernel
    return samples
