"""Upper blocks give the layers, gradients and training steps of the whole model in Hugging Face transformers."""

import copy

import pytest
import torch

from tests.extractors.upper.plain import (
    GRADIENT_NOISE,
    GRADIENT_TOLERANCE,
    SPEECH_CASES,
    TEXT_CASES,
    assert_near,
    blocks_of,
)

CASES = [*SPEECH_CASES, *TEXT_CASES]
# Adam divides a gradient by its own size. Where that is a rounding error, only the bound of a step, the learning rate,
# limits the difference; therefore the outputs after the steps are compared, relative to how far the steps moved them.
STEPS_TOLERANCE = 1e-3


def levels(plain, case):
    """Return layer 0, a middle layer and the one before the last."""
    last = plain(case).num_blocks - 1
    return sorted({0, last // 2 + last % 2, last})


@pytest.mark.parametrize("case", CASES)
def test_layers_are_those_of_the_whole_model_alone_and_in_batches(plain, upper, case):
    with torch.no_grad():
        whole = plain(case).layers()
    for k in levels(plain, case):
        blocks = upper(case, k, layers="all")
        assert blocks.layer_names == tuple(str(number) for number in range(k, len(whole[0])))
        stored = [layers[k] for layers in whole]
        before = [one.clone() for one in stored]
        with torch.no_grad():
            alone = [blocks([one])[0] for one in stored]
            together = blocks(stored)
            pair = blocks(stored[1::-1])
        for found in (alone, together):
            for layers, expected in zip(found, whole, strict=True):
                assert_near(layers[-1], expected[-1])
                for layer, of_whole in zip(layers, expected[k:], strict=True):
                    assert_near(layer, of_whole)
        assert_near(pair[0], whole[1][k:])
        assert_near(pair[1], whole[0][k:])
        for one, same in zip(stored, before, strict=True):
            assert torch.equal(one, same)


def whole_gradients(one, k, names):
    """Return the gradients of a loss of the last layer, with the parts below layer k frozen."""
    model = one.load()
    parameters = dict(model.named_parameters())
    for name, parameter in parameters.items():
        parameter.requires_grad_(name in names)
    loss = sum(loss_of(layers[-1]) for layers in one.layers(model))
    loss.backward()
    return {name: parameters[name].grad for name in names}


def loss_of(last):
    """Return a loss without symmetry; the mean of a LayerNorm's output alone would have no gradient."""
    weights = torch.linspace(-1, 1, last.shape[1])
    return (last.mean(0) * weights).sum() + last.square().mean(0).mul(weights.flip(0)).sum()


@pytest.mark.parametrize("case", CASES)
def test_gradients_are_those_of_the_whole_model(plain, upper, case):
    one = plain(case)
    with torch.no_grad():
        whole = one.layers()
    for k in levels(plain, case):
        blocks = upper(case, k, layers="all")
        blocks.zero_grad()
        loss = sum(loss_of(layers[-1]) for layers in blocks([layers[k] for layers in whole]))
        loss.backward()
        own = dict(blocks.named_parameters())
        found = {name: own[mine].grad for mine, name in blocks._original.items()}
        expected = whole_gradients(one, k, set(found))
        largest = max(float(gradient.abs().max()) for gradient in expected.values() if gradient is not None)
        for name, gradient in expected.items():
            assert (gradient is None) == (found[name] is None), name
            if gradient is not None:
                scale = max(float(gradient.abs().max()), GRADIENT_NOISE / GRADIENT_TOLERANCE * largest)
                assert float((found[name] - gradient).abs().max()) <= GRADIENT_TOLERANCE * scale, (k, name)


@pytest.mark.parametrize("case", CASES)
def test_all_parameters_of_the_blocks_are_trained_and_no_lower_ones(plain, upper, case):
    one = plain(case)
    names = {id(parameter): name for name, parameter in one.module.named_parameters()}
    for k in levels(plain, case):
        trained = set(upper(case, k, layers="all")._original.values())
        blocks = blocks_of(one.module)
        above = {names[id(p)] for block in blocks[k:] for p in block.parameters()}
        below = {names[id(p)] for block in blocks[:k] for p in block.parameters()}
        assert above <= trained
        assert not below & trained
        if k > 0:
            others = trained - above
            assert len(others) <= 2
            assert all("norm" in name or "ln_f" in name for name in others)


def ten_steps(parameters, loss):
    optimizer = torch.optim.Adam(parameters, lr=1e-3)
    for _ in range(10):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()


@pytest.mark.parametrize("case", ["wav2vec2", "wavlm", "mhubert", "wav2vec2-conformer", "whisper", "bert", "t5"])
def test_ten_steps_are_those_of_a_plain_loop_with_the_lower_part_frozen(plain, upper, case):
    one = plain(case)
    with torch.no_grad():
        whole = one.layers()
    k = 1
    blocks = copy.deepcopy(upper(case, k, layers="all"))
    stored = [layers[k] for layers in whole]
    ten_steps(blocks.tuned_parameters(), lambda: sum(loss_of(layers[-1]) for layers in blocks(stored)))
    model = one.load()
    parameters = dict(model.named_parameters())
    chosen = set(blocks._original.values())
    for name, parameter in parameters.items():
        parameter.requires_grad_(name in chosen)
    trained = [parameter for name, parameter in parameters.items() if name in chosen]
    ten_steps(trained, lambda: sum(loss_of(layers[-1]) for layers in one.layers(model)))
    with torch.no_grad():
        found, expected = blocks(stored), one.layers(model)
    for layers, of_whole, before in zip(found, expected, whole, strict=True):
        moved = float((of_whole[-1] - before[-1]).abs().max())
        assert moved > 0.01
        assert float((layers[-1] - of_whole[-1]).abs().max()) <= STEPS_TOLERANCE * moved


@pytest.mark.parametrize("case", ["wav2vec2", "wavlm", "mhubert", "wav2vec2-conformer", "whisper", "bert", "t5"])
def test_copies_are_independent(plain, upper, case):
    with torch.no_grad():
        whole = plain(case).layers()
    k = 1
    blocks = copy.deepcopy(upper(case, k, layers="all"))
    stored = [layers[k] for layers in whole]
    with torch.no_grad():
        expected = blocks(stored)
        twin = copy.deepcopy(blocks)
        for parameter in blocks.tuned_parameters():
            parameter.zero_()
        found, changed = twin(stored), blocks(stored)
    for one, other, zeroed in zip(found, expected, changed, strict=True):
        assert torch.equal(one, other)
        assert not torch.equal(zeroed, other)
    twin_parameters = {id(parameter) for parameter in twin.parameters()}
    assert not twin_parameters & {id(parameter) for parameter in blocks.parameters()}
