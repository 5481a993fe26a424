"""Many trainings → each one finished, together: they share one copy of the features in memory.

Each runs in one thread with its own random numbers, so that its result is bit for bit the same as if it ran alone.
A training is taken from the iterable when it begins, and released when it is finished: heads, optimisers and best
weights of trainings that do not run take no memory.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, MutableMapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from functools import partial
from itertools import count, islice
from threading import Event
from typing import Any

from featcache.terminal.interrupts import Pool
from featcache.threads import threads_each
from featcache.training.batches import FeatureWindows, LoadedUtterances
from featcache.training.trainable import Trainable


def train_together(
    trainings: Iterable[Trainable],
    source: FeatureWindows,
    *,
    workers: int,
    threads: int = 1,
    at_once: int | None = None,
    stop: Event | None = None,
) -> Generator[Trainable]:
    """Run trainings together; each gives the same result as if it ran alone.

    If all features are in memory, the trainings are independent, and one begins when another is finished. Otherwise all
    trainings use a window at the same time, while the next one is read; if not all of them fit in memory, one portion
    of them runs after the other.

    Args:
        trainings: Trainings to run.
        source: Windows of features, which all trainings read.
        workers: Number of workers; each runs one training at a time.
        threads: Number of threads of torch in each worker.
        at_once: Largest number of trainings that have begun and are not finished; by default no limit.
        stop: Event that ends all trainings before their next epoch.

    Yields:
        Each training when it is finished, with its predictions.
    """
    stop = stop or Event()
    waiting = iter(trainings)
    with threads_each(threads), Pool(workers, "fit") as pool:
        if not source.holds_all:
            run = partial(_in_pool, pool)
            while (yield from _portion(list(islice(waiting, at_once)), source, run, stop)):
                pass
            return
        most = 2 * workers + 1
        try:
            yield from _in_turns(waiting, source, pool, most if at_once is None else min(most, at_once), stop)
        finally:
            stop.set()


def _portion(
    trainings: Sequence[Trainable], source: FeatureWindows, run: Callable[..., Any], stop: Event
) -> Generator[Trainable, None, bool]:
    """Run some trainings in step; return whether there were any, and others may follow."""
    if trainings:
        for ended in _in_step(trainings, source, run, stop):
            yield from ended
    return bool(trainings) and not stop.is_set()


def _in_turns(
    trainings: Iterator[Trainable], source: FeatureWindows, pool: Pool, most: int, stop: Event
) -> Iterator[Trainable]:
    """Alternate between a few trainings, one epoch at a time, so that all threads are busy until the end."""
    active: dict[Future[list[Trainable] | None], Iterator[list[Trainable]]] = {}

    def begun(training: Trainable) -> Iterator[list[Trainable]]:
        return _in_step([training], source, _each, stop)

    # No variable here refers to a training, which would keep a finished one in memory.
    steps = map(begun, trainings)
    while True:
        active.update((pool.submit(next, one, None), one) for one in islice(steps, most - len(active)))
        if not active:
            return
        yield from _ended(active, pool)


def _ended(
    active: MutableMapping[Future[list[Trainable] | None], Iterator[list[Trainable]]], pool: Pool
) -> Iterator[Trainable]:
    """Wait for the end of an epoch; yield the trainings that are finished, and continue with the others."""
    for future in wait(active, return_when=FIRST_COMPLETED).done:
        epochs, ended = active.pop(future), future.result()
        if ended == []:
            active[pool.submit(next, epochs, None)] = epochs
        yield from ended or ()


def _in_pool(pool: Pool, function: Callable[[Any], Any], items: Iterable[Any]) -> None:
    for _ in pool.map(function, items):
        pass


def _each(function: Callable[[Any], Any], items: Iterable[Any]) -> None:
    for item in items:
        function(item)


def _in_step(
    trainings: Sequence[Trainable], source: FeatureWindows, run: Callable[..., Any], stop: Event
) -> Iterator[list[Trainable]]:
    """Run one epoch after another for all trainings; yield after each epoch the trainings that are finished.

    A training that continues from a checkpoint runs alone. It may lack its predictions only.
    """
    active = list(trainings)
    for epoch in count(active[0].next_epoch):
        if stop.is_set():
            return
        running = [training for training in active if not training.finished]
        if running:
            _pass(source.windows(_union(running, "train"), epoch=epoch), "learn", running, run)
            _pass(source.windows(_union(running, "validation")), "validate", running, run)
            run(lambda training: _timed(training, training.end_epoch), running)
        ended = [training for training in active if training.finished]
        if ended:
            _pass(source.windows(_union(ended, "validation", "test")), "predict", ended, run)
        yield ended
        active = [training for training in active if not training.finished]
        if not active:
            return


def _pass(
    windows: Iterable[LoadedUtterances],
    step: str,
    trainings: Sequence[Trainable],
    run: Callable[..., Any],
) -> None:
    """Call a step of all trainings with each window.

    It is a separate function so that the last window is released before the next ones are read.
    """
    for window in windows:
        run(lambda training, window=window: _timed(training, getattr(training, step), window), trainings)


def _timed(training: Trainable, step: Callable[..., None], *arguments: Any) -> None:
    with training.watch:
        step(*arguments)


def _union(trainings: Sequence[Trainable], *parts: str) -> list[str]:
    return list(dict.fromkeys(i for training in trainings for part in parts for i in getattr(training.fold, part)))
