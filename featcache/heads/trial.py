"""Head from outside of featcache × a tiny artificial batch → an error message about mistakes, before any fit."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from featcache.errors import ModelError
from featcache.heads import HEADS, create_head, head_weights
from featcache.heads.base import Head, frame_sizes

NUM_FRAMES = (7, 1, 4)
# Integers are counters, for example in nn.BatchNorm1d.
SAVED = (torch.float32, torch.int64)
# Rounding of float32 sums of a few thousand terms of order 1 that may be added in different order.
TOLERANCE = 1e-3


def try_head(name: str, **sizes: Any) -> None:
    """Make a head and run it once on the CPU; built-in heads are only made.

    Args:
        name: A name in `HEADS`, or a reference to a head that the user named.
        sizes: Other arguments of :func:`~featcache.heads.create_head`, except the seed.

    Raises:
        ModelError: the code of the head fails, it does not return one row of logits per utterance, the logits of an
            utterance depend on the rest of the batch, random numbers do not depend on the seed only, or there are no
            weights to train.
    """
    head = create_head(name, **sizes, seed=0)
    if HEADS.is_builtin(name):
        return
    batch = _batch(sizes["num_layers"], frame_sizes(sizes["hidden_sizes"], sizes["pooling"]), sizes["pooling"])
    if not any(parameter.requires_grad for parameter in head.parameters()):
        raise ModelError(f"head {name!r} has no weights to train; make layers in build, as attributes")
    _check_weights(name, head, head_weights(name, **sizes))
    with torch.random.fork_rng(devices=[]):
        _check_rows(name, head.eval(), batch, sizes["num_outputs"])
        _check_draws(name, lambda: create_head(name, **sizes, seed=0).train(), batch)


def _batch(num_layers: Sequence[int], sizes: Sequence[int], pooling: str | None) -> list[list[Tensor]]:
    """Make three utterances for each store: (num_layers, num_frames, size) each."""
    generator = torch.Generator().manual_seed(0)
    lengths = [1] * len(NUM_FRAMES) if pooling else NUM_FRAMES
    return [
        [torch.randn(layers, frames, size, generator=generator) for frames in lengths]
        for layers, size in zip(num_layers, sizes, strict=True)
    ]


def _check_weights(name: str, head: Head, expected: dict[str, Tensor]) -> None:
    """Check that weights can be saved in a run folder and loaded again."""
    found = head.state_dict()
    if {key: (values.shape, values.dtype) for key, values in found.items()} != {
        key: (values.shape, values.dtype) for key, values in expected.items()
    }:
        raise ModelError(
            f"head {name!r} has different weights on torch's device 'meta'; in build, use sizes only, not values"
        )
    for key, values in found.items():
        if values.dtype not in SAVED:
            raise ModelError(f"head {name!r}: {key} is {values.dtype}, expected float32, the dtype of saved heads")


def _check_rows(name: str, head: Head, batch: list[list[Tensor]], num_outputs: int) -> None:
    with torch.no_grad():
        together = head(batch)
        expected = (len(batch[0]), num_outputs)
        found = together.dtype if isinstance(together, Tensor) else type(together).__name__
        if not isinstance(together, Tensor) or not together.is_floating_point() or tuple(together.shape) != expected:
            shape = f" of shape {tuple(together.shape)}" if isinstance(together, Tensor) else ""
            raise ModelError(
                f"head {name!r} returns {found}{shape} for {expected[0]} utterances, expected float32 logits of shape "
                f"{expected} (batch, num_outputs)"
            )
        for i in range(len(batch[0])):
            alone = head([store[i : i + 1] for store in batch])
            if alone.shape != (1, num_outputs) or not torch.allclose(
                alone[0], together[i], rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True
            ):
                raise ModelError(
                    f"head {name!r} returns different logits for an utterance in a batch and alone; compute each "
                    "utterance from its own frames, without padding"
                )


def _check_draws(name: str, make: Callable[[], Head], batch: list[list[Tensor]]) -> None:
    head = make()
    before = torch.get_rng_state()
    outputs = head(batch)
    if not torch.equal(torch.get_rng_state(), before):
        raise ModelError(
            f"head {name!r} draws from torch's global random generator in training, as nn.Dropout does; use "
            "featcache.heads.Dropout(generator, rate=...), or draw from self.generator"
        )
    if not torch.equal(outputs, make()(batch)):
        raise ModelError(
            f"head {name!r} returns different logits with the same seed; draw random numbers only from self.generator"
        )
    if not outputs.requires_grad:
        raise ModelError(f"head {name!r}: no gradient reaches its weights; compute logits without detach or no_grad")
    head([store[:1] for store in batch])  # the last batch of an epoch may contain a single utterance
