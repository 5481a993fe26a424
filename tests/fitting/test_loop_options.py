"""Options of the training steps in a fit: recorded, refused where they have no effect, read again from a run."""

import pandas as pd
import pytest

from featcache.errors import ModelError
from featcache.fitting.common_options import options_for
from featcache.fitting.convergence import convergence_notes
from featcache.fitting.fit import fit
from featcache.heads import SOLVERS
from featcache.settings.fits import TRAINING_STEPS
from featcache.settings.training_loop import LoopSettings

pytestmark = pytest.mark.usefixtures("quick_reports")

OPTIONS = {
    "optimizer": "adamw",
    "weight_decay": 0.1,
    "schedule": "cosine",
    "warmup": 0.2,
    "stop_on": "uar",
    "evaluate_every": 2,
    "sampler": "balanced",
    "mixup": 0.2,
    "mask_time": "1x2",
    "mask_dims": "1x2",
    "feature_noise": 0.1,
    "crop": 4,
}
TRAINING = {
    "learning_rate": 0.01,
    "batch_size": 4,
    "max_epochs": 3,
    "patience": 2,
    "clip_value": 0.5,
    "epsilon": 1e-6,
}
AROUSAL = {"target": "arousal", "task": "regression", "label_range": (0, 10)}
QUICK = {"seeds": (1,), "max_epochs": 2, "batch_size": 4, "learning_rate": 0.01}


def test_options_are_recorded_and_read_again_and_defaults_are_not(make_cache):
    make_cache(stores={"ssl": {}, "egemaps": {"kind": "egemaps"}})
    assert OPTIONS.keys() == LoopSettings.__dataclass_fields__.keys()
    assert {*OPTIONS, *TRAINING} == {*TRAINING_STEPS}
    plain = fit(head="fusion", **QUICK)
    assert not OPTIONS.keys() & plain.config.keys()
    assert list(plain.history) == ["seed", "fold", "epoch", "train_loss", "validation_loss", "validation_uar"]
    zero = fit(head="fusion", **QUICK, mask_time="0x10", mask_dims="3x0", mixup=0.0, feature_noise=0, crop=0, warmup=0)
    assert zero.path == plain.path
    run = fit(head="fusion", **QUICK, **OPTIONS)
    assert {name: run.config[name] for name in OPTIONS} == OPTIONS
    assert run.path != plain.path
    assert fit(config=run.path).path == run.path
    assert list(run.history)[-1] == "step"
    assert run.history["step"].is_monotonic_increasing or run.history["fold"].nunique() > 1
    [note] = convergence_notes(run)
    assert "less than 4 evaluations after their highest validation UAR; raise" in note
    assert len(run.metrics["uar"]["per_seed"]) == 1


def test_processes_and_windows_give_the_same_steps(make_cache):
    make_cache()
    asked = {**QUICK, **OPTIONS}
    alone = fit(**asked, name="alone")
    shared = fit(**asked, name="shared", jobs=2)
    columns = ["seed", "fold", "epoch", "step", "validation_loss"]
    pd.testing.assert_frame_equal(alone.history[columns], shared.history[columns], check_exact=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        *(
            ({"head": head, "layers": "last", name: value}, f"^--{name.replace('_', '-')} .*: head '{head}' is fitted")
            for head in SOLVERS
            for name, value in {**OPTIONS, **TRAINING}.items()
        ),
        *(
            ({"head": "linear", name: OPTIONS[name]}, r"features are pooled before training \(mean\)")
            for name in ("mask_time", "mask_dims", "crop")
        ),
        *(
            (
                {"features": "functionals", name: OPTIONS[name]},
                "functionals has one vector per utterance, and no frames",
            )
            for name in ("mask_time", "crop")
        ),
        (
            {"crop": 5000},
            r"^--crop 5000: at most \d+ frames of each utterance are used, so nothing is cropped; expected",
        ),
        ({"crop": 3, "max_frames": 3}, r"^--crop 3: at most 3 frames of each utterance are used"),
        ({"stop_on": "ccc"}, "^--stop-on ccc: the validation score of emotion is uar; use loss or uar$"),
        ({**AROUSAL, "stop_on": "uar"}, "validation score of arousal is ccc; use loss or ccc$"),
        ({**AROUSAL, "sampler": "balanced"}, "^--sampler balanced: arousal has no classes"),
        ({"optimizer": "sgd", "epsilon": 1e-3}, "^--epsilon 0.001: sgd has no epsilon"),
        ({"mask_time": "2"}, "^--mask-time: expected COUNTxWIDTH"),
        ({"warmup": 1.5}, "^--warmup: expected a number of steps"),
        (
            {"schedule": "cosin"},
            "--schedule takes constant, linear, cosine or plateau, got 'cosin'; did you mean 'cosine'",
        ),
    ],
)
def test_options_without_an_effect_are_refused_in_one_line(make_cache, arousal, options, message):
    make_cache(manifest=arousal, stores={"ssl": {}, "functionals": {"kind": "functionals"}})
    with pytest.raises(ModelError, match=message) as error:
        fit(**{"features": "ssl", "target": "emotion", **options_for(options.get("head", ""), QUICK), **options})
    assert "\n" not in str(error.value)


@pytest.fixture
def arousal():
    """Return a manifest with a class and a dimensional label."""
    from featcache.manifest import Manifest, Utterance

    return Manifest(
        [
            Utterance(
                utterance_id=f"{speaker}{n}",
                path="x.wav",
                speaker_id=speaker,
                labels={"emotion": ("joy", "anger")[n % 2], "arousal": f"{1 + n + 0.5 * len(speaker)}"},
            )
            for speaker in "abcd"
            for n in range(4)
        ]
    )


def test_a_head_of_your_own_needs_two_steps_for_mixup(make_cache, tmp_path):
    make_cache()
    (tmp_path / "mine.py").write_text(
        "from torch import nn\n"
        "from featcache.heads import Head, HeadSpec\n"
        "from featcache.heads.base import frames_of, mean_over_frames\n\n\n"
        "class Mine(Head):\n"
        "    spec = HeadSpec()\n\n"
        "    def build(self, frame_sizes, num_outputs, generator):\n"
        "        self.output = nn.Linear(frame_sizes[0], num_outputs)\n\n"
        "    def forward(self, features):\n"
        "        frames = self.averages[0](features[0])\n"
        "        return self.output(mean_over_frames(frames, frames_of(features[0])))\n",
        encoding="utf-8",
    )
    head = f"{tmp_path / 'mine.py'}:Mine"
    with pytest.raises(ModelError, match=r"^--mixup 0\.2: head .*:Mine' does not pool before its last layers"):
        fit(head=head, mixup=0.2, **QUICK)
    assert fit(head=head, mask_time="1x2", **QUICK).config["mask_time"] == "1x2"
