"""Similar labels are found, different labels are not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featcache.labels import lookalikes


@pytest.mark.parametrize(
    "labels",
    [
        (" W", "W"),
        ("f", "F"),
        ("Ang", "ang"),
        ("0", "0.0"),
        ("1", "01"),
        ("-0", "0"),
        ("1e1", "10"),
        ("12345678901234567890", "12345678901234567890.0"),
        ("joy\u00a0", "joy"),
        ("\ufeffjoy", "joy"),
        ("jo\u200by", "joy"),
        ("very  sad", "very sad"),
        ("joy\t", "joy"),
        ("Wärme", "Wa\u0308rme"),
        ("Straße", "STRASSE"),
        ("NaN", "nan"),
    ],
)
def test_the_same_label_in_two_spellings(labels):
    assert lookalikes([*labels, "other"]) == [labels]


def test_different_labels_do_not_look_alike():
    labels = ["0", "1", "-1", "0.1", "1_0", "10", "12345678901234567890", "12345678901234567891", "nan", "inf"]
    labels += ["", "joy", "joys", "ang", "anger", "1e999999999999999999", "2e5", "w", "W'"]
    assert lookalikes(labels) == []


def test_groups_keep_the_order_of_the_labels():
    assert lookalikes(["b", "Z", "a", "B ", "z", "a", " b"]) == [("b", "B ", " b"), ("Z", "z")]


@given(st.lists(st.text(max_size=5), max_size=8))
def test_every_label_is_in_one_group_at_most(labels):
    found = [label for group in lookalikes(labels) for label in group]
    assert len(found) == len(set(found))
    assert set(found) <= set(labels)
    assert all(len(group) > 1 for group in lookalikes(labels))
