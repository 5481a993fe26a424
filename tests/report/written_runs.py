"""Run folders with made-up predictions, as fits write them."""

import numpy as np
import pandas as pd

from featcache.evaluate.predictions import checked
from featcache.evaluate.scoring import score
from featcache.runs.reader import RunFolder
from featcache.runs.writer import write_json, write_table, write_yaml

CLASSES = ("anger", "joy")


def write_run(path, *, right=0.8, speakers=10, seeds=(123, 1234), utterances=8, validation=None, **changes):
    """Write a run in which a share of the predictions is right, and return it.

    Args:
        path: The run folder.
        right: Share of right predictions.
        speakers: Number of speakers.
        seeds: Seeds.
        utterances: Number of utterances of each speaker.
        validation: Mean validation UAR, or None.
        changes: Changes to ``config.yaml``.
    """
    rng = np.random.default_rng(sum(map(ord, path.name)))
    rows = []
    for seed in seeds:
        for speaker in range(speakers):
            for number in range(utterances):
                target = CLASSES[number % 2]
                hit = rng.uniform() < right
                predicted = target if hit else CLASSES[1 - number % 2]
                rows.append((seed, 1, f"s{speaker}-{number}", f"s{speaker}", target, predicted))
    columns = ["seed", "fold", "utterance_id", "speaker_id", "target", "prediction"]
    predictions = pd.DataFrame(rows, columns=columns)
    config = {
        "corpus": path.parent.name,
        "features": {"ssl": "f" * 64},
        "untrained": [],
        "layers": "all",
        "head": "dense",
        "norm": "none",
        "protocol": "loso",
        "task": "classification",
        "target": "emotion",
        "classes": list(CLASSES),
        "select": {},
        "seeds": list(seeds),
        "training": {"learning_rate": 1e-4, "max_epochs": 100},
        "folds": [{"fold": 1, "name": "1", "train": 1, "validation": 1, "test": len(rows)}],
        **changes,
    }
    metrics = score(checked(predictions, classes=CLASSES))
    if validation is not None:
        metrics["validation"] = {"uar": {"mean": validation, "std": 1.5, "per_seed": [validation] * len(seeds)}}
    path.mkdir(parents=True)
    write_yaml(path / "config.yaml", config)
    write_json(path / "metrics.json", metrics)
    write_table(path / "predictions.csv", predictions)
    return RunFolder(path)
