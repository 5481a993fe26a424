"""Stored layer k → layers k … N of a model, with its own blocks k+1 … N, which can be trained and saved.

The result equals that of the whole model: padding is kept out in the same way as during extraction, and every load
compares both on a short input.
"""

from featcache.extractors.upper.activations import ActivationMemory, activation_memory
from featcache.extractors.upper.adapters import AdapterOptions, check_peft
from featcache.extractors.upper.eligibility import check_store
from featcache.extractors.upper.loading import TuningOptions, load_upper
from featcache.extractors.upper.model_source import ModelSource
from featcache.extractors.upper.upper_blocks import UpperBlocks

__all__ = [
    "ActivationMemory",
    "AdapterOptions",
    "ModelSource",
    "TuningOptions",
    "UpperBlocks",
    "activation_memory",
    "check_peft",
    "check_store",
    "load_upper",
]
