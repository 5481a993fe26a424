"""Predictions as CSV, JSON and the tables of challenges, read back with other readers."""

import io
import json
import sys

import numpy as np
import pandas as pd
import pytest

from featcache.errors import PredictionsError
from featcache.prediction.formats import formatted, write_predictions

HOSTILE = 'a,"b"\r\n=cmd\x1b[2J\u202e'
DIMENSIONS = ["arousal", "valence", "dominance"]


def classes(names, paths=("x/a.wav", "b.wav"), prediction=None):
    count = len(paths)
    table = pd.DataFrame({"path": paths, "utterance_id": [p[:-4] for p in paths], "start": np.nan, "end": np.nan})
    table["prediction"] = prediction or [names[i % len(names)] for i in range(count)]
    values = np.random.default_rng(0).dirichlet(np.ones(len(names)), size=count)
    for i, name in enumerate(names):
        table[f"p_{name}"] = values[:, i]
    for i, name in enumerate(names):
        table[f"std_{name}"] = values[:, i] / 10
    return table


def dimensions(names=DIMENSIONS):
    table = classes(["anger"]).iloc[:, :4].assign(start=[0.0, 1.25], end=[4.0, 5.25])
    for number, name in enumerate(names):
        table[name], table[f"std_{name}"] = [1.5 + number, 2.5 + number], 0.125
    return table


def read(text):
    return pd.read_csv(io.StringIO(text, newline=""), keep_default_na=False)


def test_csv_has_all_columns_and_seven_digits():
    table = classes(["anger", "joy"])
    found = read(formatted(table, format="csv", task="classification"))
    assert list(found.columns) == list(table.columns)
    assert list(found["path"]) == ["x/a.wav", "b.wav"]
    assert list(found["start"]) == ["", ""]  # a whole file
    numbers = table.columns[5:]
    np.testing.assert_allclose(found[numbers].astype(float), table[numbers], rtol=1e-6)
    found = read(formatted(dimensions(), format="csv", task="regression"))
    assert found.loc[1].tolist() == ["b.wav", "b", 1.25, 5.25, 2.5, 0.125, 3.5, 0.125, 4.5, 0.125]


def test_json_has_the_same_values():
    table = classes(["anger", "joy"], paths=(HOSTILE, "ü.wav"))
    text = formatted(table, format="json", task="classification")
    assert text.isascii()
    assert "\x1b" not in text
    first, second = json.loads(text)
    assert list(first) == list(table.columns)
    assert (first["path"], second["path"], first["start"]) == (HOSTILE, "ü.wav", None)
    assert first["p_joy"] == pytest.approx(table["p_joy"][0], rel=1e-6)
    assert json.loads(formatted(table[:0], format="json", task="classification")) == []


def test_files_and_pipes_keep_names_and_terminals_do_not(tmp_path, capsys, monkeypatch):
    table = classes(["anger", "joy"], paths=(HOSTILE, "b.wav"))
    write_predictions(table, format="csv", out=tmp_path / "x" / "out.csv", task="classification")
    in_file = (tmp_path / "x" / "out.csv").read_bytes().decode()
    assert read(in_file)["path"][0] == HOSTILE
    write_predictions(table, format="csv", out=None, task="classification")
    assert capsys.readouterr().out == in_file
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    write_predictions(table, format="csv", out=None, task="classification")
    shown = capsys.readouterr().out
    assert len(shown.splitlines()) == 3
    assert "\x1b" not in shown
    assert "\\x1b[2J\\u202e" in shown


def test_msp_has_the_letters_of_the_corpus():
    table = classes(["anger", "contempt", "neutral"], paths=("t/M_1.wav", "M_2.wav", "M_3.wav"))
    assert formatted(table, format="msp", task="classification") == (
        "FileName,EmoClass\nM_1.wav,A\nM_2.wav,C\nM_3.wav,N\n"
    )
    table = classes(["anger", "boredom"])  # of another corpus
    assert formatted(table, format="msp", task="classification") == "FileName,EmoClass\na.wav,anger\nb.wav,boredom\n"


def test_msp_has_the_three_dimensions_in_order():
    table = dimensions(["valence", "dominance", "arousal"])
    assert formatted(table, format="msp", task="regression") == (
        "FileName,EmoAct,EmoVal,EmoDom\na.wav,3.5,1.5,2.5\nb.wav,4.5,2.5,3.5\n"
    )


@pytest.mark.parametrize(
    ("table", "format", "task", "message"),
    [
        (dimensions(["arousal"]), "msp", "regression", "does not predict 'valence', 'dominance'; use --format csv"),
        (classes(["anger"], paths=("x/a.wav", "y/a.wav")), "msp", "classification", "'a.wav' occurs several times"),
        (classes(["anger"]), "cvs", "classification", "no format 'cvs'; did you mean 'csv'"),
    ],
)
def test_what_cannot_be_written_is_told(table, format, task, message):
    with pytest.raises(PredictionsError, match=message) as error:
        formatted(table, format=format, task=task)
    assert "\n" not in str(error.value)
