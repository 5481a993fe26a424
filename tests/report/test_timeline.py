"""Figures over time: their points, bands, gaps, limits and captions, read back from matplotlib's objects."""

import numpy as np
import pandas as pd
import pytest

from featcache.errors import PredictionsError
from featcache.report.timeline import draw_timeline, write_timelines

CLASSES = ["anger", "joy", "$rest_1$"]


def windows(starts, names=CLASSES, prefix="p_", path="a.wav", length=4.0, scale=1.0):
    """Return predictions for windows, with known values: at start s, class i has (s + i) % 7 / 10, and std 0.05."""
    starts = np.asarray(starts, dtype=float)
    columns = {"path": path, "utterance_id": [f"a@{s}" for s in starts], "start": starts, "end": starts + length}
    for i, name in enumerate(names):
        columns |= {f"{prefix}{name}": scale * ((starts + i) % 7) / 10, f"std_{name}": 0.05 * scale}
    return pd.DataFrame(columns)


def caption(figure):
    return figure.get_supxlabel().replace("\n", " ")


def test_points_are_the_means_at_the_middle_of_the_windows():
    table = windows(range(9)).sample(frac=1, random_state=0)
    figure = draw_timeline(table, outputs=CLASSES, task="classification")
    [axes] = figure.axes
    assert len(axes.lines) == len(axes.collections) == 3
    for i, (line, band) in enumerate(zip(axes.lines, axes.collections, strict=True)):
        mean = (np.arange(9) + i) % 7 / 10
        np.testing.assert_allclose(line.get_xydata(), np.stack([np.arange(9) + 2.0, mean], axis=1))
        corners = band.get_paths()[0].vertices
        for at, value in zip(np.arange(9) + 2.0, mean, strict=True):
            ends = corners[corners[:, 0] == at, 1]
            np.testing.assert_allclose([ends.min(), ends.max()], [value - 0.05, value + 0.05])
    assert axes.get_ylim() == (0, 1)
    assert axes.get_xlim() == (0, 12)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("Time (s)", "Probability")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == CLASSES
    assert caption(figure) == "Windows of 4 s, one every 1 s. Bands: mean ± one standard deviation over the heads."


def test_a_line_is_interrupted_where_there_is_no_window():
    figure = draw_timeline(windows([0, 2, 4, 20, 22]), outputs=CLASSES, task="classification")
    [axes] = figure.axes
    x = axes.lines[0].get_xdata()
    np.testing.assert_array_equal(np.isnan(x), [False, False, False, True, False, False])


def test_a_single_head_has_no_band_and_a_single_window_no_hop():
    table = windows([3]).assign(**{f"std_{name}": np.nan for name in CLASSES})
    figure = draw_timeline(table, outputs=CLASSES, task="classification")
    assert caption(figure) == "One window of 4 s."


def test_many_outputs_have_different_lines():
    names = [f"class {i}" for i in range(20)]
    figure = draw_timeline(windows(range(80), names), outputs=names, task="classification")
    looks = {(line.get_color(), str(line._dash_pattern)) for line in figure.axes[0].lines}
    assert len(looks) == 20
    assert figure.get_figwidth() == 7


def test_dimensions_share_an_axis_only_if_they_share_a_range():
    names = ["arousal", "valence"]
    table = windows(range(5), names, prefix="", scale=10)
    same = draw_timeline(table, outputs=dict.fromkeys(names, (1, 7)), task="regression")
    [axes] = same.axes
    assert axes.get_ylim() == (0, 7)  # a prediction of 0 is below the labels, and visible
    assert axes.get_ylabel() == "Predicted value"
    two = draw_timeline(table, outputs={"arousal": (0, 7), "valence": (-1, 10)}, task="regression")
    assert [axes.get_ylim() for axes in two.axes] == [(0, 7), (-1, 10)]
    assert [axes.get_ylabel() for axes in two.axes] == names
    assert not two.legends


def test_every_recording_has_its_figure(tmp_path):
    table = pd.concat([windows(range(3), path=path) for path in ("x/a.wav", "x a.flac", "X/A.wav", "b.wav")])
    names = write_timelines(table, tmp_path / "plot", outputs=CLASSES, task="classification")
    assert [path.name for path in names] == ["plot-1-x-a", "plot-2-x-a", "plot-3-X-A", "plot-b"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        f"{path.name}.{suffix}" for path in names for suffix in ("png", "svg", "pdf")
    )
    assert write_timelines(windows([0]), tmp_path / "one", outputs=CLASSES, task="classification") == [tmp_path / "one"]


def test_rows_that_are_not_windows_are_refused(tmp_path):
    table = windows(range(3)).assign(end=np.nan)
    for draw in (draw_timeline, lambda *given, **named: write_timelines(*given, tmp_path / "x", **named)):
        with pytest.raises(PredictionsError, match=r"'a\.wav' is predicted as a whole; add --window 4 --hop 1"):
            draw(table, outputs=CLASSES, task="classification")
    assert not list(tmp_path.iterdir())
    two = pd.concat([windows([0]), windows([0], path="b.wav")])
    with pytest.raises(PredictionsError, match=r"shows one recording, found 2: 'a\.wav', 'b\.wav'"):
        draw_timeline(two, outputs=CLASSES, task="classification")


def test_the_caption_fits_into_the_figure():
    figure = draw_timeline(windows(1.5 * np.arange(7), length=3.0), outputs=CLASSES, task="classification")
    figure.draw_without_rendering()
    box = figure._supxlabel.get_window_extent()
    assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
