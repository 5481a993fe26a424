"""All benchmarks in one run → the benchmark page."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from tests.benchmarks import (
    bare,
    extraction,
    finetuning,
    finetuning_memory,
    memory,
    options,
    precision,
    prediction,
    quantised,
    training,
)


@dataclass(frozen=True, kw_only=True)
class Results:
    """Results of each benchmark, in the order of the page."""

    extraction: extraction.Extraction
    bare: bare.Bare
    precision: precision.Precision | precision.Skipped
    quantised: quantised.Quantised
    prediction: prediction.Prediction
    memory: memory.Memory
    training: training.Measured
    options: options.Measured
    finetuning: finetuning.Measured
    finetuning_memory: finetuning_memory.Memory


def measure(
    model: str,
    data: Path,
    folder: Path,
    *,
    sizes: tuple[int, int] = (100, 1000),
    num_predicted: int = 100,
    num_trained: int = 1440,
    seeds: Sequence[int] = (1, 2, 3, 4, 5),
    epochs: int = 3,
    layers: Sequence[int] = (11, 9, 6, 0),
) -> Results:
    """Run all benchmarks.

    Args:
        model: Name or folder of a model, used with random weights.
        data: Folder of the corpus.
        folder: Folder for caches and temporary files.
        sizes: Numbers of utterances of the two extractions whose memory is compared.
        num_predicted: Number of files that are predicted.
        num_trained: Number of utterances of the synthetic cache for training heads.
        seeds: Seeds of the trained heads, also of those that predict.
        epochs: Number of epochs for each seed.
        layers: Stored layers from which blocks are fine-tuned.
    """
    print("extraction and the plain loop", file=sys.stderr)
    extracted = extraction.compare(model, data, folder)
    print("bare passes", file=sys.stderr)
    passes = bare.compare(model, data, extracted.ours)
    print("bfloat16", file=sys.stderr)
    in_bfloat16 = precision.compare(model, data, folder, extracted)
    print("int8", file=sys.stderr)
    in_8_bits = quantised.compare(folder, extracted.ours)
    print("prediction", file=sys.stderr)
    predicted = prediction.compare(model, folder, extracted.ours, num_files=num_predicted, seeds=seeds)
    print("memory", file=sys.stderr)
    peaks = memory.compare(folder, sizes)
    print("training", file=sys.stderr)
    trained = training.measure(folder, num_trained, seeds=seeds, epochs=epochs)
    print("training options", file=sys.stderr)
    with_options = options.compare(training.cache_in(folder), seeds=seeds[:1], rounds=epochs)
    print("fine-tuning", file=sys.stderr)
    tuned = finetuning.compare(model, data, extracted.ours, layers=layers, rounds=epochs)
    print("memory of fine-tuning", file=sys.stderr)
    tuned_peaks = finetuning_memory.compare(folder, training.cache_in(folder))
    return Results(
        extraction=extracted,
        bare=passes,
        precision=in_bfloat16,
        quantised=in_8_bits,
        prediction=predicted,
        memory=peaks,
        training=trained,
        options=with_options,
        finetuning=tuned,
        finetuning_memory=tuned_peaks,
    )


def to_page(results: Results, model: str, corpus: str, conditions: str) -> str:
    """Return the page as Markdown."""
    ours = results.extraction.ours
    head = (
        f"# Benchmarks\n\n"
        f"{model}, untrained; {corpus}: {ours.num_utterances} utterances, {ours.audio_seconds:.0f} s of audio. "
        f"{conditions}.\n\n"
        "All numbers are from one run of `python -m tests.benchmarks`. Extractions, plain loop and bare passes were "
        "timed once each, in separate processes, after one utterance for warm-up. The times do not include loading "
        "the model."
    )
    tables = [getattr(results, field.name).table().to_markdown() for field in fields(results)]
    return "\n\n".join([head, *tables]) + "\n"
