"""A run's configuration → what makes it this run and no other.

Two runs are the same when they were asked for with the same settings, read the same features, utterances, labels and
folds, and were computed by the same rules, which :data:`NUMERICS_VERSION` counts. ``config.yaml`` records more: the
release, the packages, the machine, the dtypes that memory allowed, and the sizes of the heads. These make no other run.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

NUMERICS_VERSION = 1
"""Raise this by hand, in the commit after which a fit of the same settings learns or predicts something else: another
loss, optimiser, initialisation, order of utterances, normalisation. Runs of other versions are then trained again. Do
not raise it for a release, a new option, another report, or speed. Version 1 is that of release 0.1.0, which did not
record it."""

NUMERICS = "numerics_version"
RELEASE = "featcache_version"
# Device, dtype of the features in memory, arithmetic of the heads, size of the windows.
COMPUTED = "computed_with"
# Packages and kind of processor.
ENVIRONMENT = "environment"
# What had changed when an interrupted run was resumed.
RESUMED = "resumed_with"
# Sizes and layers of the features that the heads take: they follow from the settings and the stores.
HEAD_INPUTS = "head_inputs"
# The size of a random subset, whose utterances have a checksum of their own.
LIMIT = "limit"
RECORDED = (RELEASE, COMPUTED, ENVIRONMENT, RESUMED, HEAD_INPUTS, LIMIT)
# Settings that configurations of earlier releases lack, and what they were then.
BEFORE: dict[str, Any] = {NUMERICS: 1}


def identity(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a configuration that makes the run."""
    return {**BEFORE, **{key: value for key, value in config.items() if key not in RECORDED}}


def differences(config: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Which settings make two configurations different runs; empty where they are the same."""
    one, two = identity(config), identity(other)
    return sorted(key for key in {*one, *two} if one.get(key) != two.get(key))


def hash_of(content: Any) -> str:
    """SHA-256 of plain JSON values."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
