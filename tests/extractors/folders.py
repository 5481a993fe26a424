"""Helpers to edit model folders."""

import json

import pytest
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from featcache.errors import ModelError
from featcache.extractors.models import load

ANY_VALUE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([1e300, 2**70, -1.5]),
    st.text(max_size=5),
    st.lists(st.integers(-1, 3), max_size=8),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)
"""Any JSON value of an entry of a model's configuration."""


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
