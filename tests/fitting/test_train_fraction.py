"""``fit --train-fraction``: smaller training parts, one read of the cache, and a learning curve."""

import itertools
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

import featcache
from featcache.cli import app as cli
from featcache.errors import ModelError
from featcache.fitting.fit import fit_combinations
from featcache.fitting.groups import group
from featcache.fitting.plan import plan_runs
from featcache.manifest import Manifest, Utterance
from featcache.report.figures import save
from featcache.report.learning_curve import learning_curve
from featcache.settings.fits import FitSettings
from featcache.training.batches import FeatureWindows

SPEAKERS = tuple(f"{number:02}" for number in range(4))
OPTIONS = {"head": "linear", "seeds": [1], "max_epochs": 1, "protocol": "loso"}


@pytest.fixture
def cache(make_cache, quick_reports):
    manifest = Manifest(
        [
            Utterance(utterance_id=f"{s}-{c}", path=f"{s}-{c}.wav", speaker_id=s, labels={"emotion": c})
            for s in SPEAKERS
            for c in ("anger", "joy")
        ]
    )
    return make_cache(manifest=manifest)


def planned(cache, *fractions, **options):
    requests = [FitSettings(**{**OPTIONS, **options, "train_fraction": fraction}) for fraction in fractions]
    return [one.setup for one in plan_runs(requests, cache=cache)]


def test_fractions_are_trained_with_one_read_and_give_what_each_gives_alone(cache, monkeypatch):
    reads = []
    load = FeatureWindows.load
    monkeypatch.setattr(FeatureWindows, "load", lambda self, ids: (reads.append(len(ids)), load(self, ids))[1])
    runs = featcache.sweep(heads="linear", train_fraction=[0.25, 1.0], seeds=[1], max_epochs=1, protocol="loso")
    assert reads == [8]
    small, full = runs
    assert small.config["train_fraction"] == 0.25
    assert "train_fraction" not in full.config
    assert [fold["train"] for fold in small.config["folds"]] == [2] * 4  # one speaker of two
    alone = featcache.fit(**OPTIONS, train_fraction=0.25, name="alone")
    assert alone.predictions.equals(small.predictions)
    assert not full.predictions.equals(small.predictions)
    # A run without the option is the run of the complete training part.
    assert featcache.fit(**OPTIONS).path == full.path
    assert "for a fraction of 0.25 of the speakers" in (small.path / "report.html").read_text(encoding="utf-8")


def test_global_statistics_are_those_of_the_smaller_training_part(cache):
    [run] = featcache.sweep(
        norms="global", heads="linear", train_fraction=0.5, seeds=[1], max_epochs=1, protocol="loso"
    )
    [setup] = planned(cache, 0.5, norm="global")
    store = featcache.open(cache)["ssl"]
    mean = load_file(run.path / "normalisation.safetensors")["ssl.mean"]
    for fold, found in zip(setup.folds, mean, strict=True):
        assert len(fold.train) == 2  # one of two speakers
        expected = np.concatenate([store[i] for i in fold.train], axis=1).mean(axis=1)
        np.testing.assert_allclose(found, expected, atol=1e-5)  # float32 means of about 20 frames


@pytest.mark.parametrize(("norm", "number"), [("speaker", 1), ("none", 1), ("global", 8)])
def test_only_global_statistics_need_a_read_for_each_fraction(cache, norm, number):
    setups = planned(cache, 0.25, 1.0, norm=norm)
    assert len(group(setups, range(1, 5))) == number


def test_a_fraction_of_a_final_fit_is_refused_in_one_line(cache):
    with pytest.raises(ModelError, match=r"^--train-fraction 0.5: --final trains on all speakers"):
        featcache.fit(**OPTIONS, train_fraction=0.5, final=True)
    with pytest.raises(ModelError, match=r"^--train-fraction takes a number above 0, got 0"):
        featcache.fit(**OPTIONS, train_fraction=0)


