"""No choice uses labels of the test part: weights, epochs, C and penalties do not change if they are shuffled."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import featcache
from featcache.fitting.common_options import options_for
from featcache.fitting.fit import fit
from featcache.fitting.probe import probe_layers
from featcache.fitting.resolve import resolve
from featcache.manifest import Manifest, Utterance
from featcache.protocols import make_folds
from featcache.settings.fits import FitSettings

QUICK = {"seeds": (1, 2), "max_epochs": 4, "learning_rate": 0.02, "patience": 1}

pytestmark = pytest.mark.usefixtures("quick_reports")


@pytest.fixture
def cache(make_cache):
    """Make a corpus of six speakers in three parts."""
    rng = np.random.default_rng(1)
    parts = {"a": "train", "b": "train", "c": "train", "d": "validation", "e": "validation", "f": "test", "g": "test"}
    manifest = Manifest(
        [
            Utterance(
                utterance_id=f"{speaker}{number}",
                path="x.wav",
                speaker_id=speaker,
                labels={
                    "emotion": ("anger", "joy", "fear")[number % 3],
                    "arousal": f"{rng.uniform(1, 7):.3f}",
                    "split": part,
                },
            )
            for speaker, part in parts.items()
            for number in range(6)
        ]
    )
    return featcache.open(make_cache(manifest=manifest))


def shuffle(cache, ids, seed=3):
    """Shuffle the labels among the given utterances."""
    rows = {utterance.utterance_id: utterance for utterance in cache.manifest}
    order = np.random.default_rng(seed).permutation(len(ids))
    drawn = {one: rows[ids[other]].labels for one, other in zip(ids, order, strict=True)}
    assert any(drawn[i]["emotion"] != rows[i].labels["emotion"] for i in ids)
    changed = [
        replace(row, labels={**drawn[i], "split": row.labels["split"]}) if i in drawn else row
        for i, row in rows.items()
    ]
    Manifest(changed).write(cache.path / "manifest.csv")


def choices(run, folds):
    """Return everything that was learned and chosen in some folds, and the outputs, without the test labels."""
    heads = {
        path.name: path.read_bytes()
        for path in (run.path / "heads").iterdir()
        if path.stem.rpartition("-")[2] in map(str, folds)
    }
    validation = pd.read_csv(run.path / "validation_predictions.csv")
    tables = [run.history, run.layer_weights, validation, run.predictions.filter(regex="^(?!target)")]
    return heads, [table[table["fold"].isin(folds)].to_csv(index=False) for table in tables]


TASKS = [
    {"head": "dense"},
    {"head": "lstm", "norm": "global"},
    {"head": "linear", "norm": "none"},
    {"head": "svm", "layers": "last"},
    {"head": "logistic", "layers": "last"},
    {"head": "svm", "layers": "last", "target": "arousal", "task": "regression", "label_range": (1, 7)},
    {"head": "dense", "target": "arousal", "task": "regression"},
]


@pytest.mark.parametrize("options", TASKS, ids=lambda options: "-".join(map(str, options.values())))
def test_shuffled_test_labels_change_no_choice(cache, options):
    options = {"target": "emotion", "protocol": "split", **options}
    before = fit(name="before", **options_for(options["head"], QUICK), **options)
    shuffle(cache, [u.utterance_id for u in cache.manifest if u.labels["split"] == "test"])
    after = fit(name="after", **options_for(options["head"], QUICK), **options)
    assert before.config["labels_sha256"] != after.config["labels_sha256"]
    assert choices(after, [1]) == choices(before, [1])
    targets = [run.predictions.filter(regex="^target").to_csv() for run in (before, after)]
    assert targets[0] != targets[1]


@pytest.mark.parametrize("options", [TASKS[0], TASKS[3]], ids=["dense", "svm"])
def test_in_a_cross_validation_the_fold_that_tests_them_chooses_as_before(cache, options):
    options = {"target": "emotion", "protocol": "loso", **options}
    before = fit(name="before", **options_for(options["head"], QUICK), **options)
    [number] = [fold["fold"] for fold in before.config["folds"] if fold["name"] == "f"]
    shuffle(cache, [u.utterance_id for u in cache.manifest if u.speaker_id == "f"])
    after = fit(name="after", **options_for(options["head"], QUICK), **options)
    assert choices(after, [number]) == choices(before, [number])
    others = [fold["fold"] for fold in before.config["folds"] if fold["fold"] != number]
    assert choices(after, others) != choices(before, others)  # other folds train on them


@pytest.mark.parametrize(("target", "task"), [("emotion", None), ("arousal", "regression")])
def test_penalties_of_probes_are_chosen_without_them(cache, target, task):
    found = []
    for _ in range(2):
        opened = featcache.open(cache.path)
        setup = resolve(opened, FitSettings(seeds=(1,), target=target, task=task, protocol="split", label_range=None))
        found.append(probe_layers(opened["ssl"], [setup.target], setup.manifest, setup.folds))
        shuffle(cache, [u.utterance_id for u in cache.manifest if u.labels["split"] == "test"])
    assert found[0]["penalty"].tolist() == found[1]["penalty"].tolist()
    assert found[0]["score"].tolist() != found[1]["score"].tolist()


def test_heads_never_train_on_what_decides_about_them(cache):
    for protocol in ("split", "loso", "group-kfold", "random-80-20"):
        for fold in make_folds(protocol, cache.manifest, "emotion"):
            assert not set(fold.train) & {*fold.validation, *fold.test}
            assert not set(fold.validation) & set(fold.test)
