"""Heads against parameter counts computed by hand, and against the published equations in NumPy."""

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
import torch

from featcache.heads import create_head

WAV2VEC2_BASE = (13, 768)
EGEMAPS = (1, 25)
STORES = {"dense": [WAV2VEC2_BASE], "lstm": [WAV2VEC2_BASE], "fusion": [WAV2VEC2_BASE, EGEMAPS]}

# The reference computes in float64, the head in float32 with sums of up to 768 terms.
TOLERANCE = 1e-5


def create(name: str, stores: Sequence[tuple[int, int]], num_outputs: int = 7, seed: int = 123, kind: str = "abs"):
    num_layers, hidden_sizes = zip(*stores, strict=True)
    return create_head(
        name,
        num_layers=num_layers,
        hidden_sizes=hidden_sizes,
        num_outputs=num_outputs,
        layer_weighting=kind,
        seed=seed,
    )


FIRST_LAYER = 768 * 128 + 128
OUTPUT = 128 * 7 + 7
PARAMETERS = [
    ("dense", [WAV2VEC2_BASE], 13 + FIRST_LAYER + (128 * 128 + 128) + OUTPUT),
    ("dense", [EGEMAPS], (25 * 128 + 128) + (128 * 128 + 128) + OUTPUT),
    # There are four gates, each with 128 inputs, 128 recurrent inputs and one bias: 131 584 parameters.
    ("lstm", [WAV2VEC2_BASE], 13 + FIRST_LAYER + 4 * 128 * (128 + 128 + 1) + OUTPUT),
    # de Oliveira et al. 2023: layer weights of DistilHuBERT and TinyBERT, and the regression head.
    ("ffn", [(3, 768), (5, 312)], 3 + 5 + (2 * (768 + 312) * 768 + 768) + 768 * 7 + 7),
    ("fusion", [WAV2VEC2_BASE, EGEMAPS], 13 + FIRST_LAYER + (25 * 128 + 128) + (256 * 128 + 128) + OUTPUT),
]


@pytest.mark.parametrize(("name", "stores", "expected"), PARAMETERS)
def test_number_of_trained_parameters(name: str, stores: list[tuple[int, int]], expected: int) -> None:
    head = create(name, stores)
    assert sum(p.numel() for p in head.parameters() if p.requires_grad) == expected


def test_lstm_trains_one_vector_of_biases() -> None:
    head = create("lstm", [(2, 6)])
    optimiser = torch.optim.Adam(head.parameters(), lr=0.1)
    head([[torch.ones(2, 4, 6), torch.ones(2, 3, 6)]]).square().sum().backward()
    optimiser.step()
    state = head.state_dict()
    assert not state["hidden.lstm.bias_hh_l0"].any()
    assert set(state["hidden.lstm.bias_ih_l0"].tolist()) - {0.0, 1.0}


def glorot_limit(num_inputs: int, num_outputs: int) -> float:
    return (6 / (num_inputs + num_outputs)) ** 0.5


@pytest.mark.parametrize("name", STORES)
def test_initial_weights_are_glorot_uniform_and_biases_zero(name: str) -> None:
    for key, value in create(name, STORES[name]).state_dict().items():
        if key.endswith("weight") or "weight_ih" in key:
            limit = glorot_limit(value.shape[1], value.shape[0])
            assert value.abs().max() <= limit
            # The std of a uniform distribution; its standard error is 1.5 % for the smallest matrix, 7 × 128.
            assert value.std().item() == pytest.approx(limit / 3**0.5, rel=0.08)
        elif key.endswith("bias"):
            assert not value.any()


def test_lstm_starts_orthogonal_with_unit_forget_bias() -> None:
    state = create("lstm", [WAV2VEC2_BASE]).state_dict()
    recurrent = state["hidden.lstm.weight_hh_l0"].T  # Keras' (units, 4 units)
    torch.testing.assert_close(recurrent @ recurrent.T, torch.eye(128), rtol=0, atol=TOLERANCE)
    gates = state["hidden.lstm.bias_ih_l0"].reshape(4, 128)  # input, forget, cell, output
    assert torch.equal(gates, torch.tensor([0.0, 1.0, 0.0, 0.0])[:, None].expand(4, 128))


@pytest.mark.parametrize("kind", ["abs", "softmax"])
@pytest.mark.parametrize("name", STORES)
def test_outputs_equal_the_equations(name: str, kind: str) -> None:
    head = create(name, STORES[name], kind=kind).eval()
    generator = torch.Generator().manual_seed(7)
    # Change scalars and biases from their initial values, as training does.
    state = {
        key: value + 0.3 * torch.randn(value.shape, generator=generator)
        if key.endswith(("scalars", "bias", "bias_ih_l0"))
        else value
        for key, value in head.state_dict().items()
    }
    head.load_state_dict(state)
    num_frames = [11, 1, 6]
    features = [
        [torch.randn(layers, frames, size, generator=generator) for frames in num_frames]
        for layers, size in STORES[name]
    ]
    with torch.no_grad():
        logits = head(features).numpy()
    parameters = {key: value.double().numpy() for key, value in state.items()}
    for i in range(len(num_frames)):
        utterance = [store[i].double().numpy() for store in features]
        np.testing.assert_allclose(logits[i], reference(name, kind, parameters, utterance), rtol=0, atol=TOLERANCE)


def reference(name: str, kind: str, parameters: Mapping[str, np.ndarray], features: Sequence[np.ndarray]) -> np.ndarray:
    """Compute the logits of one utterance, frame by frame.

    The features of each store are (num_layers, num_frames, hidden_size).
    """
    frames = []
    for t in range(features[0].shape[1]):
        first = []
        for i, store in enumerate(features):
            if len(store) == 1:
                frame = store[0, t]
            else:
                scalars = parameters[f"averages.{i}.scalars"]
                weights = np.abs(scalars) if kind == "abs" else np.exp(scalars)
                frame = sum(w * layer[t] for w, layer in zip(weights, store, strict=True)) / sum(weights)
            first.append(relu(affine(parameters, f"branches.{i}.linear", frame)))
        frames.append(np.concatenate(first))
    hidden = lstm(parameters, frames) if name == "lstm" else [affine(parameters, "hidden.linear", f) for f in frames]
    return affine(parameters, "output", np.mean([relu(h) for h in hidden], axis=0))


def lstm(parameters: Mapping[str, np.ndarray], frames: Sequence[np.ndarray]) -> list[np.ndarray]:
    kernel = parameters["hidden.lstm.weight_ih_l0"]
    recurrent = parameters["hidden.lstm.weight_hh_l0"]
    bias = parameters["hidden.lstm.bias_ih_l0"]
    output, cell, outputs = np.zeros(128), np.zeros(128), []
    for frame in frames:
        i, f, c, o = np.split(kernel @ frame + recurrent @ output + bias, 4)
        cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(c)
        output = sigmoid(o) * np.tanh(cell)
        outputs.append(output)
    return outputs


def affine(parameters: Mapping[str, np.ndarray], layer: str, inputs: np.ndarray) -> np.ndarray:
    return parameters[f"{layer}.weight"] @ inputs + parameters[f"{layer}.bias"]


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))
