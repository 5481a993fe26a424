"""Name of a head → what a fit must know of it before it makes one: its stores, its input, its defaults."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class HeadSpec:
    """What a head takes and how it is trained.

    Attributes:
        stores: The fewest and the most feature stores; None is no limit.
        beside: Stores that are read beside the model's when the user names none.
        max_layers: The most layers of a store; None is no limit.
        pooled: Whether utterances come pooled (one frame each) unless the user says otherwise.
        pooling: How the head itself pools frames; None where it does not begin with that. Of a single layer, the stored
            statistics then give the same input without reading a frame.
        pairs_frames: Whether frame i of one store must stand for the same moment as frame i of every other store.
        batch_size: How many utterances make a batch unless the user says otherwise.
        is_network: Whether it is a network that starts from random weights and is trained in epochs. If not, a solver
            finds it, and the seed changes nothing.
        packages: Names of the packages, beside torch, whose versions may change its numbers.
    """

    stores: tuple[int, int | None] = (1, 1)
    beside: tuple[str, ...] = ()
    max_layers: int | None = None
    pooled: bool = False
    pooling: str | None = None
    pairs_frames: bool = True
    batch_size: int = 32
    is_network: bool = True
    packages: tuple[str, ...] = ()
