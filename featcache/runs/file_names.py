"""Names of the files in a run folder."""

import re

CONFIG = "config.yaml"
METRICS = "metrics.json"
PREDICTIONS = "predictions.csv"
VALIDATION_PREDICTIONS = "validation_predictions.csv"
HISTORY = "history.csv"
LAYER_WEIGHTS = "layer_weights.csv"
# Only ensembles have this table.
COMBINATIONS = "combinations.csv"
# Only results of a search have this table: the settings that were tried.
TRIED = "sweep.csv"
# Means and standard deviations of the normalisation.
NORMALISATION = "normalisation.safetensors"
HEADS = "heads"
# Folders of fine-tuned models.
MODELS = "models"
# States of trainings that run, in the folder of an unfinished run.
CHECKPOINTS = "checkpoints"

# Glob patterns of the files that contain results and have a checksum. Reports and figures may be edited, and more files
# may be added.
RESULTS = (
    CONFIG,
    METRICS,
    PREDICTIONS,
    VALIDATION_PREDICTIONS,
    HISTORY,
    LAYER_WEIGHTS,
    COMBINATIONS,
    TRIED,
    NORMALISATION,
    f"{HEADS}/*.safetensors",
    f"{MODELS}/*/seed-*/*",
)

_TRAINING = re.compile(r"seed-(\d+)-fold-(\d+)", re.ASCII)


def training_name(seed: int, fold: int) -> str:
    """Return the file name of one training, without a suffix."""
    return f"seed-{seed:d}-fold-{fold:d}"


def seed_and_fold(name: str) -> tuple[int, int] | None:
    """Return the seed and fold of a training from its file name without suffix; None if the name has another form."""
    match = _TRAINING.fullmatch(name)
    return (int(match[1]), int(match[2])) if match else None


def head_name(seed: int, fold: int) -> str:
    """Return the path of the weights of one head, relative to the run folder."""
    return f"{HEADS}/{training_name(seed, fold)}.safetensors"


def model_name(store: str, seed: int, fold: int) -> str:
    """Return the path of the folder of one fine-tuned model, relative to the run folder."""
    return f"{MODELS}/{store}/{training_name(seed, fold)}"
