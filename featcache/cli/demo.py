"""The whole main job on a corpus that it makes itself: what ``featcache demo`` and ``make demo`` run."""

import json
import logging
import time
from pathlib import Path
from typing import Any

from featcache.cli.listing import print_runs
from featcache.corpora.synthetic import make_corpus
from featcache.extraction import extract, summarise_report
from featcache.files.regular import replace_file
from featcache.fitting.fit import fit
from featcache.report.layers import draw_layer_weights
from featcache.settings.fits import Norm
from featcache.terminal.console import Console

# A wav2vec 2.0 of the real class, small enough to run in seconds; its weights are random.
TINY_WAV2VEC2 = {
    "model_type": "wav2vec2",
    "hidden_size": 64,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "conv_dim": [48] * 7,
    "num_conv_pos_embeddings": 32,
    "num_conv_pos_embedding_groups": 4,
}
MODEL = "wav2vec2-tiny"
CORPUS = "synthetic"
# Many times Pepino's learning rate: with so little data an epoch is only a few steps.
TRAINING = {"learning_rate": 3e-3, "max_epochs": 10}


def run_demo(folder: Path) -> None:
    """Make synthetic speech, extract, fit Dense, LSTM and Fusion with both normalisations, draw the layer weights.

    Args:
        folder: Where the corpus, the cache and the runs are left.
    """
    start = time.perf_counter()
    logging.getLogger("featcache").setLevel(logging.WARNING)
    console = Console(highlight=False)
    console.print(
        "Synthetic speech and an untrained model: what follows shows how featcache works, "
        "not how well emotions can be recognised.\n",
        soft_wrap=True,
    )
    manifest = make_corpus(folder / "corpora" / CORPUS, repetitions=3)
    console.print(f"1. corpus: {len(manifest)} utterances, {len(manifest.speaker_ids)} speakers, 4 emotions")
    model = folder / "models" / MODEL
    replace_file(model / "config.json", json.dumps(TINY_WAV2VEC2).encode())
    report = extract(model=str(model), weights="random", corpus=CORPUS, home=folder)
    console.print(f"2. extract: {summarise_report(report).splitlines()[0]}", soft_wrap=True)
    compared: list[tuple[list[str], str, Norm]] = [(["egemaps"], "dense", "speaker")]
    norms: tuple[Norm, ...] = ("speaker", "global")
    for norm in norms:
        compared += [([MODEL], "dense", norm), ([MODEL], "lstm", norm), ([MODEL, "egemaps"], "fusion", norm)]
    same: dict[str, Any] = {"corpus": CORPUS, "protocol": "group-kfold", **TRAINING, "home": folder}
    runs = [fit(features=features, head=head, norm=norm, **same) for features, head, norm in compared]
    console.print(f"3. fit: {len(runs)} runs, five seeds each; chance is 25 %\n")
    print_runs(runs)
    drawn = {f"{run.config['head']}, {run.config['norm']}": run.layer_weights for run in runs[1:]}
    picture = runs[0].path.parent / "layer_weights"
    draw_layer_weights(drawn, picture)
    console.print(f"\nDone in {time.perf_counter() - start:.0f} s. Look at:", soft_wrap=True)
    for path, what in (
        (runs[1].path / "report.html", "a run's report"),
        (picture.with_suffix(".png"), "layer importance of all runs"),
        (runs[1].path / "confusion_matrix.png", "a run's confusion matrix"),
        (report.cache / MODEL, "the cached layers (HDF5)"),
    ):
        console.print(f"  {path}  {what}", soft_wrap=True)
    console.print("\nWith your own audio (EmoDB, RAVDESS, or any folder with a manifest.csv):")
    console.print("  featcache extract --model wav2vec2-base --data path/to/audio", soft_wrap=True)
    console.print("  featcache fit --head dense --norm speaker", soft_wrap=True)
