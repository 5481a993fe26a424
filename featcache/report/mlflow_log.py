"""Finished run → a run of MLflow, in the experiment ``featcache/<corpus>``."""

import logging
import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from featcache.errors import FeatcacheError, StoreError, in_one_line
from featcache.report.trackers import ADDED, PRESENT, REPLACED, TrackedRun, missing
from featcache.runs.file_names import CONFIG, METRICS
from featcache.runs.identity import hash_of

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

# Tags of a run: its name, the hash of its name, by which it is found (MLflow cannot search for quotation marks), and
# the checksum of its results. The checksum is written last, so a run without it is incomplete.
NAME_TAG, ID_TAG, CHECKSUM_TAG = "featcache.run", "featcache.id", "featcache.sha256"
# MLflow accepts this number of values per request, of characters per parameter, and of characters in a name.
_MOST_VALUES, _MOST_CHARACTERS, _MOST_IN_NAME = 1000, 6000, 250


def open_mlflow(uri: str | None) -> "MlflowClient":
    """Return a client of MLflow. It sends no usage statistics.

    Args:
        uri: Tracking server or database; None for ``$MLFLOW_TRACKING_URI`` or MLflow's own default.

    Raises:
        MissingPackageError: MLflow is not installed.
        StoreError: the server or database cannot be opened.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient
    except ImportError:
        raise missing("mlflow", "MLflow") from None
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    try:
        client = MlflowClient(tracking_uri=uri)
        client.search_experiments(max_results=1)
    except (MlflowException, OSError) as error:
        raise _refused(uri, error) from error
    return client


def write_mlflow(tracked: TrackedRun, client: "MlflowClient") -> str:
    """Write a run, unless the same results were already written.

    Args:
        tracked: The run.
        client: Client of MLflow.

    Returns:
        ``added``, ``replaced`` or ``already there``.

    Raises:
        StoreError: MLflow refuses it.
    """
    from mlflow.exceptions import MlflowException

    try:
        experiment = _experiment(client, f"featcache/{tracked.name.partition('/')[0]}")
        there = client.search_runs([experiment], f"tags.`{ID_TAG}` = '{hash_of(tracked.name)}'")
        if any(run.data.tags.get(CHECKSUM_TAG) == tracked.checksum for run in there):
            return PRESENT
        _write(tracked, client, experiment)
        for run in there:
            client.delete_run(run.info.run_id)
    except (MlflowException, OSError) as error:
        raise _refused(client.tracking_uri, error) from error
    return REPLACED if there else ADDED


def _refused(uri: str, error: Exception) -> FeatcacheError:
    return StoreError(f"MLflow at {re.sub('//[^/@]*@', '//', uri)}: {in_one_line(error):.300}")


def _experiment(client: "MlflowClient", name: str) -> str:
    found = client.get_experiment_by_name(name)
    return str(client.create_experiment(name) if found is None else found.experiment_id)


def _write(tracked: TrackedRun, client: "MlflowClient", experiment: str) -> None:
    from mlflow.entities import Param

    milliseconds = int(1000 * tracked.time)
    tags = {NAME_TAG: tracked.name, ID_TAG: hash_of(tracked.name)}
    run = client.create_run(experiment, start_time=milliseconds, tags=tags, run_name=tracked.name.rpartition("/")[2])
    number = run.info.run_id
    parameters = [Param(_name(key), value[:_MOST_CHARACTERS]) for key, value in tracked.settings.items()]
    for first in range(0, len(parameters), 100):
        client.log_batch(number, params=parameters[first : first + 100])
    values = list(_values(tracked, milliseconds))
    for first in range(0, len(values), _MOST_VALUES):
        client.log_batch(number, metrics=values[first : first + _MOST_VALUES])
    for path in (tracked.run.path / CONFIG, tracked.run.path / METRICS):
        client.log_artifact(number, str(path))
    for path in tracked.figures:
        client.log_artifact(number, str(path), "figures")
    client.set_tag(number, CHECKSUM_TAG, tracked.checksum)
    client.set_terminated(number, "FINISHED", end_time=milliseconds)


def _values(tracked: TrackedRun, milliseconds: int) -> Iterator[Any]:
    from mlflow.entities import Metric

    for name, value in tracked.scores.items():
        yield Metric(_name(name), value, milliseconds, 0)
    for training, rows in tracked.curves():
        for column in rows.columns.drop(["seed", "fold", "epoch"]):
            for epoch, value in zip(rows["epoch"], rows[column], strict=True):
                yield Metric(_name(f"{column}/{training}"), float(value), milliseconds, int(epoch))


def _name(text: str) -> str:
    """Return a name that MLflow accepts and that is no path to another folder."""
    return re.sub(r"[^\w\-. /]|\.\.+|^[/.]+", "_", text, flags=re.ASCII)[:_MOST_IN_NAME]
