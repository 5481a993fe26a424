"""Values of --memory, and the features that are then kept in memory."""

import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from featcache import machine as machine_memory
from featcache.errors import ModelError
from featcache.machine import available_memory
from featcache.training import memory
from featcache.training.memory import DTYPES, Memory, WorkingCopy, plan_working_copy

UNITS = {
    "B": 1,
    "kB": 10**3,
    "KiB": 2**10,
    "M": 10**6,
    "MB": 10**6,
    "Mi": 2**20,
    "mib": 2**20,
    "GB": 10**9,
    "GiB": 2**30,
    "g": 10**9,
    "TB": 10**12,
    "TiB": 2**40,
}
sizes = st.one_of(st.integers(1, 10**6).map(str), st.floats(0.01, 999).map("{:.2f}".format))


@given(number=sizes, unit=st.sampled_from(sorted(UNITS)), space=st.sampled_from(["", " "]))
def test_sizes_are_read_with_their_units(number, unit, space):
    found = Memory.parse(f"{number}{space}{unit}")
    assert found.bytes == pytest.approx(float(number) * UNITS[unit])
    assert found.dtype is None


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("text", ["{}", "{},2GiB", "2 GiB, {}"])
def test_dtypes_stand_alone_or_beside_a_size(dtype, text):
    expected = 2 * 2**30 if "2" in text.replace("{}", "") else None
    assert Memory.parse(text.format(dtype)) == Memory(bytes=expected, dtype=dtype)


@pytest.mark.parametrize("text", [None, ""])
def test_nothing_said_is_nothing_fixed(text):
    assert Memory.parse(text) == Memory()


@pytest.mark.parametrize(
    "text", ["rubbish", "4 gallons", "-4GiB", "0", "0GiB", "GiB", "1e9", "4,5GiB,", "float64", "int8;2GiB", "nan", "∞"]
)
def test_rubbish_is_told_in_one_line(text):
    message = f"--memory {text}: expected a size such as 4GiB, one of float32, float16, bfloat16, int8, or both"
    with pytest.raises(ModelError, match=re.escape(message)):
        Memory.parse(text)


@pytest.mark.parametrize("text", ["4", "16", "0.5", "4000000000", "float32, 4", "4,int8"])
def test_a_size_without_a_unit_is_refused_with_one_that_has_it(text):
    told = rf"^--memory {re.escape(text)}: expected a size such as 4GiB, one of .*, or both; [\d.]+ has no unit$"
    with pytest.raises(ModelError, match=told):
        Memory.parse(text)


def result_or_refusal(function):
    """Return the result of a function and None, or None and its error message."""
    try:
        return function(), None
    except ModelError as error:
        return None, str(error)


@given(st.text(max_size=12))
def test_any_text_is_read_or_refused(text):
    found, refusal = result_or_refusal(lambda: Memory.parse(text))
    if refusal is not None:
        assert refusal.startswith("--memory ")
    else:
        assert found.bytes is None or found.bytes > 0


@pytest.fixture
def machine(monkeypatch):
    """Return a function that simulates a machine with 8 GB of free memory, with or without fast bfloat16."""

    def make(fast, taken=0.0):
        monkeypatch.setattr(memory, "_resident", lambda: taken)
        monkeypatch.setattr(memory, "available_memory", lambda: 8e9)
        monkeypatch.setattr(memory, "has_fast_bfloat16", lambda device="cpu": fast)

    return make


SMALL_NUMBER = int(memory.SMALL / 4)


