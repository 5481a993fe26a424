"""The notebook of the site runs from top to bottom, and ends in a figure with a point for each layer.

Its cells run in this process: a kernel of Jupyter would import everything again.
"""

import json

import matplotlib.pyplot as plt
import pytest

from tests.docs.pages import DOCS

NOTEBOOK = DOCS / "notebook.ipynb"
MOST_BYTES = 200_000


@pytest.fixture
def cells():
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]


def test_the_notebook_runs(cells, working_folder, tmp_path, monkeypatch):
    working_folder([])
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    plt.switch_backend("agg")
    names = {}
    for number, cell in enumerate(cells, start=1):
        exec(compile(cell, f"cell {number}", "exec"), names)
    [axes] = names["figure"].axes
    assert len(axes.lines[0].get_xdata()) == len(names["store"].layer_names) == 7
    plt.close("all")


def test_the_stored_notebook_is_small():
    assert NOTEBOOK.stat().st_size < MOST_BYTES
