"""Labels in all scripts, on machines with and without a font for them."""

import logging

import numpy as np
import pandas as pd
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager

from featcache.report import figures, fonts
from featcache.report.layer_figures import layer_weights

# Private-use characters, which no installed font contains.
NOBODYS = "\U000f0000\U000f0001"


@pytest.fixture(autouse=True)
def _anew():
    caches = (fonts._beside_default, fonts._characters, fonts._tell)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


@pytest.fixture
def font_of_nobodys(tmp_path, monkeypatch):
    """Install a font that draws the private-use characters as squares."""
    pen = TTGlyphPen(None)
    for move, point in ((pen.moveTo, (0, 0)), (pen.lineTo, (0, 700)), (pen.lineTo, (700, 700)), (pen.lineTo, (700, 0))):
        move(point)
    pen.closePath()
    square = pen.glyph()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", "square"])
    builder.setupCharacterMap({ord(char): "square" for char in NOBODYS})
    builder.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "square": square})
    builder.setupHorizontalMetrics({".notdef": (800, 0), "square": (800, 0)})
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Nobody Sans", "styleName": "Regular"})
    builder.setupOS2(sTypoAscender=800, usWeightClass=400)
    builder.setupPost()
    path = tmp_path / "nobody.ttf"
    builder.save(path)
    manager = font_manager.fontManager
    monkeypatch.setattr(manager, "ttflist", list(manager.ttflist))
    manager.addfont(str(path))
    return "Nobody Sans"


def draw(labels, path):
    """Draw all figures that show names from users; pytest turns every warning into an error."""
    figures.save(figures.confusion_matrix(np.eye(len(labels)), labels), path / "matrix")
    weights = pd.DataFrame({"seed": 1, "fold": 1, "layer": [0, 1], "weight": 0.5})
    figures.save(layer_weights(dict.fromkeys(labels, weights)), path / "weights")
    gains = pd.DataFrame({"title": labels, "gain": 1.0, "low": 0.5, "high": 1.5, "published": 1.2})
    figures.save(figures.relative_gains(gains, metric="UAR"), path / "gains")
    values = {f"{kind}_{label}": [1.0, 2.0] for label in labels for kind in ("target", "prediction")}
    predictions = pd.DataFrame(values | {"seed": 1, "fold": 1, "speaker_id": "x", "utterance_id": ["a", "b"]})
    figures.save(figures.predicted_values(predictions, dict.fromkeys(labels, (1.0, 5.0))), path / "values")


def test_what_no_font_has_is_named_once_and_shown_as_code_points(tmp_path, caplog):
    labels = [f"a{NOBODYS}", NOBODYS[0], "b"]
    draw(labels, tmp_path)
    assert fonts.drawable(labels[0]) == r"a\U000f0000\U000f0001"
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(told) == 1
    assert NOBODYS[0] in told[0]
    assert "install a font" in told[0]


def test_an_installed_font_is_used(tmp_path, caplog, font_of_nobodys):
    labels = [f"a{NOBODYS}", "b"]
    assert fonts.families_for(labels) == [fonts.DEFAULT, font_of_nobodys]
    assert fonts.drawable(labels[0]) == labels[0]
    draw(labels, tmp_path)
    assert caplog.messages == []


def test_control_characters_do_not_reach_a_figure(tmp_path):
    draw(["sad\x1b[31m", "\u202egnp", "a\nb", "$x$ [red]"], tmp_path)
    for path in tmp_path.glob("*.svg"):
        text = path.read_text(encoding="utf-8")
        assert not set(text) & {"\x1b", "\u202e"}
        assert r"\x1b" in text or r"\u202e" in text  # matplotlib repeats labels as comments


def test_plain_labels_need_nothing():
    assert fonts.families_for(["anger", "joy", "Überraschung"]) == [fonts.DEFAULT]
    assert fonts.drawable("Überraschung") == "Überraschung"
    assert (fonts.num_columns("anger"), fonts.num_columns("怒り")) == (5, 4)


def test_names_that_are_too_long_for_a_figure_are_cut(tmp_path):
    labels = ["x" * 10**6, "\x1b" * 10**6, "y"]
    draw(labels, tmp_path)
    assert fonts.drawable(labels[0]) == "x" * (fonts.MOST_CHARACTERS - 1) + "…"
    assert all(len(fonts.drawable(label)) <= fonts.MOST_CHARACTERS for label in labels)
    assert fonts.drawable("x" * fonts.MOST_CHARACTERS) == "x" * fonts.MOST_CHARACTERS
