"""Finished runs in TensorBoard and MLflow, read back with their own readers."""

import sys

import numpy as np
import pandas as pd
import pytest

from featcache.errors import MissingPackageError, StoreError
from featcache.report.mlflow_log import CHECKSUM_TAG, NAME_TAG, open_mlflow, write_mlflow
from featcache.report.tensorboard_log import write_tensorboard
from featcache.report.trackers import TrackedRun
from featcache.runs.writer import write_json, write_table
from tests.report.written_runs import write_run

SETTINGS = {"head": "$h/../'\"| é", "set": {"hidden_units": 8}, "../x": "x" * 7000}


@pytest.fixture
def run(tmp_path):
    """Return a run with a history, a figure and a name that needs quoting."""
    made = write_run(tmp_path / "runs" / "toy" / "o'run", validation=70, **SETTINGS)
    rows = [
        (seed, fold, epoch, 1 / epoch, np.nan if epoch == 2 else 2 / epoch, epoch / 10)
        for seed in (123, 1234)
        for fold in (1, 2)
        for epoch in (1, 2, 3)
    ]
    columns = ["seed", "fold", "epoch", "train_loss", "validation_loss", "validation_uar"]
    write_table(made.path / "history.csv", pd.DataFrame(rows, columns=columns))
    write_picture(made.path / "layer_weights.png")
    return made


def write_picture(path):
    from PIL import Image

    Image.fromarray(np.full((4, 6, 3), (255, 0, 7), np.uint8)).save(path)


def change(run):
    metrics = dict(run.metrics)
    metrics["uar"] = {**metrics["uar"], "mean": 12.5}
    write_json(run.path / "metrics.json", metrics)
    return type(run)(run.path)


def test_tensorboard_shows_the_history_scores_settings_and_figures(run, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    folder = tmp_path / "logs"
    assert write_tensorboard(TrackedRun.of(run), folder) == "added"
    place = folder / "toy" / "o'run"
    before = sorted(folder.rglob("*"))
    assert write_tensorboard(TrackedRun.of(run), folder) == "already there"
    assert sorted(folder.rglob("*")) == before
    read = EventAccumulator(str(place)).Reload()
    scores = {tag: [event.value for event in read.Scalars(tag)] for tag in read.Tags()["scalars"]}
    assert scores["test/uar"] == [pytest.approx(run.metrics["uar"]["mean"])]
    assert scores["test/uar_std"] == [pytest.approx(run.metrics["uar"]["std"])]
    assert scores["validation/uar"] == [70]
    [image] = read.Images("layer_weights")
    assert (image.width, image.height) == (6, 4)
    [text] = read.Tensors("settings/text_summary")
    assert "set.hidden_units" in text.tensor_proto.string_val[0].decode()
    parameters = HParamsPluginData.FromString(read.summary_metadata["_hparams_/session_start_info"].plugin_data.content)
    assert parameters.session_start_info.hparams["set.hidden_units"].string_value == "8"
    for seed in (123, 1234):
        for fold in (1, 2):
            of_training = EventAccumulator(str(place / f"seed-{seed}-fold-{fold}")).Reload()
            losses = [(event.step, event.value) for event in of_training.Scalars("validation_loss")]
            np.testing.assert_allclose(losses, [(1, 2), (2, np.nan), (3, 2 / 3)], rtol=1e-6)  # TensorBoard has float32
            assert [event.wall_time for event in of_training.Scalars("train_loss")] == [TrackedRun.of(run).time] * 3
    assert write_tensorboard(TrackedRun.of(change(run)), folder) == "replaced"
    [score] = EventAccumulator(str(place)).Reload().Scalars("test/uar")
    assert score.value == 12.5


def test_a_folder_of_other_files_is_never_replaced(run, tmp_path):
    kept = tmp_path / "logs" / "toy" / "o'run" / "mine.txt"
    kept.parent.mkdir(parents=True)
    kept.write_text("mine")
    with pytest.raises(StoreError, match="exists and is no log of 'featcache track'; choose another folder with --out"):
        write_tensorboard(TrackedRun.of(run), tmp_path / "logs")
    assert kept.read_text() == "mine"


def test_a_figure_that_is_no_picture_is_left_out(run, tmp_path, caplog):
    (run.path / "history.csv").unlink()
    (run.path / "other.png").write_bytes(b"no picture")
    assert write_tensorboard(TrackedRun.of(run), tmp_path / "logs") == "added"
    assert "other.png left out: not readable as PNG (UnidentifiedImageError: " in caplog.text


@pytest.mark.filterwarnings("ignore")  # MLflow's own
def test_mlflow_shows_the_history_scores_settings_and_figures(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # MLflow writes the files of runs into the current folder
    client = open_mlflow(f"sqlite:///{tmp_path}/mlflow.db")
    assert write_mlflow(TrackedRun.of(run), client) == "added"
    assert write_mlflow(TrackedRun.of(run), client) == "already there"
    experiment = client.get_experiment_by_name("featcache/toy")
    [found] = client.search_runs([experiment.experiment_id])
    assert (found.info.run_name, found.info.status) == ("o'run", "FINISHED")
    assert found.data.tags[NAME_TAG] == "toy/o'run"
    assert found.data.params["set.hidden_units"] == "8"
    assert found.data.params["head"] == SETTINGS["head"]
    assert found.data.metrics["test/uar"] == run.metrics["uar"]["mean"]
    assert found.data.metrics["validation/uar"] == 70
    history = client.get_metric_history(found.info.run_id, "train_loss/seed-123-fold-2")
    assert [(value.step, value.value) for value in history] == [(1, 1.0), (2, 0.5), (3, 1 / 3)]
    files = {file.path for folder in (None, "figures") for file in client.list_artifacts(found.info.run_id, folder)}
    assert files == {"config.yaml", "metrics.json", "figures", "figures/layer_weights.png"}
    assert write_mlflow(TrackedRun.of(change(run)), client) == "replaced"
    [found] = client.search_runs([experiment.experiment_id])
    assert found.data.metrics["test/uar"] == 12.5
    client.delete_tag(found.info.run_id, CHECKSUM_TAG)  # as if the process had been killed
    assert write_mlflow(TrackedRun.of(run), client) == "replaced"
    assert len(client.search_runs([experiment.experiment_id])) == 1


@pytest.mark.parametrize(
    "content", ["a,b\n1,2\n", "seed,fold,epoch,train_loss\n1,1,x,2\n", "seed,fold,epoch\n1,1,1e400\n"]
)
def test_a_foreign_history_is_told_in_one_line(run, content):
    (run.path / "history.csv").write_text(content)
    with pytest.raises(StoreError, match=r"history.csv: expected whole numbers in seed, fold and epoch$"):
        list(TrackedRun.of(run).curves())


@pytest.mark.parametrize(
    ("module", "write", "message"),
    [
        (
            "torch.utils.tensorboard",
            write_tensorboard,
            "--to tensorboard needs TensorBoard",
        ),
        ("mlflow.tracking", lambda run, path: open_mlflow(None), "--to mlflow needs MLflow"),
    ],
)
def test_a_missing_extra_is_told_in_one_line(run, tmp_path, monkeypatch, module, write, message):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingPackageError) as error:
        write(TrackedRun.of(run), tmp_path / "logs")
    assert str(error.value) == f"{message}, which is not installed: pip install 'featcache[track]'"
    assert not (tmp_path / "logs").exists()
