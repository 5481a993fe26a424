"""Errors that a user can correct. Every message is one line: what was found, what was expected, what to do.

Each class is also a subclass of the built-in exception that a caller would catch. Any other exception is a bug.
"""

import difflib
from collections.abc import Iterable

# Smallest similarity of a suggested name (0 to 1), and how much less similar than the nearest one it may be.
_SIMILAR, _AS_SIMILAR = 0.5, 0.15
# Maximum number of known names in a message.
MOST_NAMES = 60


class FeatcacheError(Exception):
    """Base class of all errors that a user can correct.

    The message is one line: what was found, what was expected and what to do. The command line prints it and exits
    with 1. Catch this class to handle every error of featcache; each subclass is also a built-in exception, such as
    ``ValueError``.

    Args:
        *args: Message, as for every built-in exception.

    Example:
        >>> try:
        ...     featcache.Manifest([])
        ... except featcache.FeatcacheError as error:
        ...     print(error)
        the manifest has no utterances
    """


class CorpusError(FeatcacheError, LookupError):
    """No corpus, several corpora, or a folder that does not contain the expected corpus."""


class ManifestError(FeatcacheError, ValueError):
    """Manifest with contradictory rows or missing values."""


class ProtocolError(FeatcacheError, ValueError):
    """Folds that cannot be made, or that would leak test data."""


class AudioError(FeatcacheError, ValueError):
    """Utterance whose audio cannot be used. It is listed as failed, and the other utterances are processed."""


class ModelError(FeatcacheError, ValueError):
    """Model, extractor or head that is unknown, cannot be loaded, or does not support the request."""


class StoreError(FeatcacheError, RuntimeError):
    """Feature store, transcripts or run folder that is damaged, unfinished, locked, or made with other settings."""


class DiskError(StoreError):
    """File or folder that cannot be written, read or locked, for example on a full, read-only or disconnected disk."""


class ClusterError(FeatcacheError, ConnectionError):
    """Dask cluster that cannot be reached, that lost its workers, or whose workers differ from this machine."""


class FeatureError(FeatcacheError, ValueError):
    """Features of an utterance that cannot be stored: not finite, or too large for the storage dtype."""


class PipelineError(FeatcacheError, ValueError):
    """Pipeline that is unknown, or whose file is not valid."""


class MissingPackageError(FeatcacheError, ImportError):
    """Optional package that is needed and not installed."""


class PredictionsError(FeatcacheError, ValueError):
    """Predictions that cannot be scored, or runs that cannot be compared or combined."""


def unknown_name(kind: str, name: str, known: Iterable[str], *, hint: str = "") -> str:
    """Return the message for an unknown name: it lists the nearest names, or all names if none is similar.

    Args:
        kind: Kind of name, for the message: ``head``.
        name: Unknown name.
        known: All names that would be accepted.
        hint: Further advice.
    """
    names = sorted(known)
    suggested = did_you_mean(name, names)
    if suggested:
        return f"no {kind} {name!r}{suggested}{f' ({hint})' if hint else ''}"
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return (
        f"no {kind} {name!r}; available: {', '.join(names[:MOST_NAMES]) or 'none'}{more}{f'; {hint}' if hint else ''}"
    )


def did_you_mean(name: str, known: Iterable[str], *, at_most: int = 3) -> str:
    """Return the end of a message that suggests the nearest names, or an empty text if none is similar.

    Args:
        name: Unknown name.
        known: All names that would be accepted.
        at_most: Number of names to suggest.
    """
    folded, name = {one.casefold(): one for one in known}, name.casefold()
    nearest = difflib.get_close_matches(name, folded, n=1, cutoff=_SIMILAR)
    if not nearest:
        return ""
    # Names that are clearly less similar than the nearest one would only distract.
    least = max(_SIMILAR, difflib.SequenceMatcher(None, nearest[0], name).ratio() - _AS_SIMILAR)
    near = [repr(folded[one]) for one in difflib.get_close_matches(name, folded, n=at_most, cutoff=least)]
    return f"; did you mean {' or '.join(filter(None, [', '.join(near[:-1]), near[-1]]))}?"


def in_one_line(error: BaseException) -> str:
    """Return the class and the message of an error in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def listed(items: Iterable[object], at_most: int = 3) -> str:
    """Return the first items as text, and the number of further items: ``'a', 'b' and 7 more``.

    Args:
        items: Items of any type; each is shown as its ``repr``.
        at_most: Number of items to show.
    """
    shown = [repr(item) for item in items]
    if len(shown) <= at_most:
        return ", ".join(shown)
    return f"{', '.join(shown[:at_most])} and {len(shown) - at_most} more"
