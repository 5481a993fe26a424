"""Losses, class weights and soft labels of a fit: counted in training parts, refused early, recorded if not default."""

from dataclasses import replace

import numpy as np
import pytest
import yaml
from sklearn.utils.class_weight import compute_class_weight

import featcache
from featcache.cache.reader import FeatureCache
from featcache.errors import ManifestError, ModelError
from featcache.fitting.fit import fit
from featcache.fitting.objective import class_weights_of, objective_of
from featcache.fitting.resolve import resolve
from featcache.manifest import Manifest, Utterance
from featcache.runs.identity import identity
from featcache.settings.checked import configured
from featcache.settings.fits import FitSettings
from featcache.targets.losses import CLASSIFICATION, REGRESSION

# Utterances of each class, per part; the last class is not in the training part.
PARTS = {
    "train": ["anger"] * 5 + ["joy"] * 2 + ["sadness"],
    "validation": ["anger", "joy", "sadness", "fear"],
    "test": ["anger", "joy", "fear"],
}
CLASSES = ("anger", "fear", "joy", "sadness")
SHORT = {"target": "emotion", "norm": "none", "seeds": (1,), "max_epochs": 1, "features": ["ssl"]}


def manifest_of(parts=PARTS, **further):
    """Make a manifest with a split, a number per utterance, and further labels by function of number and class."""
    rows = [(part, name) for part, names in parts.items() for name in names]
    return Manifest(
        [
            Utterance(
                utterance_id=f"u{number}",
                path=f"{number}.wav",
                speaker_id=part,
                labels={
                    "emotion": name,
                    "split": part,
                    "arousal": str(number),
                    **{column: of(number, name) for column, of in further.items()},
                },
            )
            for number, (part, name) in enumerate(rows)
        ]
    )


VOTES = {
    f"votes_emotion_{name}": (lambda number, own, name=name: str(3 * (own == name) + number % 2)) for name in CLASSES
}


@pytest.fixture
def cache(make_cache, quick_reports):
    """Return the cache of a corpus with three parts and votes of annotators."""
    return featcache.open(make_cache(manifest=manifest_of(**VOTES)))


def resolved(cache, **options):
    return resolve(FeatureCache(cache.path), configured(FitSettings, {**SHORT, **options}))


def test_balanced_weights_are_those_of_scikit_learn_in_the_training_part(cache):
    setup = resolved(cache, class_weights="balanced")
    [fold] = setup.folds
    labels = np.array([setup.manifest[i].labels["emotion"] for i in fold.train])
    present = np.unique(labels)
    expected = dict(zip(present, compute_class_weight("balanced", classes=present, y=labels), strict=True))
    assert class_weights_of(setup, fold) == pytest.approx([expected.get(name, 1.0) for name in CLASSES])
    # Views of training utterances, which are not in the manifest, change nothing.
    assert class_weights_of(setup, replace(fold, train=(*fold.train, "view of u1"))) == class_weights_of(setup, fold)


def test_labels_of_other_parts_change_no_weight(cache):
    before = resolved(cache, class_weights="balanced")
    shuffled = manifest_of({**PARTS, "validation": PARTS["validation"][::-1], "test": ["joy", "fear", "fear"]}, **VOTES)
    shuffled.write(cache.path / "manifest.csv")
    after = resolved(cache, class_weights="balanced")
    assert after.config["labels_sha256"] != before.config["labels_sha256"]
    assert class_weights_of(after, after.folds[0]) == class_weights_of(before, before.folds[0])


def test_weights_by_name_are_1_for_other_classes(cache):
    setup = resolved(cache, class_weights="joy=1.5,anger=2")
    assert class_weights_of(setup, setup.folds[0]) == [2, 1, 1.5, 1]
    setup = resolved(cache, class_weights={"rest": 3}, target="emotion=joy")
    assert class_weights_of(setup, setup.folds[0]) == [3, 1]
    assert class_weights_of(resolved(cache), setup.folds[0]) is None


def test_without_the_options_the_objective_and_the_identity_stay_as_they_were(cache):
    plain = resolved(cache)
    assert objective_of(plain, plain.folds[0]) is CLASSIFICATION
    assert not {"loss", "class_weights", "votes_sha256"} & set(plain.config)
    same = resolved(cache, loss="cross-entropy", class_weights="none")
    assert (same.config, objective_of(same, same.folds[0])) == (plain.config, CLASSIFICATION)
    values = {"target": "arousal", "task": "regression"}
    assert resolved(cache, loss="ccc", **values).config == resolved(cache, **values).config
    assert objective_of(resolved(cache, loss="ccc", **values), plain.folds[0]).loss is REGRESSION.loss