def test_a_layer_weighting_without_layer_weights_is_the_same_run(cache):
    options = {**OPTIONS, "layers": "last"}
    assert featcache.fit(**options, layer_weighting="softmax").path == featcache.fit(**options).path
    options = {**OPTIONS, "layers": "all"}
    assert featcache.fit(**options, layer_weighting="softmax").path != featcache.fit(**options).path


def test_the_command_prints_the_learning_curve(cache, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    options = ["--head", "linear", "--seeds", "1,", "--max-epochs", "1", "--train-fraction", "0.1,0.2,1"]
    monkeypatch.setattr(sys, "argv", ["featcache", "fit", *options])
    with pytest.raises(SystemExit) as exited:
        cli.main()
    out, err = capsys.readouterr()
    assert not exited.value.code, err
    assert "fractions 0.1, 0.2 give the same training parts" in err
    lines = out.splitlines()
    assert max(len(line) for line in lines if "/" not in line) <= 80
    assert lines[0].split()[:4] == ["Head", "Fraction", "Speakers", "Utterances"]
    assert sum(line.startswith("linear") for line in lines) == 3
    folder = Path(lines[-1]).parent
    table = pd.read_csv(folder / "learning_curve.csv")
    assert list(table["fraction"]) == [0.1, 0.2, 1]
    assert (folder / "learning_curve.png").exists()
    full = featcache.load_run(folder / table["run"].iloc[-1])
    assert table["mean"].iloc[-1] == pytest.approx(full.metrics["uar"]["mean"])


def test_a_search_for_each_fraction_gives_a_curve(cache):
    searched = {"sweep": {"learning_rate": [1e-3, 1e-2], "layers": ["all", "last"]}}
    runs = fit_combinations({**OPTIONS, **searched}, fractions=[0.5, 1])
    table = pd.read_csv(runs[0].path.parent / "learning_curve.csv")
    assert list(table["fraction"]) == [0.5, 1]
    assert list(table["run"]) == [run.name for run in runs]
    assert set(table["layers"]) == {"searched"}  # one line, whatever each search has chosen
    assert table["mean"].tolist() == pytest.approx([run.metrics["uar"]["mean"] for run in runs])


def curve(*, heads=("dense", "lstm"), seeds=2):
    rows = []
    for head in heads:
        for fraction, speakers in ((0.25, 2), (0.5, 4), (1, 8.5)):
            std = 1.0 if seeds > 1 else None
            rows.append(["ssl", head, "speaker", "all", fraction, speakers, 10 * speakers, "uar"])
            rows[-1] += [40 + speakers, std, 30.0, 60.0, 25.0, seeds, "run"]
    names = ["features", "head", "norm", "layers", "fraction", "speakers", "utterances", "score"]
    return pd.DataFrame(rows, columns=[*names, "mean", "std", "ci95_low", "ci95_high", "chance", "num_seeds", "run"])


def test_labels_of_the_axis_do_not_overlap(tmp_path, monkeypatch):
    monkeypatch.setenv("FEATCACHE_FIGURE_WIDTH", "single")
    table = curve(heads=["dense"])
    sizes = [(120, 10500), (240, 21000), (1020, 89250)] * 2
    table = pd.concat([table, table], ignore_index=True).assign(
        speakers=[speakers for speakers, _ in sizes], utterances=[utterances for _, utterances in sizes]
    )
    figure = learning_curve(table)
    save(figure, tmp_path / "curve")
    boxes = [label.get_window_extent() for label in figure.axes[0].get_xticklabels()]
    assert len(boxes) == 2  # the complete training part and the smallest one that has room
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))


def test_the_figure_has_a_line_per_head_and_both_sizes(monkeypatch):
    for width, inches in (("single", 3.4), ("double", 7.0)):
        monkeypatch.setenv("FEATCACHE_FIGURE_WIDTH", width)
        figure = learning_curve(curve())
        assert figure.get_figwidth() == inches
    [axes] = figure.axes
    assert len(axes.containers) == 2
    np.testing.assert_array_equal(axes.containers[0].lines[0].get_ydata(), [42, 44, 48.5])
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["8.5\n85", "4\n40", "2\n20"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["dense", "lstm"]
    assert learning_curve(curve(heads=["dense"], seeds=1)).legends == []
