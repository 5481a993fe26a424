"""Readable titles of runs."""

import pytest

from featcache.report.titles import distinct_titles, run_title

CONFIG = {"head": "dense", "features": {"wav2vec2-base": "0" * 64}, "norm": "speaker", "layers": "all", "untrained": []}


@pytest.mark.parametrize(
    ("changes", "title"),
    [
        ({}, "dense · wav2vec2-base · speaker normalisation"),
        ({"layers": "12"}, "dense · wav2vec2-base, layer 12 · speaker normalisation"),
        ({"layers": "0,4-8"}, "dense · wav2vec2-base, layers 0,4-8 · speaker normalisation"),
        ({"norm": "none", "layers": "-"}, "dense · wav2vec2-base · no normalisation"),
        ({"untrained": ["wav2vec2-base"]}, "dense · wav2vec2-base (untrained) · speaker normalisation"),
        ({"features": {"a": "", "b": ""}}, "dense · a + b · speaker normalisation"),
        ({"head": None}, ""),
        ({"features": ["a"]}, ""),
    ],
)
def test_a_title_shows_head_features_and_normalisation(changes, title):
    assert run_title({**CONFIG, **changes}) == title


def test_runs_with_the_same_title_are_told_apart_by_what_differs():
    other = {**CONFIG, "training": {"learning_rate": 0.01}, "seeds": [1]}
    same = {**CONFIG, "training": {"learning_rate": 0.1}, "seeds": [1], "labels_sha256": "f" * 64}
    title = run_title(CONFIG)
    assert distinct_titles([("a", other), ("b", same), ("c", {**CONFIG, "norm": "global"})]) == [
        f"{title} (learning rate 0.01)",
        f"{title} (learning rate 0.1)",
        "dense · wav2vec2-base · global normalisation",
    ]
    assert distinct_titles([("a", other), ("b", other)]) == [f"{title} (a)", f"{title} (b)"]
    assert distinct_titles([("a", {}), ("b", {})]) == ["a", "b"]
