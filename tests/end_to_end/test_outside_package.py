"""Extensions in an installed package work like built-in parts: on the command line, in YAML, in processes, on Dask."""

import hashlib
import itertools
import os
import re
import subprocess
import sys
import zipfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import yaml

import featcache
from tests.forked import POSSIBLE, Forked, command_beside

pytestmark = pytest.mark.skipif(not POSSIBLE, reason="forks processes that have imported torch")

PACKAGE = Path(__file__).parent / "mylab"
ENTRY_POINTS = """[featcache.heads]
attention = mylab.heads:Attentive
[featcache.extractors]
energy = mylab.features:Energy
[featcache.corpora]
lab = mylab.corpus:LAB
[featcache.protocols]
in-turn = mylab.corpus:IN_TURN
"""
METADATA = "Metadata-Version: 2.1\nName: mylab\nVersion: 0.7\n"
WHEEL = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
SHORT = ["--seeds", "2", "--max-epochs", "3", "--learning-rate", "0.01", "--batch-size", "4"]
NAMES = {"model": "energy", "head": "attention", "protocol": "in-turn"}
PLUGINS = ["--plugin", "mylab.heads", "--plugin", "mylab.corpus"]
REFERENCES = {"model": "mylab.features:Energy", "head": "mylab.heads:Attentive", "protocol": "mylab.corpus:IN_TURN"}


def build_wheel(folder, *, with_entry_points):
    """Write the wheel of the package, and return its path."""
    info = "mylab-0.7.dist-info"
    files = {f"mylab/{path.name}": path.read_text() for path in sorted(PACKAGE.glob("*.py"))}
    files |= {f"{info}/METADATA": METADATA, f"{info}/WHEEL": WHEEL}
    if with_entry_points:
        files[f"{info}/entry_points.txt"] = ENTRY_POINTS
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    path = folder / "mylab-0.7-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)
    return path


