"""The benchmarks as tests, with a tiny model and without assertions on time: both sides do the same work."""

from functools import partial

import numpy as np
import pytest

from featcache.cache.reader import FeatureStore
from featcache.corpora.synthetic import make_corpus
from featcache.extraction.plan import SHARD_BYTES
from featcache.extraction.verify import damaged_datasets
from tests.benchmarks import bare, extraction, finetuning, finetuning_memory, memory, precision, prediction, training
from tests.benchmarks.compare import deviations, signal_to_noise
from tests.benchmarks.page import measure, to_page
from tests.benchmarks.process import alone, peak_memory
from tests.benchmarks.synthetic_cache import write_cache
from tests.benchmarks.table import Table, cpu_info, promised

NUM_UTTERANCES = 12
# Both sides round to float16; in the worst case they round to neighbouring values, 2^-10 apart.
TOLERANCE = 2.0**-10
# bfloat16 has 8 significant bits, and errors accumulate over blocks; a wrong layer would differ by more than half.
TOLERANCE_BFLOAT16 = 0.1
# float32 sums in another order, which a few steps of Adam carry on; without the steps, losses differ by more than 1e-2.
AFTER_SOME_STEPS = 1e-5


@pytest.fixture(scope="module")
def results(tmp_path_factory, tiny_model):
    """Run all benchmarks in this process, because starting new processes takes longer than the benchmarks."""
    folder = tmp_path_factory.mktemp("bench")
    make_corpus(folder / "synthetic", num_speakers=3, repetitions=1)
    with pytest.MonkeyPatch.context() as patch:
        for module in (extraction, bare, precision, memory, prediction, finetuning_memory):
            patch.setattr(module, "alone", lambda function, *arguments: (function(*arguments), peak_memory()))
        patch.setattr(precision, "cpu_info", dict)
        small = partial(write_cache, num_layers=3, hidden_size=16, num_speakers=4)
        patch.setattr(training, "write_cache", small)
        patch.setattr(finetuning_memory, "ROOM", 20_000)
        patch.setattr(training, "roofline", partial(training.roofline, copied=2**20, side=64))
        model = tiny_model("wav2vec2")
        return measure(
            model,
            folder / "synthetic",
            folder,
            sizes=(1, 3),
            num_predicted=5,
            num_trained=32,
            seeds=(1, 2),
            epochs=1,
            layers=(2, 0),
        )


def test_extraction_and_plain_loop_store_the_same(results):
    case = results.extraction
    assert case.ours.num_utterances == len(case.ours.features()) == NUM_UTTERANCES
    assert case.deviation <= TOLERANCE


def test_bfloat16_is_near_to_float32_in_every_layer(results):
    case = results.precision
    assert len(case.deviations) == len(case.layer_names)
    assert (np.asarray(case.deviations) > 0).all()
    assert (np.asarray(case.deviations) < TOLERANCE_BFLOAT16).all()


def test_bare_passes_count_together():
    assert bare.Bare(ours=2.1, model=1.5, egemaps=0.5).ratio == pytest.approx(1.05)


def test_8_bits_are_written_whole(results):
    case = results.quantised
    folder = results.extraction.ours.cache.parents[2] / "int8"
    assert list(damaged_datasets(folder)) == []
    assert case.int8 < case.float16
    assert len(case.signal_to_noise) == len(case.layer_names)


def test_all_heads_predict_all_new_files(results):
    case = results.prediction
    assert (case.few.num_files, case.many.num_files, case.num_heads) == (1, 5, 6)  # three folds, two seeds
    assert case.ratio == case.many.seconds / case.bare


def test_the_larger_extraction_is_larger(results):
    case = results.memory
    assert (case.few.num_utterances, case.many.num_utterances) == (1, 3)
    assert case.few.bytes < case.many.bytes


def test_both_fine_tunings_read_several_windows(results):
    case = results.finetuning_memory
    assert case.few.num_utterances < case.many.num_utterances / 2
    assert 1 < case.few.num_windows < case.many.num_windows


def test_a_hundred_utterances_would_fill_more_than_a_shard(results):
    assert 100 * results.memory.many.bytes / 3 > SHARD_BYTES


