"""Batches of utterances of similar length: each utterance once, with little padding, in a new order in each epoch."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from featcache.training.batch_sizes import EqualNumbers, SimilarLengths

SECONDS = 12.0


def padded(batch, lengths):
    return max(lengths[i] for i in batch) * len(batch)


@given(st.lists(st.floats(0.1, 20), min_size=1, max_size=60), st.integers(0, 5))
def test_each_utterance_is_once_in_a_batch_of_limited_duration(durations, seed):
    lengths = {f"u{number}": seconds for number, seconds in enumerate(durations)}
    sizes = SimilarLengths(SECONDS, lengths, list(lengths), seed)
    for batches in (sizes.batches(list(lengths)), sizes.tested(list(lengths))):
        assert sorted(i for batch in batches for i in batch) == sorted(lengths)
        assert all(len(batch) == 1 or padded(batch, lengths) <= SECONDS + 1e-9 for batch in batches)
        assert sizes.position(len(lengths)) > 0


def test_there_is_little_padding_and_epochs_differ():
    lengths = {f"u{number}": 1 + number % 7 + number / 1000 for number in range(700)}
    order = [f"u{number}" for number in np.random.default_rng(0).permutation(700)]
    sizes = SimilarLengths(SECONDS, lengths, order, 3)
    first, second = sizes.batches(order), sizes.batches(order)
    total = sum(lengths.values())
    # Random batches of 2.4 utterances on average have about a third of padding.
    assert sum(padded(batch, lengths) for batch in first) < 1.1 * total
    assert first != second
    again = SimilarLengths(SECONDS, lengths, order, 3)
    assert [again.batches(order), again.batches(order)] == [first, second]
    # The estimate from one sorted list differs from batches of 50 sorted together by a few incomplete ones.
    assert abs(sizes.position(700) - len(first)) < 0.1 * len(first)


@given(st.lists(st.floats(0.1, 20), min_size=1, max_size=60), st.integers(1, 7))
def test_equal_numbers_of_similar_length_are_sorted(durations, number):
    lengths = {f"u{position}": seconds for position, seconds in enumerate(durations)}
    sizes = SimilarLengths(number, lengths, list(lengths), 1, in_numbers=True)
    batches = sizes.tested(list(lengths))
    assert [len(batch) for batch in batches] == [len(batch) for batch in EqualNumbers(number).batches(list(lengths))]
    assert [lengths[i] for batch in batches for i in batch] == sorted(durations)
    assert sizes.position(len(lengths)) == len(batches)
    # An epoch has the same batches, in another order, because 50 batches are sorted together.
    assert len(batches) > 50 or sorted(sizes.batches(list(lengths))) == sorted(batches)


def test_equal_numbers_leave_the_rest_in_the_last_batch():
    ids = [f"u{number}" for number in range(7)]
    assert EqualNumbers(3).batches(ids) == [ids[:3], ids[3:6], ids[6:]]
    assert EqualNumbers(3).position(7) * 3 == 7
