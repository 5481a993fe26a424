"""Classification reports and confusion matrices, compared with scikit-learn."""

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sklearn_metrics

from featcache.errors import PredictionsError
from featcache.report.classification import write_classification_report

CLASSES = ("joy", "anger", "<b>calm</b>")  # not sorted
ROUNDING = 1e-9  # percent; both sides average the same few numbers


def predictions(rng, seeds=2, classes=CLASSES):
    target = rng.choice(classes, 60)
    common = {"fold": 1, "utterance_id": [f"u{i}" for i in range(60)], "speaker_id": "x", "target": target}
    tables = [
        pd.DataFrame({"seed": seed, "prediction": np.where(rng.random(60) < 0.6, target, rng.choice(classes, 60))})
        for seed in range(seeds)
    ]
    return pd.concat([each.assign(**common) for each in tables])


def written(folder, table, classes=CLASSES):
    write_classification_report(table, folder, classes=classes)
    read = (pd.read_csv(folder / f"{name}.csv", index_col=0) for name in ("classification_report", "confusion_matrix"))
    return *read, pd.read_csv(folder / "confusion_matrix_normalised.csv", index_col=0)


def test_one_seed_equals_scikit_learn(tmp_path, rng):
    table = predictions(rng, seeds=1)
    report, counts, normalised = written(tmp_path, table)
    pair = table["target"], table["prediction"]
    expected = sklearn_metrics.classification_report(*pair, labels=CLASSES, output_dict=True)
    for name in (*CLASSES, "macro avg", "weighted avg"):
        numbers = [100 * expected[name][key] for key in ("precision", "recall", "f1-score")]
        assert report.loc[name, ["precision", "recall", "f1"]].tolist() == pytest.approx(numbers, abs=ROUNDING)
        assert report.loc[name, "support"] == expected[name]["support"]
    assert report.loc["accuracy", "f1"] == pytest.approx(100 * expected["accuracy"], abs=ROUNDING)
    assert counts.index.tolist() == counts.columns.tolist() == list(CLASSES)
    np.testing.assert_array_equal(counts, sklearn_metrics.confusion_matrix(*pair, labels=CLASSES))
    rows = sklearn_metrics.confusion_matrix(*pair, labels=CLASSES, normalize="true")
    np.testing.assert_allclose(normalised, 100 * rows, atol=ROUNDING)


def test_several_seeds_are_averaged(tmp_path, rng):
    table = predictions(rng, seeds=3)
    report, counts, _ = written(tmp_path, table)
    of_seeds = [written(tmp_path, rows) for _, rows in table.groupby("seed")]
    np.testing.assert_allclose(report, np.mean([each[0] for each in of_seeds], axis=0), atol=ROUNDING)
    np.testing.assert_allclose(counts, np.mean([each[1] for each in of_seeds], axis=0), atol=ROUNDING)
    assert report.loc["joy", "support"] == counts.loc["joy"].sum()


def test_a_class_without_utterances_is_empty_not_zero(tmp_path, rng):
    classes = (*CLASSES, "fear")
    report, counts, normalised = written(tmp_path, predictions(rng), classes)
    assert report.loc["fear", ["precision", "recall"]].isna().all()
    assert report.loc["fear", "support"] == counts.loc["fear"].sum() == 0
    assert normalised.loc["fear"].isna().all()
    present = report.loc[list(CLASSES), "recall"].mean()
    assert report.loc["macro avg", "recall"] == pytest.approx(present, abs=ROUNDING)
    line = next(line for line in (tmp_path / "classification_report.txt").read_text().splitlines() if "fear" in line)
    assert line.split() == ["fear", "-", "-", "-", "0.0"]


def test_a_class_may_bear_the_name_of_a_mean(tmp_path, rng):
    classes = ("accuracy", "macro avg")
    report, counts, _ = written(tmp_path, predictions(rng, classes=classes), classes)
    assert report.index.tolist() == ["accuracy", "macro avg", "accuracy", "macro avg", "weighted avg"]
    assert counts.to_numpy().sum() == 60


@pytest.mark.parametrize(("seeds", "told"), [(1, "1 seed"), (2, "mean over 2 seeds")])
def test_the_text_says_what_it_is_in(tmp_path, rng, seeds, told):
    report, _, _ = written(tmp_path, predictions(rng, seeds))
    text = (tmp_path / "classification_report.txt").read_text(encoding="utf-8")
    assert text.endswith(f"Precision, recall and F1 in percent; {told}.\n")
    assert f"{report.loc['anger', 'recall']:.1f}" in text
    assert (tmp_path / "confusion_matrix.png").read_bytes().startswith(b"\x89PNG")
    assert "<b>" not in (tmp_path / "confusion_matrix.svg").read_text(encoding="utf-8")


def test_classes_may_be_left_out(tmp_path, rng):
    assert written(tmp_path, predictions(rng), ())[1].index.tolist() == sorted(CLASSES)


def test_what_cannot_be_scored_is_told(tmp_path, rng):
    with pytest.raises(PredictionsError, match="unknown target"):
        write_classification_report(predictions(rng), tmp_path, classes=["joy"])
    assert not list(tmp_path.iterdir())
