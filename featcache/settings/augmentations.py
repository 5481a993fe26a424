"""The options for views: augmented copies of the speech, and their use in a fit."""

from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias

from featcache.settings.field import setting
from featcache.settings.types import NONE, Form, Texts, read_names


def read_views(value: Any) -> tuple[str, ...]:
    """Return the names in ``a,b`` or in a list of names; no names for ``none``.

    Raises:
        ValueError: The value contains something other than names.
    """
    names = read_names(value)
    return () if names == (NONE,) else names


Views: TypeAlias = Annotated[tuple[str, ...], Form("NAME,NAME", read_views)]


@dataclass(frozen=True, kw_only=True)
class AugmentSettings:
    """Views that are extracted beside the clean speech."""

    augment: Texts = setting(
        (),
        "Augmentation of the views: noise:LOW-HIGH (SNR in dB), speed:FACTOR,FACTOR or reverb. A folder of audio may "
        "follow (noise:10-20:FOLDER, reverb:FOLDER), and a probability (noise:10-20:p=0.5). Can be repeated.",
    )
    views: int = setting(
        1, "Number of views that --augment makes; each is a store beside the clean one.", minimum=1, maximum=100
    )


@dataclass(frozen=True, kw_only=True)
class ViewSettings:
    """Views in a fit: augmented speech for training, or as a test condition."""

    train_views: Views = setting(
        (),
        "Views to train on, beside the clean speech: names such as noise10-20-1, or all. They are never used for "
        "validation, test or statistics of the normalisation [default: none].",
    )
    test_view: str | None = setting(
        None, "View on which the heads are tested, in place of the clean speech, such as noise10-20-1 [default: none]."
    )
