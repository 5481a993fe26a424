"""Pipelines with external corpora and protocols: used if installed or named by the user, otherwise never imported."""

import pytest

import featcache
from featcache.errors import PipelineError
from featcache.pipeline.read import read_pipeline
from featcache.registry import name_plugins
from tests.corpora.test_outside import CODE, NAMES
from tests.installed import install, installed_in
from tests.protocols.test_outside import CODE as PROTOCOLS_CODE

TEXT = """
title: Mine
corpus: mine_corpora:MINE
stores:
  spectrogram: {model: spectrogram, n_fft: 512}
runs:
  linear:
    {title: Linear, features: [spectrogram], head: linear, protocol: "mine_protocols:LAST", max_epochs: 1}
"""


@pytest.fixture
def site(tmp_path):
    with installed_in(tmp_path / "site") as folder:
        folder.mkdir()
        yield folder


def test_a_pipeline_never_decides_what_is_imported(site, tmp_path):
    alarm = f"import pathlib\npathlib.Path({str(tmp_path)!r}, 'alarm').touch()\n"
    install(site, "mine", {"mine_corpora": alarm + CODE, "mine_protocols": alarm + PROTOCOLS_CODE})
    (tmp_path / "mine.yaml").write_text(TEXT)
    with pytest.raises(PipelineError, match=r"code from outside of featcache.*--plugin mine_"):
        read_pipeline(tmp_path / "mine.yaml")
    with pytest.raises(PipelineError, match="--plugin mine_"):
        featcache.run_pipeline(pipeline=tmp_path / "mine.yaml", data=tmp_path)
    assert not (tmp_path / "alarm").exists()


def test_a_pipeline_runs_with_what_the_user_named(site, tmp_path, rng):
    import soundfile

    install(site, "mine", {"mine_corpora": CODE, "mine_protocols": PROTOCOLS_CODE})
    (tmp_path / "mine.yaml").write_text(TEXT)
    folder = tmp_path / "data" / "corpora" / "emodb"  # the name of the corpus in its code
    folder.mkdir(parents=True)
    for name in NAMES:
        soundfile.write(folder / name, rng.uniform(-0.1, 0.1, 4000), 16000)
    name_plugins(["mine_protocols"])
    outcome = featcache.run_pipeline(pipeline=tmp_path / "mine.yaml", layout="mine_corpora:MINE")
    assert outcome.num_failures == 0
    [run] = (tmp_path / "data" / "runs" / "emodb").glob("*linear*")
    config = featcache.load_run(run).config
    assert (config["protocol"], config["target"]) == ("mine_protocols:LAST", "feeling")
