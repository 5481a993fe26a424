"""Tables of predictions from any source: other column names, and one-line messages about every fault."""

import csv
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featcache.errors import PredictionsError
from featcache.evaluate.predictions import checked, read_predictions
from featcache.runs.reader import RunFolder, load_predictions

ROWS = [
    {"seed": "10", "fold": "1", "utterance_id": "a", "speaker_id": "03", "target": "joy", "prediction": "joy"},
    {"seed": "10", "fold": "2", "utterance_id": "b", "speaker_id": "04", "target": "anger", "prediction": "joy"},
    {"seed": "9", "fold": "1", "utterance_id": "a", "speaker_id": "03", "target": "joy", "prediction": "anger"},
    {"seed": "9", "fold": "2", "utterance_id": "b", "speaker_id": "04", "target": "anger", "prediction": "anger"},
]
DIMENSIONS = [
    {"utterance_id": name, "target_arousal": x, "prediction_arousal": y, "target_valence": y, "prediction_valence": x}
    for name, x, y in (("a", "1.5", "2"), ("b", "-1", "0"), ("c", "3e-1", "1"))
]
# Text that survives writing and reading a CSV: no lone surrogates, no carriage returns.
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\x00"), min_size=1, max_size=8).filter(
    lambda text: text.strip()
)


@pytest.fixture
def write(tmp_path):
    def write(rows, name="p.csv"):
        pd.DataFrame(rows).to_csv(tmp_path / name, index=False)
        return tmp_path / name

    return write


def test_a_table_of_ours_is_read_as_it_is(write):
    found = read_predictions(write(ROWS))
    assert found.classes == ("anger", "joy")
    assert found.dimensions == ()
    assert found.table["seed"].tolist() == [10, 10, 9, 9]
    assert found.table["speaker_id"].tolist() == ["03", "04"] * 2
    assert found.table["prediction"].tolist() == ["joy", "joy", "anger", "anger"]


def test_columns_may_have_other_names(write):
    names = {
        "target": "truth",
        "prediction": "target",  # a column with the name of another role
        "utterance_id": "file",
        "speaker_id": "actor",
        "seed": "run",
        "fold": "split",
    }
    renamed = pd.DataFrame(ROWS).rename(columns=names)
    found = read_predictions(write(renamed), columns=names)
    pd.testing.assert_frame_equal(found.table, read_predictions(write(ROWS)).table)


def test_a_column_of_another_meaning_is_not_taken_for_ours(write):
    rows = [{**row, "actor": "x"} for row in ROWS]
    found = read_predictions(write(rows), columns={"speaker_id": "actor"})
    assert found.table["speaker_id"].tolist() == ["x"] * 4


def test_seeds_folds_and_speakers_may_be_absent(write):
    rows = [{name: row[name] for name in ("utterance_id", "target", "prediction")} for row in ROWS[:2]]
    found = read_predictions(write(rows)).table
    assert found["seed"].nunique() == found["fold"].nunique() == 1
    assert found["speaker_id"].tolist() == ["", ""]


def test_classes_may_have_any_order(write):
    assert read_predictions(write(ROWS), classes=["joy", "none", "anger"]).classes == ("joy", "none", "anger")


def test_a_class_named_twice_is_one(write):
    assert read_predictions(write(ROWS), classes=["joy", "anger", "joy"]).classes == ("joy", "anger")


def test_many_classes_must_be_named(write):
    rows = [{"utterance_id": i, "target": f"{i / 7:.3f}", "prediction": "0.000"} for i in range(101)]
    with pytest.raises(
        PredictionsError, match=r"found 101 different labels such as '0.000', too many for classes; if they are numb"
    ):
        read_predictions(write(rows))
    labels = [row["target"] for row in rows]
    assert read_predictions(write(rows), classes=labels).classes == tuple(labels)
    assert len(read_predictions(write(rows), task="regression").table) == 101


def test_seeds_may_be_words(write):
    rows = [{**row, "seed": f"run {row['seed']}"} for row in ROWS]
    assert read_predictions(write(rows)).table["seed"].tolist() == ["run 10", "run 10", "run 9", "run 9"]


def test_a_byte_order_mark_is_no_part_of_a_name(write):
    path = write(ROWS)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(read_predictions(path).table) == 4


