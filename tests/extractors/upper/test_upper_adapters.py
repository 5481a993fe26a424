"""Adapters of every family change the model as the product of their matrices does, and saved models contain them."""

import copy

import pytest
import torch

from featcache.errors import ModelError
from featcache.extractors.upper import AdapterOptions, TuningOptions, load_upper
from tests.extractors.upper.plain import SPEECH_CASES, TEXT_CASES, assert_near

RANK, ALPHA = 2, 3
# Cases whose blocks have no attention with weights.
WITHOUT = ("fnet",)
# Number of changed layers per block, if they are not queries, keys, values and outputs: GPT-2 has one layer for the
# first three, and relative positions are projected too.
NUM_LAYERS = {"gpt2": 2, "conformer-relative": 5, "w2v-bert-relative": 5}


def with_adapters(plain, case, layer=1, *, recomputed=False, **options):
    """Return upper blocks whose adapters have random matrices."""
    one = plain(case)
    adapters = AdapterOptions(rank=RANK, alpha=ALPHA, **options)
    blocks = load_upper(
        one.folder,
        text=one.text,
        from_layer=layer,
        with_padding=case == "whisper",
        options=TuningOptions(dropout=0, layer_dropout=0, adapters=adapters, gradient_checkpointing=recomputed),
    )
    blocks = copy.deepcopy(blocks)  # as each training does
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(5)
        for parameter in blocks.tuned_parameters():
            parameter.copy_(0.2 * torch.randn_like(parameter))
    return one, blocks


def matrices(blocks, letter):
    return [values for name, values in blocks.named_parameters() if f".lora_{letter}." in name]


@pytest.mark.parametrize("case", [case for case in (*SPEECH_CASES, *TEXT_CASES) if case not in WITHOUT])
def test_the_result_is_that_of_the_whole_model_with_added_products(plain, case):
    one, blocks = with_adapters(plain, case)
    module, added = one.load(), 0
    changed = dict(module.named_parameters())
    with torch.no_grad():
        for name, down, up in zip(blocks.tuned_state(), matrices(blocks, "A"), matrices(blocks, "B"), strict=True):
            product = ALPHA / RANK * up @ down
            values = changed[name.removeprefix("encoder.") if name not in changed else name]
            values.add_(product.T if case == "gpt2" else product)
            added += 1
        stored = [layers[1] for layers in one.layers()]
        expected, before = one.layers(module), one.layers()
    assert added == NUM_LAYERS.get(case, 4) * (one.num_blocks - 1)
    found = blocks(stored)
    for layers, whole, original in zip(found, expected, before, strict=True):
        assert_near(layers[0].detach(), whole[-1])
        assert float((whole[-1] - original[-1]).abs().max()) > 1e-3
    torch.stack([layers.square().sum() for layers in found]).sum().backward()
    trained = blocks.tuned_parameters()
    assert len(trained) == 2 * added
    assert all(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in trained)
    assert not [name for name, values in blocks.named_parameters() if values.grad is not None and ".lora_" not in name]


@pytest.mark.parametrize("case", ["wavlm", "whisper", "gpt2"])
def test_saved_models_have_merged_adapters(plain, tmp_path, case):
    one, blocks = with_adapters(plain, case, modules="all")
    blocks.save(tmp_path)
    again = load_upper(str(tmp_path), text=one.text, from_layer=1, with_padding=case == "whisper")
    with torch.no_grad():
        stored = [layers[1] for layers in one.layers()]
        for found, expected in zip(again(stored), blocks(stored), strict=True):
            assert_near(found, expected)


@pytest.mark.parametrize("case", ["wav2vec2", "wavlm"])
def test_gradient_checkpointing_gives_the_same_gradients(plain, case):
    gradients = []
    for recomputed in (False, True):
        one, blocks = with_adapters(plain, case, recomputed=recomputed)
        [found] = blocks.train()([one.layers()[0][1].detach()])
        found.square().sum().backward()
        gradients.append([parameter.grad for parameter in blocks.tuned_parameters()])
    assert all(torch.equal(*pair) for pair in zip(*gradients, strict=True))


def test_layers_are_chosen_by_name(plain):
    _, blocks = with_adapters(plain, "wav2vec2", 2, modules="q_proj,v_proj")
    assert sorted(blocks.tuned_state()) == [
        f"encoder.layers.2.attention.{name}.weight" for name in ("q_proj", "v_proj")
    ]


@pytest.mark.parametrize(
    ("case", "options", "message"),
    [
        ("fnet", {}, r"has no attention projections; use --lora-modules all$"),
        ("wavlm", {"dropout": 0.1}, r"has no separate inputs .*; use --lora-dropout 0$"),
        (
            "bert",
            {"modules": "q_proj"},
            r"no linear layers 'q_proj'; expected attention, all, or some of dense, key, qu",
        ),
        ("bert", {"modules": ""}, r"^--lora-modules '': a name is empty; expected attention, all, or some of dense"),
        ("bert", {"modules": "key,"}, r"^--lora-modules key,: a name is empty; expected attention, all, or some of"),
    ],
)
def test_what_does_not_apply_is_refused(plain, case, options, message):
    with pytest.raises(ModelError, match=message) as refused:
        with_adapters(plain, case, **options)
    assert "\n" not in str(refused.value)
