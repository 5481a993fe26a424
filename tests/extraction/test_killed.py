"""An extraction that is killed at any time leaves a readable store, and continues to the same features."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from featcache.corpora.synthetic import make_corpus

KILLS = 20

# Children are forked, so that imports and opensmile's scan of all installed packages happen only once. Each child is a
# real extraction with a real model.
DRIVER = """
import gc, importlib, os, random, shutil, signal, sys, threading, time
from pathlib import Path

import numpy as np
import opensmile, scipy.linalg, torch, transformers.models.wav2vec2.modeling_wav2vec2

from featcache import extraction
from featcache.cache.reader import FeatureStore
from featcache.cache.shards import shard_numbers
from featcache.extraction.verify import damaged_files
from featcache.extractors import create_extractor

data, model, home, kills = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])
extraction.plan.SHARD_UTTERANCES = 2
torch.set_num_threads(1)


def extract(folder):
    return extraction.extract(model=model, data=data, home=folder, workers=2)


def stores(folder):
    found = (path for path in folder.glob("cache/*/*") if path.is_dir() and shard_numbers(path))
    return {path.name: FeatureStore(path) for path in found}


def check(folder, whole):
    # all that is there is what an uninterrupted run wrote
    for name, store in stores(folder).items():
        for utterance_id in store:
            assert np.array_equal(store.view(utterance_id), whole[name].view(utterance_id)), utterance_id


def run_child(folder):
    pid = os.fork()
    if pid == 0:
        extract(folder)
        (home / "modules").write_text(" ".join(sys.modules))
        os._exit(0)
    return pid


for name in (model, "egemaps"):
    create_extractor(name)
# only children extract: threads do not survive a fork, and what they held may crash a child
assert threading.active_count() == 1
def duration_of_child(folder):
    started = time.perf_counter()
    os.waitpid(run_child(folder), 0)
    return time.perf_counter() - started


duration_of_child(home / "whole")
for name in (home / "modules").read_text().split():
    importlib.import_module(name)
gc.freeze()
assert threading.active_count() == 1
duration = min(duration_of_child(home / name) for name in ("timed", "once more"))
whole = stores(home / "whole")
assert all(store.complete for store in whole.values()) and len(whole) == 2
chance = random.Random(0)
interrupted = 0
for number in range(4 * kills):
    if interrupted == kills:
        break
    folder = home / "killed"
    shutil.rmtree(folder, ignore_errors=True)
    pid = run_child(folder)
    time.sleep(chance.uniform(0, duration))
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    found = stores(folder)
    finished = len(found) == 2 and all(store.complete for store in found.values())
    interrupted += not finished
    if finished:  # killed too late, because this child was quicker than the one that was timed
        duration *= 0.8
    for store in found.values():
        # what was asked for is known from before the first shard on
        assert (store.num_requested, store.num_in_corpus) == (len(whole[store.name]),) * 2
        assert store.complete == (len(store) == len(whole[store.name]) and (store.path / "index.h5").exists())
    check(folder, whole)
    os.waitpid(run_child(folder), 0)
    final = stores(folder)
    assert {name: list(store) for name, store in final.items()} == {n: list(store) for n, store in whole.items()}
    assert all(store.complete for store in final.values())
    check(folder, whole)
    assert not list(folder.rglob("*.tmp"))
    for store in final.values():
        assert not list(damaged_files(store.path))
        (store.path / "index.h5").unlink()
        assert FeatureStore(store.path).complete
print(interrupted)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_kill_9_at_random_moments(tmp_path, tiny_model):
    make_corpus(tmp_path / "data", num_speakers=2, repetitions=1)
    arguments = [str(tmp_path / "data"), tiny_model("wav2vec2"), str(tmp_path / "home"), str(KILLS)]
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", DRIVER, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert result.returncode == 0, result.stderr
    # A kill that came too late shows nothing.
    assert int(result.stdout.split()[-1]) == KILLS
