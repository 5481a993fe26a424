"""All cases in one run → the benchmark page."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from tests.benchmarks import bare, extraction, memory, precision, quantised, training


@dataclass(frozen=True, kw_only=True)
class Results:
    """One case per theme, in the order of the page."""

    extraction: extraction.Extraction
    bare: bare.Bare
    precision: precision.Precision | precision.Skipped
    quantised: quantised.Quantised
    memory: memory.Memory
    training: training.Measured


def measure(
    model: str,
    data: Path,
    folder: Path,
    *,
    sizes: tuple[int, int] = (100, 1000),
    num_trained: int = 1440,
    seeds: Sequence[int] = (1, 2, 3, 4, 5),
    epochs: int = 3,
) -> Results:
    """Run all cases.

    Args:
        model: Built untrained.
        data: The corpus.
        folder: Where caches and the like are left.
        sizes: Utterances of the two extractions whose memory is compared.
        num_trained: Utterances of the synthetic cache that heads are trained on; each seed trains for ``epochs``.
    """
    print("extraction and the plain loop", file=sys.stderr)
    extracted = extraction.compare(model, data, folder)
    print("bare passes", file=sys.stderr)
    passes = bare.compare(model, data, extracted.ours)
    print("bfloat16", file=sys.stderr)
    in_bfloat16 = precision.compare(model, data, folder, extracted)
    print("int8", file=sys.stderr)
    in_8_bits = quantised.compare(folder, extracted.ours)
    print("memory", file=sys.stderr)
    peaks = memory.compare(folder, sizes)
    print("training", file=sys.stderr)
    trained = training.measure(folder, num_trained, seeds=seeds, epochs=epochs)
    return Results(
        extraction=extracted,
        bare=passes,
        precision=in_bfloat16,
        quantised=in_8_bits,
        memory=peaks,
        training=trained,
    )


def to_page(results: Results, model: str, corpus: str, conditions: str) -> str:
    """The page as Markdown."""
    ours = results.extraction.ours
    head = (
        f"# Benchmarks\n\n"
        f"{model}, untrained; {corpus}: {ours.num_utterances} utterances, {ours.audio_seconds:.0f} s of audio. "
        f"{conditions}.\n\n"
        "All in one run of `python -m tests.benchmarks`. Extractions, plain loop and bare passes were timed once each, "
        "in a process of their own, after a first utterance to warm up; loading the model is not in the times."
    )
    tables = [getattr(results, field.name).table().to_markdown() for field in fields(results)]
    return "\n\n".join([head, *tables]) + "\n"
