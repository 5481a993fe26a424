"""featcache: run a frozen speech model once, cache every layer, compare emotion-recognition heads in seconds.

The data flow, and where each step lives: corpus (``corpora``) → manifest (``manifest``) → features (``audio``,
``extractors``, ``extraction``) and machines' transcripts (``transcription``) → cache (``cache``) → folds
(``protocols``) → normalisation (``normalise``) → training (``heads``, ``training``) → metrics and pictures
(``evaluate``, ``report``); all of it in one go: ``pipeline``.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from featcache._version import __version__

if TYPE_CHECKING:
    from featcache.cache.reader import FeatureCache, FeatureStore
    from featcache.cache.reader import open_cache as open
    from featcache.errors import FeatcacheError
    from featcache.extraction import extract
    from featcache.fitting.fit import fit, sweep
    from featcache.manifest import Manifest, Utterance
    from featcache.pipeline import run_pipeline
    from featcache.runs.reader import RunFolder, load_run
    from featcache.transcription import transcribe

__all__ = [
    "FeatcacheError",
    "FeatureCache",
    "FeatureStore",
    "Manifest",
    "RunFolder",
    "Utterance",
    "__version__",
    "extract",
    "fit",
    "load_run",
    "open",
    "run_pipeline",
    "sweep",
    "transcribe",
]

_HOMES = {
    "FeatcacheError": "featcache.errors",
    "FeatureCache": "featcache.cache.reader",
    "FeatureStore": "featcache.cache.reader",
    "Manifest": "featcache.manifest",
    "RunFolder": "featcache.runs.reader",
    "Utterance": "featcache.manifest",
    "extract": "featcache.extraction",
    "fit": "featcache.fitting.fit",
    "load_run": "featcache.runs.reader",
    "open": "featcache.cache.reader",
    "run_pipeline": "featcache.pipeline",
    "sweep": "featcache.fitting.fit",
    "transcribe": "featcache.transcription",
}


def __getattr__(name: str) -> Any:
    """Import public names when they are first used: ``import featcache`` itself loads nothing heavy."""
    if name not in _HOMES:
        raise AttributeError(f"module 'featcache' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), "open_cache" if name == "open" else name)
    globals()[name] = value
    return value
