"""Features of a batch → head → logits. A head is a small network trained on cached features."""

from collections.abc import Sequence

import torch

from featcache.errors import ModelError, unknown_name
from featcache.heads.base import MEAN_AND_MAX, Head
from featcache.heads.dense import Dense
from featcache.heads.ffn import FFN
from featcache.heads.fusion import Fusion, PooledFusion
from featcache.heads.layer_weights import LAYER_WEIGHTINGS, LayerWeights
from featcache.heads.linear import Linear
from featcache.heads.lstm import LSTM
from featcache.heads.spec import HeadSpec
from featcache.threads import one_thread_each

__all__ = [
    "FFN",
    "HEADS",
    "LAYER_WEIGHTINGS",
    "LSTM",
    "MEAN_AND_MAX",
    "SPECS",
    "Dense",
    "Fusion",
    "Head",
    "HeadSpec",
    "LayerWeights",
    "Linear",
    "PooledFusion",
    "check_stores",
    "create_head",
    "head_spec",
]

HEADS: dict[str, type[Head]] = {"dense": Dense, "lstm": LSTM, "fusion": Fusion, "linear": Linear, "ffn": FFN}
# What a solver of scikit-learn finds is no network, and is fitted by featcache.training.svm.
SOLVERS = {"svm": HeadSpec(max_layers=1, pooled=True, is_network=False, packages=("scikit-learn",))}
SPECS = {**{name: head.spec for name, head in HEADS.items()}, **SOLVERS}


def head_spec(name: str) -> HeadSpec:
    """Return what a fit must know of a head.

    Raises:
        ModelError: the name is unknown.
    """
    if name not in SPECS:
        raise ModelError(unknown_name("head", name, SPECS))
    return SPECS[name]


def check_stores(name: str, number: int) -> None:
    """Refuse a number of feature stores that a head does not take.

    Raises:
        ModelError: too few or too many.
    """
    fewest, most = SPECS[name].stores
    if number < fewest:
        few = {2: "two or more"}.get(fewest, f"{fewest} or more")
        raise ModelError(f"head {name!r} takes {few} feature stores, found {number}; name two with --features")
    if most is not None and number > most:
        several = " or ".join(repr(other) for other, spec in SPECS.items() if spec.stores[1] is None)
        raise ModelError(f"head {name!r} takes one feature store, found {number}; use {several} for several")


def create_head(
    name: str,
    *,
    num_layers: Sequence[int],
    hidden_sizes: Sequence[int],
    num_outputs: int,
    layer_weighting: str = "abs",
    pooling: str | None = None,
    paired: bool = True,
    seed: int,
) -> Head:
    """Make a head, untrained, on the CPU.

    The seed fixes its initial weights and all dropout masks it will draw; torch's global generator is not touched.

    Args:
        name: A name in `HEADS`.
        num_layers: For each feature store its number of layers.
        hidden_sizes: For each feature store its hidden size.
        num_outputs: Classes, or targets of a regression.
        layer_weighting: ``abs`` or ``softmax``, see `LayerWeights`.
        pooling: How each utterance becomes a single frame before it comes; after ``mean+max`` that has 2 × hidden_size
            values. None where utterances come with their frames.
        paired: Whether frame i of one store stands for the same moment as frame i of every other; where not, ``fusion``
            pools each store by itself (`PooledFusion`).
        seed: What starts the head's random generator.

    Raises:
        ModelError: the name or the layer weighting is unknown, or the head does not take that many feature stores.
    """
    if name not in HEADS:
        raise ModelError(unknown_name("head", name, HEADS))
    check_stores(name, len(num_layers))
    kind = HEADS[name]
    if not paired and kind.unpaired is not None:
        kind = kind.unpaired
    with one_thread_each():  # the last digits of orthogonal weights depend on how many threads share the work
        return kind(
            num_layers,
            hidden_sizes,
            num_outputs,
            layer_weighting=layer_weighting,
            pooling=pooling,
            generator=torch.Generator().manual_seed(seed),
        )
