"""The benchmarks' cases as tests, with a tiny model and no assertion on time: both sides do the same work."""

import pytest

import featcache
from featcache.corpora.synthetic import make_corpus
from tests.benchmarks import extraction, training
from tests.benchmarks.table import to_markdown

# Both sides round to float16: at worst they fall to neighbouring values, 2^-10 apart.
TOLERANCE = 2.0**-10


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    make_corpus(folder / "synthetic", num_speakers=3, repetitions=1)
    return folder


def test_both_loops_do_the_same_work(corpus, tiny_model):
    model = tiny_model("wav2vec2")
    row = extraction.compare(model, corpus / "synthetic", corpus)
    assert row.deviation <= TOLERANCE
    cache = next((corpus / "home" / "cache").iterdir())
    name = next(name for name in featcache.open(cache) if name != "egemaps")
    training_row = training.compare(cache, name, corpus, seeds=(1, 2), epochs=1)
    table = to_markdown([row, training_row])
    assert table.count("\n") == 3
    assert training_row.ours > 0
