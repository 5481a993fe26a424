"""Costs of runs → tables: parameters, sizes on disk and times, as papers report them beside their scores."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from featcache.report.tables import score_table
from featcache.runs.costs import Costs
from featcache.units import format_bytes, format_number, format_seconds

if TYPE_CHECKING:
    from featcache.terminal.console import Table

CAPTION = (
    "Head: number of trained parameters. Model: number of parameters of the models; All: with the head; Paper: as "
    "published. Features: size on disk. Time: sum over all trainings, without extraction. "
    "Each: mean per training."
)


def cost_cells(costs: Costs) -> dict[str, str]:
    """Return the printed text of each column; a dash for an unknown value."""
    texts: dict[str, tuple[float | None, Callable[[float], str]]] = {
        "Head": (costs.head_parameters, format_number),
        "Model": (costs.model_parameters, format_number),
        "All": (costs.all_parameters, format_number),
        "Paper": (costs.published_parameters, format_number),
        "Features": (costs.store_bytes, format_bytes),
        "Time": (costs.seconds, format_seconds),
        "Each": (costs.seconds_per_training, format_seconds),
    }
    return {name: "-" if value is None else as_text(value) for name, (value, as_text) in texts.items()}


def known_columns(costs: Sequence[Costs]) -> list[str]:
    """Return the names of the columns in which any run has a value."""
    cells = [cost_cells(one) for one in costs]
    return [name for name in cost_cells(Costs()) if any(row[name] != "-" for row in cells)]


def cost_table(rows: Sequence[tuple[str, Costs]]) -> "Table | None":
    """Return a table for the terminal; None if nothing is known about any run.

    Args:
        rows: Title and costs of each run.
    """
    columns = known_columns([costs for _, costs in rows])
    if not columns:
        return None
    table = score_table("Costs", *columns)
    for title, costs in rows:
        cells = cost_cells(costs)
        table.add_row(title, *(cells[name] for name in columns))
    return table


def cost_lines(costs: Costs) -> list[tuple[str, str, str]]:
    """Return the costs of one run for its report: CSS class, name and text of each value that is known."""
    entries: list[tuple[str, str, float | None, Callable[[Any], str]]] = [
        ("", "Parameters of the head", costs.head_parameters, "{:,}".format),
        ("", "Parameters of the model", costs.model_parameters, "{:,}".format),
        ("", "Parameters of model and head together", costs.all_parameters, "{:,}".format),
        ("", "Size of the features on disk", costs.store_bytes, format_bytes),
        ("time", "Time of all trainings, summed (several may run in parallel)", costs.seconds, format_seconds),
        ("time", "Time of one training, mean", costs.seconds_per_training, format_seconds),
        ("", "Trainings that have not converged", costs.not_converged, str),
    ]
    return [(kind, name, as_text(value)) for kind, name, value, as_text in entries if value is not None]
