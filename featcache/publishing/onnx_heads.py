"""Head with its normalisation → ONNX graph, from the features of one utterance to its scores."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from featcache.errors import ModelError
from featcache.heads import FFN, LSTM, MEAN_AND_MAX, MLP, Attentive, Dense, Fusion, Linear, PooledFusion
from featcache.heads.attentive import TINY_VARIANCE
from featcache.heads.dense import DenseLayer
from featcache.heads.lstm import RecurrentLayer
from featcache.publishing.onnx_graph import GraphBuilder
from featcache.runs.saved_head import LinearModel, SavedHead

# Kind of recurrent layer → position in torch of each gate, in the order of ONNX: input, output, forget, cell for an
# LSTM, update, reset, hidden for a GRU.
_GATES = {"lstm": (0, 3, 1, 2), "gru": (1, 0, 2)}


def graph_of(saved: SavedHead) -> Any:
    """Return the ONNX model of a head.

    It has one input per store, ``features``, or ``features_0``, ``features_1``, … for several stores: (num_layers,
    num_frames, hidden_size) float32, not normalised. With ``speaker`` normalisation it also has ``mean`` and ``std`` of
    the speaker, (num_layers, hidden_size) float32 each, with the same numbers. The output ``scores``, (num_outputs,)
    float32, contains logits, or values in the unit of the labels. The metadata of several labels contain the
    ``thresholds`` of their probabilities, the sigmoid of the logits.

    Args:
        saved: The head.

    Raises:
        ModelError: the head is code from outside of featcache, which cannot be exported.
    """
    build = _BUILDERS.get(type(saved.head))
    if build is None:
        raise ModelError(
            f"the head {type(saved.head).__name__} is code from outside of featcache, which --onnx cannot export; "
            "publish without --onnx, or export it with your own code"
        )
    graph = GraphBuilder()
    prepared = [_prepared(graph, saved, position) for position in range(len(saved.inputs))]
    scores = graph.add("Reshape", build(graph, saved.head, prepared), graph.integers(len(saved.outputs)))
    if saved.ranges is not None:
        lowest, highest = _array(saved.ranges).T
        scaled = graph.add("Mul", scores, graph.constant(highest - lowest))
        scores = graph.add("Add", scaled, graph.constant(lowest))
    about = {
        "stores": [asdict(one) for one in saved.inputs],
        "outputs": list(saved.outputs),
        "scores": "logits" if saved.ranges is None else "values in the unit of the labels",
        "norm": saved.norm,
        "pooling": saved.pooling,
        **({"thresholds": saved.thresholds.tolist()} if saved.thresholds is not None else {}),
    }
    return graph.model(scores, len(saved.outputs), {"featcache": json.dumps(about)})


def input_names(saved: SavedHead, kind: str) -> list[str]:
    """Return the names of the inputs of a graph: of ``features``, ``mean`` or ``std``, one per store."""
    return [kind] if len(saved.inputs) == 1 else [f"{kind}_{i}" for i in range(len(saved.inputs))]


def _prepared(graph: GraphBuilder, saved: SavedHead, position: int) -> str:
    """Pool and normalise the features of a store, see ``SavedHead``; (num_layers, num_frames, size)."""
    one = saved.inputs[position]
    frames = f"frames_{position}" if len(saved.inputs) > 1 and not saved.is_paired else "frames"
    values = graph.input(input_names(saved, "features")[position], (one.num_layers, frames, one.hidden_size))
    unpooled = values
    if saved.pooling:
        mean = graph.add("Unsqueeze", graph.mean(values, 1), graph.integers(1))
        highest = graph.add("ReduceMax", values, graph.integers(1), keepdims=1)
        kinds = {"max": [highest], MEAN_AND_MAX: [mean, highest]}
        values = graph.add("Concat", *kinds.get(saved.pooling, [mean]), axis=1)
    if saved.norm != "none":
        mean, std = _statistics(graph, saved, position)
        values = graph.add("Div", graph.add("Sub", values, mean), std)
    if saved.pooling == "sum":
        number = graph.cast(graph.add("Shape", unpooled, start=1, end=2), np.float32)
        values = graph.add("Mul", values, number)
    return graph.add("Reshape", values, graph.integers(one.num_layers, 1, -1)) if saved.pooling else values


def _statistics(graph: GraphBuilder, saved: SavedHead, position: int) -> tuple[str, str]:
    """Return mean and standard deviation, (num_layers, 1, hidden_size): constants, or inputs for a speaker."""
    if saved.norm == "global":
        pair = (_array(saved.get_buffer(f"{name}_{position}")[0])[:, None] for name in ("mean", "std"))
        mean, std = map(graph.constant, pair)
        return mean, std
    one = saved.inputs[position]
    shape = (one.num_layers, one.hidden_size)
    mean, std = (graph.input(input_names(saved, kind)[position], shape) for kind in ("mean", "std"))
    is_constant = graph.add("Equal", std, graph.constant(np.zeros(1, np.float32)))
    std = graph.add("Where", is_constant, graph.constant(np.full(1, math.inf, np.float32)), std)
    axis = graph.integers(1)
    return graph.add("Unsqueeze", mean, axis), graph.add("Unsqueeze", std, axis)


def _averaged(graph: GraphBuilder, average: Any, values: str) -> str:
    """Average the layers with the learned weights: (num_layers, num_frames, size) → (num_frames, size)."""
    weights = _array(average.weights())[:, None, None]
    return graph.add("ReduceSum", graph.add("Mul", values, graph.constant(weights)), graph.integers(0), keepdims=0)


def _linear(graph: GraphBuilder, layer: nn.Linear, values: str) -> str:
    return graph.linear(values, _array(layer.weight), _array(layer.bias))


def _mean_over_frames(graph: GraphBuilder, frames: str) -> str:
    return graph.add("Unsqueeze", graph.mean(frames, 0), graph.integers(0))


def _hidden(graph: GraphBuilder, layer: nn.Module, frames: str) -> str:
    """Apply a hidden layer of a dense, recurrent or fusion head."""
    if isinstance(layer, DenseLayer):
        return graph.add("Relu", _linear(graph, layer.linear, frames))
    if not isinstance(layer, RecurrentLayer):
        raise ModelError(f"the layer {type(layer).__name__} cannot be exported to ONNX; publish without --onnx")
    recurrent: Any = layer.get_submodule(layer.cell)
    parameters = [_array(one) for one in recurrent.parameters()]
    weights, states, biases = [], [], []
    for first in range(0, len(parameters), 4):  # each direction has four
        of_input, of_state, bias, second_bias = (_gates(one, layer.cell) for one in parameters[first : first + 4])
        weights.append(of_input)
        states.append(of_state)
        biases.append(np.concatenate([bias, second_bias]))
    sequence = graph.add("Unsqueeze", frames, graph.integers(1))  # (num_frames, batch of one, size)
    outputs = graph.add(
        layer.cell.upper(),
        sequence,
        *(graph.constant(np.stack(values)) for values in (weights, states, biases)),
        hidden_size=recurrent.hidden_size,
        direction="bidirectional" if recurrent.bidirectional else "forward",
        **({"linear_before_reset": 1} if layer.cell == "gru" else {}),
    )  # (num_frames, num_directions, batch of one, hidden_size)
    return graph.add("Relu", graph.add("Reshape", outputs, graph.integers(-1, layer.num_outputs)))


def _gates(values: npt.NDArray[Any], cell: str) -> npt.NDArray[Any]:
    """Return weights or biases of torch with the gates in the order of ONNX."""
    parts = np.split(values, len(_GATES[cell]))
    return np.concatenate([parts[gate] for gate in _GATES[cell]])


def _dense(graph: GraphBuilder, head: Any, prepared: Sequence[str]) -> str:
    pooled_first = isinstance(head, PooledFusion)
    branches = []
    for average, branch, values in zip(head.averages, head.branches, prepared, strict=True):
        frames = _hidden(graph, branch, _averaged(graph, average, values))
        branches.append(_mean_over_frames(graph, frames) if pooled_first else frames)
    frames = branches[0] if len(branches) == 1 else graph.add("Concat", *branches, axis=1)
    for layer in [] if head.hidden is None else [head.hidden, *head.further]:
        frames = _hidden(graph, layer, frames)
    return _linear(graph, head.output, frames if pooled_first else _mean_over_frames(graph, frames))


def _linear_head(graph: GraphBuilder, head: Any, prepared: Sequence[str]) -> str:
    means = _mean_over_frames(graph, _averaged(graph, head.averages[0], prepared[0]))
    return _linear(graph, head.output, _linear(graph, head.projection, means))


def _ffn(graph: GraphBuilder, head: Any, prepared: Sequence[str]) -> str:
    pooled = []
    for average, values in zip(head.averages, prepared, strict=True):
        frames = _averaged(graph, average, values)
        pooled.append(_mean_over_frames(graph, frames))
        if not head.pooling:
            pooled.append(graph.add("ReduceMax", frames, graph.integers(0), keepdims=1))
    hidden = _linear(graph, head.hidden, graph.add("Concat", *pooled, axis=1))
    return _linear(graph, head.output, graph.add("Tanh", hidden))


def _attentive(graph: GraphBuilder, head: Any, prepared: Sequence[str]) -> str:
    pooled = []
    for average, branch, pool, values in zip(head.averages, head.branches, head.pools, prepared, strict=True):
        frames = _hidden(graph, branch, _averaged(graph, average, values))
        hidden = graph.add("Tanh", _linear(graph, pool.hidden, frames))
        scores = graph.add(
            "MatMul", hidden, graph.constant(_array(pool.vector.weight).T / pool.vector.in_features**0.5)
        )
        weights = graph.add("Softmax", scores, axis=0)
        mean = _weighted_sum(graph, weights, frames)
        deviations = graph.add("Sub", frames, mean)
        variance = _weighted_sum(graph, weights, graph.add("Mul", deviations, deviations))
        least = graph.constant(np.full(1, TINY_VARIANCE, np.float32))
        pooled += [mean, graph.add("Sqrt", graph.add("Max", variance, least))]
    joined = graph.add("Concat", *pooled, axis=1)
    return _linear(graph, head.output, _hidden(graph, head.hidden, joined))


def _weighted_sum(graph: GraphBuilder, weights: str, frames: str) -> str:
    """Sum over frames: (num_frames, 1) and (num_frames, size) → (1, size)."""
    return graph.add("ReduceSum", graph.add("Mul", weights, frames), graph.integers(0), keepdims=1)


def _mlp(graph: GraphBuilder, head: Any, prepared: Sequence[str]) -> str:
    averages = zip(head.averages, prepared, strict=True)
    means = [_mean_over_frames(graph, _averaged(graph, average, values)) for average, values in averages]
    hidden = means[0] if len(means) == 1 else graph.add("Concat", *means, axis=1)
    for layer in head.layers:
        hidden = _hidden(graph, layer, hidden)
    return _linear(graph, head.output, hidden)


def _linear_model(graph: GraphBuilder, head: Any, prepared: Sequence[str]) -> str:
    """Compute the distances in float64, as the solver does; untrained classes have the score -inf."""
    vector = graph.cast(graph.add("Reshape", prepared[0], graph.integers(1, -1)), np.float64)
    distances = graph.add(
        "Reshape", graph.linear(vector, _array(head.coef), _array(head.intercept)), graph.integers(-1)
    )
    if head.classes is not None:
        if len(head.coef) == 1:  # the distance of the second of two classes
            half = graph.constant(np.array([-0.5, 0.5]))
            distances = graph.add("Mul", distances, half)
        lowest = graph.constant(np.full(head.num_outputs, -math.inf))
        distances = graph.add("ScatterElements", lowest, graph.constant(_array(head.classes)), distances, axis=0)
    return graph.cast(distances, np.float32)


def _array(values: Tensor) -> npt.NDArray[Any]:
    found: npt.NDArray[Any] = values.detach().cpu().numpy()
    return found


_BUILDERS: dict[type[nn.Module], Callable[[GraphBuilder, Any, Sequence[str]], str]] = {
    **dict.fromkeys((Dense, LSTM, Fusion, PooledFusion), _dense),
    Linear: _linear_head,
    FFN: _ffn,
    Attentive: _attentive,
    MLP: _mlp,
    LinearModel: _linear_model,
}