def install(tmp_path_factory, *, with_entry_points):
    folder = tmp_path_factory.mktemp("installed")
    wheel = build_wheel(tmp_path_factory.mktemp("wheel"), with_entry_points=with_entry_points)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-compile"]
    subprocess.run([*pip, "--target", folder, wheel], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def with_names(tmp_path_factory):
    """Install the package with entry points, which give its parts names, and return the folder."""
    return install(tmp_path_factory, with_entry_points=True)


@pytest.fixture(scope="module")
def without_names(tmp_path_factory):
    """Install the package without entry points, and return the folder."""
    return install(tmp_path_factory, with_entry_points=False)


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    """Make a corpus: three speakers, two emotions, two utterances each; the emotions differ in loudness."""
    folder = tmp_path_factory.mktemp("corpora") / "recordings"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for speaker in (1, 2, 3):
        for emotion, loudness in (("A", 0.5), ("J", 0.05)):
            for number in (1, 2):
                samples = rng.normal(0, loudness, 4000 + 400 * number).clip(-1, 1)
                soundfile.write(folder / f"spk{speaker}_{emotion}_0{number}.wav", samples, 16000)
    return folder


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Return a function that runs a command in a new process and returns exit code, standard output and error."""
    monkeypatch.setenv("FEATCACHE_HOME", str(tmp_path / "data"))
    numbers = itertools.count()

    def run(*words, installed):
        if "--jobs" in words:  # Processes that joblib starts from a forked process do not end.
            call = "import sys; from tests.forked import command_beside; command_beside(*sys.argv[1:])"
            command = [sys.executable, "-W", "ignore", "-c", call, str(installed), str(tmp_path), *map(str, words)]
            environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parents[2])}
            done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
            return done.returncode, done.stdout, done.stderr
        out = tmp_path / f"streams-{next(numbers)}"
        return Forked(command_beside, str(installed), str(tmp_path), *map(str, words), out=out).wait()

    return run


@pytest.fixture
def run_well(run):
    def run_well(*words, installed):
        code, out, err = run(*words, installed=installed)
        assert code == 0, err
        return out

    return run_well


@contextmanager
def cluster_of_one(installed):
    """Start a Dask scheduler and a worker that can import the installed package, and yield the address."""
    from tests.extraction.workers import cluster  # skips this test without Dask

    sys.path.insert(0, str(installed))  # the new processes inherit the path
    try:
        with cluster(n_workers=1) as address:
            yield address
    finally:
        sys.path.remove(str(installed))


def head_weights(run):
    """Return the checksums of all trained heads."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted((run / "heads").iterdir())}


@pytest.mark.parametrize("names", [NAMES, REFERENCES], ids=["names", "references"])
def test_extract_fit_and_layers(names, run_well, speech, with_names, without_names, tmp_path):
    installed = with_names if names is NAMES else without_names
    corpus = [] if names is NAMES else ["--plugin", "mylab.corpus:LAB"]
    extract = ["extract", "--model", names["model"], "--set", "floor=1e-3", "--data", speech, "--name", "energy"]
    run_well(*extract, "--no-egemaps", *corpus, installed=installed)
    store = featcache.open(tmp_path / "data" / "cache" / "recordings")["energy"]
    assert store.identity.settings["floor"] == 1e-3
    assert store.identity.settings["extractor"] == names["model"]
    assert store.identity.settings["origin"]["distribution"] == "mylab"
    assert store.identity.settings["origin"]["version"] == "0.7"
    fit = ["fit", "--head", names["head"], "--set", "width=6", "--protocol", names["protocol"], *SHORT]
    fit += ["--features", "energy"]
    alone = Path(run_well(*fit, "--name", "alone", installed=installed).splitlines()[-1])
    config = yaml.safe_load((tmp_path / alone / "config.yaml").read_text())
    assert config["set"] == {"width": 6}
    assert {part: origin["version"] for part, origin in config["parts"].items()} == {"head": "0.7", "protocol": "0.7"}
    assert [fold["name"] for fold in config["folds"]] == ["spk1", "spk2", "spk3"]
    if names is REFERENCES:
        again = run_well("fit", "--config", alone / "config.yaml", *PLUGINS, installed=installed)
        assert len(again.splitlines()) > 1
    else:
        shared = Path(run_well(*fit, "--name", "shared", "--jobs", "2", installed=installed).splitlines()[-1])
        assert head_weights(tmp_path / alone) == head_weights(tmp_path / shared)
        assert re.search(r"^0 +0\.\d{4}", run_well("layers", "alone", installed=installed), re.MULTILINE)
        assert "emotion" in run_well("corpora", "lab", installed=installed)


def test_on_a_dask_worker(run_well, speech, with_names, tmp_path):
    extract = ["extract", "--model", "mylab.features:Energy", "--set", "floor=1e-3", "--data", speech, "--no-egemaps"]
    fit = ["fit", "--head", "mylab.heads:Attentive", "--protocol", "in-turn", *SHORT]
    run_well(*extract, "--name", "here", installed=with_names)
    here = Path(run_well(*fit, "--features", "here", "--name", "here", installed=with_names).splitlines()[-1])
    with cluster_of_one(with_names) as address:
        run_well(*extract, "--name", "there", "--scheduler", address, installed=with_names)
        words = [*fit, "--features", "there", "--name", "there", "--scheduler", address]
        there = Path(run_well(*words, installed=with_names).splitlines()[-1])
    cache = featcache.open(tmp_path / "data" / "cache" / "recordings")
    assert cache["here"].identity == cache["there"].identity
    for utterance_id in cache.manifest.utterance_ids:
        np.testing.assert_array_equal(cache["here"][utterance_id], cache["there"][utterance_id])
    assert head_weights(tmp_path / here) == head_weights(tmp_path / there)


def test_a_pipeline_names_installed_parts_and_those_that_the_user_names(
    run, speech, with_names, without_names, tmp_path
):
    def pipeline(names, store):
        return {
            "title": "Parts of mylab",
            "stores": {store: {"model": names["model"], "set": {"floor": "0.01"}}},
            "runs": {
                "attention": {
                    "title": "attention",
                    "features": store,
                    "head": names["head"],
                    "set": {"width": 3},
                    "protocol": names["protocol"],
                    "seeds": 1,
                    "max_epochs": 2,
                }
            },
        }

    (tmp_path / "named.yaml").write_text(yaml.safe_dump(pipeline(NAMES, "named")))
    code, out, err = run("run", "named.yaml", "--data", speech, installed=with_names)
    assert code == 0, err
    assert "attention" in out
    (tmp_path / "references.yaml").write_text(yaml.safe_dump(pipeline(REFERENCES, "referenced")))
    words = ["run", "references.yaml", "--data", speech]
    code, out, err = run(*words, installed=without_names)
    assert code == 1
    assert re.search(r"error: .*--plugin mylab\.\w+:\w+", err)
    assert len(err.strip().splitlines()) == 1
    plugins = [word for reference in REFERENCES.values() for word in ("--plugin", reference)]
    code, out, err = run(*words, *plugins, "--plugin", "mylab.corpus:LAB", installed=without_names)
    assert code == 0, err
    [table] = (tmp_path / "data" / "runs").rglob("references/*.csv")
    assert len(pd.read_csv(table)) == 1
