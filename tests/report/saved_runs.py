"""A corpus with audio and finished runs, written without any training, for the pages over all runs."""

import base64

import numpy as np
import pandas as pd
import soundfile

from featcache.evaluate.metrics import summarise
from featcache.manifest import Manifest, Utterance
from featcache.runs.writer import new_run, write_json, write_table, write_yaml

CLASSES = ["anger", "joy", "sadness"]
# One white pixel.
PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGP4DwABAQEAsTj2FAAAAABJRU5ErkJggg==")
# Texts that end a script, an attribute or a line, that run code, or that are read from right to left.
SCRIPT = '</script><img src=x onerror="window.hacked=1"><b>\'&amp;'
ARABIC, JAPANESE, REVERSED = "غضب شديد", "喜びの声", "abc\u202egnp.exe\u2028x"


def make_manifest(speakers=("01", "02", "03", "04"), names=None):
    """Return a manifest of six utterances per speaker; ``names`` changes ids."""
    utterances = []
    for place, speaker in enumerate(speakers):
        for number in range(6):
            one = f"{speaker}-{number}"
            utterances.append(
                Utterance(
                    utterance_id=(names or {}).get(one, one),
                    path=f"wav/{place}-{number}.wav",
                    speaker_id=speaker,
                    start=0.25 if number == 5 else None,
                    end=0.5 if number == 5 else None,
                    transcript=(names or {}).get(f"{one} text", ""),
                    labels={"emotion": CLASSES[number % 3], "gender": "fm"[place % 2]},
                )
            )
    return Manifest(utterances)


def write_audio(root, manifest, *, without=()):
    (root / "wav").mkdir(parents=True)
    tone = (0.1 * np.sin(2 * np.pi * 220 * np.arange(8000) / 16000)).astype(np.float32)
    for utterance in manifest:
        if utterance.utterance_id not in without:
            soundfile.write(root / utterance.path, tone, 16000)


def predictions_of(manifest, *, right, seeds, classes=CLASSES, seed=0):
    """Return predictions of which a share is right; the first utterance is always wrong, the second always right."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(seeds):
        for place, u in enumerate(manifest):
            target = u.labels["emotion"]
            hit = rng.random() < right if place > 1 else place == 1
            predicted = target if hit else classes[(classes.index(target) + 1) % len(classes)]
            p = np.full(len(classes), 0.1)
            p[classes.index(predicted)] = 1 - 0.1 * (len(classes) - 1)
            columns = {f"p_{name}": value for name, value in zip(classes, p, strict=True)}
            keys = {"seed": number, "fold": 1 + place % 2, "utterance_id": u.utterance_id, "speaker_id": u.speaker_id}
            rows.append({**keys, "target": target, "prediction": predicted, **columns})
    return pd.DataFrame(rows)


def write_run(home, corpus, name, manifest, *, right=0.7, seeds=2, learns=True, deterministic=False, config=None):
    """Write a finished run of a classification, as a fit does, and return its folder."""
    path = home / "runs" / corpus / name
    test = predictions_of(manifest, right=right, seeds=seeds)
    settings = {
        "corpus": corpus,
        "features": {"ssl": "0" * 64},
        "untrained": [],
        "layers": "all",
        "head": "dense",
        "norm": "speaker",
        "protocol": "loso",
        "task": "classification",
        "target": "emotion",
        "classes": CLASSES,
        "seeds": list(range(seeds)),
        "training": {"learning_rate": 0.001},
        "folds": [{"fold": fold, "name": f"part {fold}", "train": 12, "validation": 6, "test": 12} for fold in (1, 2)],
        **(config or {}),
    }
    metrics = summarise(test, CLASSES)
    nan = float("nan")
    losses = [[nan, nan]] if deterministic else [[1.0, 1.1], [0.5, 0.8], [0.3, 0.9]]
    history = [[s, f, e, *loss, 0.5] for s in range(seeds) for f in (1, 2) for e, loss in enumerate(losses, 1)]
    weights = [[s, f, str(x), w, "ssl"] for s in range(seeds) for f in (1, 2) for x, w in enumerate((0.2, 0.3, 0.5))]
    with new_run(path) as folder:
        write_yaml(folder / "config.yaml", settings)
        write_json(folder / "metrics.json", metrics)
        write_table(folder / "predictions.csv", test)
        write_table(folder / "validation_predictions.csv", predictions_of(manifest, right=right, seeds=seeds, seed=1))
        columns = ["seed", "fold", "epoch", "train_loss", "validation_loss", "validation_uar"]
        write_table(folder / "history.csv", pd.DataFrame(history, columns=columns))
        columns = ["seed", "fold", "layer", "weight", "features"]
        write_table(folder / "layer_weights.csv", pd.DataFrame(weights if learns else [], columns=columns))
        (folder / "confusion_matrix.png").write_bytes(PNG)
    return path


def write_corpus_cache(home, corpus, manifest):
    (home / "cache" / corpus).mkdir(parents=True)
    manifest.write(home / "cache" / corpus / "manifest.csv")
