"""Helpers to edit model folders."""

import json

import pytest
from safetensors.numpy import load_file, save_file

from featcache.errors import ModelError
from featcache.extractors.models import load


def edit_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def edit_weights(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def refused(message, model, **options):
    with pytest.raises(ModelError, match=message) as caught:
        load(str(model), **options)
    assert "\n" not in str(caught.value)
