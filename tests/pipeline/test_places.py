"""Plans without audio or without the right corpus: messages name what is missing, and unknown sizes are no numbers."""

import json
import re

import pytest

from featcache.cli.pipelines import run_and_print
from featcache.corpora import read_corpus
from featcache.errors import PipelineError, StoreError
from featcache.pipeline import read_pipeline, shipped_pipelines


@pytest.fixture
def cache_alone(tmp_path, corpora):
    """Write a cache with a manifest, but without audio and features: ``cache_alone("ravdess", name)``."""

    def leave(corpus, name=None):
        folder = tmp_path / "data" / "cache" / (name or corpus)
        folder.mkdir(parents=True)
        read_corpus(corpora / corpus).manifest.write(folder / "manifest.csv")
        (folder / "corpus.json").write_text(json.dumps({"corpus": corpus}))
        return tmp_path / "data"

    return leave


@pytest.mark.parametrize("name", [None, "another-name"])
def test_sizes_are_unknown_without_audio(cache_alone, write_pipeline, capsys, name):
    home = cache_alone("ravdess", name)
    (home / "corpora").mkdir()  # an empty folder beside the cache
    run_and_print(pipeline=write_pipeline(), home=home, dry_run=True)
    out = capsys.readouterr().out
    assert "bytes" not in out
    assert "97 utterances to extract, size unknown without the audio" in re.sub(r"\s+", " ", out)
    assert (
        f"no audio under {home / 'corpora' / (name or 'ravdess')}: to extract, add --data PATH with its folder"
        in " ".join(out.split())
    )
    assert "in total 1 store of unknown size and 4 trainings" in out
    assert max(len(line) for line in out.splitlines() if str(home) not in line) <= 80


def test_audio_that_cannot_be_read_has_no_size(tmp_path, corpora, write_pipeline, capsys):
    home = tmp_path / "data"
    for path in (corpora / "ravdess").rglob("*.wav"):
        copy = home / "corpora" / path.relative_to(corpora)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(b"RIFF")
    run_and_print(pipeline=write_pipeline(), home=home, dry_run=True)
    out = re.sub(r"\s+", " ", capsys.readouterr().out)
    assert "0 bytes" not in out
    assert "size unknown: no audio file under" in out


@pytest.mark.parametrize("others", [[], ["ravdess"], ["ravdess", "again"]])
def test_a_pipeline_names_the_corpus_that_it_needs(tmp_path, cache_alone, others):
    home = tmp_path / "data"
    for name in others:
        cache_alone("ravdess", name)
    (home / "corpora" / "mine").mkdir(parents=True)
    (home / "corpora" / "yours").mkdir()
    for name, path in shipped_pipelines().items():
        needed = read_pipeline(path).corpus
        if needed and "ravdess" not in needed:
            with pytest.raises(PipelineError) as told:
                run_and_print(pipeline=name, home=home, dry_run=True)
            assert str(told.value) == (
                f"the pipeline needs the corpus {needed[0]}, which was not found "
                f"(available: {', '.join(sorted([*others, 'mine', 'yours']))}); put its audio at "
                f"{home / 'corpora' / needed[0]}, or give its folder with --data PATH"
            )


def test_several_caches_of_the_right_corpus_are_not_guessed(cache_alone, write_pipeline):
    cache_alone("ravdess", "one")
    home = cache_alone("ravdess", "two")
    told = r"several caches contain the corpus ravdess; which one\? --corpus one or --corpus two$"
    with pytest.raises(PipelineError, match=told):
        run_and_print(pipeline=write_pipeline(), home=home, dry_run=True)


def test_a_pipeline_for_any_corpus_asks_which(cache_alone, write_pipeline):
    cache_alone("ravdess")
    home = cache_alone("iemocap")
    published = "published: {source: pepino2021, corpus: ravdess}\n", "published: {features: egemaps}, "
    anything = write_pipeline(("corpus: ravdess\n", ""), *((text, "") for text in published))
    with pytest.raises(
        (StoreError, PipelineError),
        match=r"several caches under .*; which corpus\? --corpus iemocap or --corpus ravdess",
    ):
        run_and_print(pipeline=anything, home=home, dry_run=True)
