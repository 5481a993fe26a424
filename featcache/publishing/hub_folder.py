"""``hf:owner/name[@revision]`` → the published folder in the local cache of the Hugging Face hub."""

from pathlib import Path

from featcache.errors import ModelError


def is_hub_reference(reference: str) -> bool:
    """Return whether a text has the form of a reference to a folder on the hub: it begins with ``hf:``."""
    return reference.startswith("hf:")


def local_folder(reference: str) -> Path:
    """Return a published folder on the Hugging Face hub as a folder on this machine.

    Args:
        reference: ``hf:owner/name`` or ``hf:owner/name@revision``.

    Raises:
        ModelError: it is not here.
    """
    raise ModelError(f"{reference} is not on this machine")
