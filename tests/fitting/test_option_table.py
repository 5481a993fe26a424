"""Head × option: each combination trains, or is refused in one line before training; the documentation says which."""

from pathlib import Path

import numpy as np
import pytest

from featcache.cache.reader import FeatureCache, FeatureStore
from featcache.errors import ModelError
from featcache.fitting.common_options import options_for
from featcache.fitting.groups import group
from featcache.fitting.memory_plan import plan_copies
from featcache.fitting.normalisation import fit_normalisers
from featcache.fitting.resolve import resolve
from featcache.fitting.trainings import new_training
from featcache.heads import head_names, head_spec
from featcache.manifest import Manifest, Utterance
from featcache.settings.checked import configured
from featcache.settings.fits import FitSettings
from featcache.training.batches import FeatureWindows
from featcache.training.memory import Memory
from featcache.training.together import train_together

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "training-options.md"
LABELS, NUMBERS = {"target": "emotion"}, {"target": "valence", "task": "regression"}
# Title of a row → options of the fit.
OPTIONS = {
    "`--class-weights balanced`": {**LABELS, "class_weights": "balanced"},
    "`--loss focal:2`": {**LABELS, "loss": "focal:2"},
    "`--loss label-smoothing:0.1`": {**LABELS, "loss": "label-smoothing:0.1"},
    "`--loss soft`": {**LABELS, "loss": "soft"},
    "`--loss mse`": {**NUMBERS, "loss": "mse"},
    "`--loss mae`": {**NUMBERS, "loss": "mae"},
    "`--sampler balanced`": {**LABELS, "sampler": "balanced"},
    "`--mixup 0.2`": {**LABELS, "mixup": 0.2},
    "`--learning-rate 0.01`": {**LABELS, "learning_rate": 0.01},
    "`--batch-size 4`": {**LABELS, "batch_size": 4},
    "`--max-epochs 2`": {**LABELS, "max_epochs": 2},
    "`--patience 2`": {**LABELS, "patience": 2},
    "`--clip-value 0.5`": {**LABELS, "clip_value": 0.5},
    "`--epsilon 1e-6`": {**LABELS, "epsilon": 1e-6},
    "`--optimizer adamw`": {**LABELS, "optimizer": "adamw"},
    "`--optimizer sgd`": {**LABELS, "optimizer": "sgd"},
    "`--weight-decay 0.01`": {**LABELS, "weight_decay": 0.01},
    "`--schedule linear`": {**LABELS, "schedule": "linear"},
    "`--schedule cosine`": {**LABELS, "schedule": "cosine"},
    "`--schedule plateau`": {**LABELS, "schedule": "plateau"},
    "`--warmup 0.1`": {**LABELS, "warmup": 0.1},
    "`--stop-on uar`": {**LABELS, "stop_on": "uar"},
    "`--evaluate-every 2`": {**LABELS, "evaluate_every": 2},
    "`--mask-time 1x2`": {**LABELS, "mask_time": "1x2"},
    "`--mask-dims 1x2`": {**LABELS, "mask_dims": "1x2"},
    "`--feature-noise 0.1`": {**LABELS, "feature_noise": 0.1},
    "`--crop 2`": {**LABELS, "crop": 2},
    "`--train-views all`": {**LABELS, "train_views": "all"},
    "`--test-view same-1`": {**LABELS, "test_view": "same-1"},
    "`--task regression`": NUMBERS,
    "`--task multilabel`": {"target": "emotion", "task": "multilabel"},
    "`--also gender:0.2`": {**LABELS, "also": "gender:0.2"},
    "`--train-fraction 0.5`": {**LABELS, "train_fraction": 0.5},
    "`--final`": {**LABELS, "final": True},
}
YES, NO = "yes", "–"


@pytest.fixture(scope="module")
def manifest():
    return Manifest(
        [
            Utterance(
                utterance_id=f"{speaker}-{emotion}-{number}",
                path=f"{speaker}-{emotion}-{number}.wav",
                speaker_id=speaker,
                labels={
                    "emotion": emotion,
                    "gender": "fm"[number % 2],
                    "valence": f"{number + 2 * (emotion == 'joy')}",
                    "votes_emotion_anger": f"{1 + number}",
                    "votes_emotion_joy": "2",
                },
            )
            for speaker in ("01", "02", "03", "04")
            for emotion in ("anger", "joy")
            for number in (1, 2)
        ]
    )


@pytest.fixture
def cache(make_cache, write_store, manifest):
    """Return a cache with two stores of frames, each with a view of the same values."""
    folder = make_cache(manifest=manifest, stores={"ssl": {}, "egemaps": {"kind": "egemaps"}})
    for name, settings in {
        "ssl": {"extractor": "ssl", "weights": "pretrained"},
        "egemaps": {"extractor": "egemaps"},
    }.items():
        clean = FeatureStore(folder / name)
        settings |= {"augment": ["noise:inf"], "view": 1}
        write_store(folder / f"{name}@same-1", {i: clean[i] for i in clean}, kind=name, settings=settings)
    return folder


def predictions(cache, head, options):
    """Train one head for an epoch, and return its predictions of the test part and of the validation part."""
    spec = head_spec(head)
    quick = options_for(head, {"max_epochs": 1})
    given = {"features": ("ssl", *spec.beside), "head": head, "seeds": (1,), **quick, **options}
    given |= {"layers": "last"} if spec.max_layers == 1 else {}
    setup = resolve(FeatureCache(cache), configured(FitSettings, given))
    [copy] = plan_copies([setup], Memory(), 1, 1, "cpu")
    item = group([setup], [1], [copy])[0]
    source = FeatureWindows(item.features, fit_normalisers(setup, item.features, item.fold), copy, workers=1)
    source.load(setup.loaded_ids)
    [training] = train_together([new_training(setup, item.members[0], 1, copy, "cpu")], source, workers=1)
    parts = setup.seen_fold(1)
    return [training.predictions[i] for i in (*parts.validation, *parts.test)]


def table_on_page():
    """Return head and title of the row → cell, from the page."""
    lines = [line.strip("| ") for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    header, _, *rows = ([cell.strip() for cell in line.split(" | ")] for line in lines)
    return {(head.strip("`"), row[0]): cell for row in rows for head, cell in zip(header[1:], row[1:], strict=True)}


def cell_of(cache, head, option):
    """Return the cell of the table, and the message of a refusal."""
    try:
        return (YES if np.isfinite(predictions(cache, head, OPTIONS[option])).all() else "not finite"), ""
    except ModelError as error:
        return NO, str(error)


@pytest.mark.parametrize("option", OPTIONS)
def test_the_documented_combinations_train_and_all_others_are_refused_in_one_line(cache, option):
    documented = table_on_page()
    found = {head: cell_of(cache, head, option) for head in head_names()}
    assert {head: cell for head, (cell, _) in found.items()} == {head: documented[head, option] for head in found}
    for head, (cell, message) in found.items():
        assert cell == YES or head in message or option.split()[0].strip("`") in message
        assert "\n" not in message


def test_the_page_has_all_heads_and_options():
    documented = table_on_page()
    assert {head for head, _ in documented} == set(head_names())
    assert {option for _, option in documented} == set(OPTIONS)
