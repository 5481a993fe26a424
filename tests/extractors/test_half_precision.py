"""Half precision: long utterances have the same features alone, in any batch and in float32, within tolerances."""

import functools

import numpy as np
import pytest
import torch

from featcache.audio import Signal
from featcache.errors import ModelError
from featcache.extractors import create_extractor, usable_device, usable_devices
from featcache.extractors.base import SAME_IN_ANY_BATCH
from featcache.extractors.padding import InFloat32, Pass, ValidGroupNorm
from featcache.extractors.ssl import SSLExtractor
from featcache.settings.extractor_configs import SSLConfig
from tests.mps import OnMps

HALF = ("bfloat16", "float16")
# Rounding errors relative to a layer's largest value; each rounding adds half a step. See
# test_bfloat16_is_near_float32_….
NEAR_FLOAT32 = {"bfloat16": 16 * 2.0**-8, "float16": 16 * 2.0**-10}
# Part of a layer's power that may be lost by rounding in these models, which normalise only few channels together.
# Statistics that overflow lose tens of percent, or all of it.
LOST = 0.01
# Group norm sums over 3200 frames per second. In float16, squares overflow after about 4 s, the count after 20.47 s.
SECONDS = (4.0, 10.0, 25.0)
MODELS = ("wav2vec2", "mhubert", "distilhubert", "unispeech-sat", "wavlm", "data2vec-audio", "xls-r")
# Few channels and blocks, because half precision is slow on most CPUs.
NARROW = {"conv_dim": [4] * 7, "num_hidden_layers": 1}


@pytest.fixture(scope="module")
def signals(speech_like):
    return [Signal(samples=speech_like(int(16000 * s) + 7, seed=n), sampling_rate=16000) for n, s in enumerate(SECONDS)]


@pytest.fixture(scope="module")
def extractor():
    return functools.cache(lambda model, **config: SSLExtractor(SSLConfig(model=model, layers="0,last", **config)))


def deviation(found, expected):
    """Return the maximum absolute error, relative to the layer's largest value."""
    assert found.shape == expected.shape
    assert np.isfinite(found).all()
    scale = np.abs(expected).max(axis=(1, 2))
    return float((np.abs(found - expected).max(axis=(1, 2)) / scale).max())


@pytest.mark.parametrize("precision", HALF)
@pytest.mark.parametrize("name", MODELS)
def test_long_utterances_are_the_same_alone_and_in_a_batch(extractor, tiny_model, signals, name, precision):
    model = tiny_model(name, **NARROW)
    own, exact = extractor(model, precision=precision), extractor(model)
    chosen = signals if name in ("wav2vec2", "mhubert") else signals[:2]
    for found, signal in zip(own.extract(chosen), chosen, strict=True):
        assert deviation(found, own.extract([signal])[0]) <= SAME_IN_ANY_BATCH[precision]
        expected = exact.extract([signal])[0]
        power = np.square(expected).mean(axis=(1, 2))
        assert (np.square(found - expected).mean(axis=(1, 2)) <= LOST * power).all()


@pytest.mark.parametrize("precision", HALF)
def test_whisper_is_the_same_alone_and_in_a_batch(extractor, tiny_model, signals, precision):
    own = extractor(tiny_model("whisper", encoder_layers=1), precision=precision)
    chosen = signals[:2]
    for found, signal in zip(own.extract(chosen), chosen, strict=True):
        assert deviation(found, own.extract([signal])[0]) <= SAME_IN_ANY_BATCH[precision]


@pytest.mark.parametrize("precision", HALF)
@pytest.mark.parametrize("name", ["bert", "deberta-v2", "fnet", "t5"])
def test_text_encoders_are_near_float32_and_the_same_in_any_batch(tiny_text_model, name, precision):
    own, exact = (create_extractor(tiny_text_model(name), text=True, precision=p) for p in (precision, "float32"))
    tokens = [own.tokenise(text) for text in ("hello", "", "I am happy, really!", "I am happy, really?")]
    for found, one in zip(own.extract(tokens), tokens, strict=True):
        assert deviation(found, own.extract([one])[0]) <= SAME_IN_ANY_BATCH[precision]
        assert deviation(found, exact.extract([one])[0]) <= NEAR_FLOAT32[precision]


