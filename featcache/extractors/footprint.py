"""Architecture × length → peak memory of one batch on the CPU, in bytes.

The sums count the arrays that exist at the same time. The factors include the memory that oneDNN and the allocator add;
they were checked against measured peaks of resident memory.
"""

from typing import Any

FLOAT32 = 4
# Bytes per sample: copies of the signal that is decoded, mixed down, resampled, normalised and padded.
AUDIO_BYTES = 6 * FLOAT32
# Bytes per sample for descriptors: the same copies, and the arrays of openSMILE or librosa.
DESCRIPTOR_BYTES = 12 * FLOAT32
# Copies of the first convolution's output: itself, normalised, activated; with padding also masked, centred, squared.
FIRST_CONVOLUTION = {"alone": 3, "padded": 5}
# Vectors per frame in a transformer block: residual, norm, queries, keys, values, context, output.
VECTORS = 7
# Copies of a block's inner layer: before and after its activation.
INNER = 2
# Copies of the attention scores: with position bias (WavLM), or computed explicitly (eager), and their softmax.
SCORES = 5
# The same for conformers, by the type of their positions: "relative" computes the bias for twice as many distances.
RELATIVE_SCORES = {"relative": 8, "relative_key": 4, "rotary": 4}


def kept_bytes(num_layers: int, num_frames: int, hidden_size: int) -> int:
    """Return the memory of the layers of a model: its outputs, the float32 features, and a copy for statistics."""
    return 3 * FLOAT32 * num_layers * num_frames * hidden_size


def block_bytes(config: Any, batch: int, num_frames: int, hidden_size: int, *, padded: bool) -> int:
    """Return the memory of one transformer block that computes (batch, num_frames, hidden_size)."""
    heads = _first(config, ("num_attention_heads", "encoder_attention_heads", "n_head", "num_heads"), hidden_size // 64)
    inner = _first(config, ("intermediate_size", "encoder_ffn_dim", "d_ff", "n_inner", "hidden_dim"), 4 * hidden_size)
    frames = batch * num_frames
    total = FLOAT32 * frames * (VECTORS * hidden_size + INNER * inner)
    written_down = config.model_type == "wavlm" or getattr(config, "_attn_implementation", None) == "eager"
    if written_down:
        total += FLOAT32 * SCORES * heads * frames * num_frames
    elif padded:
        total += FLOAT32 * 2 * frames * num_frames  # the attention mask, as given and as float
    return total


def relative_bytes(config: Any, batch: int, num_frames: int) -> int:
    """Return the memory of one conformer block, whose attention adds a bias for the distance of two frames.

    Args:
        config: Configuration of the model, from transformers.
        batch: Number of signals.
        num_frames: Frames of each signal.

    Returns:
        The peak memory in bytes.
    """
    size, heads = int(config.hidden_size), int(config.num_attention_heads)
    pairs = num_frames * num_frames
    total = FLOAT32 * batch * num_frames * (VECTORS * size + INNER * int(config.intermediate_size))
    if config.position_embeddings_type == "relative_key":
        total += FLOAT32 * pairs * (size // heads)  # a vector for the distance of each pair of frames
    scores = RELATIVE_SCORES.get(config.position_embeddings_type, SCORES)
    return total + FLOAT32 * scores * heads * batch * pairs


def waveform_bytes(config: Any, batch: int, num_samples: int, first: int, num_frames: int, num_layers: int) -> int:
    """Return the memory of a model that reads waveforms, such as wav2vec 2.0.

    Args:
        config: Configuration of the model, from transformers.
        batch: Number of signals.
        num_samples: Samples of each signal.
        first: Frames of each signal after the first convolution.
        num_frames: Frames of each signal after the last convolution.
        num_layers: Number of layers that are kept.

    Returns:
        The peak memory in bytes.
    """
    padded = batch > 1
    copies = FIRST_CONVOLUTION["padded" if padded else "alone"]
    if getattr(config, "feat_extract_norm", "layer") == "layer":  # data2vec has no such entry, but layer norms
        copies += 1  # transposed for the norm
    convolution = FLOAT32 * copies * batch * first * int(config.conv_dim[0])
    size = int(config.hidden_size)
    blocks = block_bytes(config, batch, num_frames, size, padded=padded)
    kept = kept_bytes(num_layers, batch * num_frames, size)
    return AUDIO_BYTES * batch * num_samples + max(convolution, blocks + kept)


def whisper_bytes(config: Any, batch: int, num_samples: int, num_layers: int) -> int:
    """Return the memory of Whisper's encoder, which computes 30 s for every signal, however short."""
    frames, size = int(config.max_source_positions), int(config.d_model)
    convolutions = FLOAT32 * batch * 3 * 2 * frames * size
    kept = kept_bytes(num_layers, batch * frames, size)
    blocks = block_bytes(config, batch, frames, size, padded=False)
    return AUDIO_BYTES * batch * num_samples + max(convolutions, blocks + kept)


def _first(config: Any, names: tuple[str, ...], default: int) -> int:
    found = next((getattr(config, name) for name in names if isinstance(getattr(config, name, None), int)), default)
    return int(found)
