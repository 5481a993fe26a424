"""Heads, optimisers and best weights count as memory: a large grid trains in portions, with the same results."""

import weakref

import pytest
import torch

from featcache.errors import ModelError
from featcache.fitting import job, memory_plan, trainings
from featcache.fitting.fit import fit
from featcache.fitting.memory_plan import plan_at_once, plan_copies
from featcache.fitting.plan import plan_runs
from featcache.settings.fits import FitSettings
from featcache.training import memory
from featcache.training.memory import Memory, WorkingCopy, plan_working_copy
from featcache.training.train import Training
from tests.untimed import bytes_without_times

GRID = {"seeds": (1, 2), "max_epochs": 3, "sweep": {"learning_rate": (0.001, 0.05), "set.hidden_units": (4, 8, 12)}}

pytestmark = pytest.mark.usefixtures("quick_reports")


def results_of(run):
    files = (path for path in run.path.parents[1].rglob("*") if path.is_file() and ".locks" not in path.parts)
    return {path.name + path.parent.name: bytes_without_times(path) for path in files}


@pytest.fixture
def alive(monkeypatch):
    """Return a list with the number of trainings in memory at each time that one begins."""
    in_memory, found, new = weakref.WeakSet(), [], trainings.new_training

    def counted(*arguments):
        in_memory.add(one := new(*arguments))
        found.append(len(in_memory))
        return one

    monkeypatch.setattr(trainings, "new_training", counted)
    return found


@pytest.fixture
def bare(monkeypatch):
    """Count only features and heads as memory."""
    monkeypatch.setattr(memory, "_resident", lambda: 0.0)
    monkeypatch.setattr(memory_plan, "_overhead", lambda *_: 0.0)


@pytest.mark.parametrize("at_once", [1, 3])
def test_a_grid_holds_no_more_trainings_than_fit_and_its_results_are_the_same(
    make_cache, elsewhere, monkeypatch, alive, at_once
):
    make_cache()
    monkeypatch.setattr(job, "available_cores", lambda: 2)
    whole = results_of(fit(**GRID))
    assert len(alive) == 6 * 4 * 2
    assert max(alive) == 5  # two threads take turns with five trainings
    alive.clear()
    elsewhere()
    monkeypatch.setattr(job, "plan_at_once", lambda setups, *_: [at_once] * len(setups))
    assert results_of(fit(**GRID)) == whole
    assert len(alive) == 6 * 4 * 2
    assert max(alive) == at_once


# 5 kB of features do not fit; one dense head with 12 hidden units needs about 5 kB, too.
LITTLE = "16KiB,float32"


def test_in_windows_portions_of_a_grid_give_the_same_results(make_cache, elsewhere, monkeypatch, alive, bare):
    make_cache()
    monkeypatch.setattr(memory, "packed_bytes", lambda *_: 1e9)  # so that no features fit as a whole
    monkeypatch.setattr(job, "available_cores", lambda: 2)
    run = fit(memory=LITTLE, **GRID)
    portions = results_of(run)
    assert run.config["computed_with"]["room"] < 16 * 2**10
    assert 1 <= max(alive) < 12
    alive.clear()
    elsewhere()
    monkeypatch.setattr(job, "plan_at_once", lambda setups, *_: [1000] * len(setups))
    assert results_of(fit(memory=LITTLE, **GRID)) == portions
    assert max(alive) == 6 * 4 * 2


def setups_of(cache, **options):
    return [one.setup for one in plan_runs([FitSettings(features=("ssl",), seeds=(1,), **options)], cache=cache)]


def held_by(training):
    """Return the bytes of a training: weights, gradients, best weights and states of the optimiser."""
    weights = list(training.head.parameters())
    tensors = [*weights, *(one.grad for one in weights if one.grad is not None), *training._best.state.values()]
    tensors += [one for state in training._optimiser.state.values() for one in state.values() if one.ndim]
    return sum(one.nbytes for one in tensors)


