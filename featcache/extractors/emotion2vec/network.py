"""Waveform → hidden states of emotion2vec: convolutions, positional convolutions and transformer blocks with ALiBi.

The parts have the names of transformers' wav2vec 2.0, so that the same hooks read their layers: layer 0 is the output
of ``feature_projection``, the others are the outputs of ``encoder.layers``. The prenet's blocks come first; they do not
differ from the others.

The learned extra tokens follow the frames here, while the original implementation places them first. Attention does not
depend on the order, because the bias between an extra token and any other vector is 0.
"""

import math

import torch
from torch import Tensor, nn

from featcache.extractors.emotion2vec.sizes import Emotion2vecConfig


class Emotion2vecModel(nn.Module):
    """emotion2vec without decoder and classifier.

    Args:
        config: Sizes of the model.
    """

    def __init__(self, config: Emotion2vecConfig) -> None:
        super().__init__()
        self.config = config
        self.feature_extractor = _LocalEncoder(config)
        self.feature_projection = _Projection(config)
        self.encoder = _Encoder(config)

    def forward(self, input_values: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Return the last layer.

        Args:
            input_values: (batch, num_samples) normalised waveforms, with padding at the end.
            attention_mask: (batch, num_samples), 0 for padding; None if nothing is padded.

        Returns:
            (batch, num_frames, hidden_size) output of the last block; the values of padded frames have no meaning.
        """
        hidden_states = self.feature_projection(self.feature_extractor(input_values).transpose(1, 2))
        padding = None
        if attention_mask is not None:
            num_frames = attention_mask.sum(1)
            for kernel, stride in zip(self.config.conv_kernel, self.config.conv_stride, strict=True):
                num_frames = (num_frames - kernel) // stride + 1
            padding = torch.arange(hidden_states.shape[1], device=hidden_states.device) >= num_frames[:, None]
        output: Tensor = self.encoder(hidden_states, padding)
        return output


class _LocalEncoder(nn.Module):
    def __init__(self, config: Emotion2vecConfig) -> None:
        super().__init__()
        sizes = zip((1, *config.conv_dim), config.conv_dim, config.conv_kernel, config.conv_stride, strict=False)
        self.conv_layers = nn.ModuleList(_Convolution(*layer) for layer in sizes)

    def forward(self, input_values: Tensor) -> Tensor:
        """(batch, num_samples) → (batch, channels, num_frames)."""
        hidden_states = input_values[:, None]
        for layer in self.conv_layers:
            hidden_states = layer(hidden_states)
        return hidden_states


class _Convolution(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(in_channels, out_channels, kernel, stride, bias=False)
        nn.init.kaiming_normal_(self.conv.weight)
        self.layer_norm = nn.LayerNorm(out_channels)

    def forward(self, hidden_states: Tensor) -> Tensor:
        normalised = self.layer_norm(self.conv(hidden_states).transpose(1, 2)).transpose(1, 2)
        return nn.functional.gelu(normalised)


class _Projection(nn.Module):
    def __init__(self, config: Emotion2vecConfig) -> None:
        super().__init__()
        self.layer_norm = nn.LayerNorm(config.conv_dim[-1])
        self.projection = nn.Linear(config.conv_dim[-1], config.hidden_size)

    def forward(self, hidden_states: Tensor) -> Tensor:
        projected: Tensor = self.projection(self.layer_norm(hidden_states))
        return projected


class _Positions(nn.Module):
    """Sum of positional convolutions, which see zeros instead of padding."""

    def __init__(self, config: Emotion2vecConfig) -> None:
        super().__init__()
        size, kernel, groups = config.hidden_size, config.conv_pos_kernel_size, config.num_conv_pos_embedding_groups
        self.layers = nn.ModuleList(
            nn.Conv1d(size, size, kernel, padding=kernel // 2, groups=groups)
            for _ in range(config.num_conv_pos_embeddings)
        )

    def forward(self, hidden_states: Tensor, padding: Tensor | None) -> Tensor:
        """(batch, num_frames, hidden_size) → the same shape."""
        num_frames, size = hidden_states.shape[1:]
        for layer in self.layers:
            if padding is not None:
                hidden_states = hidden_states.masked_fill(padding[..., None], 0.0)
            # An even kernel gives one frame too many.
            convolved = layer(hidden_states.transpose(1, 2))[..., :num_frames].transpose(1, 2)
            hidden_states = nn.functional.gelu(nn.functional.layer_norm(convolved, (size,)))
        return hidden_states


class _Encoder(nn.Module):
    def __init__(self, config: Emotion2vecConfig) -> None:
        super().__init__()
        self.pos_conv_embed = _Positions(config)
        self.extra_tokens = nn.Parameter(torch.zeros(config.num_extra_tokens, config.hidden_size))
        nn.init.normal_(self.extra_tokens[1:])
        self.layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.layers = nn.ModuleList(_Block(config) for _ in range(config.num_hidden_layers))
        self._slopes = alibi_slopes(config.num_attention_heads)

    def forward(self, hidden_states: Tensor, padding: Tensor | None) -> Tensor:
        """(batch, num_frames, hidden_size), (batch, num_frames) true for padding → (batch, num_frames, hidden_size)."""
        batch, num_frames, _ = hidden_states.shape
        extra = len(self.extra_tokens)
        hidden_states = hidden_states + self.pos_conv_embed(hidden_states, padding)
        hidden_states = torch.cat([hidden_states, self.extra_tokens.expand(batch, -1, -1)], dim=1)
        hidden_states = self.layer_norm(hidden_states)
        frames = torch.arange(num_frames, dtype=torch.float32, device=hidden_states.device)
        distances = nn.functional.pad(-(frames[:, None] - frames).abs(), (0, extra, 0, extra))
        if padding is not None:
            padding = nn.functional.pad(padding, (0, extra))[:, None, None]
        slopes = torch.tensor(self._slopes, dtype=torch.float32, device=hidden_states.device)
        for layer in self.layers:
            hidden_states = layer(hidden_states, slopes, distances, padding)
        return hidden_states[:, :num_frames]


class _Block(nn.Module):
    def __init__(self, config: Emotion2vecConfig) -> None:
        super().__init__()
        self.attention = _Attention(config)
        self.layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.intermediate = _linear(config.hidden_size, config.intermediate_size)
        self.output = _linear(config.intermediate_size, config.hidden_size)
        self.final_layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, hidden_states: Tensor, slopes: Tensor, distances: Tensor, padding: Tensor | None) -> Tensor:
        attended = self.layer_norm(hidden_states + self.attention(hidden_states, slopes, distances, padding))
        inner = self.output(nn.functional.gelu(self.intermediate(attended)))
        output: Tensor = self.final_layer_norm(attended + inner)
        return output


class _Attention(nn.Module):
    """Self-attention with linear biases (ALiBi, Press et al. 2022), with a learned scale of each head's slope.

    The scores are biased and normalised in float32 in any precision, as in the original implementation. In half
    precision, large distances would be rounded to the same value.
    """

    def __init__(self, config: Emotion2vecConfig) -> None:
        super().__init__()
        self._heads = config.num_attention_heads
        self.qkv = _linear(config.hidden_size, 3 * config.hidden_size)
        self.out = _linear(config.hidden_size, config.hidden_size)
        self.alibi_scale = nn.Parameter(torch.ones(self._heads))

    def forward(self, hidden_states: Tensor, slopes: Tensor, distances: Tensor, padding: Tensor | None) -> Tensor:
        """Return the sum of attended values.

        Args:
            hidden_states: (batch, length, hidden_size).
            slopes: (heads,) float32.
            distances: (length, length) float32, the negative distance of two frames.
            padding: (batch, 1, 1, length), true for vectors that are not attended to.
        """
        batch, length, size = hidden_states.shape
        split = self.qkv(hidden_states).view(batch, length, 3, self._heads, size // self._heads)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        scores = ((query * (size // self._heads) ** -0.5) @ key.transpose(-2, -1)).float()
        slopes = slopes * self.alibi_scale.float().clamp_min(0)
        scores = scores.addcmul_(slopes[:, None, None], distances)
        if padding is not None:
            scores = scores.masked_fill_(padding, -math.inf)
        weights = scores.softmax(-1).to(value.dtype)
        attended: Tensor = self.out((weights @ value).transpose(1, 2).reshape(batch, length, size))
        return attended


def alibi_slopes(heads: int) -> list[float]:
    """Return the slope of each head: a geometric series that ends at 1/256 if their number is a power of 2.

    For other numbers, the slopes for the power of 2 below are followed by every second slope for the power above.

    Source: Press et al. 2022, "Train short, test long", and their code.
    """
    below = 2 ** (heads.bit_length() - 1)
    slopes = [2 ** (-8 * (head + 1) / below) for head in range(below)]
    between = [2 ** (-4 * (head + 1) / below) for head in range(0, 2 * below, 2)]
    return slopes + between[: heads - below]


def _linear(in_features: int, out_features: int) -> nn.Linear:
    """Create a linear layer with the random weights of the original implementation."""
    layer = nn.Linear(in_features, out_features)
    nn.init.normal_(layer.weight, std=0.02)
    nn.init.zeros_(layer.bias)
    return layer
