"""What the tests share: seeded noise, a signal like speech, and tiny models of the real classes."""

import json
import os

# All three are read once, at the first import of what they are for.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # waking threads costs tiny models more than their arithmetic

import hypothesis
import numpy as np
import pytest

# A busy machine makes any example slow; the same examples in every run keep failures reproducible.
hypothesis.settings.register_profile("featcache", deadline=None, derandomize=True)
hypothesis.settings.load_profile("featcache")

TINY_WAVEFORM_MODEL = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "conv_dim": [16] * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
TINY_DATA2VEC = {**TINY_WAVEFORM_MODEL, "num_conv_pos_embeddings": 3, "conv_pos_kernel_size": 5}
TINY_WHISPER = {
    "d_model": 32,
    "encoder_layers": 3,
    "encoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_layers": 1,
    "decoder_attention_heads": 4,
    "decoder_ffn_dim": 64,
    "vocab_size": 8,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 3,
}
# Name → transformers' model_type and what makes the style: the families, and famous variations on them.
TINY_MODELS = {
    "wav2vec2": ("wav2vec2", TINY_WAVEFORM_MODEL),
    "hubert": ("hubert", TINY_WAVEFORM_MODEL),
    "wavlm": ("wavlm", TINY_WAVEFORM_MODEL),
    "unispeech": ("unispeech", TINY_WAVEFORM_MODEL),
    "unispeech-sat": ("unispeech-sat", TINY_WAVEFORM_MODEL),
    "data2vec-audio": ("data2vec-audio", TINY_DATA2VEC),
    "whisper": ("whisper", TINY_WHISPER),
    "xls-r": (
        "wav2vec2",
        {**TINY_WAVEFORM_MODEL, "feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True},
    ),
    "distilhubert": ("hubert", {**TINY_WAVEFORM_MODEL, "num_hidden_layers": 2, "feat_proj_layer_norm": False}),
    "mhubert": ("hubert", {**TINY_WAVEFORM_MODEL, "conv_pos_batch_norm": True}),
}


@pytest.fixture(autouse=True)
def _own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("FEATCACHE_HOME", str(tmp_path / "data"))


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def speech_like():
    """Make a signal with melody, syllables and breath: (num_samples,) float32, in [-0.8, 0.8]."""

    def make(num_samples, sampling_rate=16000, *, pitch=120.0, seed=0):
        time = np.arange(num_samples) / sampling_rate
        melody = pitch * (1 + 0.1 * np.sin(2 * np.pi * 0.7 * time + seed))
        phase = 2 * np.pi * np.cumsum(melody) / sampling_rate
        voice = sum(np.sin(harmonic * phase) / harmonic for harmonic in range(1, 11))
        syllables = 0.5 - 0.4 * np.cos(2 * np.pi * 4 * time)
        breath = np.random.default_rng(seed).uniform(-0.02, 0.02, num_samples)
        return (0.4 * syllables * voice + breath).clip(-0.8, 0.8).astype(np.float32)

    return make


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """Make a folder with a tiny untrained model and its feature extractor; equal calls give the same folder.

    ``tiny_model(name, **changes)``: a name among TINY_MODELS, changes to its configuration. Two models whose
    parameters have the same shapes have the same weights. ``do_normalize`` goes to the feature extractor.
    """
    folders = {}

    def make(name, *, do_normalize=True, **changes):
        key = json.dumps([name, do_normalize, changes], sort_keys=True)
        if key not in folders:
            family, config = TINY_MODELS[name]
            folders[key] = tmp_path_factory.mktemp(name)
            save_untrained(folders[key], family, {**config, **changes}, do_normalize)
        return str(folders[key])

    return make


def save_untrained(folder, family, config, do_normalize):
    import torch
    import transformers

    from featcache.extractors.models import FAMILIES

    config = transformers.AutoConfig.for_model(family, **config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = getattr(transformers, FAMILIES[family])(config)
        # an initial bias of 0 and scale of 1 would hide a layer that forgets to apply them
        for values in model.state_dict().values():
            if values.is_floating_point():
                values.add_(0.1 * torch.randn_like(values))
    model.save_pretrained(folder)
    if family == "whisper":
        transformers.WhisperFeatureExtractor(feature_size=config.num_mel_bins).save_pretrained(folder)
    else:
        transformers.Wav2Vec2FeatureExtractor(do_normalize=do_normalize).save_pretrained(folder)
