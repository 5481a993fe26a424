"""Contents of the figures, read back from matplotlib's objects, and the written files."""

import subprocess
import sys
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pandas as pd
import pypdf
import pytest
from matplotlib.container import ErrorbarContainer
from PIL import Image

from featcache.errors import StoreError
from featcache.report import figures, layer_figures

NUM_LAYERS = 13
CONTRAST = ["first", "first_low", "first_high", "second", "second_low", "second_high", "difference", "low", "high"]


@pytest.fixture
def weights():
    rng = np.random.default_rng(0)
    table = rng.dirichlet(np.full(NUM_LAYERS, 20.0), size=(3, 2))  # (seeds, folds, layers)
    return pd.DataFrame(
        [(s, f, layer, table[s, f, layer]) for s in range(3) for f in range(2) for layer in range(NUM_LAYERS)],
        columns=["seed", "fold", "layer", "weight"],
    ), table


@pytest.fixture
def history():
    rows = [
        (seed, fold, epoch, 2 / epoch, 1 + abs(epoch - 4 - seed))
        for seed in range(2)
        for fold in range(3)
        for epoch in range(1, 9)
    ]
    return pd.DataFrame(rows, columns=["seed", "fold", "epoch", "train_loss", "validation_loss"])


def texts(axes):
    return [text.get_text() for text in axes.texts]


def test_layer_weights_average_folds_before_seeds(weights):
    frame, table = weights
    summary = layer_figures.layer_weight_summary(frame.sample(frac=1, random_state=0))
    of_seed = table.mean(axis=1)
    assert list(summary.columns) == ["layer", "mean", "std", "num_seeds"]
    assert summary["layer"].tolist() == list(range(NUM_LAYERS))
    np.testing.assert_allclose(summary["mean"], of_seed.mean(axis=0))
    np.testing.assert_allclose(summary["std"], of_seed.std(axis=0, ddof=0))
    assert (summary["num_seeds"] == 3).all()
    assert summary["mean"].sum() == pytest.approx(1)


def test_layer_weights_draws_means_and_error_bars(weights):
    frame, table = weights
    of_seed = table.mean(axis=1)
    [axes] = layer_figures.layer_weights({"run": frame}).axes
    line, _, [bars] = axes.containers[0].lines
    mean, std = of_seed.mean(axis=0), of_seed.std(axis=0, ddof=0)
    np.testing.assert_allclose(line.get_xydata(), np.stack([range(NUM_LAYERS), mean], axis=1))
    ends = np.array([segment[:, 1] for segment in bars.get_segments()])
    np.testing.assert_allclose(ends, np.stack([mean - std, mean + std], axis=1))


def test_layer_weights_names_the_ends_and_the_uniform_weight(weights):
    [axes] = layer_figures.layer_weights({"run": weights[0]}).axes
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels[0] == "0\nlocal\nencoder"
    assert labels[-1] == "12\nlast\nhidden state"
    assert [label.strip() for label in labels[1:-1]] == [str(layer) for layer in range(1, 12)]
    assert 1 / NUM_LAYERS in [np.mean(line.get_ydata()) for line in axes.lines]


@pytest.mark.parametrize("effect", [0.5, 0.01, 0.0])
def test_the_axis_of_layer_weights_is_centred_on_the_uniform_weight_and_says_how_large_the_effect_is(effect):
    weights = (1 + effect * np.cos(range(NUM_LAYERS))) / NUM_LAYERS
    rows = pd.DataFrame({"seed": 1, "fold": 1, "layer": range(NUM_LAYERS), "weight": weights})
    figure = layer_figures.layer_weights({"run": rows})
    figure.draw_without_rendering()
    [axes] = figure.axes
    low, high = axes.get_ylim()
    assert (low + high) / 2 == pytest.approx(1 / NUM_LAYERS)
    half = (high - low) / 2 * NUM_LAYERS
    # The largest effect fills most of the axis. Without any effect, matplotlib shows a few percent.
    assert effect <= half <= (1.4 * effect or 0.1)
    [percent] = axes.child_axes
    labels = [text.get_text() for text in percent.get_yticklabels()]
    assert f"uniform\n1/{NUM_LAYERS}" in labels
    shown = {round(NUM_LAYERS * tick, 9): text for tick, text in zip(percent.get_yticks(), labels, strict=True)}
    for tick, text in zip(percent.get_yticks(), labels, strict=True):
        if not text.startswith("uniform"):
            assert float(text.removesuffix(" %").replace("−", "-")) == pytest.approx(tick)
    assert len(shown) >= 3


