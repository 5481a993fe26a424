"""A family with an own module needs one class and one line, and runs in batches of equal lengths."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from featcache.audio import Signal
from featcache.errors import ModelError
from featcache.extractors.families import FAMILIES
from featcache.extractors.families.own_family import OwnFamily
from featcache.extractors.models import load
from featcache.extractors.ssl import SSLExtractor
from featcache.settings.extractor_configs import SSLConfig


class Config:
    model_type = "own"

    def __init__(self, *, hidden_size=8, num_hidden_layers=3, **_others):
        self.hidden_size, self.num_hidden_layers = hidden_size, num_hidden_layers


class Module(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.token = nn.Parameter(torch.randn(1, 1, config.hidden_size))
        self.convolution = nn.Conv1d(1, config.hidden_size, 400, stride=320)
        self.blocks = nn.ModuleList(
            nn.Linear(config.hidden_size, config.hidden_size) for _ in range(config.num_hidden_layers)
        )

    def forward(self, values):
        hidden = self.convolution(values[:, None]).transpose(1, 2)
        hidden = torch.cat([self.token.expand(len(hidden), -1, -1), hidden], dim=1)
        for block in self.blocks:
            hidden = hidden + hidden.mean(1, keepdim=True)  # reads all frames, so padding would change them
            hidden = torch.tanh(block(hidden))
        return (hidden,)


class FeatureExtractor:
    sampling_rate = 16000


class Own(OwnFamily):
    model_types = ("own",)
    title = "Own"
    config_class = Config
    hop, shortest = 320, 400

    @classmethod
    def model_class(cls):
        return Module

    @classmethod
    def new_feature_extractor(cls, config, *, do_normalize):
        return FeatureExtractor()

    @property
    def blocks(self):
        return self.module.blocks

    def num_frames(self, num_samples):
        return max(0, (num_samples - 400) // 320 + 1)

    def peak_bytes(self, batch, num_samples, num_layers):
        return 4 * batch * num_samples

    def prepare(self, samples):
        return torch.from_numpy(samples - samples.mean())

    def arrange(self, name, layer):
        return layer[:, 1:]


@pytest.fixture
def own_model(monkeypatch, tmp_path):
    """Return a folder with a model of the family, which is in the table."""
    monkeypatch.setitem(FAMILIES, "own", Own)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "own", "hidden_size": 6, "other": 1}))
    save_file(
        {f"d.{name}": values for name, values in Module(Config(hidden_size=6)).state_dict().items()},
        tmp_path / "model.safetensors",
    )
    return tmp_path


def test_an_own_module_is_loaded_and_run(own_model, monkeypatch):
    with pytest.raises(ModelError, match=r"9 parameters of its own architecture are missing or of another shape"):
        load(str(own_model))
    monkeypatch.setattr(Own, "weight_prefixes", ("other.", "d."))
    own = SSLExtractor(SSLConfig(model=str(own_model)))
    signals = [
        Signal(samples=np.random.default_rng(n).normal(size=n).astype(np.float32), sampling_rate=16000)
        for n in (4000, 400, 4000, 5000)
    ]
    assert own.description.layer_names == ("0", "1", "2", "3")
    assert own.description.provenance["num_parameters"] == 6 + 401 * 6 + 3 * 42
    for signal, found in zip(signals, own.extract(signals), strict=True):
        np.testing.assert_allclose(found, own.extract([signal])[0], atol=1e-5)
        values = torch.from_numpy(signal.samples - signal.samples.mean())[None]
        with torch.inference_mode():
            expected = own._model(values)[0][0, 1:]
        np.testing.assert_allclose(found[-1], expected, atol=1e-6)


@pytest.mark.parametrize(
    "options", [{"num_blocks": 1}, {"layers": "0,2"}, {"weights": "random"}, {"chunk_seconds": 3.0}]
)
def test_options_apply_to_an_own_module(own_model, monkeypatch, options):
    monkeypatch.setattr(Own, "weight_prefixes", ("d.",))
    own = SSLExtractor(SSLConfig(model=str(own_model), **options))
    names = {"num_blocks": ("0", "1"), "layers": ("0", "2")}.get(next(iter(options)), ("0", "1", "2", "3"))
    assert own.description.layer_names == names
    with pytest.raises(ModelError, match=r"^--do-normalize does not apply to Own, whose input is waveforms$"):
        SSLExtractor(SSLConfig(model=str(own_model), do_normalize=True))
