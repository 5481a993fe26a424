"""Head from outside of featcache × a tiny made-up batch → one line that says what it does wrong, before any fit."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from featcache.errors import ModelError
from featcache.heads import HEADS, create_head, head_weights
from featcache.heads.base import Head, frame_sizes

NUM_FRAMES = (7, 1, 4)
# Integers count, as those of nn.BatchNorm1d.
SAVED = (torch.float32, torch.int64)
# Float32 sums of a few thousand terms of order 1, perhaps in another order.
TOLERANCE = 1e-3


def try_head(name: str, **sizes: Any) -> None:
    """Make a head and use it once on a CPU; heads of featcache are only made.

    Args:
        name: A name in `HEADS`, or a reference to a head that the user named.
        sizes: As for :func:`~featcache.heads.create_head`.

    Raises:
        ModelError: its code fails, it gives something else than a row of numbers for each utterance, an utterance's
            row depends on the batch, it draws random numbers that its seed does not fix, or it has nothing to train.
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
    """For each store three utterances: (num_layers, num_frames, size) each."""
    generator = torch.Generator().manual_seed(0)
    lengths = [1] * len(NUM_FRAMES) if pooling else NUM_FRAMES
    return [
        [torch.randn(layers, frames, size, generator=generator) for frames in lengths]
        for layers, size in zip(num_layers, sizes, strict=True)
    ]


def _check_weights(name: str, head: Head, expected: dict[str, Tensor]) -> None:
    """Refuse weights that a run folder could not give back."""
    found = head.state_dict()
    if {key: (values.shape, values.dtype) for key, values in found.items()} != {
        key: (values.shape, values.dtype) for key, values in expected.items()
    }:
        raise ModelError(f"head {name!r} has other weights on torch's device 'meta'; build may read sizes alone")
    for key, values in found.items():
        if values.dtype not in SAVED:
            raise ModelError(f"head {name!r}: {key} is {values.dtype}, expected float32, in which heads are saved")


def _check_rows(name: str, head: Head, batch: list[list[Tensor]], num_outputs: int) -> None:
    with torch.no_grad():
        together = head(batch)
        expected = (len(batch[0]), num_outputs)
        found = together.dtype if isinstance(together, Tensor) else type(together).__name__
        if not isinstance(together, Tensor) or not together.is_floating_point() or tuple(together.shape) != expected:
            shape = f" of shape {tuple(together.shape)}" if isinstance(together, Tensor) else ""
            raise ModelError(
                f"head {name!r} gives {found}{shape} for {expected[0]} utterances, expected float32 logits of shape "
                f"{expected} (batch, num_outputs)"
            )
        for i in range(len(batch[0])):
            alone = head([store[i : i + 1] for store in batch])
            if alone.shape != (1, num_outputs) or not torch.allclose(
                alone[0], together[i], rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True
            ):
                raise ModelError(
                    f"head {name!r} gives an utterance other logits in a batch than alone; compute each utterance from "
                    "its own frames, without padding"
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
            f"head {name!r} gives other logits with the same seed; draw random numbers from self.generator alone"
        )
    if not outputs.requires_grad:
        raise ModelError(f"head {name!r}: no gradient reaches its weights; compute logits without detach or no_grad")
    head([store[:1] for store in batch])  # the last batch of an epoch may be a single utterance