def test_fine_tuning_and_plain_loop_do_the_same_steps(results, tiny_model, tmp_path):
    """The store is in float32, the model pads exactly (norms per frame), and nothing is drawn."""
    assert [one.from_layer for one in results.finetuning.epochs] == [2, 0]
    make_corpus(tmp_path / "synthetic", num_speakers=3, repetitions=1)
    model = tiny_model("xls-r")
    ours = extraction.cached(model, tmp_path / "synthetic", tmp_path / "home", storage="float32")
    for from_layer in (0, 2):
        found = finetuning.epochs(
            model, tmp_path / "synthetic", ours, from_layer, batch_size=3, rounds=1, dropout=0.0, rates=(0.01, 0.01)
        )
        assert found.losses[0] == pytest.approx(found.losses[1], rel=AFTER_SOME_STEPS)


def test_bounds_are_those_of_the_operations():
    assert [round(finetuning.bound(k), 2) for k in (11, 9, 6, 0)] == [7.2, 2.85, 1.76, 1.18]


def test_the_page_has_a_table_for_each_theme(results):
    page = to_page(results, "tiny", "synthetic speech", "here and now")
    headings = [line for line in page.splitlines() if line.startswith("## ")]
    assert headings == [
        "## Extraction, including eGeMAPS",
        "## Extraction against bare passes",
        "## Extraction with `--precision bfloat16`",
        "## Features in 8 bits (`--store int8`)",
        "## Prediction of new files",
        "## Memory",
        "## Training",
        "## Options of training",
        "## Fine-tuning from a stored layer",
        "## Memory of fine-tuning",
    ]
    for part in page.split("## ")[1:]:
        cells = {line.count("|") for line in part.splitlines() if line.startswith("|")}
        assert len(cells) == 1  # every line has the same number of cells


def test_a_table_in_markdown():
    table = Table(title="T", text="What.", columns=("a", "b"), rows=[["1", "2"]])
    assert table.to_markdown() == "## T\n\nWhat.\n\n| a | b |\n| --- | --- |\n| 1 | 2 |"
    assert Table(title="T", text="Why not.", columns=(), rows=()).to_markdown() == "## T\n\nWhy not."


def test_a_promise_is_kept_up_to_its_bound():
    assert promised(1.05, 1.05) == "at most 1.05: met"
    assert promised(1.06, 1.05) == "at most 1.05: missed"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("processor\t: 0\nmodel name\t: A: B\nflags\t\t: fpu avx512_bf16 sse\n\nprocessor\t: 1\n", True),
        ("processor\t: 0\nflags\t\t: fpu amx_bf16\n", True),
        ("processor\t: 0\nflags\t\t: fpu avx512f amx_tile\n", False),
        ("processor\t: 0\nFeatures\t: fp asimd bf16\n", None),
        (None, None),
    ],
)
def test_processors_that_compute_bfloat16(tmp_path, text, expected):
    path = tmp_path / "cpuinfo"
    if text is not None:
        path.write_text(text)
    assert precision.computes_bfloat16(cpu_info(path)) is expected


def test_bfloat16_is_skipped_with_a_note_where_it_would_be_emulated(monkeypatch, results, tmp_path):
    monkeypatch.setattr(precision, "cpu_info", lambda: {"flags": "fpu"})
    skipped = precision.compare("unused", tmp_path, tmp_path, results.extraction)
    assert "neither AVX-512 BF16 nor AMX" in skipped.table().to_markdown()


def test_a_process_of_its_own_tells_its_own_peak():
    size = 200_000_000
    ballast = b"x" * size  # the new process must not report the peak of this process
    length, large = alone(eval, f"len(b'x' * {size})")
    assert length == len(ballast)
    _, small = alone(eval, "0")
    # An empty interpreter takes about 10 MB; the rest is the same in both processes.
    assert small < size
    assert size < large < small + 1.1 * size


def test_distances_between_stores_by_layer(write_store, tmp_path, rng):
    exact = {name: rng.normal(size=(2, 50, 4)).astype(np.float32) for name in "ab"}
    off = {name: values.copy() for name, values in exact.items()}
    off["b"][1] += np.float32(0.1)
    write_store(tmp_path / "exact", {name: values + np.float32(100) for name, values in exact.items()})
    write_store(tmp_path / "off", {name: values + np.float32(100) for name, values in off.items()})
    stores = FeatureStore(tmp_path / "exact"), FeatureStore(tmp_path / "off")
    largest = max(np.abs(values[1] + 100).max() for values in exact.values())
    np.testing.assert_allclose(deviations(*stores), [0, 0.1 / largest], rtol=1e-3)
    with np.errstate(divide="ignore"):
        first, second = signal_to_noise(*stores)
    assert first == np.inf
    # Variance 1 in both utterances against 0.01 in one: 10 log10(2 / 0.01), up to the random error of 400 values.
    assert second == pytest.approx(10 * np.log10(2 / 0.01), abs=0.5)
