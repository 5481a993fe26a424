"""Heads of a run → ONNX files, each compared with its head in onnxruntime before it is written."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from featcache.errors import ModelError
from featcache.files.regular import replace_file
from featcache.publishing.onnx_graph import require_onnx
from featcache.publishing.onnx_heads import graph_of, input_names
from featcache.runs.file_names import training_name
from featcache.runs.saved_head import LinearModel, SavedHead

# Numbers of frames at which each graph is compared with its head.
LENGTHS = (1, 37, 250)
# Largest difference, absolute or relative to the score: rounding of float32 sums in another order.
TOLERANCE = 1e-5


def write_graphs(folder: Path, heads: Sequence[tuple[int, int, SavedHead]]) -> None:
    """Write one ONNX file per head.

    Args:
        folder: Folder to make.
        heads: Seed, fold and each head.

    Raises:
        MissingPackageError: onnx or onnxruntime is not installed.
        ModelError: a head cannot be exported, or its graph gives other scores than the head.
    """
    require_onnx()
    folder.mkdir()
    for seed, fold, head in heads:
        name = f"{training_name(seed, fold)}.onnx"
        content = graph_of(head).SerializeToString()
        _compare(name, content, head)
        replace_file(folder / name, content)


def _compare(name: str, content: bytes, head: SavedHead) -> None:
    import torch

    for length in LENGTHS:
        features, statistics = example(head, length)
        with torch.inference_mode():
            expected = head([[values] for values in features], **({"normalisation": statistics} if statistics else {}))[
                0
            ].numpy()
        found = run_graph(content, head, features, statistics)
        if not np.allclose(found, expected, rtol=TOLERANCE, atol=TOLERANCE):
            difference = np.abs(found - expected).max()
            raise ModelError(
                f"{name}: its scores differ from those of the head by {difference:.1e}, expected {TOLERANCE:g} at "
                "most; publish without --onnx"
            )


def example(head: SavedHead, length: int) -> tuple[list[npt.NDArray[Any]], list[tuple[Any, Any]]]:
    """Return random features of one utterance for each store, and the statistics of a speaker if the head needs them.

    Args:
        head: The head.
        length: Number of frames; stores with one vector per utterance have one.
    """
    rng = np.random.default_rng(length)
    features, statistics = [], []
    for position, one in enumerate(head.inputs):
        is_vector = isinstance(head.head, LinearModel) and not head.pooling
        shape = (one.num_layers, one.hidden_size)
        mean, std = np.zeros(shape, np.float32), np.ones(shape, np.float32)
        if head.norm == "global":
            mean, std = (head.get_buffer(f"{name}_{position}")[0].numpy() for name in ("mean", "std"))
        frames = rng.standard_normal((shape[0], 1 if is_vector else length, shape[1]), dtype=np.float32)
        features.append(frames * np.where(np.isinf(std), 1, std)[:, None] + mean[:, None])
        if head.norm == "speaker":
            statistics.append((rng.standard_normal(shape, np.float32), rng.uniform(0.5, 2, shape).astype(np.float32)))
    return features, statistics


def run_graph(
    content: bytes | str,
    head: SavedHead,
    features: Sequence[npt.NDArray[Any]],
    statistics: Sequence[tuple[Any, Any]] = (),
) -> npt.NDArray[Any]:
    """Compute the scores of one utterance with an ONNX graph.

    Args:
        content: Content of an ONNX file, or its path.
        head: The head from which it was made.
        features: Features of each store, (num_layers, num_frames, hidden_size) float32.
        statistics: Mean and standard deviation of the speaker for each store, for ``speaker`` normalisation.

    Returns:
        (num_outputs,) float32.
    """
    _, onnxruntime = require_onnx()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    given = dict(zip(input_names(head, "features"), features, strict=True))
    for position, kind in enumerate(("mean", "std")):
        given |= {name: pair[position] for name, pair in zip(input_names(head, kind), statistics, strict=False)}
    scores: npt.NDArray[Any] = session.run(["scores"], given)[0]
    return scores