def test_dimensions_make_a_regression(write):
    found = read_predictions(write(DIMENSIONS))
    assert found.dimensions == ("arousal", "valence")
    assert found.classes == ()
    assert found.table["prediction_arousal"].tolist() == [2, 0, 1]
    assert found.table["target_arousal"].tolist() == [1.5, -1, 0.3]


def test_one_dimension_may_be_named_by_options(write):
    rows = [{"utterance_id": name, "mos": value, "guess": value} for name, value in (("a", "1"), ("b", "2"))]
    found = read_predictions(write(rows), columns={"target": "mos", "prediction": "guess"}, task="regression")
    assert found.dimensions == ("mos",)
    assert found.table["prediction_mos"].tolist() == [1, 2]


@settings(max_examples=50)
@given(st.lists(st.tuples(texts, texts, texts), min_size=1, max_size=6, unique_by=lambda row: row[0]))
def test_any_text_can_name_utterances_and_classes(rows):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "p.csv"
        with open(path, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("utterance_id", "target", "prediction"), *rows])
        found = read_predictions(path, classes={label for _, *labels in rows for label in labels})
    assert list(found.table[["utterance_id", "target", "prediction"]].itertuples(index=False, name=None)) == rows
    assert set(found.classes) == {label for _, *labels in rows for label in labels}


@pytest.mark.parametrize("label", ["nan", "NaN", "NA", "None", "null", "N/A"])
def test_a_class_may_bear_the_name_of_a_missing_value(write, label):
    rows = [{**row, "target": label if row["target"] == "joy" else "anger", "prediction": label} for row in ROWS]
    found = read_predictions(write(rows))
    assert label in found.classes
    assert found.table["prediction"].tolist() == [label] * 4


@pytest.mark.parametrize(
    ("targets", "predictions", "told"),
    [
        (["0", "1"], ["0.0", "1.0"], "'0', '0.0' look alike"),
        (["Ang", "Hap"], ["ang", "hap"], "'Ang', 'ang' look alike"),
        ([" W", " F"], ["W", "F"], "' F', 'F' look alike"),
        (["0", "1"], ["anger", "joy"], "share no class; write both in the same way, or, if every prediction is wrong"),
    ],
)
def test_targets_and_predictions_that_share_no_class_are_refused(write, targets, predictions, told):
    rows = [
        {"utterance_id": i, "target": target, "prediction": prediction}
        for i, (target, prediction) in enumerate(zip(targets, predictions, strict=True))
    ]
    with pytest.raises(PredictionsError, match=told) as error:
        read_predictions(write(rows))
    assert str(error.value).count("\n") == 0
    assert "p.csv: targets (" in str(error.value)
    # The message does not appear if the user lists the classes.
    assert len(read_predictions(write(rows), classes=[*targets, *predictions]).table) == 2


def test_labels_and_speakers_that_look_alike_are_warned_of(write, caplog):
    labels = [("joy", "joy"), ("Joy", "joy"), ("anger", "anger "), ("anger", "anger")]
    rows = [
        {"utterance_id": i, "speaker_id": speaker, "target": target, "prediction": prediction}
        for i, ((target, prediction), speaker) in enumerate(zip(labels, ("a", "A", "b", "b"), strict=True))
    ]
    read_predictions(write(rows))
    for told in ("labels 'Joy', 'joy' look", "labels 'anger', 'anger ' look", "speakers 'A', 'a' look alike but count"):
        assert f"p.csv: {told}" in caplog.text


def test_classes_that_are_never_the_target_are_told(write, caplog):
    read_predictions(write(ROWS), classes=["joy", "anger"])
    assert not caplog.text
    rows = [{**ROWS[0], "prediction": "bliss"}, *ROWS[1:]]
    read_predictions(write(rows), classes=["joy", "anger", "bliss", "fear"])
    assert (
        "class 'bliss' is never the target, so it has no recall; it is predicted (1 ×) and counts as 0" in caplog.text
    )
    assert "class 'fear' is never the target, so it has no recall; it is not predicted either" in caplog.text


