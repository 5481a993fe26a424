"""Extractions in children, most of them killed; used by test_killed in a process that never extracts itself.

Threads do not survive a fork, and what they held may crash a child. Therefore only children extract. They are forked,
so that imports happen only once. Each child is a real extraction with a real model.
"""

import gc
import importlib
import os
import random
import shutil
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np

from featcache import extraction
from featcache.cache.reader import FeatureStore
from featcache.cache.shards import shard_numbers
from featcache.extraction.verify import damaged_files
from featcache.extractors import create_extractor
from featcache.extractors.opensmile_sets import OpensmileExtractor

MODULES = "modules"


def extract(model, data, folder):
    extraction.extract(model=model, data=data, home=folder, workers=2)


def stores(folder):
    found = (path for path in folder.glob("cache/*/*") if path.is_dir() and shard_numbers(path))
    return {path.name: FeatureStore(path) for path in found}


def check(found, whole):
    """Check that everything in the stores is what an uninterrupted extraction wrote."""
    for name, store in found.items():
        for utterance_id in store:
            assert np.array_equal(store.view(utterance_id), whole[name].view(utterance_id)), utterance_id


def start_child(model, data, folder):
    pid = os.fork()
    if pid == 0:
        extract(model, data, folder)
        (folder / MODULES).write_text(" ".join(sys.modules))
        os._exit(0)
    return pid


def duration_of_child(model, data, folder):
    started = time.perf_counter()
    assert os.waitpid(start_child(model, data, folder), 0)[1] == 0
    return time.perf_counter() - started


def prepare(model):
    """Do once what every child would do: settings of this test, and the measurement of eGeMAPS frames."""
    import torch

    extraction.plan.SHARD_UTTERANCES = 2
    torch.set_num_threads(1)
    create_extractor(model)
    grids = create_extractor("egemaps")._grids
    OpensmileExtractor._measured = lambda _, rate: grids[rate]


def kill_and_continue(data, model, home, kills):
    """Kill extractions at random moments, continue them, and print the number of kills that were in time."""
    data, home = Path(data), Path(home)
    prepare(model)
    assert threading.active_count() == 1
    duration_of_child(model, data, home / "whole")
    for name in (home / "whole" / MODULES).read_text().split():
        importlib.import_module(name)
    gc.freeze()
    assert threading.active_count() == 1
    duration = min(duration_of_child(model, data, home / name) for name in ("timed", "once more"))
    whole = stores(home / "whole")
    assert all(store.complete for store in whole.values())
    assert len(whole) == 2
    chance, interrupted = random.Random(0), 0
    for _ in range(4 * kills):
        if interrupted == kills:
            break
        folder = home / "killed"
        shutil.rmtree(folder, ignore_errors=True)
        pid = start_child(model, data, folder)
        time.sleep(chance.uniform(0, duration))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        if finished(folder, whole):  # killed too late, because this child was quicker than the one that was timed
            duration *= 0.8
        else:
            interrupted += 1
        assert os.waitpid(start_child(model, data, folder), 0)[1] == 0
        check_continued(folder, whole)
    print(interrupted)


def finished(folder, whole):
    """Return whether a killed extraction had finished, after a check of what it left."""
    found = stores(folder)
    for store in found.values():
        # The request is known from before the first shard on.
        assert (store.num_requested, store.num_in_corpus) == (len(whole[store.name]),) * 2
        assert store.complete == (len(store) == len(whole[store.name]) and (store.path / "index.h5").exists())
    check(found, whole)
    return len(found) == 2 and all(store.complete for store in found.values())


def check_continued(folder, whole):
    final = stores(folder)
    assert {name: list(store) for name, store in final.items()} == {n: list(store) for n, store in whole.items()}
    assert all(store.complete for store in final.values())
    check(final, whole)
    assert not list(folder.rglob("*.tmp"))
    for store in final.values():
        assert not list(damaged_files(store.path))
        (store.path / "index.h5").unlink()
        assert FeatureStore(store.path).complete