def test_runs_differ_in_colour_marker_and_line(weights):
    frame, _ = weights
    figure = layer_figures.layer_weights({f"run {i}": frame for i in range(7)})
    lines = [container.lines[0] for container in figure.axes[0].containers]
    assert len({line.get_color() for line in lines}) == 7
    assert len({line.get_marker() for line in lines}) == 7
    assert len({str(line._unscaled_dash_pattern) for line in lines}) == 7
    # The lines are shifted, but each point stays nearest to its own layer.
    for line in lines:
        np.testing.assert_array_equal(np.round(line.get_xydata()[:, 0]), range(NUM_LAYERS))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [f"run {i}" for i in range(7)]


def test_models_of_different_depth_share_a_figure(weights):
    frame, _ = weights
    deep = pd.DataFrame({"seed": 0, "fold": 0, "layer": range(25), "weight": 1 / 25})
    [axes] = layer_figures.layer_weights({"base": frame, "large": deep}).axes
    assert texts(axes) == ["uniform\n1/13", "uniform\n1/25"]
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert [label for label in labels if "last" in label] == ["12\nlast\nhidden state", "24\nlast\nhidden state"]


def test_confusion_matrix_shows_recall_and_counts():
    counts = np.array([[30, 10, 0], [0, 0, 0], [1, 2, 5]])
    axes, bar = figures.confusion_matrix(counts, ["anger", "fear", "joy"]).axes
    assert (bar.get_ylabel(), bar.get_ylim()) == ("Recall (%)", (0, 100))
    np.testing.assert_allclose(axes.images[0].get_array(), [[75, 25, 0], [0, 0, 0], [12.5, 25, 62.5]])
    assert texts(axes) == [
        "75",
        "30",
        "25",
        "10",
        "0",
        "0",
        "12",
        "1",
        "25",
        "2",
        "62",
        "5",
    ]  # nothing in the empty row
    assert [label.get_text() for label in axes.get_xticklabels()] == ["anger", "fear", "joy"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["anger", "fear", "joy"]


@pytest.mark.parametrize("classes", [["anger", "joy"], ["anger", "happiness", "neutral", "sadness"], list("abcdefgh")])
def test_nothing_of_a_confusion_matrix_is_cut_off(classes, tmp_path):
    figures.save(figures.confusion_matrix(np.eye(len(classes)) * 2.5, classes), tmp_path / "matrix")
    pixels = matplotlib.image.imread(tmp_path / "matrix.png")[..., :3]
    edges = (pixels[:2], pixels[-2:], pixels[:, :2], pixels[:, -2:])
    assert all((edge == 1).all() for edge in edges), "the outermost pixels are white"


def test_mean_counts_keep_one_decimal():
    axes = figures.confusion_matrix([[2.4, 1.0], [0.0, 4.0]], ["a", "b"]).axes[0]
    assert texts(axes)[1::2] == ["2.4", "1.0", "0.0", "4.0"]


def test_training_curves_mark_the_best_epoch_of_each_run(history):
    [axes] = figures.training_curves(history).axes
    dots = [line for line in axes.lines if line.get_marker() == "."]
    assert [line.get_xdata().item() for line in dots] == [4, 4, 4, 5, 5, 5]
    assert len(axes.lines) == 6 * 3  # training, validation, dot
    assert axes.get_ylim()[0] == 0


@pytest.mark.parametrize(("score", "label", "scale"), [("uar", "UAR (%)", 100), ("ccc", "CCC", 1)])
def test_the_score_is_drawn_below_the_losses_over_the_same_epochs(history, score, label, scale):
    history[f"validation_{score}"] = history["epoch"] / 100
    above, below = figures.training_curves(history).axes
    assert above.get_shared_x_axes().joined(above, below)
    assert (above.get_ylabel(), below.get_ylabel(), below.get_xlabel()) == ("Loss", f"Validation {label}", "Epoch")
    dots = [line.get_xydata().tolist() for line in below.lines if line.get_marker() == "."]
    assert dots == [[[epoch, scale * epoch / 100]] for epoch in (4, 4, 4, 5, 5, 5)]
    assert len(below.lines) == 6 * 2


def test_losses_that_are_no_numbers_are_left_out(history, tmp_path):
    diverged, overflowed = history["seed"] == 0, (history["seed"] == 1) & (history["epoch"] > 3)
    history.loc[diverged | overflowed, "validation_loss"] = np.nan
    figure = figures.training_curves(history)
    dots = [line.get_xydata() for line in figure.axes[0].lines if line.get_marker() == "."]
    assert [point[0, 0] for point in dots if np.isfinite(point).all()] == [3, 3, 3]
    figures.save(figure, tmp_path / "curves")


def test_a_training_that_diverged_has_no_best_epoch(history):
    for axes in figures.training_curves(history.assign(validation_loss=np.nan, validation_uar=0.5)).axes:
        assert not [line for line in axes.lines if line.get_marker() == "." and len(line.get_xdata())]


def test_one_epoch_is_enough(history):
    [axes] = figures.training_curves(history[history["epoch"] == 1]).axes
    assert axes.get_xlim()[0] == 0
    assert axes.get_ylim()[1] > 2


def test_dollars_and_underscores_in_names_are_plain_text(weights, tmp_path):
    figures.save(figures.confusion_matrix([[1, 0], [0, 1]], ["$x_{", "_b$"]), tmp_path / "confusion")
    figures.save(layer_figures.layer_weights({"$x_{": weights[0], "a$b$": weights[0]}), tmp_path / "weights")


@pytest.mark.parametrize("kind", ["confusion", "weights", "history"])
def test_files_are_complete_and_the_same_each_time(kind, weights, history, tmp_path):
    draw = {
        "confusion": lambda: figures.confusion_matrix([[3, 1], [2, 4]], ["anger", "joy"]),
        "weights": lambda: layer_figures.layer_weights({"a": weights[0], "b": weights[0]}),
        "history": lambda: figures.training_curves(history),
    }[kind]
    figures.save(draw(), tmp_path / "one.v1")
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "red"}):  # a user's own style
        figures.save(draw(), tmp_path / "two.v1")
    suffixes = ("pdf", "png", "svg")
    names = [f"{name}.v1.{suffix}" for name in ("one", "two") for suffix in suffixes]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    for suffix in suffixes:
        assert (tmp_path / f"one.v1.{suffix}").read_bytes() == (tmp_path / f"two.v1.{suffix}").read_bytes()
    with Image.open(tmp_path / "one.v1.png") as image:
        assert image.width == 3.4 * 200
        assert image.info["dpi"] == pytest.approx((200, 200), rel=1e-3)  # PNG stores whole pixels per metre
    svg = (tmp_path / "one.v1.svg").read_text()
    assert ElementTree.fromstring(svg).tag.endswith("svg")
    assert "dc:date" not in svg


