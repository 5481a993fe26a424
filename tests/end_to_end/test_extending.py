"""The documentation page on extensions works as written: its files are created, and its commands run in order."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

import featcache
from featcache import registry
from featcache.cli.app import main

PAGE = Path(__file__).parents[2] / "docs" / "extending.md"
# The page shows the head first, but a later command makes the features for it.
FIRST = ("extract", "import-features")


@pytest.fixture
def folder(tmp_path, monkeypatch, quick_reports):
    """Make a folder with the files of the page, a corpus of twelve utterances, and features to import."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "_named", {})
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
        name = re.match(r"# (\w+\.py)\n", block)[1]
        (tmp_path / name).write_text(block)
    audio = tmp_path / "data" / "corpora" / "lab"
    audio.mkdir(parents=True)
    (tmp_path / "features").mkdir()
    rng = np.random.default_rng(0)
    for speaker in (1, 2, 3):
        for emotion in "HS":
            for number in ("01", "02"):
                soundfile.write(audio / f"spk{speaker}_{emotion}_{number}.wav", rng.normal(0, 0.1, 8000), 16000)
                features = rng.normal(size=(3, 25, 4)).astype(np.float32)
                np.save(tmp_path / "features" / f"spk{speaker}-{emotion}-{number}.npy", features)
    return tmp_path


@pytest.fixture
def run_well(monkeypatch, capsys):
    """Run a command, which must succeed."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["featcache", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code, capsys.readouterr().err

    return run


def commands():
    text = PAGE.read_text(encoding="utf-8")
    blocks = re.findall(r"```\n(featcache .*?)```", text, re.DOTALL)
    found = [line.split()[1:] for block in blocks for line in block.splitlines()]
    return sorted(found, key=lambda words: words[0] not in FIRST)


def test_the_page_works(folder, run_well):
    found = commands()
    assert [words[0] for words in found] == ["extract", "import-features", "fit", "layers", "fit", "fit"]
    for words in found:
        short = ["--seeds", "1", "--max-epochs", "1"] if words[0] == "fit" else []
        if words == ["layers"]:  # needs a run on the imported features, because the energies have a single layer
            run_well(
                "fit", "--features", "mine", "--head", "./attentive.py:Attentive", "--seeds", "1", "--max-epochs", "1"
            )
        run_well(*words, *short)
    run = featcache.load_run("attentive")
    assert run.config["set"] == {"dropout": 0.3}
    assert set(run.config["parts"]) == {"head"}
    assert run.head(seed=123, fold=1).inputs[0].store == "energy"
