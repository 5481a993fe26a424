"""The demo, on a smaller corpus and with shorter trainings."""

import logging
import re
from functools import partial
from pathlib import Path

import pytest

import featcache
from featcache.cli import demo
from featcache.runs.reader import RunFolder

CORPUS = {"num_speakers": 3, "emotions": ("anger", "sadness"), "repetitions": 1}
MODEL = {**demo.TINY_WAV2VEC2, "num_hidden_layers": 2, "hidden_size": 16, "intermediate_size": 16, "conv_dim": [8] * 7}
LAST_LINES = re.compile(
    r"^  (?:report of a run|layer weights of all|confusion matrix of|cached layers).*:\n    (\S+)$", re.MULTILINE
)


@pytest.fixture
def run_demo(monkeypatch, capsys, quick_reports):
    """Run the reduced demo, and return its output."""
    make_corpus = demo.make_corpus
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.setattr(demo, "make_corpus", lambda folder, **_: make_corpus(folder, **CORPUS))
    monkeypatch.setattr(demo, "TINY_WAV2VEC2", MODEL)
    monkeypatch.setattr(demo, "TRAINING", {"learning_rate": 3e-3, "max_epochs": 2})
    monkeypatch.setattr(demo, "fit", partial(demo.fit, seeds=(1, 2)))

    def run(folder):
        demo.run_demo(folder)
        return capsys.readouterr()

    yield run
    logging.getLogger("featcache").setLevel(logging.NOTSET)


def table_of(out):
    return out[out.index("3. fit:") : out.index("Done in")]


def test_the_demo_keeps_its_promises(run_demo, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    (second / "corpora" / "another").mkdir(parents=True)
    out, err = run_demo(first)
    assert err == ""
    assert out.startswith("Synthetic speech and an untrained model: ")
    assert "The scores say nothing about real emotions." in " ".join(out.split())
    assert "1. corpus: 6 utterances, 3 speakers" in out
    assert "2. extract: 6 of 6 utterances extracted" in out

    rows = [line for line in table_of(out).splitlines() if "±" in line]
    model, combinations = "wav2vec2-tiny (untrained)", [("egemaps", "dense", "speaker")]
    for norm in ("speaker", "global"):
        combinations += [(model, "dense", norm), (model, "lstm", norm), (f"{model} + egemaps", "fusion", norm)]
    assert len(rows) == len(combinations)
    for row, (features, head, norm) in zip(rows, combinations, strict=True):
        assert re.match(rf"\s*{re.escape(features)} +(-|all) +{head} +{norm} +\d", row), row

    assert re.search(r"^4\. predict: s01/s01-\w+-1\.wav sounds like (anger|sadness) \(probability 0\.\d\d, ", out, re.M)

    named = [Path(path) for path in LAST_LINES.findall(out)]
    assert len(named) == 4
    assert all(path.exists() for path in named)
    assert RunFolder(named[0].parent).config["untrained"] == ["wav2vec2-tiny"]
    assert {"wav2vec2-tiny", "egemaps"} == set(featcache.open(first / "cache" / "synthetic"))
    assert (first / "runs" / "synthetic" / "layer_weights_summary.csv").is_file()

    # in another folder, beside another corpus, everything is recomputed
    assert table_of(run_demo(second).out) == table_of(out)
    again = run_demo(first).out
    assert "2. extract: nothing to do: all 6 utterances are cached" in again
    assert table_of(again) == table_of(out)