def drawn(name, history, weights):
    """Return a figure of each kind."""
    values = {"utterance_id": range(9), "seed": 1, "fold": 1, "speaker_id": ""}
    values |= {f"{kind}_{label}": np.linspace(1, 5, 9) for kind in ("target", "prediction") for label in "av"}
    scores = pd.DataFrame({"layer": range(NUM_LAYERS), "mean": 50.0, "std": 4.0})
    gains = {"gain": [1.0, 2.0], "low": [0.5, np.nan], "high": [2.0, np.nan], "published": [np.nan, 3.0]}
    gains = pd.DataFrame({"title": ["a", "b"], **gains})
    return {
        "confusion": lambda: figures.confusion_matrix(np.full((7, 7), 31.4), [f"emotion {i}" for i in range(7)]),
        "values": lambda: figures.predicted_values(pd.DataFrame(values), {"a": (1, 5), "v": (1, 5)}),
        "history": lambda: figures.training_curves(history),
        "gains": lambda: figures.relative_gains(gains, metric="UAR"),
        "weights": lambda: layer_figures.layer_weights({str(i): weights[0] for i in range(3)}),
        "scores": lambda: layer_figures.layer_scores({"a": scores}, chance=25, ylabel="UAR (%)"),
    }[name]()


@pytest.mark.parametrize("kind", ["confusion", "values", "history", "gains", "weights", "scores"])
@pytest.mark.parametrize(("width", "inches"), [("single", 3.4), ("double", 7.0)])
def test_figures_fit_a_column_with_text_of_at_least_7_points(kind, width, inches, history, weights, monkeypatch):
    monkeypatch.setenv("FEATCACHE_FIGURE_WIDTH", width)
    figure = drawn(kind, history, weights)
    assert figure.get_figwidth() == inches
    assert min(text.get_fontsize() for text in figure.findobj(matplotlib.text.Text) if text.get_text()) >= 7


