"""An extraction that is killed at any time leaves a readable store, and continues to the same features."""

import pytest

from featcache.corpora.synthetic import make_corpus
from tests.extraction.killing import kill_and_continue
from tests.forked import POSSIBLE, Forked

KILLS = 20


@pytest.mark.skipif(not POSSIBLE, reason="needs fork")
def test_kill_9_at_random_moments(tmp_path, tiny_model):
    make_corpus(tmp_path / "data", num_speakers=2, repetitions=1)
    (tmp_path / "home").mkdir()
    arguments = [str(tmp_path / "data"), tiny_model("wav2vec2"), str(tmp_path / "home"), KILLS]
    code, out, err = Forked(kill_and_continue, *arguments, out=tmp_path / "driver").wait()
    assert code == 0, err
    # A kill that came too late shows nothing.
    assert int(out.split()[-1]) == KILLS
