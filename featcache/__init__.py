"""featcache: run a frozen speech model once, cache every layer, compare emotion-recognition heads in seconds.

The data flow, and where each step lives: corpus (``corpora``) → manifest (``manifest``) → features (``audio``,
``extractors``, ``extraction``) and machines' transcripts (``transcription``) → cache (``cache``) → folds
(``protocols``) → normalisation (``normalise``) → training (``heads``, ``training``, ``fitting``) → metrics and pictures
(``evaluate``, ``report``) in run folders (``runs``); all of it in one go: ``pipeline``.

The public names stand in ``__init__.pyi``. ``import featcache`` itself loads nothing heavy.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
