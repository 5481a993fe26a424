"""Values and ranges to try, in the text of the command line, in YAML and in Python."""

import pytest

from featcache.fitting.search.search_notes import setting_text
from featcache.settings.searches import Range, read_range_of_search, read_sweep


def test_values_are_text_with_commas_or_bars_or_a_list():
    expected = {"learning_rate": ("1e-4", "1e-3"), "layers": ("0,4-8", "last"), "set.hidden_units": ("64",)}
    texts = ["learning-rate=1e-4,1e-3", "layers=0,4-8|last", "set.hidden-units=64"]
    assert read_sweep(texts) == expected
    assert read_sweep({"learning_rate": "1e-4,1e-3", "layers": ["0,4-8", "last"], "set.hidden_units": "64"}) == expected
    assert read_sweep({"batch_size": [16, 32], "scalar_norm": True}) == {"batch_size": (16, 32), "scalar_norm": (True,)}
    assert read_sweep("learning_rate=log:1e-5..1e-2") == {"learning_rate": "log:1e-5..1e-2"}
    assert read_sweep("loss=focal:2,cross-entropy") == {"loss": ("focal:2", "cross-entropy")}


def test_ranges_are_integers_or_numbers_and_may_be_logarithmic():
    assert read_range_of_search("0.1..0.5") == read_range_of_search("float:.1..5e-1") == Range(low=0.1, high=0.5)
    assert read_range_of_search("log:1e-5..1e-2") == Range(low=1e-5, high=1e-2, log=True)
    assert read_range_of_search("int:64..512") == Range(low=64, high=512, whole=True)
    assert read_range_of_search("log-int:16..256") == Range(low=16, high=256, whole=True, log=True)
    assert read_range_of_search("../head.py:Mine") is read_range_of_search(5) is None


@pytest.mark.parametrize(
    ("faulty", "message"),
    [
        (5, "expected OPTION=VALUE"),
        ("learning_rate", "expected OPTION=VALUE"),
        ("=1", "expected OPTION=VALUE"),
        (["a=1", "a=2"], "a is given twice"),
        ("a=log:1e-5", "expected a range such as"),
        ("a=5..1", "expected the lower number first"),
        ("a=log:0..1", "above 0 for log"),
        ("a=int:0.5..1", "expected two integers"),
    ],
)
def test_other_text_is_refused(faulty, message):
    with pytest.raises(ValueError, match=message):
        read_sweep(faulty)


def test_values_are_shown_as_they_are_given():
    shown = {"class_weights": {"anger": 2.0, "joy": 1.5}, "also": {"gender": 0.2}, "loss": "focal:2", "batch_size": 16}
    text = "class_weights=anger=2,joy=1.5, also=gender:0.2, loss=focal:2, batch_size=16"
    assert setting_text({**shown, "train_views": ["a", "b"]}) == f"{text}, train_views=a,b"
    assert (
        setting_text({"also": {}, "train_views": [], "mask_time": None})
        == "also=none, train_views=none, mask_time=none"
    )
    assert setting_text({"mixup": 0.0, "scalar_norm": False}) == "mixup=0.0, scalar_norm=False"
