"""Two runs per layer, with the model of the user: names, rows, numbers and refusals."""

import csv
from types import SimpleNamespace

import pytest

from featcache.cache.reader import FeatureCache
from featcache.errors import PipelineError
from featcache.evaluate.compare import compare
from featcache.evaluate.holm import holm
from featcache.extractors import store_name
from featcache.pipeline import find_pipeline, outputs, read_pipeline, run_pipeline, shipped_pipelines
from featcache.pipeline.other_model import with_model
from featcache.runs.reader import RunFolder, load_predictions

LAYERED = """title: Layers
corpus: ravdess
stores:
  wav2vec2-base: {model: wav2vec2-base}
  wav2vec2-base-random: {model: wav2vec2-base, weights: random}
defaults: {head: svm, protocol: group-kfold, norm: global}
runs:
  trained: {title: trained, features: wav2vec2-base, layers: each}
  untrained: {title: untrained, features: wav2vec2-base-random, layers: each}
contrasts:
  layers: {runs: [trained, untrained]}
"""


@pytest.fixture
def layered(tmp_path):
    """Write the pipeline after text changes."""

    def write(*changes):
        text = LAYERED
        for old, new in changes:
            assert old in text
            text = text.replace(old, new, 1)
        path = tmp_path / "layered.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def model(tiny_model):
    """Return the folder of a tiny model with one block."""
    return str(tiny_model("wav2vec2", num_hidden_layers=1))


def test_each_layer_is_compared_with_the_untrained_one(layered, home, model):
    [folder] = run_pipeline(pipeline=layered(), model=model, home=home, limit=48).folders
    tiny = store_name(model)
    assert folder.name == f"layered_{tiny}"
    cache = FeatureCache(home / "cache/ravdess")
    assert {name for name in cache if name != "egemaps"} == {tiny, f"{tiny}-random"}
    rows = {
        row["name"]: row for row in csv.DictReader((folder / "results.csv").read_text(encoding="utf-8").splitlines())
    }
    layers = cache[tiny].layer_names
    assert list(rows) == [f"{run}-{layer}" for run in ("trained", "untrained") for layer in layers]
    found = list(csv.DictReader((folder / "layers.csv").read_text(encoding="utf-8").splitlines()))
    assert [row["layer"] for row in found] == list(layers)
    for row in found:
        runs = {
            run: load_predictions(RunFolder(folder.parent / rows[f"{run}-{row['layer']}"]["run"]))
            for run in ("trained", "untrained")
        }
        [expected] = compare(runs, score="uar")
        assert float(row["difference"]) == pytest.approx(expected.difference)
        assert float(row["p"]) == pytest.approx(expected.p_speakers)
    corrected = holm([float(row["p"]) for row in found])
    assert [float(row["p_holm"]) for row in found] == pytest.approx(corrected)
    text = (folder / "results.md").read_text(encoding="utf-8")
    assert "| Layer | trained | 95 % CI | untrained | 95 % CI | Diff. | 95 % CI | p |" in text
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "UAR (%) of each layer" in page


def test_the_plan_of_an_unknown_model_has_one_line_per_run(layered, home, monkeypatch, capsys):
    from featcache.cli.pipelines import run_and_print

    monkeypatch.setenv("COLUMNS", "200")
    run_and_print(pipeline=layered(), model="somebody/some-model", home=home, dry_run=True)
    printed = capsys.readouterr().out
    assert printed.count("one run per layer; the number is unknown without the model") == 2
    assert "somebody--some-model-random" in printed
    assert not (home / "cache").exists()


def test_the_names_of_stores_follow_the_model(layered, model):
    pipeline = read_pipeline(
        layered(
            ("wav2vec2-base-random: {", "own: {model: wav2vec2-base, layers: last}\n  wav2vec2-base-random: {"),
            ("features: wav2vec2-base, layers: each}", "features: own, layers: last}"),
            ("contrasts:\n  layers: {runs: [trained, untrained]}\n", ""),
        )
    )
    found = with_model(pipeline, model)
    tiny = store_name(model)
    assert list(found.stores) == [tiny, f"{tiny}-own", f"{tiny}-random"]
    assert {spec.model for spec in found.stores.values()} == {model}
    assert found.stores[f"{tiny}-random"].weights == "random"
    assert found.run("trained").features == (f"{tiny}-own",)
    assert found.run("untrained").features == (f"{tiny}-random",)


def test_the_run_of_a_layer_does_not_replace_another_run(layered, home, model):
    path = layered(("contrasts:", "  trained-1: {title: other, features: wav2vec2-base, layers: last}\ncontrasts:"))
    with pytest.raises(
        PipelineError, match="'trained' with 'layers: each' makes a run trained-1, which exists; rename"
    ):
        run_pipeline(pipeline=path, model=model, home=home, dry_run=True)


