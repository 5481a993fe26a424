"""Texts of ``--augment`` → augmentations, in the order in which they happen in a room: speed, reverberation, noise."""

import math
import re
from collections.abc import Sequence
from pathlib import Path

from featcache.augmentation.audio_folder import AudioFolder
from featcache.augmentation.kinds import COLOURS, FILES, Augmentation, Noise, Reverb, Speed, require_audiomentations
from featcache.errors import ModelError, unknown_name

ORDER = (Speed.kind, Reverb.kind, Noise.kind)
_NUMBER = r"-?(?:\d+(?:\.\d+)?|inf)"
_RANGE = re.compile(rf"({_NUMBER})(?:-({_NUMBER}))?")
_SLOWEST, _FASTEST = 0.5, 2.0
_SHORTEST, _LONGEST = 0.01, 10.0
# Beyond this SNR in dB, float32 speech or noise is lost in the rounding of the other.
_STRONGEST = 100.0


def parse(texts: Sequence[str]) -> tuple[Augmentation, ...]:
    """Return the augmentations of an option, each kind at most once; their folders are read.

    Args:
        texts: Texts such as ``noise:10-20:FOLDER:p=0.5``.

    Raises:
        ModelError: a text has another form, a kind is given twice, or a folder cannot be used.
        MissingPackageError: a folder is given, and audiomentations is not installed.
    """
    found: dict[str, Augmentation] = {}
    for text in texts:
        one = _parse(text)
        if one.kind in found:
            raise ModelError(f"--augment {text}: {one.kind} is given twice; keep one")
        found[one.kind] = one
    return tuple(found[kind] for kind in ORDER if kind in found)


def _parse(text: str) -> Augmentation:
    kind, *parts = text.strip().split(":")
    if kind not in ORDER:
        raise ModelError(f"--augment {text}: {unknown_name('augmentation', kind, ORDER)}")
    p = _probability(text, parts.pop()) if parts and parts[-1].startswith("p=") else 1.0
    if kind == Speed.kind:
        return Speed(factors=_factors(text, parts), p=p)
    if kind == Reverb.kind:
        bounds = _bounds(parts[0]) if parts else None
        seconds = Reverb.seconds if bounds is None else bounds
        rest = parts if bounds is None else parts[1:]
        if not _SHORTEST <= seconds[0] <= seconds[1] <= _LONGEST or (bounds and rest):
            times = f"reverberation times from {_SHORTEST:g} to {_LONGEST:g} seconds"
            raise _wrong(text, f"reverb, reverb:FOLDER, or reverb:0.2-0.8 for {times}")
        return Reverb(seconds=seconds, folder=_folder(text, rest), p=p)
    bounds = _bounds(parts[0]) if parts else None
    if bounds is None or not (-_STRONGEST <= bounds[0] <= bounds[1] <= _STRONGEST or min(bounds) == math.inf):
        values = f"SNRs from {-_STRONGEST:g} to {_STRONGEST:g} dB"
        raise _wrong(text, f"noise:10-20 for {values}, noise:inf for none, noise:10-20:pink or noise:10-20:FOLDER")
    if parts[1:] and parts[1] in COLOURS and not parts[2:]:
        return Noise(snr=bounds, colours=(parts[1],), p=p)
    return Noise(snr=bounds, folder=_folder(text, parts[1:]), p=p)


def _wrong(text: str, expected: str) -> ModelError:
    return ModelError(f"--augment {text}: expected {expected}; a probability may follow, such as :p=0.5")


def _bounds(part: str) -> tuple[float, float] | None:
    found = _RANGE.fullmatch(part)
    return (float(found[1]), float(found[2] or found[1])) if found else None


def _factors(text: str, parts: Sequence[str]) -> tuple[float, ...]:
    try:
        [values] = parts
        factors = tuple(dict.fromkeys(float(value) for value in values.split(",")))
        if not all(_SLOWEST <= factor <= _FASTEST for factor in factors):
            raise ValueError
    except ValueError:
        raise _wrong(text, f"speed:0.9,1.1 with factors from {_SLOWEST:g} to {_FASTEST:g}") from None
    return factors


def _probability(text: str, part: str) -> float:
    try:
        p = float(part.removeprefix("p="))
        if not 0 <= p <= 1:
            raise ValueError
    except ValueError:
        raise ModelError(f"--augment {text}: expected a probability from 0 to 1, such as p=0.5") from None
    return p


def _folder(text: str, parts: Sequence[str]) -> AudioFolder | None:
    """Return the folder of a text; its path may contain colons."""
    path = ":".join(parts)
    if not path:
        return None
    if path == FILES and not Path(path).is_dir():
        raise ModelError(
            f"--augment {text}: the folder of these files is not recorded; give --augment as in 'featcache extract', "
            "with its path"
        )
    require_audiomentations()
    return AudioFolder.read(path)
