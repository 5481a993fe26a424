"""Features of a batch → head → logits. A head is a small network trained on cached features."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from featcache.errors import ModelError, unknown_name
from featcache.heads.attentive import Attentive
from featcache.heads.base import MEAN_AND_MAX, Head, errors_of, frames_of, mean_over_frames
from featcache.heads.dense import Dense
from featcache.heads.dropout import Dropout
from featcache.heads.ffn import FFN
from featcache.heads.fusion import Fusion, PooledFusion
from featcache.heads.layer_weights import LAYER_WEIGHTINGS, LayerWeights
from featcache.heads.linear import Linear
from featcache.heads.lstm import LSTM
from featcache.heads.mlp import MLP
from featcache.heads.spec import POOLED, HeadSpec
from featcache.registry import Registry, is_external
from featcache.settings.field import Dataclass
from featcache.threads import torch_threads

__all__ = [
    "FFN",
    "HEADS",
    "LAYER_WEIGHTINGS",
    "LSTM",
    "MEAN_AND_MAX",
    "MLP",
    "SOLVERS",
    "Attentive",
    "Dense",
    "Dropout",
    "Fusion",
    "Head",
    "HeadSpec",
    "LayerWeights",
    "Linear",
    "PooledFusion",
    "check_stores",
    "create_head",
    "frames_of",
    "head_names",
    "head_spec",
    "head_weights",
    "mean_over_frames",
    "without_steps",
]

_BUILTIN: dict[str, type[Head]] = {
    "dense": Dense,
    "lstm": LSTM,
    "fusion": Fusion,
    "attentive": Attentive,
    "linear": Linear,
    "ffn": FFN,
    "mlp": MLP,
}
HEADS: Registry[type[Head]] = Registry("head", "featcache.heads", _BUILTIN, base=Head, error=ModelError)
# Heads that a solver of scikit-learn fits, see featcache.training.solvers; they are no torch modules.
_SVM = HeadSpec(
    max_layers=1,
    inputs=POOLED,
    learns_layers=False,
    is_network=False,
    tasks=("classification", "regression"),
    packages=("scikit-learn",),
)
SOLVERS = {"svm": _SVM, "logistic": replace(_SVM, tasks=("classification",))}


def head_names() -> list[str]:
    """Return the names of all heads: built-in heads, and heads of installed packages, which are not imported."""
    return [*_BUILTIN, *SOLVERS, *(name for name in HEADS if name not in _BUILTIN and name not in SOLVERS)]


def without_steps(name: str) -> str | None:
    """Return why options of the training steps cannot be used with a head; None if they can."""
    if name not in SOLVERS:
        return None
    return (
        f"head {name!r} is fitted by a solver, without training steps; fit it without this option, or use a network, "
        "such as dense"
    )


def head_spec(name: str) -> HeadSpec:
    """Return the spec of a head, without making the head.

    Args:
        name: A name of :func:`head_names`, or a reference to a head that the user named, see `Registry`.

    Returns:
        The spec: stores, input, defaults and options of the head.

    Raises:
        ModelError: the name is unknown, the head is code that the user did not name or that cannot be imported, or its
            spec is faulty.
    """
    if name in SOLVERS:
        return SOLVERS[name]
    if name not in HEADS and not is_external(name):
        raise ModelError(unknown_name("head", name, head_names()))
    kind = HEADS.find(name)
    with HEADS.guarding(name, "return its spec"):
        spec = kind.spec
    if not isinstance(spec, HeadSpec):
        raise ModelError(f"head {name!r}: spec is {spec!r:.80}, expected a featcache.heads.HeadSpec")
    if not spec.is_network:
        raise ModelError(f"head {name!r}: its spec has is_network=False, expected True as for every torch module")
    return spec


def check_stores(name: str, spec: HeadSpec, number: int) -> None:
    """Check that a head takes a number of feature stores.

    Args:
        name: Name of the head, for messages.
        spec: Spec of the head.
        number: Number of feature stores.

    Raises:
        ModelError: the head takes more or fewer stores.
    """
    fewest, most = spec.stores
    if number < fewest:
        few = {2: "two or more"}.get(fewest, f"{fewest} or more")
        raise ModelError(f"head {name!r} takes {few} feature stores, found {number}; name two with --features")
    if most is not None and number > most:
        *others, last = [repr(other) for other, head in _BUILTIN.items() if head.spec.stores[1] is None]
        one = {1: "one feature store"}.get(most, f"{most} feature stores at most")
        raise ModelError(f"head {name!r} takes {one}, found {number}; use {', '.join(others)} or {last} for several")


def create_head(
    name: str,
    *,
    num_layers: Sequence[int],
    hidden_sizes: Sequence[int],
    num_outputs: int,
    layer_weighting: str = "abs",
    pooling: str | None = None,
    paired: bool = True,
    options: Dataclass | None = None,
    kind: type[Head] | None = None,
    seed: int,
) -> Head:
    """Make an untrained head on torch's default device.

    The seed fixes the initial weights and all dropout masks. torch's global generator is not changed.

    Args:
        name: A name in `HEADS`, or a reference to a head that the user named.
        num_layers: Number of layers of each feature store.
        hidden_sizes: Hidden size of each feature store.
        num_outputs: Number of classes, or of targets of a regression.
        layer_weighting: ``abs`` or ``softmax``, see `LayerWeights`.
        pooling: Pooling that was applied to each utterance before the head, which left a single frame (of
            2 × hidden_size values after ``mean+max``); None if utterances have all their frames.
        paired: Whether the frames of all stores are aligned: frame i covers the same time in each store. If not,
            ``fusion`` pools each store separately (`PooledFusion`).
        options: An instance of the ``options`` of the head's spec; by default, all options have their defaults.
        kind: The class of the head; by default, the name is looked up, and a file is read again.
        seed: Seed of the head's random generator.

    Returns:
        The head, in training mode.

    Raises:
        ModelError: the name or the layer weighting is unknown, the head does not take this number of feature stores or
            stores whose frames are not aligned, or code from outside of featcache fails.
    """
    kind = HEADS.find(name) if kind is None else kind
    spec = kind.spec
    check_stores(name, spec, len(num_layers))
    if not paired and spec.pairs_frames and len(num_layers) > 1:
        if kind.unpaired is None:
            raise ModelError(
                f"head {name!r} joins stores frame by frame, but the frames of these stores are not aligned in time; "
                "use 'fusion' or 'ffn', or --pooling mean"
            )
        kind = kind.unpaired
    reference = "" if HEADS.is_builtin(name) else name
    # The last digits of orthogonal weights depend on the number of threads.
    with torch_threads(1), _standard_layers_drawn_with(seed), errors_of(reference):
        head = kind(
            num_layers,
            hidden_sizes,
            num_outputs,
            layer_weighting=layer_weighting,
            pooling=pooling,
            options=options,
            generator=torch.Generator("cpu").manual_seed(seed),
        )
    head.reference = reference
    return head


def head_weights(name: str, **sizes: Any) -> dict[str, Tensor]:
    """Return shape and dtype of all weights of a head, without allocating memory for them.

    Args:
        name: Name of the head, see :func:`create_head`.
        sizes: Other arguments of :func:`create_head`, except the seed.

    Returns:
        Name of the weight → tensor on torch's device ``meta``, which has no values.

    Raises:
        ModelError: the head cannot be made (see :func:`create_head`), or the sizes are too large for a tensor.
    """
    try:
        with torch.device("meta"):
            head = create_head(name, **sizes, seed=0)
    except (OverflowError, RuntimeError, TypeError) as error:
        raise ModelError(
            f"head {name!r}: hidden sizes {list(sizes['hidden_sizes'])} are too large for any tensor"
        ) from error
    return dict(head.state_dict())


@contextmanager
def _standard_layers_drawn_with(seed: int) -> Iterator[None]:
    """Seed torch's global generator, from which torch's own layers draw, and restore it afterwards."""
    # The seed differs from that of the head's own generator, so that the same numbers are not drawn twice.
    other = torch.randint(2**31, (), generator=torch.Generator("cpu").manual_seed(seed), device="cpu")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(other))
        yield