def test_columns_of_votes_make_no_other_run_unless_they_are_used(cache):
    plain, soft = resolved(cache), resolved(cache, loss="soft")
    manifest_of().write(cache.path / "manifest.csv")
    assert identity(resolved(cache).config) == identity(plain.config)
    other = {**VOTES, "votes_emotion_joy": lambda *_: "7"}
    manifest_of(**other).write(cache.path / "manifest.csv")
    assert identity(resolved(cache).config) == identity(plain.config)
    assert resolved(cache, loss="soft").config["votes_sha256"] != soft.config["votes_sha256"]


def test_soft_labels_are_shares_of_the_votes_followed_by_the_hard_label(cache):
    setup = resolved(cache, loss="soft")
    joy = setup.manifest["u5"]  # one more vote for each class
    assert setup.target.value(joy) == [1 / 7, 1 / 7, 4 / 7, 1 / 7, 0, 0, 1, 0]
    one = resolved(cache, loss="soft", target="emotion=joy")
    assert one.target.value(joy) == pytest.approx([3 / 7, 4 / 7, 0, 1])
    assert not one.notes[0].startswith("Soft")


def test_utterances_without_votes_have_the_hard_label_which_is_reported(cache):
    votes = {name: (lambda number, own, of=of: "" if number == 5 else of(number, own)) for name, of in VOTES.items()}
    manifest_of(**votes).write(cache.path / "manifest.csv")
    setup = resolved(cache, loss="soft")
    assert setup.target.value(setup.manifest["u5"]) == [0, 0, 1, 0] * 2
    assert "Soft labels: 1 utterance has no votes for these classes, so that the hard label was used." in setup.notes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"class_weights": "angr=2"}, "--class-weights angr=2: no class 'angr'; did you mean 'anger'"),
        ({"class_weights": "balanced", "target": "arousal", "task": "regression"}, "weights of classes need a classif"),
        ({"loss": "mse"}, "--loss mse: this loss cannot train a classification; expected 'cross-entropy', 'focal', 's"),
        (
            {"loss": "soft", "target": "arousal", "task": "regression"},
            "cannot train a regression; expected 'ccc'",
        ),
        ({"loss": "focal", "head": "svm", "layers": "last"}, "--loss focal:2: head 'svm' has a loss of its own"),
    ],
)
def test_what_does_not_fit_the_target_or_the_head_is_refused_in_one_line(cache, options, message):
    with pytest.raises(ModelError, match=message) as error:
        resolved(cache, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("votes", "message"),
    [
        ({}, "the manifest lacks 4 columns: 'votes_emotion_anger', .*; run the same 'featcache extract' again, which"),
        ({"votes_emotion_anger": lambda *_: "1"}, "lacks 3 columns: 'votes_emotion_fear'"),
        (dict.fromkeys(VOTES, lambda *_: ""), "no utterance has a vote in 'votes_emotion_anger'"),
        (
            {**VOTES, "votes_emotion_joy": lambda *_: "-1"},
            "votes_emotion_joy of utterance 'u0' is '-1', exp",
        ),
        (
            {**VOTES, "votes_emotion_joy": lambda *_: "nan"},
            "votes_emotion_joy of utterance 'u0' is 'nan', exp",
        ),
        (
            {**VOTES, "votes_emotion_joy": lambda *_: "1e308"},
            "votes_emotion_joy of utterance 'u0' is '1e308', expected a number of votes from 0 to 1e[+]100",
        ),
    ],
)
def test_missing_and_faulty_votes_are_told_in_one_line(cache, votes, message):
    manifest_of(**votes).write(cache.path / "manifest.csv")
    with pytest.raises(ManifestError, match=message) as error:
        resolved(cache, loss="soft")
    assert "\n" not in str(error.value)


def test_a_run_records_its_loss_and_weights_and_config_repeats_it(cache):
    run = fit(**SHORT, head="mlp", loss="focal", class_weights={"joy": 2, "anger": 1.5}, name="mine")
    config = yaml.safe_load((run.path / "config.yaml").read_text())
    assert (config["loss"], config["class_weights"]) == ("focal:2", {"anger": 1.5, "joy": 2.0})
    assert fit(config=run.path, name="mine").path == run.path
    report = (run.path / "report.html").read_text()
    assert "Loss: focal:2." in report
    assert "Weights of the classes in the loss: anger 1.5, joy 2; 1 for other classes." in report
    soft = fit(**SHORT, head="attentive", loss="soft", class_weights="balanced")
    assert np.isfinite(soft.predictions.filter(like="p_").to_numpy()).all()
    assert soft.metrics["uar"]["mean"] >= 0


def test_votes_are_no_label_to_predict(cache):
    assert [u.has_label for u in Manifest([Utterance(utterance_id="a", path="a", labels={"votes_x_y": "1"})])] == [
        False
    ]
    rows = [
        replace(u, labels={k: v for k, v in u.labels.items() if k not in ("split", "arousal")}) for u in cache.manifest
    ]
    Manifest(rows).write(cache.path / "manifest.csv")
    assert resolved(cache, target=None, protocol="loso").target.name == "emotion"
