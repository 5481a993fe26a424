"""Head → what a fit must know of it before it makes one: its stores, its input, its defaults, its own options."""

from dataclasses import dataclass, is_dataclass

from featcache.errors import ModelError
from featcache.settings.field import Dataclass

FRAMES, POOLED = "frames", "pooled"


@dataclass(frozen=True, kw_only=True)
class NoOptions:
    """The options of a head that has none."""


@dataclass(frozen=True, kw_only=True)
class HeadSpec:
    """What a head takes and how it is trained.

    Attributes:
        stores: The fewest and the most feature stores; None is no limit.
        beside: Stores that are read beside the model's when the user names none.
        max_layers: The most layers of a store; None is no limit.
        inputs: ``frames``, or ``pooled`` if utterances come as one frame each unless the user says otherwise.
        pooling: How the head itself pools frames; None where it does not begin with that. Of a single layer, the stored
            statistics then give the same input without reading a frame.
        pairs_frames: Whether frame i of one store must stand for the same moment as frame i of every other store.
        batch_size: How many utterances make a batch unless the user says otherwise.
        learns_layers: Whether the head begins with a learned weighted average of each store's layers. If not, it has no
            ``averages`` and gets all layers as they are.
        options: The head's own options, such as width or dropout: a frozen dataclass whose fields are made with
            :func:`featcache.settings.field.setting`.
        is_network: Whether it is a network that starts from random weights and is trained in epochs. If not, a solver
            finds it, and the seed changes nothing.
        packages: Names of the packages, beside torch, whose versions may change its numbers.

    Raises:
        ModelError: values that no head can have.
    """

    stores: tuple[int, int | None] = (1, 1)
    beside: tuple[str, ...] = ()
    max_layers: int | None = None
    inputs: str = FRAMES
    pooling: str | None = None
    pairs_frames: bool = True
    batch_size: int = 32
    learns_layers: bool = True
    options: type[Dataclass] = NoOptions
    is_network: bool = True
    packages: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        fewest, most = self.stores
        if fewest < 1 or (most is not None and most < fewest):
            raise ModelError(f"HeadSpec: stores is {self.stores}, expected (fewest, most) from 1 on, such as (1, None)")
        if self.inputs not in (FRAMES, POOLED):
            raise ModelError(f"HeadSpec: inputs is {self.inputs!r}, expected {FRAMES!r} or {POOLED!r}")
        if self.batch_size < 1:
            raise ModelError(f"HeadSpec: batch_size is {self.batch_size}, expected 1 or more")
        if not isinstance(self.options, type) or not is_dataclass(self.options):
            raise ModelError(f"HeadSpec: options is {self.options!r:.80}, expected a dataclass")
