"""Layers that a specification selects."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featcache.errors import ModelError
from featcache.layer_selection import select_layers

NAMES = ("0", "1", "2", "3", "4", "input")


def select(spec, names=NAMES):
    return select_layers(spec, names, num_blocks=4)


@pytest.mark.parametrize(
    ("spec", "positions"),
    [
        ("all", (0, 1, 2, 3, 4, 5)),
        ("local", (0,)),
        ("last", (4,)),
        ("3", (3,)),
        ("1-3", (1, 2, 3)),
        ("2-2", (2,)),
        ("0,2-3", (0, 2, 3)),
        ("local, last", (0, 4)),
        ("input", (5,)),
        ("input,local", (0, 5)),
        ("3,1,3,1-2", (1, 2, 3)),
    ],
)
def test_specification(spec, positions):
    assert select(spec) == positions


def test_positions_are_those_in_a_store_that_holds_a_part():
    assert select("2-4", ("2", "3", "4")) == (0, 1, 2)
    assert select("last", ("0", "4")) == (1,)
    assert select("all", ("",)) == (0,)


@given(st.sets(st.integers(0, 4), min_size=1), st.randoms(use_true_random=False))
def test_any_list_of_numbers_gives_each_once_in_the_order_of_the_layers(numbers, random):
    twice = [str(number) for number in numbers] * 2
    random.shuffle(twice)
    assert select(",".join(twice)) == tuple(sorted(numbers))


@pytest.mark.parametrize(
    ("spec", "missing"),
    [
        ("5", "'5'"),
        ("3-6", "'5', '6'"),
        ("0-99", "'5', '6', '7' and 92 more"),
        ("3-1", "'3-1'"),
        ("first", "'first'"),
        ("", "''"),
        ("1,,2", "''"),
        ("-1", "'-1'"),
    ],
)
def test_a_layer_that_is_not_there_is_named_beside_those_that_are(spec, missing):
    with pytest.raises(ModelError, match=f"^no layer {missing} among 0, 1, 2, 3, 4, input; expected all, local, last"):
        select(spec)


def test_a_store_without_the_layer_says_so():
    with pytest.raises(ModelError, match=r"^no layer '0' among 2, 3; expected"):
        select("local", ("2", "3"))
