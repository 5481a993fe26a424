"""Texts of --loss and --class-weights."""

import pytest

from featcache.settings.loss_choice import read_class_weights, read_loss


@pytest.mark.parametrize("text", ["focal", "focal:0", "focal:99.9", "label-smoothing:0.999999999999", "soft"])
def test_a_recorded_loss_is_read_again(text):
    assert read_loss(read_loss(text)) == read_loss(text)


@pytest.mark.parametrize("text", ["label-smoothing:0.9999999999999999", "focal:99.99999999999999", "focal:nan"])
def test_a_number_that_is_recorded_as_one_that_is_not_allowed_is_refused(text):
    with pytest.raises(ValueError, match="takes a number of at least 0 and below"):
        read_loss(text)


def test_a_weight_beyond_all_floats_is_refused():
    with pytest.raises(ValueError, match=r"the weight of joy is 10+, expected a number from 1e-06 to 1e\+06"):
        read_class_weights({"joy": 10**400})


def test_a_class_with_a_comma_has_a_weight_on_the_command_line():
    assert read_class_weights("calm, neutral=2,joy=0.5, sad,low=3") == {"calm, neutral": 2, "joy": 0.5, "sad,low": 3}
    for text in ("joy=2,", "joy=2,sad", "=2", ""):
        with pytest.raises(ValueError, match=r"expected balanced, none or CLASS=WEIGHT|the weight of"):
            read_class_weights(text)
