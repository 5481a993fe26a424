"""Architecture × length → the memory that one batch takes at its peak, in bytes, on the CPU.

The sums name the arrays that are alive at the same time; what oneDNN and the allocator add is in the factors, which
were compared with peaks of resident memory.
"""

from typing import Any

FLOAT32 = 4
# Samples as they are decoded, mixed down, resampled, normalised and padded.
AUDIO_BYTES = 6 * FLOAT32
# The same of descriptors, with what openSMILE and librosa make of them.
DESCRIPTOR_BYTES = 12 * FLOAT32
# Copies of the first convolution's output: itself, normalised, activated; with padding also masked, centred, squared.
FIRST_CONVOLUTION = {"alone": 3, "padded": 5}
# Vectors of a frame in a transformer block: residual, norm, queries, keys, values, context, output.
VECTORS = 7
# The inner layer of a block, before and after its activation.
INNER = 2
# Scores of every frame for every other: with a bias of position (WavLM) or written down (eager), and their softmax.
SCORES = 5


def kept_bytes(num_layers: int, num_frames: int, hidden_size: int) -> int:
    """Layers as a model leaves them, as float32 features, and while statistics are taken of these."""
    return 3 * FLOAT32 * num_layers * num_frames * hidden_size


def block_bytes(config: Any, batch: int, num_frames: int, hidden_size: int, *, padded: bool) -> int:
    """One transformer block at work on (batch, num_frames, hidden_size)."""
    heads = _first(config, ("num_attention_heads", "encoder_attention_heads", "n_head", "num_heads"), hidden_size // 64)
    inner = _first(config, ("intermediate_size", "encoder_ffn_dim", "d_ff", "n_inner", "hidden_dim"), 4 * hidden_size)
    frames = batch * num_frames
    total = FLOAT32 * frames * (VECTORS * hidden_size + INNER * inner)
    written_down = config.model_type == "wavlm" or getattr(config, "_attn_implementation", None) == "eager"
    if written_down:
        total += FLOAT32 * SCORES * heads * frames * num_frames
    elif padded:
        total += FLOAT32 * 2 * frames * num_frames  # the mask, as it is given and as numbers
    return total


def waveform_bytes(config: Any, batch: int, num_samples: int, first: int, num_frames: int, num_layers: int) -> int:
    """A wav2vec 2.0 or one of its like.

    Args:
        config: The model's.
        batch: Signals.
        num_samples: Of each.
        first: Frames of each after the first convolution.
        num_frames: Frames of each after the last.
        num_layers: How many are kept.
    """
    padded = batch > 1
    copies = FIRST_CONVOLUTION["padded" if padded else "alone"]
    if config.feat_extract_norm == "layer":
        copies += 1  # transposed for the norm
    convolution = FLOAT32 * copies * batch * first * int(config.conv_dim[0])
    size = int(config.hidden_size)
    blocks = block_bytes(config, batch, num_frames, size, padded=padded)
    kept = kept_bytes(num_layers, batch * num_frames, size)
    return AUDIO_BYTES * batch * num_samples + max(convolution, blocks + kept)


def whisper_bytes(config: Any, batch: int, num_samples: int, num_layers: int) -> int:
    """Whisper's encoder, which computes 30 s whatever a signal has."""
    frames, size = int(config.max_source_positions), int(config.d_model)
    convolutions = FLOAT32 * batch * 3 * 2 * frames * size
    kept = kept_bytes(num_layers, batch * frames, size)
    blocks = block_bytes(config, batch, frames, size, padded=False)
    return AUDIO_BYTES * batch * num_samples + max(convolutions, blocks + kept)


def _first(config: Any, names: tuple[str, ...], default: int) -> int:
    found = next((getattr(config, name) for name in names if isinstance(getattr(config, name, None), int)), default)
    return int(found)
