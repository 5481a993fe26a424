"""Tiny speech models, signals, and comparisons of features."""

import functools
from collections import defaultdict

import numpy as np
import pytest
import torch
import transformers

# Padding only changes the order of float32 sums. The usual difference is 1e-6 of a layer's largest value; features that
# include padding differ by 1e-3 or more (test_without_care_padding_would_show).
TOLERANCE = 1e-5


PLACEMENTS = [
    {"feat_extract_norm": norm, "do_stable_layer_norm": stable, "conv_bias": stable}
    for norm in ("group", "layer")
    for stable in (False, True)
]


WAVEFORM_MODELS = [
    pytest.param(name, changes, id=f"{name}-{changes['feat_extract_norm']}-stable={changes['do_stable_layer_norm']}")
    for name in ("wav2vec2", "hubert", "wavlm", "unispeech", "unispeech-sat")
    for changes in PLACEMENTS
] + [pytest.param(name, {}, id=name) for name in ("data2vec-audio", "xls-r", "distilhubert", "mhubert")]


WITH_INPUT = defaultdict(lambda: "0-3,input", distilhubert="0-2,input")


# Lengths in samples: two with the same number of frames, the shortest with one frame, and two others.
LENGTHS = (8100, 8200, 400, 4500, 11728)


def assert_close(features, expected):
    """Check that shapes are equal and that each layer differs by at most TOLERANCE of its largest value."""
    assert features.shape == expected.shape
    scale = np.abs(expected).max(axis=(1, 2))
    assert (np.abs(features - expected).max(axis=(1, 2)) <= TOLERANCE * scale).all()


def run_alone(extractor, signals):
    return [extractor.extract([signal])[0] for signal in signals]


@functools.lru_cache(maxsize=8)
def hugging_face(folder, **config):
    """Return the model and its feature extractor, which tests share and do not change."""
    model = transformers.AutoModel.from_pretrained(folder, **config).eval()
    return model, transformers.AutoFeatureExtractor.from_pretrained(folder)


def hugging_face_features(folder, samples, **config):
    """Return layers 0 … N and the encoder's input, computed by the model's own modules in transformers."""
    model, feature_extractor = hugging_face(folder, **config)
    values = feature_extractor(samples, sampling_rate=16000, return_tensors="pt").input_values
    with torch.inference_mode():
        output = model(values, output_hidden_states=True)
        projected = model.feature_projection(model.feature_extractor(values).transpose(1, 2))
    local = projected if torch.is_tensor(projected) else projected[0]
    layers = [local, *output.hidden_states[1:-1], output.last_hidden_state, output.hidden_states[0]]
    return torch.cat(layers).numpy()
