"""Heads from outside featcache: source code of files, and fixtures that name them."""

import importlib
import sys

import pytest

from featcache import registry
from featcache.installed import entry_points_of
from featcache.registry import name_plugins

ATTENTIVE = '''
"""Attention over frames after dropout: one head with two options, and one head that uses all layers unchanged."""

from dataclasses import dataclass

import torch
from torch import nn

from featcache.heads import Dropout, Head, HeadSpec
from featcache.settings.field import setting


@dataclass(frozen=True, kw_only=True)
class AttentiveOptions:
    width: int = setting(8, "Width of the projected frames.", minimum=1, maximum=64)
    dropout: float = setting(0.1, "Dropout rate.", minimum=0, maximum=0.9)


class Attentive(Head):
    spec = HeadSpec(
        stores=(1, None), inputs="frames", batch_size=8, learns_layers=True, options=AttentiveOptions
    )

    def build(self, frame_sizes, num_outputs, generator):
        width = self.options.width
        self.dropout = Dropout(generator, rate=self.options.dropout)
        self.projections = nn.ModuleList(nn.Linear(size, width) for size in frame_sizes)
        self.scores = nn.ModuleList(nn.Linear(width, 1) for _ in frame_sizes)
        self.output = nn.Linear(len(frame_sizes) * width, num_outputs)

    def forward(self, features):
        attended = []
        for utterances, projection, score in zip(self.averaged(features), self.projections, self.scores):
            hidden = [projection(self.dropout(frames)).relu() for frames in utterances]
            attended.append(torch.cat([score(frames).softmax(dim=0).T @ frames for frames in hidden]))
        return self.output(torch.cat(attended, dim=1))


class Stacked(Head):
    spec = HeadSpec(learns_layers=False)

    def build(self, frame_sizes, num_outputs, generator):
        self.output = nn.Linear(self.num_layers[0] * frame_sizes[0], num_outputs)

    def forward(self, features):
        [utterances] = features
        return self.output(torch.stack([layers.mean(dim=1).flatten() for layers in utterances]))
'''

# Head that tests change by one line: the first `{}` is a line of build, the second a line of forward.
FAULTY = """
import numpy as np
import torch
from torch import nn

from featcache.heads import Dropout, Head, HeadSpec


class Faulty(Head):
    spec = HeadSpec(stores=(1, None))

    def build(self, frame_sizes, num_outputs, generator):
        self.output = nn.Linear(frame_sizes[0], num_outputs)
        {}

    def forward(self, features):
        utterances = self.averaged(features)[0]
        vectors = torch.stack([frames.mean(dim=0) for frames in utterances])
        {}
        return self.output(vectors)
"""


@pytest.fixture
def named(monkeypatch, tmp_path):
    """Write a file with heads and name it: ``named(text)`` returns the path. The names are forgotten after the test."""
    monkeypatch.setattr(registry, "_named", {})

    def write(text=ATTENTIVE, name="head.py"):
        path = tmp_path / name
        path.write_text(text)
        name_plugins([str(path)])
        return path

    return write


@pytest.fixture
def install(monkeypatch, tmp_path):
    """Install a package ``mylab`` with the entry point ``attention``: ``install(version)``."""

    def write(version="1.2"):
        for path in tmp_path.glob("site/*.dist-info/*"):
            path.unlink()
        for path in tmp_path.glob("site/*.dist-info"):
            path.rmdir()
        info = tmp_path / "site" / f"mylab-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: mylab\nVersion: {version}\n")
        (info / "RECORD").write_text("mylab/heads.py,,\n")
        (info / "entry_points.txt").write_text("[featcache.heads]\nattention = mylab.heads:Attentive\n")
        package = tmp_path / "site" / "mylab"
        package.mkdir(exist_ok=True)
        (package / "__init__.py").touch()
        (package / "heads.py").write_text(ATTENTIVE)
        importlib.invalidate_caches()
        entry_points_of.cache_clear()

    monkeypatch.setattr(registry, "_named", {})
    monkeypatch.syspath_prepend(tmp_path / "site")
    yield write
    entry_points_of.cache_clear()
    for name in ("mylab", "mylab.heads"):
        sys.modules.pop(name, None)
