"""The table of published results is read unchanged, and a row is found by the columns that identify it."""

import pytest

from featcache.errors import PipelineError
from featcache.published import find_published, published_results

PEPINO = {"source": "pepino2021", "corpus": "iemocap", "features": "wav2vec2-base", "layers": "all", "head": "dense"}


def test_numbers_are_those_of_the_papers_tables():
    found = find_published({**PEPINO, "norm": "speaker"})  # Table 1
    assert (found.metric, found.mean, found.std) == ("uar", 67.2, 0.7)
    found = find_published({"source": "superb", "features": "wavlm-large"})
    assert (found.metric, found.mean, found.std) == ("wa", 70.62, None)
    found = find_published({"source": "gavali-ensemble", "features": "five models"})
    assert (found.metric, found.mean) == ("wa", 96.88)


def test_no_row_stands_twice():
    rows = [
        (r.source, r.corpus, r.protocol, r.features, r.layers, r.head, r.norm, r.metric) for r in published_results()
    ]
    assert len(set(rows)) == len(rows)


def test_rows_that_are_not_told_apart_or_not_there():
    with pytest.raises(PipelineError, match=r"2 published results match .*norm global; also give protocol$"):
        find_published({**PEPINO, "norm": "global"})
    with pytest.raises(
        PipelineError, match=r"no published result has norm 'none' and the values given .*; available: global, speaker$"
    ):
        find_published({**PEPINO, "norm": "none"})
    with pytest.raises(PipelineError, match="no column of published results 'model'; available: corpus, features, "):
        find_published({"model": "wav2vec2-base"})
