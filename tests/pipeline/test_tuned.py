"""Pipelines with fine-tuned runs, and with frozen heads on stores of their models."""

import csv
import re

import pytest
import yaml

import featcache
from featcache.cli.pipelines import run_and_print
from featcache.errors import PipelineError
from featcache.pipeline.read import read_pipeline
from featcache.runs.model_files import checked_model
from featcache.runs.reader import RunFolder
from featcache.settings.finetunings import FinetuneSettings

CONTENT = {
    "title": "A small one",
    "corpus": "ravdess",
    "stores": {
        "local": {"model": "wav2vec2-base", "layers": "local", "store": "float32"},
        "tuned": {"run": "ft", "fold": 1, "layers": "last", "pool": "true"},
    },
    "defaults": {"protocol": "pepino2021", "seeds": "1", "max_epochs": "1", "norm": "global", "learning_rate": "1e-4"},
    "finetuned": {"head": "ffn", "blocks_learning_rate": "1e-3", "batch_size": "8", "max_steps": "4"},
    "runs": {
        "frz": {"title": "frozen after tuning", "features": "tuned", "head": "ffn"},
        "ft": {"title": "fine-tuned", "features": "local", "from_layer": "0"},
    },
}


@pytest.fixture
def write(tmp_path):
    """Write the pipeline after changes to fields: ``write({("runs", "ft", "norm"): "none"})``; None removes one."""

    def call(changes=None):
        content = yaml.safe_load(yaml.safe_dump(CONTENT))
        for (*sections, field), value in (changes or {}).items():
            part = content
            for section in sections:
                part = part.setdefault(section, {})
            part[field] = value
            if value is None:
                del part[field]
        path = tmp_path / "mine.yaml"
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        return path

    return call


def table_of(folder):
    with open(folder / "results.csv", newline="", encoding="utf-8") as file:
        return {row["name"]: row for row in csv.DictReader(file)}


def test_settings_of_fine_tuned_runs_override_the_defaults(write):
    pipeline = read_pipeline(write({("runs", "ft", "batch_size"): "4"}))
    tuned, frozen = (pipeline.run(name).options for name in ("ft", "frz"))
    assert isinstance(tuned, FinetuneSettings)
    assert (tuned.norm, tuned.layers, tuned.head, tuned.max_steps, tuned.batch_size) == ("none", "last", "ffn", 4, 4)
    assert (tuned.protocol, tuned.learning_rate, tuned.from_layer) == ("pepino2021", 1e-4, (0,))
    assert not isinstance(frozen, FinetuneSettings)
    assert (frozen.norm, frozen.layers, frozen.batch_size) == ("global", "all", None)


def test_frozen_heads_read_the_model_of_the_fine_tuned_run(home, write, tiny_models, counted, capsys):
    run_and_print(pipeline=write(), home=home, dry_run=True)
    told = capsys.readouterr().out
    # Layer 0 of the published model has 50 frames per second of 768 values. Each utterance has three statistics too.
    [size] = re.findall(r"local +wav2vec2-base +97 utterances to extract, about ([0-9.]+) MB", told)
    assert float(size) == pytest.approx(97 * (0.26 * 50 + 3) * 768 * 4 / 1e6, rel=0.1)
    [folder] = run_and_print(pipeline=write(), home=home, only=["frz"]).folders  # its fine-tuned run comes along
    rows = table_of(folder)
    assert list(rows) == ["frz", "ft"]
    tuned, frozen = (RunFolder(folder.parent / rows[name]["run"]) for name in ("ft", "frz"))
    assert (tuned.config["from_layer"], tuned.config["max_steps"]) == ([0], 4)
    [name] = frozen.config["features"]
    assert counted["extractions"] == ["local", name]
    store = featcache.open(home / "cache" / "ravdess")[name]
    assert (store.pooled_only, len(store.layer_names), len(store)) == (True, 1, 97)
    origin = store.identity.settings["fine_tuned"]
    _, sha256 = checked_model(tuned.path, "local", seed=tuned.config["seeds"][0], fold=1)
    assert (origin["run"], origin["models_sha256"]) == (tuned.name, {"1": sha256})

    for done in (tiny_models, *counted.values()):
        done.clear()
    assert table_of(run_and_print(pipeline=write(), home=home).folders[0]) == rows
    assert counted == {"extractions": [], "runs": []}
    assert tiny_models == []
    assert "nothing to extract or train" in capsys.readouterr().out

    # Another fine-tuned model has another store, so that the first one is not in its way.
    changed = write({("finetuned", "blocks_learning_rate"): "1e-2"})
    run_and_print(pipeline=changed, home=home)
    [other] = counted["extractions"]
    assert len(counted["runs"]) == 2
    assert other.startswith("tuned-")
    assert other != name


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({("runs", "frz", "max_steps"): "4"}, "'max_steps' is for fine-tuned runs; add 'from_layer', or remove it"),
        ({("runs", "ft", "norm"): "global"}, "blocks need stored layers as they are; expected none, found global"),
        ({("runs", "ft", "mask_time"): "1x2"}, "'mask_time' is not available for fine-tuned runs"),
        ({("runs", "ft", "head"): "svm"}, "'svm' is fitted by a solver, which cannot train blocks"),
        ({("runs", "ft", "layers"): "each"}, "'layers: each' is not available for fine-tuned runs"),
        ({("runs", "ft", "from_layer"): "0,0"}, "expected the number of a layer for each store, found 2 for 1"),
        ({("runs", "ft", "features"): "tuned"}, "made from a run, whose model cannot be fine-tuned further"),
        ({("stores", "local", "pool"): "true", ("stores", "local", "store"): None}, "contains statistics only"),
        ({("stores", "local"): {"model": "egemaps"}}, "contains no layers of a model"),
        ({("stores", "tuned", "run"): "fx"}, "no run 'fx'; did you mean 'ft'"),
        ({("stores", "tuned", "run"): "frz"}, "run 'frz' has no model of its own; name a fine-tuned run"),
        ({("stores", "tuned", "model"): "wav2vec2-base"}, "expected either 'model', 'text' or 'run'"),
        ({("stores", "tuned", "num_blocks"): "2"}, "the model of 'run' is complete; remove 'num_blocks' and 'weights'"),
        ({("stores", "local", "fold"): "1"}, "'fold' applies to 'run' only"),
        ({("runs", "frz", "layers"): "each"}, "'layers: each' is not available for the store of a fine-tuned run"),
    ],
)
def test_mistakes_are_told_before_anything_is_extracted(write, changes, told):
    with pytest.raises(PipelineError, match=told) as caught:
        read_pipeline(write(changes))
    assert "\n" not in str(caught.value)
