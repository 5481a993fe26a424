"""Configuration of a run → the settings that identify it.

Two runs are the same if they have the same settings, features, utterances, labels, folds and :data:`NUMERICS_VERSION`.
Runs of heads that a solver fits also need the same :data:`SOLVER_VERSION`.
``config.yaml`` also records the release, the packages, the machine, the dtypes that memory allowed, and the sizes of
the heads. These do not identify a run.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

NUMERICS_VERSION = 1
"""Version of the computation. Increase it in the commit that changes the result of a fit with equal settings: another
loss, optimiser, initialisation, order of utterances, or normalisation. Runs of other versions are then trained again.
Do not increase it for a release, a new option, another report, or speed. Release 0.1.0 is version 1, but did not record
it."""

SOLVER_VERSION = 2
"""Version of the computation of heads that a solver fits, such as ``svm``. Only their runs record it: increase it, in
place of :data:`NUMERICS_VERSION`, where the results of networks stay the same. Release 0.1.0 did not record it: C was
chosen on the validation part, and the head was fitted to the training part only."""

NUMERICS = "numerics_version"
# Key for SOLVER_VERSION.
SOLVER = "solver_version"
# Key for options of the training steps of a network. Earlier releases recorded it for heads that a solver fits, too.
TRAINING = "training"
RELEASE = "featcache_version"
# Key for the device, the dtype of the in-memory features, the dtype of training, and the size of the windows.
COMPUTED = "computed_with"
# Key for the versions of packages and the kind of CPU.
ENVIRONMENT = "environment"
# Key for the conditions that had changed when an interrupted run was resumed.
RESUMED = "resumed_with"
# Key for the sizes and layers of the features that the heads take; settings and stores determine them.
HEAD_INPUTS = "head_inputs"
# Key for the settings of each store, from which its extractor can be created again; "features" has their checksum.
STORE_SETTINGS = "store_settings"
# Key in ``metrics.json`` for the scores on the validation parts.
VALIDATION = "validation"
# Key in ``config.yaml`` for the names of several labels, and keys in ``metrics.json`` for their scores and thresholds.
LABEL_NAMES, PER_LABEL, THRESHOLDS = "label_names", "per_label", "thresholds"
# Key that marks a run of ``fit --final``, which has no test part; it is also the name of its protocol and of its fold.
FINAL = "final"
# Keys of such a run for the protocol that chose its validation part, and for the speakers of that part.
VALIDATION_PROTOCOL, VALIDATION_SPEAKERS = "validation_protocol", "validation_speakers"
# Key that marks a folder that featcache publish wrote: a run folder without the files that name persons.
PUBLISHED = "published"
# Key of such a folder for seed and fold of each head, if not all heads were published.
PUBLISHED_HEADS = "published_heads"
# Key in ``metrics.json`` for the scores on each of several test corpora.
TEST_CORPORA = "corpora"
# Keys of a fit on several corpora: those that train and test, and how their labels became common labels.
TRAIN, TEST = "train", "test"
LABEL_MAP, TARGET_COLUMNS, CORPUS_RANGES = "label_map", "target_columns", "corpus_ranges"
# Key that describes the search whose result a run is: the settings that were tried, and those that were chosen.
SWEEP = "sweep"
# Key for the options of the head of each fold, if a search chose them for each fold; then there is no key "set".
SET_BY_FOLD = "set_by_fold"
# Value of a setting in config.yaml that differs between the folds.
BY_FOLD = "by fold"
# Key for the size of a random subset; its utterances are identified by their own checksum.
LIMIT = "limit"
# Key that marks a fine-tuned run: the stored layer of each store from which training started.
FROM_LAYER = "from_layer"
# Key for the layers of each fine-tuned model that the heads use; other settings determine them.
TUNED_LAYERS = "tuned_layers"
RECORDED = (RELEASE, COMPUTED, ENVIRONMENT, RESUMED, HEAD_INPUTS, STORE_SETTINGS, LIMIT, TUNED_LAYERS)
# Settings that are missing in configurations of earlier releases, with their values at that time.
BEFORE: dict[str, Any] = {NUMERICS: 1}


def identity(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a configuration that identifies the run."""
    unused = (*RECORDED, TRAINING) if SOLVER in config else RECORDED
    return {**BEFORE, **{key: value for key, value in config.items() if key not in unused}}


def differences(config: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Return the names of the identifying settings in which two configurations differ."""
    one, two = identity(config), identity(other)
    return sorted(key for key in {*one, *two} if one.get(key) != two.get(key))


def hash_of(content: Any) -> str:
    """Return the SHA-256 of plain JSON values."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
