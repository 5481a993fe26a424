"""torch and BLAS use one thread in each worker, and the previous number of threads afterwards."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from featcache.threads import available_cores, one_thread_each


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def compute_and_count(_):
    values = torch.ones(300, 300)
    assert float((values @ values).sum()) == 300**3
    return torch.get_num_threads()


def test_workers_started_inside_compute_with_one_thread(three_threads):
    with one_thread_each(), ThreadPoolExecutor(2) as pool:
        assert set(pool.map(compute_and_count, range(4))) == {1}
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 3


def test_the_number_of_threads_comes_back_after_an_error(three_threads):
    with pytest.raises(KeyError), one_thread_each():
        raise KeyError
    assert torch.get_num_threads() == 3


def blas_threads(_=None):
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


def test_blas_computes_with_one_thread_and_has_as_many_as_before_afterwards():
    with threadpool_limits(2, user_api="blas"):
        with one_thread_each(), ThreadPoolExecutor(2) as pool:
            assert list(pool.map(blas_threads, range(2))) == [{1}, {1}]
        assert blas_threads() == {2}


@pytest.mark.parametrize("kind", ["svm", "logistic"])
def test_solvers_load_their_blas_before_the_threads_are_limited(kind):
    code = f"""
from featcache.protocols import Fold
from featcache.threads import one_thread_each
from featcache.training.solvers import LogisticTraining, SVCTraining
from threadpoolctl import threadpool_info, threadpool_limits
kind = dict(svm=SVCTraining, logistic=LogisticTraining)[{kind!r}]
training = kind(1, Fold(name="1", train=(), validation=(), test=()), {{}}, 2, [slice(0, 1)], speakers={{}})
with one_thread_each():
    import sklearn.linear_model, sklearn.svm
    print([one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"])
"""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "2"}
    told = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True, timeout=60)
    assert set(json.loads(told.stdout)) == {1}


def test_torch_is_not_loaded_for_it():
    code = """
import sys
from featcache.threads import one_thread_each
with one_thread_each():
    assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_cores_are_those_that_the_process_may_use():
    assert 1 <= available_cores() <= os.cpu_count()
    alone = "from featcache.threads import available_cores; print(available_cores())"
    environment = {**os.environ, "LOKY_MAX_CPU_COUNT": "1"}
    told = subprocess.run([sys.executable, "-c", alone], env=environment, capture_output=True, check=True, timeout=60)
    assert told.stdout.strip() == b"1"
