"""Attentive statistics pooling against a plain loop over frames in float64, and its gradients."""

import pytest
import torch

from featcache.heads import create_head
from featcache.heads.attentive import TINY_VARIANCE, AttentiveOptions, AttentivePooling

SHAPES, LENGTHS = [(3, 5), (1, 4)], [[6, 2], [1, 1], [4, 9]]
# The reference computes in float64, the head in float32 with sums of several dozen terms.
TOLERANCE = 1e-5


def create(**given):
    num_layers, hidden_sizes = zip(*SHAPES, strict=True)
    options = AttentiveOptions(hidden_units=6, attention_units=3, **given)
    sizes = {"num_layers": num_layers, "hidden_sizes": hidden_sizes, "num_outputs": 2}
    head = create_head("attentive", **sizes, options=options, seed=1)
    for pool in head.pools:  # an untrained head has equal scores
        torch.nn.init.normal_(pool.vector.weight, generator=torch.Generator().manual_seed(2))
    return head


def batch():
    generator = torch.Generator().manual_seed(0)
    return [
        [torch.randn(layers, lengths[store], size, generator=generator) for lengths in LENGTHS]
        for store, (layers, size) in enumerate(SHAPES)
    ]


def plain(head, utterance):
    """Compute the logits of one utterance frame by frame; the layer weights are equal."""
    state = {name: values.double() for name, values in head.state_dict().items()}

    def affine(name, values):
        return state[f"{name}.weight"] @ values + state.get(f"{name}.bias", 0)

    vector = []
    for i, layers in enumerate(utterance):
        frames = [affine(f"branches.{i}.linear", frame).relu() for frame in layers.double().mean(dim=0)]
        scores = [float(affine(f"pools.{i}.vector", affine(f"pools.{i}.hidden", frame).tanh())) for frame in frames]
        weights = (torch.tensor(scores, dtype=torch.float64) / 3**0.5).softmax(dim=0)
        mean = sum(weight * frame for weight, frame in zip(weights, frames, strict=True))
        square = sum(weight * frame**2 for weight, frame in zip(weights, frames, strict=True))
        vector += [mean, (square - mean**2).clamp_min(TINY_VARIANCE).sqrt()]
    return affine("output", affine("hidden.linear", torch.cat(vector)).relu())


def test_logits_are_those_of_a_plain_loop_over_frames():
    head = create().eval()
    expected = torch.stack([plain(head, utterance) for utterance in zip(*batch(), strict=True)])
    torch.testing.assert_close(head(batch()).double(), expected, rtol=0, atol=TOLERANCE)


def test_an_untrained_head_begins_with_the_plain_mean_and_standard_deviation():
    pool = AttentivePooling(4, 3, torch.Generator().manual_seed(0))
    frames = torch.randn(7, 4, generator=torch.Generator().manual_seed(1))
    expected = torch.cat([frames[:5].mean(dim=0), frames[:5].std(dim=0, correction=0)])
    torch.testing.assert_close(pool(frames, [5, 2])[0], expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(
    "frames", [torch.zeros(3, 4), torch.ones(3, 4), 1e4 * torch.ones(1, 4), 1e-3 * torch.ones(3, 4)]
)
def test_gradients_of_constant_and_of_single_frames_are_finite(frames):
    pool = AttentivePooling(4, 3, torch.Generator().manual_seed(0))
    frames.requires_grad_()
    pooled = pool(frames, [len(frames)])
    pooled.sum().backward()
    assert pooled.isfinite().all()
    assert all(values.grad.isfinite().all() for values in (frames, *pool.parameters()))


def test_frames_in_another_order_give_the_same_logits():
    head = create().eval()
    backwards = [[values.flip(1) for values in store] for store in batch()]
    torch.testing.assert_close(head(backwards), head(batch()), rtol=0, atol=TOLERANCE)


def test_under_autocast_logits_are_float32_and_close():
    head = create().eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = head(batch())
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, head(batch()), rtol=0, atol=0.05)  # five products with eight bits each
