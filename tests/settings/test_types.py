"""Text on the command line and in YAML, and values in Python, are the same options."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featcache.settings.types import (
    SEEDS,
    first_seeds,
    read_assignments,
    read_names,
    read_range,
    read_seeds,
    read_selection,
)

NAMES = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=5)


@given(st.lists(NAMES, min_size=1, max_size=4))
def test_names_are_a_list_or_text_with_commas(names):
    assert read_names(",".join(names)) == read_names(names) == tuple(names)


@given(st.dictionaries(NAMES, st.lists(NAMES, min_size=1, max_size=3), max_size=3))
def test_a_selection_is_a_dictionary_or_pairs(chosen):
    pairs = [f"{label}={','.join(values)}" for label, values in chosen.items()]
    one_by_one = [f"{label}={value}" for label, values in chosen.items() for value in values]
    expected = {label: tuple(values) for label, values in chosen.items()}
    assert read_selection(chosen) == read_selection(pairs) == read_selection(one_by_one) == expected


def test_assignments_are_a_dictionary_or_pairs():
    assert read_assignments(["hidden-units=256", "path=a=b"]) == {"hidden_units": "256", "path": "a=b"}
    assert read_assignments({"hidden_units": 256}) == read_assignments({"hidden-units": 256}) == {"hidden_units": 256}
    for faulty in (5, True, {"a=1"}, object()):
        with pytest.raises(ValueError, match="expected NAME=VALUE, found"):
            read_assignments(faulty)
        with pytest.raises(ValueError, match="expected LABEL=VALUE, or LABEL=VALUE,VALUE, found"):
            read_selection(faulty)
    for faulty in (["a"], ["=1"], ["a=1", "a=2"]):
        with pytest.raises(ValueError, match=r"expected NAME=VALUE|given twice"):
            read_assignments(faulty)


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=5, unique=True))
def test_seeds_are_a_list_or_text_with_commas(seeds):
    assert read_seeds(seeds) == read_seeds(",".join(map(str, seeds)) + ",") == tuple(seeds)


@pytest.mark.parametrize("number", [1, 2, 5, 7, 1000])
def test_seeds_are_a_number_of_them(number):
    assert read_seeds(number) == read_seeds(str(number)) == first_seeds(number)
    assert len(set(first_seeds(number))) == number
    assert first_seeds(number)[:5] == SEEDS[:number]


@pytest.mark.parametrize(
    "faulty", [0, "0", -1, "1001", True, "", ",", "a", "1,b", [-1], [2**32], [], 1.5, [1.5], None, b"1"]
)
def test_other_seeds_are_refused(faulty):
    with pytest.raises(ValueError, match=r"^expected the number of seeds, or a list of seeds"):
        read_seeds(faulty)


def test_a_range_is_two_numbers():
    assert read_range("1,7") == read_range((1, 7)) == read_range([1.0, 7.0]) == (1.0, 7.0)
    for faulty in ("7,1", "1", "1,2,3", "a,b", "nan,1", "-inf,1", None, 3, (1, 1)):
        with pytest.raises(ValueError, match="expected two numbers"):
            read_range(faulty)
