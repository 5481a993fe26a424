"""The option --also: which labels it takes, what it refuses, and what it records."""

from dataclasses import replace

import pytest

import featcache
from featcache.errors import FeatcacheError
from featcache.fitting.fit import fit
from featcache.heads import Head
from featcache.manifest import Manifest, Utterance
from featcache.settings.auxiliary_targets import read_weights

SHORT = {"seeds": 1, "max_epochs": 2, "learning_rate": 0.01, "target": "emotion"}


def manifest(gender="f"):
    """Return a corpus in which the first speaker has no gender, and the session is always the same."""
    return Manifest(
        [
            Utterance(
                utterance_id=f"{speaker}-{emotion}-{number}",
                path="x.wav",
                speaker_id=speaker,
                labels={
                    "emotion": emotion,
                    "gender": {"01": "", "02": "m", "03": gender}.get(speaker, "m"),
                    "arousal": f"{number}.5",
                    "session": "1",
                },
            )
            for speaker in ("01", "02", "03", "04", "05")
            for emotion in ("anger", "joy")
            for number in (1, 2)
        ]
    )


@pytest.fixture
def cache(make_cache, quick_reports):
    return featcache.open(make_cache(manifest=manifest()))


class OneStep(Head):
    """A head that has no pooled vectors."""

    def build(self, frame_sizes, num_outputs, generator):
        import torch

        self.output = torch.nn.Linear(frame_sizes[0], num_outputs)

    def forward(self, features):
        import torch

        [utterances] = self.averaged(features)
        return self.output(torch.stack([frames.mean(dim=0) for frames in utterances]))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("gender:0.2", {"gender": 0.2}),
        (["gender:0.2", "arousal,valence: 1"], {"gender": 0.2, "arousal,valence": 1.0}),
        ({"gender": 0}, {"gender": 0.0}),
        ("a:b:3", {"a:b": 3.0}),
        ("gender:0.2,arousal,valence:1", {"gender": 0.2, "arousal,valence": 1.0}),
        ("none", {}),
        (["none"], {}),
    ],
)
def test_labels_and_weights(value, expected):
    assert read_weights(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        ["none", "a:1"],
        "a:1,b",
        "gender",
        "gender:",
        ":1",
        "gender:-1",
        "gender:nan",
        "gender:1e308",
        {"gender": 10**400},
        5,
        ["a:1", "a:2"],
    ],
)
def test_other_forms_are_one_line(value, cache):
    with pytest.raises(FeatcacheError, match=r"^--also: .*(expected LABEL:WEIGHT|given twice)") as error:
        fit(**SHORT, also=value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"also": "emotion:1"}, "--also emotion: it is the target itself"),
        ({"also": "emotion=joy:1"}, "--also emotion=joy: it is the target itself"),
        ({"also": "sex:1"}, "no utterance has a label 'sex'"),
        ({"also": "session:1"}, "label 'session' has one class only"),
        ({"also": "gender:1", "protocol": "loso", "select": {"speaker_id": ["x"]}}, "no utterance has"),
        (
            {"also": "gender:0.5", "head": "svm", "layers": "last"},
            "--also gender:0.5: head 'svm' learns one target exa",
        ),
        ({"also": "gender:0.5", "head": f"{__name__}:OneStep"}, "has no methods pooled and classify"),
    ],
)
def test_refused_requests_are_one_line(options, message, cache):
    with pytest.raises(FeatcacheError, match=message) as error:
        fit(**({"target": "emotion"} if options.get("head") == "svm" else SHORT), **options)
    assert "\n" not in str(error.value)


def test_a_training_part_needs_two_values(make_cache, quick_reports):
    make_cache(manifest=manifest())  # without speaker 03, only m remains in a training part
    with pytest.raises(FeatcacheError, match=r"--also gender: fold .* trains on 1 of its values only"):
        fit(**SHORT, also="gender:1", protocol="loso")


def test_what_a_run_records(make_cache, quick_reports, tmp_path):
    many = Manifest(
        [
            replace(one, labels=one.labels | {"gender": "" if one.speaker_id == "01" else "fm"[position % 2]})
            for position, one in enumerate(manifest())
        ]
    )
    make_cache(manifest=many)
    plain = fit(**SHORT, protocol="loso")
    assert "also" not in plain.config
    assert "auxiliary_sha256" not in plain.config
    run = fit(**SHORT, protocol="loso", also=["gender:0.5", "arousal:0.1"])
    assert run.config["also"] == {"gender": 0.5, "arousal": 0.1}
    assert run.path != plain.path
    assert not run.predictions.equals(plain.predictions)
    report = (run.path / "report.html").read_text()
    assert "gender (weight 0.5)" in report
    assert "4 of 20 utterances have no label" in report
    zero = fit(**SHORT, protocol="loso", also={"gender": 0})
    assert zero.predictions.equals(plain.predictions)
    assert zero.history.equals(plain.history)
    assert zero.path != plain.path
    same = fit(config=run.path)
    assert same.path == run.path
    head = run.head(seed=123, fold=1)
    assert head.head.state_dict().keys() == plain.head(seed=123, fold=1).head.state_dict().keys()
    other = [
        replace(one, labels=one.labels | {"gender": "m" if one.utterance_id == "02-anger-1" else one.labels["gender"]})
        for one in many
    ]
    Manifest(other).write(tmp_path / "data/cache/toy/manifest.csv")
    changed = fit(**SHORT, protocol="loso", also=["gender:0.5", "arousal:0.1"])
    assert changed.config["auxiliary_sha256"] != run.config["auxiliary_sha256"]
    assert changed.path != run.path
