"""The remaining time of a fit: exact where the number of epochs is known, and never too large a promise."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featcache.fitting.remaining import RunOutlook, TimeLeft, detail_text, estimate, remaining_text
from featcache.training.status import TrainingStatus


def status(epochs, *, seconds=None, ended=False, least=0, most=10, losses=(None, None)):
    return TrainingStatus(
        epochs=epochs,
        least=least,
        most=most,
        train_loss=losses[0],
        validation_loss=losses[1],
        seconds=epochs if seconds is None else seconds,
        ended=ended,
    )


def run(number, *begun, most=10):
    return RunOutlook(number=number, max_epochs=most, begun=begun)


def test_until_a_training_has_ended_the_time_is_the_largest_possible_one():
    found = estimate([run(3, status(2.5))], elapsed=2.5)
    assert found == TimeLeft(done=2.5 / 30, seconds=pytest.approx(27.5), at_most=True)
    assert remaining_text(found) == "at most 0:00:28 left"


def test_trainings_that_ended_tell_how_many_epochs_the_others_need():
    found = estimate([run(4, status(4, ended=True), status(6, ended=True), status(2))], elapsed=12)
    # 5 epochs each: 3 more for the third training and 5 for the fourth, at 1 s per epoch.
    assert found == TimeLeft(done=12 / 20, seconds=pytest.approx(8), at_most=False)
    assert remaining_text(found) == "about 0:00:08 left"


def test_trainings_that_run_side_by_side_take_less_time_together():
    alone = estimate([run(2, status(2), status(2))], elapsed=4)
    together = estimate([run(2, status(2), status(2))], elapsed=2)
    assert alone.seconds == 2 * together.seconds


def test_a_training_that_still_improves_is_not_expected_to_end_before_its_patience():
    waits = estimate([run(2, status(2, ended=True), status(5, least=9))], elapsed=7)
    assert waits.seconds == pytest.approx(4)
    beyond = estimate([run(2, status(2, ended=True), status(5, least=4))], elapsed=7)
    assert beyond.seconds == 0  # it may end after any epoch


def test_runs_with_slower_epochs_count_as_more_work():
    runs = [run(1, status(5, ended=True)), run(1, status(1, seconds=10))]
    found = estimate(runs, elapsed=15)
    assert found.seconds == pytest.approx(40)  # 4 epochs of 10 s
    assert found.done == pytest.approx(15 / 55)


def test_a_head_without_epochs_is_one_piece_of_work():
    found = estimate([run(4, status(1, most=1, ended=True, seconds=3), most=1)], elapsed=3)
    assert found == TimeLeft(done=0.25, seconds=pytest.approx(9), at_most=False)


def test_nothing_is_known_before_the_first_batch():
    found = estimate([run(2, status(0.0, seconds=1.0))], elapsed=1)
    assert (found.done, found.seconds) == (0, None)
    assert remaining_text(found) == ""


def test_trainings_of_an_interrupted_fit_count_as_done():
    assert estimate([run(1, status(5, most=10))], num_earlier=1, elapsed=5).done == pytest.approx(0.75)
    assert estimate([run(0)], num_earlier=4, elapsed=0).done == 1


states = st.builds(
    status,
    st.floats(0, 10),
    seconds=st.floats(0.1, 1e4),
    ended=st.booleans(),
    least=st.integers(0, 10),
)


@settings(max_examples=30)
@given(
    runs=st.lists(st.lists(states, max_size=4), min_size=1, max_size=3),
    waiting=st.integers(0, 3),
    elapsed=st.floats(0.1, 1e5),
)
def test_estimates_are_possible_ones(runs, waiting, elapsed):
    found = estimate([run(len(begun) + waiting, *begun) for begun in runs], elapsed=elapsed)
    assert 0 <= found.done <= 1
    assert found.seconds is None or found.seconds >= 0
    everything_ended = not waiting and all(one.ended for begun in runs for one in begun)
    assert not everything_ended or found.done == 1 or not any(one.epochs for begun in runs for one in begun)


@pytest.mark.parametrize(
    ("trainings", "text"),
    [
        ([status(0.4, losses=(1.5, None))], "epoch 1 of 10; loss 1.500; 2 of 8 trained"),
        (
            [status(3.4, losses=(0.5, 0.7)), status(6.1, losses=(0.3, 0.6)), status(0.1, losses=(9.0, None))],
            "epochs 1 to 7 of 10; mean loss 0.400, validation 0.650; 2 of 8 trained",
        ),
        (
            [status(10, ended=True, losses=(0.5, 0.7))],
            "epoch 10 of 10; loss 0.500, validation 0.700; 2 of 8 trained",
        ),
        ([status(0, most=1)], "2 of 8 trained"),
        ([], "2 of 8 trained"),
    ],
)
def test_epochs_and_losses_are_told(trainings, text):
    assert detail_text(trainings, num_done=2, total=8, max_epochs=10) == text
