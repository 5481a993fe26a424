"""Resolved fits × memory → dtypes and size of the in-memory features, and the number of trainings that run at once."""

import math
import operator
from collections.abc import Callable, Sequence
from typing import TypeVar

from featcache.fitting.blocks_memory import advice_of, blocks_bytes, largest_batches
from featcache.fitting.groups import TrainingGroup, group
from featcache.fitting.resolve import ResolvedFit
from featcache.heads.packed import packed_bytes
from featcache.settings.finetunings import FinetuneSettings
from featcache.training.batches import READ_AT_ONCE, num_values
from featcache.training.memory import Memory, WorkingCopy, plan_working_copy, trainings_at_once
from featcache.training.store_features import frames_in_use, steps_of, values_in_use

T = TypeVar("T")

# Numbers that a network in training has for each weight: the weight, its gradient, its best value, and the copy that
# replaces the best value.
WEIGHTS = 4
# Further numbers per weight that an optimiser has.
OPTIMISERS = {"adam": 2, "adamw": 2, "sgd": 1}
# Copies in float64 of the pooled vectors of a head that a solver fits: as collected, as a matrix, and the part of a
# split for scikit-learn and for its solver.
SOLVER_COPIES = 4


def plan_copies(
    setups: Sequence[ResolvedFit],
    memory: Memory,
    processes: int,
    workers: int,
    device: str,
    recorded: Sequence[WorkingCopy | None] | None = None,
) -> list[WorkingCopy]:
    """Plan the dtypes and size of the in-memory features of each run, equal in all processes.

    Args:
        setups: One per run.
        memory: Memory of all processes, and dtype of the features.
        processes: Number of processes that share the memory.
        workers: Number of threads of each process.
        device: Device of heads and features.
        recorded: Plans of interrupted runs, which are kept; None for other runs.

    Returns:
        One plan per run; runs that share features have the same plan.

    Raises:
        ModelError: not even a small part of the features fits.
    """
    recorded = recorded or [None] * len(setups)

    def plan(item: TrainingGroup) -> WorkingCopy:
        lead = setups[item.lead]
        return recorded[item.lead] or plan_working_copy(
            memory,
            num_values(item.features, lead.loaded_ids),
            num_steps=_num_steps(item, lead),
            overhead=_overhead(lead, workers),
            training=_largest(setups, item, device),
            workers=_at_once(lead, workers),
            processes=processes,
            device=device,
            advice=advice_of(lead.request),
        )

    return _of_runs(setups, recorded, plan)


def plan_at_once(
    setups: Sequence[ResolvedFit],
    copies: Sequence[WorkingCopy],
    memory: Memory,
    processes: int,
    workers: int,
    device: str,
) -> list[int]:
    """Plan how many trainings of each process run at once, so that their heads fit beside the features.

    No result depends on this number.

    Args:
        setups: One per run.
        copies: Plan of the in-memory features of each run.
        memory: Memory of all processes.
        processes: Number of processes that share the memory.
        workers: Number of threads of each process.
        device: Device of heads and features.

    Returns:
        One number per run, at least 1; runs that share features have the same number.
    """

    def plan(item: TrainingGroup) -> int:
        lead, copy = setups[item.lead], copies[item.lead]
        values = num_values(item.features, lead.loaded_ids)
        return trainings_at_once(
            memory,
            copy.room or packed_bytes(copy.dtype, values, _num_steps(item, lead)),
            overhead=_overhead(lead, workers),
            training=_largest(setups, item, device, in_windows=copy.room is not None),
            processes=processes,
            device=device,
        )

    return _of_runs(setups, copies, plan)


def _of_runs(
    setups: Sequence[ResolvedFit], copies: Sequence[WorkingCopy | None], plan: Callable[[TrainingGroup], T]
) -> list[T]:
    """Return the plan of each run: that of its group."""
    found: dict[int, T] = {}
    for item in group(setups, [1], copies):
        found.update(dict.fromkeys((member.run for member in item.members), plan(item)))
    return [found[run] for run in range(len(setups))]


def _num_steps(item: TrainingGroup, lead: ResolvedFit) -> int:
    return len(lead.loaded_ids) * steps_of(item.features)


def _overhead(setup: ResolvedFit, workers: int) -> float:
    """Return the memory in bytes that training needs in addition to features and heads: for reading and for batches."""
    ids, sizes = setup.loaded_ids, [features.frame_size for features in setup.features]
    utterance = 4 * max(values_in_use(setup.features, i) for i in ids)
    of_one_layer = (map(operator.mul, frames_in_use(setup.features, i), sizes) for i in ids)
    in_batch = 4 * max(map(max, of_one_layer)) if setup.spec.learns_layers else utterance
    batch = (setup.training.batch_size or setup.spec.batch_size) * in_batch
    return float(workers * 4 * utterance + _at_once(setup, workers) * 4 * batch + 2 * READ_AT_ONCE)


def _at_once(setup: ResolvedFit, workers: int) -> int:
    """Return the number of trainings that threads run at a time: models are trained one after another."""
    return 1 if setup.tuned else workers


def _largest(setups: Sequence[ResolvedFit], item: TrainingGroup, device: str, *, in_windows: bool = False) -> float:
    return max(_training_bytes(setups[member.run], in_windows=in_windows, device=device) for member in item.members)


def _training_bytes(setup: ResolvedFit, *, in_windows: bool, device: str = "cpu") -> float:
    """Return the memory in bytes of one training: head, blocks, optimiser and best weights, or vectors of a solver.

    Args:
        setup: The resolved fit.
        in_windows: Whether features are read in windows. The weights of each step at which the head is evaluated are
            then kept until all of the validation part has been read.
        device: Device of the training.
    """
    if not setup.spec.is_network:
        return float(SOLVER_COPIES * 8 * num_values(setup.features, setup.loaded_ids))
    copies = WEIGHTS + OPTIMISERS[setup.request.optimizer]
    every = setup.request.evaluate_every
    if in_windows and every:
        most = max(len(setup.seen_fold(number).train) for number in range(1, len(setup.folds) + 1))
        copies += 1 + math.ceil(most / (setup.training.batch_size or setup.spec.batch_size) / every)
    of_head = float(copies) * sum(weight.numel() * weight.element_size() for weight in setup.weights().values())
    if not isinstance(setup.request, FinetuneSettings):
        return of_head
    batch_size = setup.training.batch_size or setup.spec.batch_size
    return of_head + blocks_bytes(
        setup.request,
        list(setup.blocks.values()),
        setup.activations,
        setup.features,
        largest_batches(setup.request, setup.features, setup.loaded_ids, batch_size),
        copies=copies,
        device=device,
    )
