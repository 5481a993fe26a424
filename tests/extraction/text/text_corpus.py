"""Corpus with transcripts, and its extraction."""

import numpy as np

from featcache.cache.reader import FeatureStore
from featcache.cli.app import main
from featcache.extractors import create_extractor
from featcache.manifest import Manifest, Utterance

TEXTS = ["hello", "I am happy", "", "unhappy, really unhappy!", "no", "hello hello hello", "a" * 60]


def manifest_of(texts):
    return Manifest(
        [
            Utterance(utterance_id=f"u{n}", path=f"u{n}.wav", start=0.5, speaker_id="s", transcript=text)
            for n, text in enumerate(texts)
        ]
    )


def cache_of(corpus):
    return corpus.parents[1] / "cache" / corpus.name


def store_of(corpus, name="words"):
    return FeatureStore(cache_of(corpus) / name)


def check(store, model, texts):
    """Check that each utterance has the float16 features that the extractor computes from its text alone."""
    extractor = create_extractor(model, text=True)
    assert list(store) == [f"u{n}" for n in range(len(texts))]
    for utterance_id, text in zip(store, texts, strict=True):
        [expected] = extractor.extract([extractor.tokenise(text)])
        # In a batch with others, a value may be rounded in the other direction.
        np.testing.assert_allclose(store[utterance_id], expected, rtol=2**-10, atol=1e-4)


def call(monkeypatch, capsys, *arguments):
    monkeypatch.setattr("sys.argv", ["featcache", *map(str, arguments)])
    try:
        main()
        code = 0
    except SystemExit as stop:
        code = stop.code or 0
    captured = capsys.readouterr()
    return code, captured.out, captured.err
