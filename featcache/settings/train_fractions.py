"""The option of ``featcache fit`` for learning curves."""

from dataclasses import dataclass

from featcache.settings.field import setting


@dataclass(frozen=True, kw_only=True)
class FractionSettings:
    """Size of the training parts."""

    train_fraction: float = setting(
        1.0,
        "Fraction of the speakers in each training part, above 0 and at most 1; larger fractions include the speakers "
        "of smaller ones.",
        above=0,
        maximum=1,
    )
