"""Heads from outside of featcache: guarantees for their authors, and one-line messages about mistakes."""

import doctest
import random

import numpy as np
import pytest
import torch
from torch import nn

from featcache import heads
from featcache.errors import ModelError
from featcache.heads import Dropout, Head, HeadSpec, create_head, head_names, head_spec, head_weights
from featcache.heads.trial import try_head
from featcache.registry import name_plugins
from featcache.settings.checked import configured
from tests.outside_heads import FAULTY

SIZES = {"num_layers": [3, 1], "hidden_sizes": [10, 4], "num_outputs": 5}
ONE = {"num_layers": [3], "hidden_sizes": [10], "num_outputs": 5}
POOLED = {"pooling": None, "paired": True, "options": None}


def batch(sizes, num_frames=(6, 1, 4)):
    generator = torch.Generator().manual_seed(0)
    return [
        [torch.randn(layers, frames, size, generator=generator) for frames in num_frames]
        for layers, size in zip(sizes["num_layers"], sizes["hidden_sizes"], strict=True)
    ]


def told_in_one_line(error):
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("documented", [Head, Dropout])
def test_the_examples_of_the_docstrings_run(documented):
    names = {"Head": Head, "HeadSpec": HeadSpec, "Dropout": Dropout, "nn": nn, "torch": torch}
    [example] = doctest.DocTestFinder(recurse=False).find(documented, globs=names)
    assert doctest.DocTestRunner().run(example).failed == 0


def test_the_head_of_the_example_is_what_a_plain_loop_computes():
    class Attentive(Head):
        def build(self, frame_sizes, num_outputs, generator):
            self.score = nn.Linear(frame_sizes[0], 1)
            self.output = nn.Linear(frame_sizes[0], num_outputs)

        def forward(self, features):
            [utterances] = self.averaged(features)
            pooled = [self.score(frames).softmax(dim=0).T @ frames for frames in utterances]
            return self.output(torch.cat(pooled)).float()

    head = Attentive([3], [10], 5, generator=torch.Generator().manual_seed(1))
    state = {name: values.detach().double().numpy() for name, values in head.state_dict().items()}
    for row, utterance in zip(head(batch(ONE)).detach().numpy(), batch(ONE)[0], strict=True):
        frames = utterance.double().numpy().mean(axis=0)
        weights = np.exp(frames @ state["score.weight"][0])
        vector = weights @ frames / weights.sum()
        expected = state["output.weight"] @ vector + state["output.bias"]
        np.testing.assert_allclose(row, expected, rtol=1e-5, atol=1e-5)


def test_a_seed_fixes_the_layers_of_torch_and_the_global_generators_stay_as_they_were(named):
    reference = f"{named()}:Attentive"
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    first, again, other = (create_head(reference, **SIZES, seed=seed) for seed in (1, 1, 2))
    logits = [head(batch(SIZES)) for head in (first, again, other)]  # in training mode, with dropout
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states[1:]
    for name, values in first.state_dict().items():
        assert torch.equal(values, again.state_dict()[name])
        assert "averages" in name or not torch.equal(values, other.state_dict()[name])
    assert torch.equal(logits[0], logits[1])


def test_its_options_are_checked_and_reach_build(named):
    reference = f"{named()}:Attentive"
    options = configured(head_spec(reference).options, {"width": "16"}, f"head {reference!r}")
    head = create_head(reference, **SIZES, options=options, seed=1)
    assert head.projections[0].weight.shape == (16, 10)
    assert head.dropout.rate == 0.1
    for given, message in [
        ({"widht": 1}, "no option 'widht'; did you mean 'width'"),
        ({"width": 65}, "width takes a number of at most 64, got 65"),
        ({"dropout": "nan"}, "dropout takes a finite number"),
    ]:
        with pytest.raises(ModelError, match=message) as error:
            configured(head_spec(reference).options, given, "head")
        told_in_one_line(error)


def test_a_head_without_layer_weights_gets_its_layers_as_they_are(named):
    head = create_head(f"{named()}:Stacked", **ONE, seed=1)
    assert not hasattr(head, "averages")
    assert head.layer_weights() == [None]
    vectors = torch.stack([layers.mean(dim=1).flatten() for layers in batch(ONE)[0]])
    assert torch.equal(head(batch(ONE)), head.output(vectors))


def test_shapes_are_found_without_memory(named):
    reference = f"{named()}:Attentive"
    huge = {**SIZES, "hidden_sizes": [10**12, 4]}
    found = head_weights(reference, **huge)
    assert found["projections.0.weight"].shape == (8, 10**12)
    small = create_head(reference, **SIZES, seed=0).state_dict()
    assert {name: one.shape for name, one in head_weights(reference, **SIZES).items()} == {
        name: one.shape for name, one in small.items()
    }
    with pytest.raises(ModelError, match=r"hidden sizes .* are too large for any tensor") as error:
        head_weights("dense", num_layers=[1], hidden_sizes=[10**30], num_outputs=2)
    told_in_one_line(error)


