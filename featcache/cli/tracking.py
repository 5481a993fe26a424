"""Finished runs → logs of TensorBoard or MLflow, with one printed line per run."""

from collections.abc import Sequence
from pathlib import Path

from typer import BadParameter

from featcache.report.trackers import TrackedRun
from featcache.runs.chosen import chosen_runs
from featcache.terminal.console import print_line
from featcache.workspace import Workspace


def track_runs(names: Sequence[str], *, to: str, out: Path | None, uri: str | None) -> None:
    """Write finished runs to a tracker, and print what was written.

    Args:
        names: Names, folders or patterns of runs.
        to: ``tensorboard`` or ``mlflow``.
        out: Folder of the TensorBoard logs, or None.
        uri: MLflow tracking server or database, or None.

    Raises:
        FeatcacheError: the tracker is not installed or cannot be opened, or a run is unknown or not finished.
    """
    if uri is not None and to != "mlflow":
        raise BadParameter("only MLflow has a URI; use --out for TensorBoard", param_hint="--uri")
    if out is not None and to != "tensorboard":
        raise BadParameter("only TensorBoard has a folder; use --uri for MLflow", param_hint="--out")
    runs = [TrackedRun.of(run) for run in chosen_runs(names)]
    if to == "tensorboard":
        from featcache.report.tensorboard_log import write_tensorboard

        folder = Workspace.at().home / "tensorboard" if out is None else out
        for one in runs:
            print_line(f"{one.name}: {write_tensorboard(one, folder)}")
        print_line(f"next: tensorboard --logdir {folder}")
    else:
        from featcache.report.mlflow_log import open_mlflow, write_mlflow

        client = open_mlflow(uri)
        for one in runs:
            print_line(f"{one.name}: {write_mlflow(one, client)}")
        print_line(f"next: mlflow ui --backend-store-uri {client.tracking_uri}")