@pytest.mark.parametrize(
    ("fast", "said", "values", "expected"),
    [
        # Expected: dtype in memory, dtype of products, and whether everything fits; half of 8 GB is allowed.
        (True, None, SMALL_NUMBER, ("float32", "float32", True)),
        (True, None, SMALL_NUMBER + 1, ("bfloat16", "bfloat16", True)),
        (True, None, 1.9e9, ("bfloat16", "bfloat16", True)),
        (True, None, 3.9e9, ("int8", "bfloat16", True)),
        (True, None, 4.1e9, ("bfloat16", "bfloat16", False)),
        (False, None, SMALL_NUMBER, ("float32", "float32", True)),
        (False, None, 0.9e9, ("float32", "float32", True)),
        (False, None, 1.9e9, ("float16", "float32", True)),
        (False, None, 3.9e9, ("int8", "float32", True)),
        (False, None, 4.1e9, ("float16", "float32", False)),
        (False, "float32", 4.1e9, ("float32", "float32", False)),
        (True, "float32", 0.9e9, ("float32", "float32", True)),
        (False, "bfloat16", 0.9e9, ("bfloat16", "float32", True)),
        (True, "int8", 5e9, ("int8", "bfloat16", False)),
        (True, "8GB", 5e9, ("int8", "bfloat16", True)),
        (True, "8GB,float32", 1.9e9, ("float32", "float32", True)),
        (True, "100MB", SMALL_NUMBER, ("int8", "bfloat16", True)),
    ],
)
def test_the_most_exact_that_fits_and_does_not_slow_is_chosen(machine, fast, said, values, expected):
    machine(fast)
    plan = plan_working_copy(Memory.parse(said), int(values), num_steps=0, overhead=0)
    dtype, compute, whole = expected
    assert (plan.dtype, plan.compute) == (DTYPES[dtype], DTYPES[compute])
    assert (plan.room is None) == whole
    assert str(plan).startswith("features fit in memory as " if whole else "features are read in windows of ")
    assert plan.settings().items() >= {"working_copy": dtype, "compute": compute}.items()


@given(
    limit=st.floats(1e6, 1e12),
    taken=st.floats(0, 1e9),
    overhead=st.floats(1, 1e9),
    processes=st.integers(1, 8),
    values=st.integers(1, 10**12),
    steps=st.integers(0, 10**11),
    dtype=st.sampled_from([None, *DTYPES]),
)
def test_what_is_held_stays_within_what_may_be_taken(limit, taken, overhead, processes, values, steps, dtype):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "_resident", lambda: taken)
        said = Memory(bytes=limit, dtype=dtype)
        plan, refusal = result_or_refusal(
            lambda: plan_working_copy(said, values, num_steps=steps, overhead=overhead, processes=processes)
        )
    if refusal is not None:
        assert re.fullmatch(r".* of memory is not enough, expected .* or more; allow more with --memory, .*", refusal)
        assert limit / processes < 2 * overhead + taken
        return
    held = values * plan.dtype.itemsize + (4 * steps if plan.dtype == torch.int8 else 0)
    held = held if plan.room is None else plan.room
    assert processes * (held + overhead + taken) <= limit * (1 + 1e-9)
    assert dtype is None or plan.dtype == DTYPES[dtype]


@pytest.mark.parametrize("more", [0, 1e6, 5e6, -5e6])
def test_the_room_does_not_follow_every_byte_that_is_free(machine, more):
    machine(fast=False, taken=300e6 + more)
    plan = plan_working_copy(Memory.parse("2GB"), 10**10, num_steps=0, overhead=50e6)
    assert plan == WorkingCopy(dtype=torch.float16, compute=torch.float32, room=2.0**30)


def test_memory_is_that_of_a_machine():
    assert 2**27 < available_memory() < 2**50
    assert 2**23 < memory._resident() - memory.LIBRARIES < 2**40


def test_memory_that_was_freed_does_not_count_any_more():
    taken = [torch.ones(2**18) for _ in range(256)]  # 256 MiB in blocks that the allocator keeps after they are freed
    full = memory._resident()
    del taken
    machine_memory.give_back()
    assert full - memory._resident() > 200 * 2**20


def test_a_container_that_allows_less_is_heeded(monkeypatch):
    whole = available_memory()
    monkeypatch.setattr(machine_memory.Path, "read_text", lambda _path, **_: "1000000\n")
    assert available_memory() == 1_000_000
    monkeypatch.setattr(machine_memory.Path, "read_text", lambda _path, **_: "max\n")
    assert available_memory() >= whole


def test_where_linux_does_not_tell_the_peak_counts(monkeypatch):
    def no_such_file(path):
        raise FileNotFoundError

    told = memory._resident()
    monkeypatch.setattr(machine_memory.Path, "read_text", no_such_file)
    assert memory._resident() >= told * 0.9