def changed(row, **values):
    return [*ROWS[:row], {**ROWS[row], **values}, *ROWS[row + 1 :]]


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        (
            [{"file": "a", "target": "joy", "prediction": "joy"}],
            {},
            r"no column 'utterance_id'; there are: file, target, prediction; name yours with "
            "--id COLUMN$",
        ),
        (ROWS, {"columns": {"seed": "run"}}, r"has no column for --seed run; there are: seed, fold, utterance_id, "),
        (changed(0, target=""), {}, r"p.csv: utterance 'a', row 1: target is '', expected a value$"),
        (changed(3, prediction=""), {}, r"p.csv: utterance 'b', row 4: prediction is '', expected a value$"),
        (changed(2, utterance_id=""), {}, r"row 3: utterance_id is '', expected a value$"),
        (changed(2, seed=""), {}, r"row 3: seed is '', expected a value$"),
        (ROWS, {"classes": ["joy"]}, r"unknown target 'anger', expected one of: joy$"),
        (changed(0, prediction="bliss"), {"classes": ["joy", "anger"]}, "unknown prediction 'bliss', expected one"),
        ([*ROWS, ROWS[1]], {}, r"utterance 'b' occurs twice in seed 10 and fold 2; expected one row each$"),
        ([*ROWS, *ROWS], {}, r"occurs twice in seed 10 and fold 1, and 3 more rows like it; expected"),
        (ROWS[:3], {}, r"seed 9 tested 1 of 2 utterances; all seeds must test the same utterances"),
        (changed(2, target="anger"), {}, r"utterance 'a' has several values of target: 'joy', 'anger'$"),
        (changed(2, speaker_id="04"), {}, r"utterance 'a' has several values of speaker_id: '03', '04'$"),
        (
            [{**DIMENSIONS[0], "target_valence": "high"}],
            {},
            "p.csv: utterance 'a', row 1: target_valence is 'high', expected a finite",
        ),
        ([{**DIMENSIONS[0], "prediction_arousal": ""}], {}, "row 1: prediction_arousal is '', expected a finite"),
        ([{**DIMENSIONS[0], "prediction_arousal": "nan"}], {}, "prediction_arousal is 'nan', expected a finite number"),
        ([{**DIMENSIONS[0], "prediction_arousal": "inf"}], {}, "prediction_arousal is 'inf', expected a finite number"),
        (DIMENSIONS, {"task": "classification"}, "no column 'target', 'prediction'; there are: utterance_id, "),
        ([{"utterance_id": "a"}], {"task": "regression"}, "no column 'target_target', 'prediction_target'; there are"),
    ],
)
def test_faults_are_told_in_one_line(write, rows, options, message):
    with pytest.raises(PredictionsError, match=message) as told:
        read_predictions(write(rows), **options)
    assert "\n" not in str(told.value)
    assert "p.csv" in str(told.value)


@pytest.mark.parametrize("content", [None, "", 'a,b\n"1', "\x00\xff"])
def test_what_is_no_table_is_told(tmp_path, content):
    path = tmp_path / "p.csv"
    if content is not None:
        path.write_bytes(content.encode("latin-1"))
    with pytest.raises(PredictionsError, match=r"p\.csv: .*(not readable as a table \(.+\)|no column)"):
        read_predictions(path)


def test_a_header_alone_is_told(tmp_path):
    (tmp_path / "p.csv").write_text("utterance_id,target,prediction\n")
    with pytest.raises(PredictionsError, match=r"p\.csv: there are no predictions to score"):
        read_predictions(tmp_path / "p.csv")


def test_the_input_stays_as_it_was():
    table = pd.DataFrame(ROWS).assign(speaker_id=[None, "x", np.nan, "x"])
    before = table.copy()
    assert checked(table).table["speaker_id"].tolist() == ["", "x", "", "x"]
    pd.testing.assert_frame_equal(table, before)


def test_predictions_of_a_run(tmp_path):
    pd.DataFrame(ROWS).to_csv(tmp_path / "predictions.csv", index=False)
    (tmp_path / "config.yaml").write_text("{}")
    (tmp_path / "metrics.json").write_text('{"confusion": {"classes": ["joy", "anger", "fear"]}}')
    assert load_predictions(RunFolder(tmp_path)).classes == ("joy", "anger", "fear")
    (tmp_path / "metrics.json").write_text('{"confusion": {"classes": ["joy"]}}')
    with pytest.raises(PredictionsError, match=r"predictions\.csv: unknown target 'anger'"):
        load_predictions(RunFolder(tmp_path))
    pd.DataFrame(DIMENSIONS).assign(seed=1, fold=1, speaker_id="x").to_csv(tmp_path / "predictions.csv", index=False)
    (tmp_path / "metrics.json").write_text('{"ccc": {}}')
    assert load_predictions(RunFolder(tmp_path)).dimensions == ("arousal", "valence")
