"""Stored layer → forward pass of the blocks above it: the part of a family that fine-tuning needs."""

from typing import TYPE_CHECKING, ClassVar

from featcache.errors import ModelError

if TYPE_CHECKING:
    from featcache.extractors.stored_start import StoredBatch, UpperEncoder


class StartsFromStores:
    """Part of a family that computes the upper blocks from a stored layer.

    A family that can do this overrides :meth:`cut` and sets ``not_from_stores`` to the empty string.

    Attributes:
        not_from_stores: Why a family cannot do this, as the end of a message; empty if it can.
    """

    title: ClassVar[str]
    not_from_stores: ClassVar[str] = "its family has no method that starts from a stored layer"

    def check_starts(self) -> None:
        """Refuse a family whose stores do not contain everything that the blocks read.

        Raises:
            ModelError: the upper blocks cannot be computed from a stored layer.
        """
        if self.not_from_stores:
            raise ModelError(f"{self.title} cannot be fine-tuned from a store: {self.not_from_stores}")

    def cut(self, layer: int, batch: "StoredBatch") -> "UpperEncoder":
        """Return the part of the model above a stored layer. After this, the model cannot be used in another way.

        Args:
            layer: Number of the stored layer, below the number of blocks.
            batch: Batch with the stored layer.
        """
        raise NotImplementedError
