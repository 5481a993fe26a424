"""Features on a GPU equal those on the CPU, alone and in batches."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from featcache.audio import Signal
from featcache.extractors import create_extractor
from featcache.extractors.ssl import SSLExtractor
from featcache.settings.extractor_configs import SSLConfig

# GPU kernels sum in another order. TF32, if it were on, would give differences of 1e-3.
TOLERANCE = 1e-4


pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")]


@pytest.mark.parametrize("name", ["wav2vec2", "xls-r", "wavlm", "data2vec-audio", "whisper"])
def test_a_gpu_gives_the_processors_features(tiny_model, speech_like, name):
    signals = [Signal(samples=speech_like(n, seed=n), sampling_rate=16000) for n in (16000, 400, 23456)]
    model = SSLConfig(model=tiny_model(name))
    expected = [SSLExtractor(model).extract([signal])[0] for signal in signals]
    check_close(SSLExtractor(model, device="cuda").extract(signals), expected)


@pytest.mark.parametrize("name", ["wav2vec2", "whisper"])
@pytest.mark.parametrize("device", ["cuda", ",".join(f"cuda:{number}" for number in range(torch.cuda.device_count()))])
def test_threads_mix_up_no_features(tiny_model, speech_like, name, device):
    """Batches of different lengths from several threads detect GPU memory that is reused too early."""
    lengths = [(16000 + 331 * n, 400 + 997 * n, 23456 - 211 * n) for n in range(32)]
    batches = [[Signal(samples=speech_like(n, seed=n), sampling_rate=16000) for n in batch] for batch in lengths]
    processor, gpu = create_extractor(tiny_model(name)), create_extractor(tiny_model(name), device=device)
    expected = [processor.extract(batch) for batch in batches]
    with ThreadPoolExecutor(8) as pool:
        for found, exact in zip(pool.map(gpu.extract, 3 * batches), 3 * expected, strict=True):
            check_close(found, exact)


@pytest.mark.parametrize("name", ["bert", "roberta", "deberta-v2", "t5"])
def test_a_gpu_gives_the_processors_features_of_words(tiny_text_model, name):
    texts = ["hello", "", "I am happy, really!", "a" * 60] * 8
    processor, gpu = (create_extractor(tiny_text_model(name), text=True, device=device) for device in ("cpu", "cuda"))
    tokens = [processor.tokenise(text) for text in texts]
    expected = [processor.extract([one])[0] for one in tokens]
    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(gpu.extract, 8 * [tokens]):
            check_close(found, expected)


def check_close(found, expected):
    for features, exact in zip(found, expected, strict=True):
        scale = np.abs(exact).max(axis=(1, 2))
        assert (np.abs(features - exact).max(axis=(1, 2)) <= TOLERANCE * scale).all()
