"""Parameters with the names of FunASR and fairseq, and a slow version of emotion2vec that reads them in float64.

The slow version shares no code with featcache and follows the original order: extra tokens first, biases added to the
scores of each head in explicit loops.
"""

import math

import numpy as np
import torch
from torch.nn.functional import conv1d

KERNELS, STRIDES = (10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)
AUDIO = "modality_encoders.AUDIO."
TINY = {"hidden": 24, "inner": 40, "channels": 8, "heads": 4, "prenet": 1, "depth": 2, "tokens": 3, "groups": 4}
# Slopes of the linear biases, from Press et al. 2022; between powers of 2, every second slope of the next power.
SLOPES = {
    4: [1 / 4, 1 / 16, 1 / 64, 1 / 256],
    6: [1 / 4, 1 / 16, 1 / 64, 1 / 256, 1 / 2, 1 / 8],
    12: [2.0**-n for n in (1, 2, 3, 4, 5, 6, 7, 8, 0.5, 1.5, 2.5, 3.5)],
}


def shapes(*, hidden, inner, channels, heads, prenet, depth, tokens, groups, kernel=19, scales=1):
    """Return the name and shape of each parameter of the original model, without decoder and classifier."""
    found = {f"{AUDIO}alibi_scale": (scales, 1, heads, 1, 1), f"{AUDIO}extra_tokens": (1, tokens, hidden)}

    def affine(name, *shape):
        found[f"{name}.weight"], found[f"{name}.bias"] = shape, shape[:1]

    for number, size in enumerate(KERNELS):
        found[f"{AUDIO}local_encoder.conv_layers.{number}.0.weight"] = (channels, channels if number else 1, size)
        affine(f"{AUDIO}local_encoder.conv_layers.{number}.2.1", channels)
    affine(f"{AUDIO}project_features.1", channels)
    affine(f"{AUDIO}project_features.2", hidden, channels)
    for number in range(1, 6):
        affine(f"{AUDIO}relative_positional_encoder.{number}.0", hidden, hidden // groups, kernel)
    affine(f"{AUDIO}context_encoder.norm", hidden)
    blocks = [f"{AUDIO}context_encoder.blocks.{number}" for number in range(prenet)]
    for block in (*blocks, *(f"blocks.{number}" for number in range(depth))):
        affine(f"{block}.attn.qkv", 3 * hidden, hidden)
        affine(f"{block}.attn.proj", hidden, hidden)
        affine(f"{block}.mlp.fc1", inner, hidden)
        affine(f"{block}.mlp.fc2", hidden, inner)
        affine(f"{block}.norm1", hidden)
        affine(f"{block}.norm2", hidden)
    return found


def random_parameters(**changes):
    """Return random float32 parameters of a tiny original model, with which no part of the model is negligible."""
    generator = torch.Generator().manual_seed(0)
    found = {}
    for name, shape in shapes(**{**TINY, **changes}).items():
        scale = 1.0 if len(shape) == 1 else max(1, math.prod(shape[1:])) ** -0.5
        values = scale * torch.randn(shape, generator=generator)
        if "alibi" in name:
            values = torch.randn(shape, generator=generator)  # Negative scales count as 0.
        elif len(shape) == 1:
            values = 0.2 * values + (1.0 if name.endswith("weight") else 0.0)
        found[name] = values
    return found


def plain_layers(state, samples, *, heads, prenet, depth, normalise=True):
    """Return layers 0 … N and the encoder's input: (num_layers, num_frames, hidden_size)."""
    state = {name: values.double() for name, values in state.items()}
    hidden = torch.from_numpy(np.array(samples, dtype=np.float64))
    if normalise:
        hidden = (hidden - hidden.mean()) / torch.sqrt(hidden.var(unbiased=False) + 1e-5)
    hidden = hidden[:, None]
    for number, stride in enumerate(STRIDES):
        name = f"{AUDIO}local_encoder.conv_layers.{number}"
        hidden = conv1d(hidden.T[None], state[f"{name}.0.weight"], stride=stride)[0].T
        hidden = gelu(norm(hidden, state, f"{name}.2.1"))
    local = linear(norm(hidden, state, f"{AUDIO}project_features.1"), state, f"{AUDIO}project_features.2")
    positions = local
    for number in range(1, 6):
        name = f"{AUDIO}relative_positional_encoder.{number}.0"
        kernel = state[f"{name}.weight"]
        groups = kernel.shape[0] // kernel.shape[1]
        width = kernel.shape[2]
        moved = conv1d(positions.T[None], kernel, state[f"{name}.bias"], padding=width // 2, groups=groups)[0].T
        positions = gelu(norm(moved[: len(local)], {}, ""))
    tokens = state[f"{AUDIO}extra_tokens"][0]
    hidden = norm(torch.cat([tokens, local + positions]), state, f"{AUDIO}context_encoder.norm")
    layers = [local]
    start = hidden[len(tokens) :]
    scales = state[f"{AUDIO}alibi_scale"].clamp(min=0).flatten(1)
    blocks = [f"{AUDIO}context_encoder.blocks.{number}" for number in range(prenet)]
    for position, name in enumerate((*blocks, *(f"blocks.{number}" for number in range(depth)))):
        scale = scales[position if len(scales) > 1 else 0]
        attended = attention(hidden, state, f"{name}.attn", heads, scale, len(tokens))
        hidden = norm(hidden + attended, state, f"{name}.norm1")
        inner = linear(gelu(linear(hidden, state, f"{name}.mlp.fc1")), state, f"{name}.mlp.fc2")
        hidden = norm(hidden + inner, state, f"{name}.norm2")
        layers.append(hidden[len(tokens) :])
    return torch.stack([*layers, start]).numpy()


def attention(hidden, state, name, heads, scale, tokens):
    query, key, value = linear(hidden, state, f"{name}.qkv").chunk(3, dim=1)
    size = hidden.shape[1] // heads
    outputs = []
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        scores = query[:, part] @ key[:, part].T / size**0.5
        for row in range(tokens, len(scores)):
            for column in range(tokens, len(scores)):
                scores[row, column] -= SLOPES[heads][head] * scale[head] * abs(row - column)
        outputs.append(torch.softmax(scores, dim=1) @ value[:, part])
    return linear(torch.cat(outputs, dim=1), state, f"{name}.proj")


def linear(hidden, state, name):
    return hidden @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def norm(hidden, state, name):
    centred = hidden - hidden.mean(1, keepdim=True)
    normal = centred / torch.sqrt(centred.square().mean(1, keepdim=True) + 1e-5)
    return normal * state.get(f"{name}.weight", 1.0) + state.get(f"{name}.bias", 0.0)


def gelu(hidden):
    return hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))
