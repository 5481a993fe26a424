"""The deviation that a rounded store causes is measured before training, and reported."""

import logging

import numpy as np
import pytest
import torch
import transformers

import featcache
from featcache.extraction import extract

# The largest relative difference of two float16 numbers next to each other; the last layer is rounded, too.
FLOAT16 = 2.0**-10


@pytest.fixture(scope="module")
def stores(place):
    """Add stores of the tiny model that round."""
    common = {
        "corpus": "toy",
        "egemaps": False,
        "workers": 1,
        "home": place.workspace.home,
        "model": place.models["ssl"],
    }
    extract(name="half", store="float16", **common)
    extract(name="bytes", store="int8", **common)
    extract(name="no-last", store="float16", layers="1", **common)
    place.models.update(dict.fromkeys(("half", "bytes", "no-last"), place.models["ssl"]))
    return featcache.open(place.workspace.cache("toy"))


@pytest.fixture
def notes_of(place, caplog):
    """Return a function that trains from a store, and returns the notes of the terminal that are in the report."""

    def train(store):
        with caplog.at_level(logging.INFO):
            run = place.finetune(features=store, name=f"rounded-{store}", max_epochs=1)
        report = (run.path / "report.html").read_text()
        assert ("is not exact" in report) == any("is not exact" in note for note in caplog.messages)
        return [note for note in caplog.messages if "is not exact" in note and note in report]

    return train


def upper_part(place, frames):
    """Return the last layer, computed by transformers from layer 1."""
    model = transformers.AutoModel.from_pretrained(place.models["ssl"]).eval()
    states = torch.from_numpy(frames)[None]
    with torch.no_grad():
        for block in model.encoder.layers[1:]:
            found = block(states)
            states = found if isinstance(found, torch.Tensor) else found[0]
    return states[0].numpy()


@pytest.mark.parametrize("name", ["half", "bytes"])
def test_the_deviation_is_that_of_the_whole_model(place, stores, notes_of, name):
    [note] = notes_of(name)
    dtype = {"half": "float16", "bytes": "int8"}[name]
    assert note.startswith(f"{name} contains {dtype} values, so that layer 1 is not exact.")
    found = float(note.partition("by up to ")[2].split()[0])
    ids = stores[name].utterance_ids[::3]
    pairs = [(upper_part(place, stores[name][i][1]), stores[name][i][-1]) for i in ids]
    expected = max(np.abs(values - last).max() / np.abs(last).max() for values, last in pairs)
    assert found == pytest.approx(expected, rel=0.06)  # the note has two digits
    exact = stores["ssl"]
    truly = max(
        np.abs(values - exact[i][-1]).max() / np.abs(exact[i][-1]).max()
        for i, (values, _) in zip(ids, pairs, strict=True)
    )
    assert truly <= found + (FLOAT16 if name == "half" else 1 / 127)


@pytest.mark.usefixtures("stores")
def test_without_the_last_layer_nothing_is_measured(notes_of):
    [note] = notes_of("no-last")
    assert note.endswith("was not measured, because the store does not have the last layer.")


def test_float32_needs_no_note(notes_of):
    assert notes_of("ssl") == []
