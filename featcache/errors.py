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
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if near:
        return f"unknown {kind} {name!r}; nearest: {', '.join(near)}"
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return f"unknown {kind} {name!r}; known: {', '.join(names[:MOST_NAMES]) or 'none'}{more}"


def in_one_line(error: BaseException) -> str:
    """Return the class and the message of an error in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def listed(items: Iterable[object], at_most: int = 3) -> str:
    """The first items as text, and how many more there are: ``'a', 'b' and 7 more``."""
    shown = [repr(item) for item in items]
    if len(shown) <= at_most:
        return ", ".join(shown)
    return f"{', '.join(shown[:at_most])} and {len(shown) - at_most} more"
