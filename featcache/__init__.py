"""featcache: run a frozen speech model once, cache every layer, compare emotion-recognition heads in seconds.

The data flow and the package of each step: corpus (``corpora``) → manifest (``manifest``) → features (``audio``,
``extractors``, ``extraction``) and ASR transcripts (``transcription``) → cache (``cache``) → folds (``protocols``) →
normalisation (``normalise``) → training (``heads``, ``training``, ``fitting``) → metrics and figures (``evaluate``,
``report``) in run folders (``runs``). ``pipeline`` runs all steps.

The public names are listed in ``__init__.pyi``. ``import featcache`` loads no large library.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