@pytest.mark.parametrize("name", [":Attentive", ":Stacked"])
def test_a_sound_head_passes_its_trial(named, name):
    sizes = ONE if name == ":Stacked" else SIZES
    before = torch.get_rng_state()
    try_head(f"{named()}{name}", **sizes, **POOLED)
    try_head(f"{named()}{name}", **sizes, **{**POOLED, "pooling": "mean+max"})
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("build", "forward", "message"),
    [
        ("1 / 0", "", "fails with ZeroDivisionError: division by zero"),
        ("exit(0)", "", "fails with SystemExit: 0"),
        ("", "raise SystemExit('done')", "fails with SystemExit: done"),
        ("", "vectors = vectors @ vectors", "fails with RuntimeError: mat1 and mat2 shapes"),
        ("", "return vectors", r"returns torch.float32 of shape \(3, 10\) for 3 utterances, .* of shape \(3, 5\)"),
        ("", "return self.output(vectors).argmax(dim=1)", r"returns torch.int64 of shape \(3,\)"),
        ("", "return [self.output(vectors)]", "returns list for 3 utterances"),
        ("", "vectors = vectors - vectors.mean(dim=0)", "different logits for an utterance in a batch and"),
        ("self.drop = nn.Dropout(0.5)", "vectors = self.drop(vectors)", r"as nn.Dropout does; use featcache.heads.Dr"),
        ("", "vectors = vectors * (1 + self.training * np.random.rand())", "different logits with the same seed"),
        ("", "vectors = self.output(vectors).detach(); return vectors", "no gradient reaches its weights"),
        ("del self.output", "", "has no weights to train"),
        ("self.double()", "", "is torch.float64, expected float32"),
        ("self.output.weight.sum().item()", "", "cannot be called on meta tensors"),
        ("self.norm = nn.BatchNorm1d(10)", "vectors = self.norm(vectors)", "Expected more than 1 value per channel"),
    ],
)
def test_what_a_head_does_wrong_is_told_before_anything_is_trained(named, build, forward, message):
    text = FAULTY.format(build, forward).replace("HeadSpec(stores=(1, None))", "HeadSpec(learns_layers=True)")
    if "del self.output" in build:
        text = text.replace("HeadSpec(learns_layers=True)", "HeadSpec(learns_layers=False)")
    reference = f"{named(text)}:Faulty"
    before = torch.get_rng_state(), np.random.get_state()
    with pytest.raises(ModelError, match=message) as error:
        try_head(reference, **ONE, **POOLED)
    assert reference in told_in_one_line(error)
    assert torch.equal(torch.get_rng_state(), before[0])
    np.random.set_state(before[1])


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("HeadSpec(inputs='framed')", "inputs is 'framed', expected 'frames' or 'pooled'"),
        ("HeadSpec(stores=(0, None))", r"stores is \(0, None\), expected \(minimum, maximum\), at least 1, such as"),
        ("HeadSpec(batch_size=0)", "batch_size is 0"),
        ("HeadSpec(is_network=False)", "its spec has is_network=False, expected True"),
        ("HeadSpec(options=dict(width=8))", "options is {'width': 8}, expected a dataclass"),
        ("HeadSpec(store=1)", "TypeError: .* unexpected keyword argument 'store'"),
        ("dict(stores=(1, 1))", r"spec is {'stores': \(1, 1\)}, expected a featcache.heads.HeadSpec"),
    ],
)
def test_a_spec_that_cannot_be_is_told(named, spec, message):
    reference = f"{named(FAULTY.replace('HeadSpec(stores=(1, None))', spec))}:Faulty"
    with pytest.raises(ModelError, match=message) as error:
        head_spec(reference)
    told_in_one_line(error)


def test_a_class_that_does_not_give_its_spec_is_told(named):
    text = FAULTY.replace("class Faulty(Head):", "class Faulty(Head, metaclass=Lying):").format("", "")
    lying = "class Lying(type(Head)):\n    @property\n    def spec(cls):\n        raise KeyError('li\\nar')\n"
    reference = f"{named(text.replace('class Faulty', lying + 'class Faulty'))}:Faulty"
    with pytest.raises(ModelError, match=r"could not return its spec \(KeyError: ") as error:
        head_spec(reference)
    told_in_one_line(error)


def test_frames_that_do_not_pair_are_refused_by_a_head_that_joins_them(named):
    reference = f"{named(FAULTY.format('', ''))}:Faulty"
    with pytest.raises(ModelError, match="joins stores frame by frame, but the frames of these stores are not al"):
        create_head(reference, **SIZES, paired=False, seed=1)


def test_a_head_that_the_user_did_not_name_is_not_imported(tmp_path, monkeypatch):
    monkeypatch.setattr("featcache.registry._named", {})
    (tmp_path / "head.py").write_text(f"open({str(tmp_path / 'sprung')!r}, 'w')")
    with pytest.raises(ModelError, match=r"is code from outside of featcache, .*: --plugin .*featcache.name_plugins"):
        head_spec(f"{tmp_path / 'head.py'}:Attentive")
    assert not (tmp_path / "sprung").exists()


def test_solvers_are_listed_beside_heads_and_are_no_networks():
    networks = ["dense", "lstm", "fusion", "attentive", "linear", "ffn", "mlp"]
    assert head_names()[:9] == [*networks, "svm", "logistic"]
    assert "svm" not in heads.HEADS
    assert not head_spec("svm").is_network
    assert not head_spec("svm").learns_layers
    with pytest.raises(ModelError, match="no head 'svn'; did you mean 'svm'"):
        head_spec("svn")


@pytest.mark.parametrize("named_first", [True, False])
def test_of_two_files_of_one_name_the_one_is_taken_that_was_named(tmp_path, monkeypatch, named_first):
    monkeypatch.setattr("featcache.registry._named", {})
    paths = [tmp_path / folder / "head.py" for folder in "ab"]
    for number, path in enumerate(paths):
        path.parent.mkdir()
        path.write_text(f"from featcache.heads import Head\nclass Mine(Head):\n    number = {number}\n")
    name_plugins([f"{path}:Mine" for path in (paths if named_first else paths[::-1])])
    assert [heads.HEADS.find(f"{path}:Mine").number for path in paths] == [0, 1]
    with pytest.raises(ModelError, match="is code from outside"):
        heads.HEADS.find("./head.py:Mine")
