"""``featcache run`` on the command line: its lists, output and exit codes."""

import shutil

import pytest
from typer.testing import CliRunner

from featcache.cli.app import app
from featcache.pipeline import shipped_pipelines


@pytest.fixture
def invoke(home, monkeypatch):
    """Run ``featcache run`` with arguments, in a wide terminal."""
    monkeypatch.setenv("FEATCACHE_HOME", str(home))
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *arguments: CliRunner().invoke(app, ["run", *map(str, arguments)])


def test_without_a_name_ours_are_listed(invoke):
    result = invoke()
    assert result.exit_code == 0
    listed = [line.split()[0] for line in result.output.splitlines()]
    assert listed == ["Pipeline", *shipped_pipelines()]
    assert "egemaps-baselines         any " in result.output


def test_every_option_reaches_the_runs(invoke, home, write_pipeline):
    options = "--only global --limit 60 --protocol random-80-20 --seeds 1 --max-epochs 1 --device cpu --corpus ravdess"
    result = invoke(write_pipeline(), *options.split())
    assert result.exit_code == 0, result.output
    table = (home / "runs/ravdess/mine/results.md").read_text(encoding="utf-8")
    assert "By speaker" not in table
    told = "60 of 97 utterances (--limit); protocol random-80-20, not pepino2021; 1 seed, not 2; at most 1 epochs"
    assert told in table
    assert str(home / "runs/ravdess/mine") in result.output


def test_utterances_that_fail_end_it_with_3(invoke, corpora, tmp_path, write_pipeline):
    shutil.copytree(corpora / "ravdess", tmp_path / "copy")
    (tmp_path / "copy/Actor_01/03-01-01-01-01-01-01.wav").write_bytes(b"no sound")
    result = invoke(write_pipeline(), "--data", tmp_path / "copy", "--seeds", 1, "--max-epochs", 1)
    assert result.exit_code == 3
    assert "1 failed, listed in failures.csv" in result.output
    assert "1 utterance could not be extracted" in result.output


def test_ctrl_c_while_extracting_ends_it_with_130(invoke, home, write_pipeline, monkeypatch):
    from featcache.extraction.run import ExtractionRun

    monkeypatch.setattr(ExtractionRun, "to_the_end", lambda run: True)
    result = invoke(write_pipeline())
    assert result.exit_code == 130
    assert "run the same command again to continue" in result.output
    assert not (home / "runs").exists()


def test_random_weights_need_no_pretrained_ones(invoke, home, write_pipeline, tiny_models):
    path = write_pipeline(("{model: egemaps}", "{model: wav2vec2-base}"))
    result = invoke(path, "--weights", "random", "--seeds", 1, "--max-epochs", 1, "--only", "global")
    assert result.exit_code == 0, result.output
    assert "untrained weights" in result.output
