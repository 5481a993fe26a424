"""A run of a pipeline may be a search; its row has the scores of the chosen setting."""

import pytest

from featcache.errors import ModelError
from featcache.pipeline import run_pipeline
from featcache.runs.reader import finished_runs
from featcache.workspace import Workspace

SEARCHED = ("    norm: global\n", "    norm: global\n    sweep: {learning_rate: [0.001, 0.01]}\n")
QUICK = {"seeds": 1, "max_epochs": 1, "protocol": "random-80-20"}


def test_a_row_is_the_result_of_a_search(home, write_pipeline):
    path = write_pipeline(SEARCHED)
    [folder] = run_pipeline(pipeline=path, home=home, **QUICK).folders
    runs = {run.config["norm"]: run for run in finished_runs(Workspace.at(home))}
    assert set(runs) == {"speaker", "global"}
    assert runs["global"].config["sweep"]["options"] == {"learning_rate": [0.001, 0.01]}
    assert "sweep" not in runs["speaker"].config
    assert runs["global"].name in (folder / "results.csv").read_text()


def test_a_faulty_search_is_refused_before_anything_is_extracted(home, write_pipeline):
    path = write_pipeline((SEARCHED[0], SEARCHED[1].replace("learning_rate", "learning_rat")))
    with pytest.raises(ModelError, match=r"--sweep learning_rat: no option .*did you mean 'learning_rate'"):
        run_pipeline(pipeline=path, home=home, **QUICK)
    assert not (home / "cache").exists()
