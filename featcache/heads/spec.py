"""Head → its spec, which a fit reads before it makes the head: stores, input, defaults and options."""

from dataclasses import dataclass, is_dataclass

from featcache.errors import ModelError
from featcache.settings.field import Dataclass

FRAMES, POOLED = "frames", "pooled"


@dataclass(frozen=True, kw_only=True)
class NoOptions:
    """Options of a head without options."""


@dataclass(frozen=True, kw_only=True)
class HeadSpec:
    """Inputs, defaults and options of a head.

    Attributes:
        stores: Minimum and maximum number of feature stores; a maximum of None means no limit.
        beside: Names of stores that are used in addition to the model's store, unless the user names stores.
        max_layers: Maximum number of layers of a store; None means no limit.
        inputs: Default input: ``frames`` for all frames, or ``pooled`` for one frame per utterance.
        pooling: Pooling with which the head itself starts, such as ``mean+max``; None if it does not start with
            pooling. If a single layer is used, the cached statistics then replace the frames, with the same result.
        pairs_frames: Whether the frames of all stores must be aligned: frame i covers the same time in each store.
        batch_size: Default number of utterances per batch.
        learns_layers: Whether the head starts with a learned weighted average of each store's layers. If not, it has no
            ``averages`` and receives all layers.
        options: The head's own options, such as width or dropout: a frozen dataclass whose fields are made with
            :func:`featcache.settings.field.setting`.
        is_network: Whether the head is a network that is trained in epochs from random initial weights. If not, a
            solver fits it, and the seed has no effect.
        tasks: Tasks that the head can learn, such as ``classification``; None for all.
        packages: Names of packages, in addition to torch, whose versions may affect results.

    Raises:
        ModelError: a value is out of range or of the wrong type.
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
    tasks: tuple[str, ...] | None = None
    packages: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        fewest, most = self.stores
        if fewest < 1 or (most is not None and most < fewest):
            raise ModelError(
                f"HeadSpec: stores is {self.stores}, expected (minimum, maximum), at least 1, such as (1, None)"
            )
        if self.inputs not in (FRAMES, POOLED):
            raise ModelError(f"HeadSpec: inputs is {self.inputs!r}, expected {FRAMES!r} or {POOLED!r}")
        if self.batch_size < 1:
            raise ModelError(f"HeadSpec: batch_size is {self.batch_size}, expected 1 or more")
        if not isinstance(self.options, type) or not is_dataclass(self.options):
            raise ModelError(f"HeadSpec: options is {self.options!r:.80}, expected a dataclass")