# Norms over time, compared with float64.


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("scale", [1e-3, 200.0])
@pytest.mark.parametrize("padded", [False, True])
def test_group_norm_over_many_frames_is_that_of_float64(dtype, scale, padded):
    generator = torch.Generator().manual_seed(0)
    values = (scale * (1 + torch.randn(2, 4, 80000, generator=generator))).to(dtype)
    original = torch.nn.GroupNorm(4, 4, eps=1e-5)
    with torch.no_grad():
        original.weight.uniform_(0.5, 2, generator=generator)
        original.bias.uniform_(-1, 1, generator=generator)
    current = Pass()
    lengths = (80000, 70001)
    if padded:
        current.first_convolution_mask = torch.arange(80000) < torch.tensor(lengths)[:, None]
    with torch.no_grad():
        found = ValidGroupNorm(original, current)(values)
    assert found.dtype == dtype
    for item, length in enumerate(lengths if padded else (80000, 80000)):
        exact = values[item, :, :length].double()
        mean, variance = exact.mean(-1, keepdim=True), exact.var(-1, unbiased=False, keepdim=True)
        expected = (exact - mean) / torch.sqrt(variance + 1e-5)
        expected = expected * original.weight.double()[:, None] + original.bias.double()[:, None]
        error = (found[item, :, :length].double() - expected).abs().max() / expected.abs().max()
        assert error <= max(torch.finfo(dtype).eps, 1e-5)


def test_batch_norm_keeps_statistics_that_float16_cannot_hold():
    norm = torch.nn.BatchNorm1d(3).eval()
    norm.running_var.fill_(1e6)  # In float16 this is infinite, and the channel would be constant.
    norm.running_mean.fill_(1e5)
    values = torch.full((1, 3, 5), 60000.0, dtype=torch.float16)
    with torch.no_grad():
        found = InFloat32(norm)(values)
    assert found.dtype == torch.float16
    np.testing.assert_allclose(found.float().numpy(), -40.0, rtol=1e-3)


def test_a_model_in_half_precision_keeps_its_norms_over_time_in_float32(tiny_model):
    for name, kind in (("wav2vec2", ValidGroupNorm), ("mhubert", InFloat32)):
        own = SSLExtractor(SSLConfig(model=tiny_model(name), precision="float16"))
        norms = [part for part in own._model.modules() if isinstance(part, kind)]
        assert norms
        assert {values.dtype for norm in norms for values in norm.parameters()} == {torch.float32}
        assert {values.dtype for norm in norms for values in norm.buffers() if values.is_floating_point()} <= {
            torch.float32
        }


def test_float16_on_a_cpu_is_said_to_be_slow(tiny_model, caplog):
    SSLExtractor(SSLConfig(model=tiny_model("wav2vec2"), precision="float16"))
    assert "--precision float16 is meant for GPUs" in caplog.text


# Apple's GPU.


@pytest.fixture
def devices(monkeypatch):
    """Return a function that simulates a machine with these devices."""

    def have(*, cuda=False, mps=False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return have


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        ({"cuda": True, "mps": True}, "cuda"),
        ({"cuda": True}, "cuda"),
        ({"mps": True}, "mps"),
        ({}, "cpu"),
    ],
)
def test_auto_is_cuda_then_mps_then_the_cpu(devices, there, expected):
    devices(**there)
    assert usable_device("auto") == expected
    assert usable_devices("auto") == expected


def test_mps_that_is_not_there_is_one_line():
    if torch.backends.mps.is_available():
        pytest.skip("this machine has it")
    with pytest.raises(ModelError, match=r"^--device mps is not available here \([^\n]*\); use --device cpu$"):
        usable_device("mps")


@pytest.mark.parametrize("precision", HALF)
def test_mps_computes_in_float32_alone(tiny_model, tiny_text_model, precision):
    for model, text in ((tiny_model("wav2vec2"), False), (tiny_text_model("bert"), True)):
        with pytest.raises(ModelError, match=rf"^--precision {precision} is not available on mps, which computes in"):
            create_extractor(model, text=text, device="mps", precision=precision)


@pytest.mark.parametrize("name", ["wav2vec2", "mhubert"])
def test_extraction_sends_float32_to_mps(tiny_model, signals, name):
    expected = SSLExtractor(SSLConfig(model=tiny_model(name))).extract(signals[:2])
    with OnMps() as mode:
        own = SSLExtractor(SSLConfig(model=tiny_model(name)), device="mps")
        found = own.extract(signals[:2])
    assert mode.sent
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
