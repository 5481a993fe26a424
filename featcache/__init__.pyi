"""List of the public names. ``featcache/__init__.py`` reads it and imports each name when it is first used."""

from ._version import __version__ as __version__
from .cache.reader import FeatureCache as FeatureCache
from .cache.reader import FeatureStore as FeatureStore
from .cache.reader import open as open
from .errors import FeatcacheError as FeatcacheError
from .extraction import extract as extract
from .extraction.import_features import import_features as import_features
from .fetching import fetch as fetch
from .fitting.finetune import finetune as finetune
from .fitting.fit import fit as fit
from .fitting.fit import sweep as sweep
from .manifest import Manifest as Manifest
from .manifest import Utterance as Utterance
from .pipeline import run_pipeline as run_pipeline
from .prediction.loaded_run import load_run as load_run
from .publishing import publish as publish
from .registry import name_plugins as name_plugins
from .runs.reader import RunFolder as RunFolder
from .transcription import transcribe as transcribe
