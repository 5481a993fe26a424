"""Part of a run → the name of its file in the run folder."""

import re

CONFIG = "config.yaml"
METRICS = "metrics.json"
PREDICTIONS = "predictions.csv"
VALIDATION_PREDICTIONS = "validation_predictions.csv"
HISTORY = "history.csv"
LAYER_WEIGHTS = "layer_weights.csv"
# Only ensembles have this table.
COMBINATIONS = "combinations.csv"
# The means and standard deviations that the heads' features are normalised with.
NORMALISATION = "normalisation.safetensors"
HEADS = "heads"

# Files that are read back as results, as glob patterns. Reports and figures are not among them: editing them, or adding
# files, changes no result.
RESULTS = (
    CONFIG,
    METRICS,
    PREDICTIONS,
    VALIDATION_PREDICTIONS,
    HISTORY,
    LAYER_WEIGHTS,
    COMBINATIONS,
    NORMALISATION,
    f"{HEADS}/*.safetensors",
)

_TRAINING = re.compile(r"seed-(\d+)-fold-(\d+)", re.ASCII)


def training_name(seed: int, fold: int) -> str:
    """Return the file name of one training, without a suffix."""
    return f"seed-{seed:d}-fold-{fold:d}"


def seed_and_fold(name: str) -> tuple[int, int] | None:
    """Return the seed and the fold that a file name without its suffix stands for; None if it names no training."""
    match = _TRAINING.fullmatch(name)
    return (int(match[1]), int(match[2])) if match else None


def head_name(seed: int, fold: int) -> str:
    """Return the name of the file with the weights of one head, relative to the run folder."""
    return f"{HEADS}/{training_name(seed, fold)}.safetensors"
