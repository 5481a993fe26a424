"""What can go wrong by a user's mistake. Every message is one line: what was found, what was expected, what to do.

Each class also subclasses the builtin that a caller would catch. Anything else that is raised is a bug.
"""

import difflib
from collections.abc import Iterable

# How many known names a message lists.
MOST_NAMES = 60


class FeatcacheError(Exception):
    """A mistake that the user can mend; the command line prints it in one line and exits with 1."""


class CorpusError(FeatcacheError, LookupError):
    """No corpus, several corpora, or a folder that is not the corpus it was taken for."""


class ManifestError(FeatcacheError, ValueError):
    """A manifest whose rows contradict each other or miss something that is needed."""


class ProtocolError(FeatcacheError, ValueError):
    """Folds that cannot be made, or that would leak."""


class AudioError(FeatcacheError, ValueError):
    """An utterance whose audio cannot be used; it is listed as failed and the others go on."""


class ModelError(FeatcacheError, ValueError):
    """A model or extractor that is unknown, cannot be loaded, or cannot do what was asked of it."""


class StoreError(FeatcacheError, RuntimeError):
    """A feature store, transcripts or run folder that are damaged, unfinished, locked, or made with other settings."""


class DiskError(StoreError):
    """A file or folder that cannot be written, read or locked: read-only, full, cut off, or something else there."""


class ClusterError(FeatcacheError, ConnectionError):
    """A Dask cluster that cannot be reached, or whose workers are lost or not set up as this machine is."""


class FeatureError(FeatcacheError, ValueError):
    """Features of an utterance that may not be written: not finite, or too large for the storage dtype."""


class PipelineError(FeatcacheError, ValueError):
    """A pipeline that is unknown, or whose file says what cannot be."""


class MissingPackageError(FeatcacheError, ImportError):
    """A package that is needed for a part of featcache alone, and is not installed."""


class PredictionsError(FeatcacheError, ValueError):
    """Predictions that cannot be scored, or runs that cannot be compared or combined."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> str:
    """The message for a name that is not known: the nearest names, or all of them when none is near."""
    names = sorted(known)
    suggested = did_you_mean(name, names)
    if suggested:
        return f"no {kind} {name!r}{suggested}"
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return f"no {kind} {name!r}; available: {', '.join(names[:MOST_NAMES]) or 'none'}{more}"


def did_you_mean(name: str, known: Iterable[str], *, at_most: int = 3) -> str:
    """Return the end of a message that suggests the nearest names, or an empty text if none is similar.

    Args:
        name: Unknown name.
        known: All names that would be accepted.
        at_most: Number of names to suggest.
    """
    folded = {one.casefold(): one for one in known}
    near = [repr(folded[one]) for one in difflib.get_close_matches(name.casefold(), folded, n=at_most, cutoff=0.5)]
    return f"; did you mean {' or '.join(filter(None, [', '.join(near[:-1]), near[-1]]))}?" if near else ""


def in_one_line(error: BaseException) -> str:
    """Return the class and the message of an error in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def listed(items: Iterable[object], at_most: int = 3) -> str:
    """The first items as text, and how many more there are: ``'a', 'b' and 7 more``."""
    shown = [repr(item) for item in items]
    if len(shown) <= at_most:
        return ", ".join(shown)
    return f"{', '.join(shown[:at_most])} and {len(shown) - at_most} more"