def test_another_width_is_refused(monkeypatch):
    monkeypatch.setenv("FEATCACHE_FIGURE_WIDTH", "singel")
    with pytest.raises(StoreError, match=r"^\$FEATCACHE_FIGURE_WIDTH: no width 'singel'; did you mean 'single'\?$"):
        figures.confusion_matrix([[1]], ["a"])


def test_error_bars_of_a_layer_do_not_hide_each_other(weights):
    [axes] = layer_figures.layer_weights({str(i): weights[0] for i in range(4)}).axes
    places = [container.lines[0].get_xdata()[0] for container in axes.containers]
    assert np.diff(sorted(places)).min() > 0.1
    scores = pd.DataFrame({"layer": ["0", "1"]} | dict.fromkeys(CONTRAST, 50.0))
    [axes] = layer_figures.layer_contrast(scores, labels=("a", "b"), chance=None, ylabel="UAR (%)").axes
    bars = [one for one in axes.containers if isinstance(one, ErrorbarContainer)]
    first, second = (one.lines[0].get_xdata() for one in bars if len(one.lines[0].get_xdata()))
    assert (second - first).min() > 0.1


def test_a_pdf_contains_its_fonts_as_truetype(tmp_path):
    figures.save(figures.confusion_matrix([[3, 1], [2, 4]], ["anger", "joy"]), tmp_path / "matrix")
    [page] = pypdf.PdfReader(tmp_path / "matrix.pdf").pages
    assert float(page.mediabox.width) == pytest.approx(72 * 3.4)
    assert "anger" in page.extract_text()
    fonts = [font.get_object() for font in page["/Resources"]["/Font"].values()]
    assert fonts
    for font in fonts:
        assert font["/Subtype"] != "/Type3"  # publishers refuse bitmap and Type 3 fonts
        descriptor = font["/DescendantFonts"][0].get_object() if "/DescendantFonts" in font else font
        assert "/FontFile2" in descriptor["/FontDescriptor"].get_object()


def test_pyplot_stays_unused():
    code = "import sys, featcache.report.figures as f; f.confusion_matrix([[1]], ['a']); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "matplotlib.figure" in loaded
    assert "matplotlib.pyplot" not in loaded


def test_the_drift_of_layers_shows_where_nothing_changed():
    rows = pd.DataFrame({"layer": [2, 3], "mean": [0.99, 0.9], "std": [0.0, 0.1]})
    cka, cosine = layer_figures.layer_drift_panels({"ssl": rows}, {"ssl": rows}, {}).axes
    for axes in (cka, cosine):
        assert [text.get_text() for text in axes.texts] == ["unchanged"]
        assert axes.get_ylim()[1] > 1
