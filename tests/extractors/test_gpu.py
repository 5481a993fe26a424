"""On a GPU: the same features as on the processor, alone and in batches."""

import numpy as np
import pytest
import torch

from featcache.audio import Signal
from featcache.extractors.ssl import SSLConfig, SSLExtractor

# Other kernels sum in another order; TF32, were it on, would show as 1e-3.
TOLERANCE = 1e-4


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("name", ["wav2vec2", "xls-r", "wavlm", "data2vec-audio", "whisper"])
def test_a_gpu_gives_the_processors_features(tiny_model, speech_like, name):
    signals = [Signal(samples=speech_like(n, seed=n), sampling_rate=16000) for n in (16000, 400, 23456)]
    model = SSLConfig(model=tiny_model(name))
    expected = [SSLExtractor(model).extract([signal])[0] for signal in signals]
    for found, exact in zip(SSLExtractor(model, device="cuda").extract(signals), expected, strict=True):
        scale = np.abs(exact).max(axis=(1, 2))
        assert (np.abs(found - exact).max(axis=(1, 2)) <= TOLERANCE * scale).all()
