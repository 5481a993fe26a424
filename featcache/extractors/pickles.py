"""Family of a model → the names of its pickled weights, and the function that converts them.

To add a family whose checkpoints have another layout than transformers', add a line to ``_PICKLES``.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Pickles:
    """Pickled weights of a family.

    Attributes:
        names: File names; the first one that a model has is used. An index lists the files of split weights.
        converter: Function as ``package.module:function``: content of the file → configuration, as in config.json, and
            tensors by parameter name. Empty if the file contains the tensors already, and config.json exists.
    """

    names: tuple[str, ...]
    converter: str = ""


TRANSFORMERS = Pickles(names=("pytorch_model.bin", "pytorch_model.bin.index.json"))
_PICKLES: Mapping[str, Pickles] = {
    "emotion2vec": Pickles(
        names=("model.pt", "emotion2vec_base.pt"), converter="featcache.extractors.emotion2vec:convert"
    ),
}


def pickles_of(family: str | None, names: Iterable[str]) -> tuple[str, Pickles] | None:
    """Return the file with the pickled weights of a model, and how it is converted; None if there is none.

    Args:
        family: transformers' ``model_type``, or a family of featcache; None if it is unknown, because the model has no
            config.json. Then its file names decide.
        names: Names of the files of the model.
    """
    there = set(names)
    families = _PICKLES.values() if family is None else (_PICKLES.get(family, TRANSFORMERS),)
    for pickles in families:
        for name in pickles.names:
            if name in there:
                return name, pickles
    return None


def is_pickled_only(family: str) -> bool:
    """Return whether the checkpoints of a family are published as a pickle in a layout of their own."""
    return family in _PICKLES