@pytest.mark.parametrize("head", ["dense", "lstm", "linear", "attentive"])
@pytest.mark.parametrize(("optimizer", "states"), [("adam", 2), ("adamw", 2), ("sgd", 1)])
def test_a_training_counts_what_it_holds(make_cache, monkeypatch, head, optimizer, states):
    cache = make_cache()
    held, unused, end_epoch = [], [], Training.end_epoch

    def measured(training):
        end_epoch(training)
        held.append(held_by(training))
        unused.append(sum(one.nbytes for one in training.head.parameters() if one.grad is None))

    monkeypatch.setattr(Training, "end_epoch", measured)
    fit(head=head, optimizer=optimizer, seeds=(1,), max_epochs=1)
    [setup] = setups_of(cache, head=head, optimizer=optimizer)
    size = sum(one.nbytes for one in setup.new_head(1).state_dict().values())
    # The copy that replaces the best weights exists for a moment only. Weights of lstm that are not trained count like
    # the others, but have no gradient, no states and no best values.
    expected = held[0] + size + (2 + states) * unused[0]
    assert memory_plan._training_bytes(setup, in_windows=False) == expected


def test_evaluations_between_the_windows_count_their_weights(make_cache):
    cache = make_cache()
    [plain], [often] = setups_of(cache), setups_of(cache, evaluate_every=2, batch_size=1)
    assert memory_plan._training_bytes(often, in_windows=False) == memory_plan._training_bytes(plain, in_windows=True)
    copies = memory_plan._training_bytes(often, in_windows=True) / memory_plan._training_bytes(plain, in_windows=True)
    assert copies == (6 + 1 + 4) / 6  # 8 utterances train, so there are 4 evaluations per epoch


def test_a_solver_counts_its_vectors(make_cache):
    cache = make_cache()
    [setup] = setups_of(cache, head="svm", layers="last")
    assert memory_plan._training_bytes(setup, in_windows=False) == 4 * 16 * 4 * 8  # 16 utterances with 4 float64 values


def test_the_number_at_once_is_what_the_features_leave(make_cache, bare):
    cache = make_cache()
    [setup] = setups_of(cache)
    of_one = memory_plan._training_bytes(setup, in_windows=False)
    for limit in (1e6, 1e7):
        said = Memory(bytes=limit)
        [copy] = plan_copies([setup], said, 1, 2, "cpu")
        assert copy.room is None
        features = 4 * sum(length * 4 * 3 for length in frames_of(setup))
        assert plan_at_once([setup], [copy], said, 1, 2, "cpu") == [int((limit - features) / of_one)]
        assert plan_at_once([setup], [copy], said, 2, 2, "cpu") == [int((limit / 2 - features) / of_one)]
    # an interrupted run continues with its features; then one training at a time is the least
    assert plan_at_once([setup], [copy], Memory(bytes=1.0), 1, 2, "cpu") == [1]


def frames_of(setup):
    return [setup.features[0].num_frames(i) for i in setup.loaded_ids]


def test_the_plan_of_features_leaves_room_for_heads_but_not_for_their_number(make_cache, bare):
    cache = make_cache()
    [setup] = setups_of(cache)
    of_one = memory_plan._training_bytes(setup, in_windows=False)
    features = 4 * sum(length * 4 * 3 for length in frames_of(setup))
    fits = Memory(bytes=features + 2 * of_one, dtype="float32")
    [copy] = plan_copies([setup], fits, 1, 2, "cpu")
    assert copy.room is None
    many = [one for n in (1, 2, 3, 4) for one in setups_of(cache, learning_rate=n / 100)]
    assert set(plan_copies(many, fits, 1, 2, "cpu")) == {copy}
    less = Memory(bytes=features + of_one - 1, dtype="float32")
    [windows] = plan_copies([setup], less, 1, 1, "cpu")
    assert windows.room is not None
    assert windows.room + of_one <= less.bytes


def test_a_head_that_does_not_fit_is_refused_in_one_line(make_cache, bare):
    cache = make_cache()
    [setup] = setups_of(cache, set={"hidden_units": 1000})
    of_one = memory_plan._training_bytes(setup, in_windows=False)
    with pytest.raises(ModelError, match=r"of memory is not enough, expected .* or more; allow more with --memory"):
        plan_copies([setup], Memory(bytes=of_one / 2), 1, 2, "cpu")


@pytest.mark.parametrize("workers", [1, 64])
def test_many_threads_do_not_refuse_a_head_of_which_one_fits(monkeypatch, workers):
    monkeypatch.setattr(memory, "_resident", lambda: 0.0)
    plan = plan_working_copy(Memory.parse("1GB,float32"), 10**6, num_steps=0, overhead=0, training=4e8, workers=workers)
    assert plan == WorkingCopy(dtype=torch.float32, compute=torch.float32, room=None)
