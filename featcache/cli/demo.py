"""All main steps on a synthetic corpus: the work of ``featcache demo`` and ``make demo``."""

import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from featcache.cli.listing import print_runs
from featcache.corpora.synthetic import make_corpus
from featcache.extraction import extract, summarise_report
from featcache.files.regular import replace_file
from featcache.fitting.fit import fit
from featcache.manifest import Manifest
from featcache.prediction.loaded_run import load_run
from featcache.report.layers import draw_layer_weights
from featcache.runs.reader import RunFolder
from featcache.settings.fits import Norm
from featcache.terminal.console import print_line

# A wav2vec 2.0 model of the real class, small enough to run in seconds, with random weights.
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
# Much larger than the default learning rate, because an epoch of this small corpus has only a few steps.
TRAINING = {"learning_rate": 3e-3, "max_epochs": 8}


@contextmanager
def _without_advice() -> Iterator[None]:
    """Hide the warnings that trainings have not converged: eight epochs are too few, but they keep the demo short."""
    advice = logging.getLogger("featcache.fitting.convergence")
    before = advice.level
    advice.setLevel(logging.ERROR)
    try:
        yield
    finally:
        advice.setLevel(before)


def run_demo(folder: Path) -> None:
    """Make a corpus, extract features, fit three heads with two normalisations, and predict one of the files.

    Args:
        folder: Folder for the corpus, the cache and the runs.
    """
    start = time.perf_counter()
    logging.getLogger("featcache").setLevel(logging.WARNING)
    print_line(
        "Synthetic speech and an untrained model: this demo shows how featcache works. The scores say nothing about "
        "real emotions."
    )
    print_line()
    manifest = make_corpus(folder / "corpora" / CORPUS, repetitions=3)
    print_line(f"1. corpus: {len(manifest)} utterances, {len(manifest.speaker_ids)} speakers, 4 emotions")
    model = folder / "models" / MODEL
    replace_file(model / "config.json", json.dumps(TINY_WAV2VEC2).encode())
    report = extract(model=str(model), weights="random", corpus=CORPUS, home=folder)
    print_line(f"2. extract: {summarise_report(report).splitlines()[0]}")
    compared: list[tuple[list[str], str, Norm]] = [(["egemaps"], "dense", "speaker")]
    norms: tuple[Norm, ...] = ("speaker", "global")
    for norm in norms:
        compared += [([MODEL], "dense", norm), ([MODEL], "lstm", norm), ([MODEL, "egemaps"], "fusion", norm)]
    same: dict[str, Any] = {"corpus": CORPUS, "protocol": "group-kfold", **TRAINING, "home": folder}
    with _without_advice():
        runs = [fit(features=features, head=head, norm=norm, **same) for features, head, norm in compared]
    print_line(f"3. fit: {len(runs)} runs, five seeds each; chance is 25 %")
    print_line()
    print_runs(runs)
    drawn = {f"{run.config['head']}, {run.config['norm']}": run.layer_weights for run in runs[1:]}
    picture = runs[0].path.parent / "layer_weights"
    draw_layer_weights(drawn, picture)
    print_line()
    _predict_one(runs[4], folder, manifest, model)
    print_line()
    print_line(f"Done in {time.perf_counter() - start:.0f} s. Results:")
    for path, what in (
        (runs[1].path / "report.html", "report of a run"),
        (picture.with_suffix(".png"), "layer weights of all runs"),
        (runs[1].path / "confusion_matrix.png", "confusion matrix of a run"),
        (report.cache / MODEL, "cached layers (HDF5)"),
    ):
        print_line(f"  {what}:")
        print_line(f"    {path}")
    print_line()
    print_line("With your own audio (EmoDB, RAVDESS, or any folder with a manifest.csv):")
    print_line("  featcache extract --model wav2vec2-base --data path/to/audio")
    print_line("  featcache fit --head dense --norm speaker")
    print_line("  featcache predict RUN path/to/x.wav --one-speaker")


def _predict_one(run: RunFolder, folder: Path, manifest: Manifest, model: Path) -> None:
    """Predict a file of the corpus with the heads that did not train on it, and print the result beside the label.

    Args:
        run: A run with global normalisation, which needs no other audio of the speaker.
        folder: Folder of the demo.
        manifest: The utterances of the corpus.
        model: Folder of the model, because a run records no paths.
    """
    utterance = manifest[0]
    table = load_run(run.path, home=folder).predict(folder / "corpora" / CORPUS / utterance.path, model=str(model))
    predicted = table["prediction"][0]
    print_line(
        f"4. predict: {utterance.path} sounds like {predicted} (probability {table[f'p_{predicted}'][0]:.2f}, mean of "
        f"the heads that did not train on it); its label is {utterance.labels['emotion']}"
    )