@pytest.mark.parametrize("name", list(shipped_pipelines()))
def test_a_model_replaces_the_only_model_of_a_pipeline_or_is_refused_in_one_line(name, model):
    pipeline = read_pipeline(find_pipeline(name))
    speech = {spec.model for spec in pipeline.stores.values() if spec.model and spec.is_model}
    if len(speech) == 1:
        assert model in {spec.model for spec in with_model(pipeline, model).stores.values()}
        return
    with pytest.raises(
        PipelineError, match=r"^--model .*: the pipeline has (no speech model|\d+ speech models)[^\n]*$"
    ):
        with_model(pipeline, model)


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("wav2vec2-bas", "no model 'wav2vec2-bas'; did you mean 'wav2vec2-base'"),
        ("egemaps", "these features have no layers; name a speech model"),
    ],
)
def test_models_that_cannot_replace_another(layered, model, told):
    with pytest.raises(PipelineError) as caught:
        with_model(read_pipeline(layered()), model)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("runs: [trained, untrained]", "runs: [trained, other]"), "no run 'other'"),
        (("layers: each}", "layers: last}"), "expected runs with 'layers: each', found 'trained'"),
        (("runs: [trained, untrained]", "runs: [trained, untrained], all: [trained, untrained]"), "runs without"),
        (("features: wav2vec2-base,", "features: [wav2vec2-base, wav2vec2-base-random],"), "needs a single store"),
        (("contrasts:", "comparisons:"), "run 'trained' has 'layers: each', so it is several runs; use 'contrasts'"),
    ],
)
def test_contrasts_that_contradict_themselves(layered, change, told):
    with pytest.raises(PipelineError) as caught:
        read_pipeline(layered(change))
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("[trained, untrained]", "[trained, trained]"), "run 'trained' cannot be compared with itself"),
        (("[trained, untrained]", "trained"), "runs: expected two runs, found 1"),
        (("[trained, untrained]", "[trained, untrained, a]"), "runs: expected two runs, found 3"),
        (("title: untrained", "title: trained"), "both runs have the title 'trained'; rename one"),
        (("corpus: ravdess", "metric: rmse"), "the first metric is 'rmse', but runs are compared in uar"),
        (("  layers: {runs", "  results: {runs"), "the table of the pipeline also have the name 'results'; choose"),
        (("contrasts:", "comparisons:\n  layers: {runs: [a, b]}\ncontrasts:"), "also have the name 'layers'; choose"),
    ],
)
def test_a_contrast_that_cannot_be_made_is_told_before_the_work(layered, change, message):
    with pytest.raises(PipelineError, match=message) as told:
        read_pipeline(layered(change))
    assert "\n" not in str(told.value)


def test_two_runs_of_the_same_random_weights_are_not_called_trained_and_untrained(layered, home, model, caplog):
    [folder] = run_pipeline(pipeline=layered(), model=model, home=home, limit=48, weights="random").folders
    assert "layers not compared: trained and untrained are the same fit of the same features" in caplog.text
    assert not (folder / "layers.csv").exists()
    assert "UAR (%) of each layer" not in (folder / "report.html").read_text(encoding="utf-8")


def test_all_layers_alone_are_compared_and_drawn(layered, home, model):
    runs = "  a: {title: a, features: wav2vec2-base, layers: all, head: linear, seeds: 1, max_epochs: 1}\n"
    runs += runs.replace("a: {title: a, features: wav2vec2-base", "b: {title: b, features: wav2vec2-base-random")
    path = layered(("contrasts:\n", f"{runs}contrasts:\n"), ("untrained]}", "untrained], all: [a, b]}"))
    [folder] = run_pipeline(pipeline=path, model=model, home=home, limit=48, only="a,b").folders
    [row] = csv.DictReader((folder / "layers.csv").read_text(encoding="utf-8").splitlines())
    assert row["layer"] == "all"
    assert (folder / "layers.png").exists()


@pytest.mark.parametrize(
    ("metrics", "metric", "expected"),
    [
        ({"ccc": {}, "dimensions": ["valence"]}, "ccc_valence", "ccc"),
        ({"ccc": {}, "ccc_valence": {}, "dimensions": ["valence", "arousal"]}, "ccc_valence", "ccc_valence"),
        ({"uar": {}}, "uar", "uar"),
    ],
)
def test_the_score_of_a_single_dimension_has_two_names(metrics, metric, expected):
    assert outputs._name_of_score(SimpleNamespace(metrics=metrics), metric) == expected
