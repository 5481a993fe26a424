"""Tasks in threads: each result is kept exactly once, however the work ends."""

import threading
import time

import pytest

from featcache.terminal.interrupts import Pool, Work

WORKERS = 3
FAILURE = "failure"


class Kept:
    """Results that were kept, by call."""

    def __init__(self, interrupt_at=None):
        self.calls = []
        self.endings = []
        self.interrupt_at = interrupt_at

    def __call__(self, results, ending):
        self.calls.append([(task, result) for task, result in results])
        self.endings.append(ending)
        if len(self.calls) == self.interrupt_at:
            raise KeyboardInterrupt

    @property
    def tasks(self):
        return [task for call in self.calls for task, _ in call]


def carry_out(compute, kept, *, tasks=range(20), in_order=True, stopping=None):
    work = Work(
        tasks,
        compute,
        kept,
        fails=lambda result: result == FAILURE,
        ahead=2 * WORKERS,
        in_order=in_order,
        stopping=stopping or threading.Event(),
        kept="results are written first",
    )
    with Pool(WORKERS, "test") as pool:
        return work.to_the_end(pool, "tasks")


@pytest.mark.parametrize("in_order", [True, False])
def test_every_result_is_kept_once(in_order):
    kept = Kept()
    assert not carry_out(lambda task: task**2, kept, in_order=in_order)
    assert sorted(kept.tasks) == list(range(20))
    assert all(result == task**2 for call in kept.calls for task, result in call)
    assert not any(kept.endings)


def test_results_are_kept_in_the_order_of_tasks_or_as_they_come():
    others = threading.Event()

    def compute(task):
        if task == 0:
            others.wait(60)
        return task

    class Releasing(Kept):
        def __call__(self, results, ending):
            super().__call__(results, ending)
            others.set()

    kept = Releasing()
    carry_out(compute, kept, in_order=False)
    assert kept.tasks[0] != 0
    others.clear()
    threading.Timer(0.1, others.set).start()
    kept = Kept()
    carry_out(compute, kept)
    assert kept.tasks == list(range(20))


@pytest.mark.parametrize("in_order", [True, False])
def test_a_failure_ends_the_work_and_what_has_begun_is_kept(in_order):
    kept, begun = Kept(), []

    def compute(task):
        begun.append(task)
        time.sleep(0.01)
        return FAILURE if task == 4 else task

    assert not carry_out(compute, kept, in_order=in_order)
    assert sorted(kept.tasks) == sorted(begun)
    assert len(begun) < 20
    assert kept.endings == [False] * (len(kept.endings) - 1) + [True]


@pytest.mark.parametrize("in_order", [True, False])
def test_ctrl_c_ends_the_work_and_what_has_begun_is_kept_once(in_order, caplog):
    kept, begun, stopping = Kept(interrupt_at=2), [], threading.Event()

    def compute(task):
        begun.append(task)
        time.sleep(0.01)
        return task

    assert carry_out(compute, kept, in_order=in_order, stopping=stopping)
    assert stopping.is_set()
    assert sorted(kept.tasks) == sorted(begun)
    assert len(begun) < 20
    assert kept.endings[-1]
    assert "stopping: running tasks are finished first" in caplog.text


@pytest.mark.parametrize("in_order", [True, False])
def test_a_bug_is_raised_after_what_was_finished_is_kept(in_order):
    kept, stopping = Kept(), threading.Event()

    def compute(task):
        return 1 // (3 - task)

    with pytest.raises(ZeroDivisionError):
        carry_out(compute, kept, in_order=in_order, stopping=stopping)
    assert stopping.is_set()
    assert 3 not in kept.tasks
    assert len(kept.tasks) == len(set(kept.tasks))
    if in_order:
        assert kept.tasks == [0, 1, 2]
