"""The options of a fit on several corpora."""

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from typing import Annotated, Any, TypeAlias

from featcache.settings.field import setting
from featcache.settings.types import Form, Names


def read_label_map(value: Any) -> str | Mapping[str, Any]:
    """Return the path of a label map as text, or its content: corpus → label → common label.

    Raises:
        ValueError: The value has another form.
    """
    if isinstance(value, Mapping):
        return value
    if not isinstance(value, str | PathLike) or not str(value):
        raise ValueError(f"expected a YAML file, found {value!r:.80}")
    return str(value)


LabelMap: TypeAlias = Annotated[str | Mapping[str, Any], Form("FILE", read_label_map)]


@dataclass(frozen=True, kw_only=True)
class CorporaSettings:
    """Corpora that train and test together, from their caches."""

    train: Names = setting(
        (),
        "Corpora that train, from their caches; they replace --corpus. A fifth of the speakers of each is the "
        "validation part.",
    )
    test: Names = setting((), "Corpora that test. They do not train, and early stopping does not use them.")
    label_map: LabelMap | None = setting(
        None,
        "YAML file with the common label of each label of each corpus; labels with null are left out [default: usual "
        "names of emotions, and only labels that all corpora have].",
    )
