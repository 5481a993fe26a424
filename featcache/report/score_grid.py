"""Runs → a table of scores with one setting in the rows and another in the columns, and the significance of each."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from featcache.errors import PredictionsError, StoreError, unknown_name
from featcache.evaluate.compare import COMPARED, SIGNIFICANT, Comparison, compare, corrected, p_of, too_few
from featcache.evaluate.intervals import ONE_SEED, caution
from featcache.evaluate.scores import MAIN_SCORES, find_score, heading_of, label_of, name_of_main_score
from featcache.report.part_scores import TEST, VALIDATION, part_scores
from featcache.runs.chosen import labels_of
from featcache.runs.reader import RunFolder, load_predictions
from featcache.runs.varied import compared_settings, differing, distinguishing, find_setting, value_of

MARK = "†"
BEST = "Bold: best of the column."
Key = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class GridCell:
    """The score of one run in a table.

    Attributes:
        label: Name of the run.
        run: The run.
        mean, std: Score, mean and standard deviation (ddof = 1) over seeds; std is None for one seed.
        ci95: 95 % interval; None if there is none.
        num_seeds: Number of seeds.
        best: Whether it is the best score of its column.
        p: p value of the difference from the reference, with Holm's correction; None if it is not compared.
        reference: Label of the run with which it is compared, or empty.
    """

    label: str
    run: RunFolder
    mean: float | None
    std: float | None
    ci95: tuple[float, float] | None
    num_seeds: int
    best: bool = False
    p: float | None = None
    reference: str = ""

    @property
    def differs(self) -> bool:
        """Whether the score differs significantly from that of the reference."""
        return self.p is not None and self.p < SIGNIFICANT


@dataclass(frozen=True, kw_only=True)
class ScoreGrid:
    """A table of scores.

    Attributes:
        metric: Name of the score.
        part: ``test`` or ``validation``.
        row_settings, column_settings: Names of the settings.
        rows, columns: Values of the settings, in the order of the table.
        cells: (row, column) → the score of the run there.
        notes: What the numbers and marks mean, one sentence each.
    """

    metric: str
    part: str
    row_settings: tuple[str, ...]
    column_settings: tuple[str, ...]
    rows: tuple[Key, ...]
    columns: tuple[Key, ...]
    cells: Mapping[tuple[Key, Key], GridCell]
    notes: tuple[str, ...]

    @property
    def heading(self) -> str:
        """Name of the score with its unit, and the part if it is not the test part."""
        return heading_of(self.metric) if self.part == TEST else f"{heading_of(self.metric)}, validation"


def score_grid(
    runs: Sequence[RunFolder],
    *,
    rows: Sequence[str] = (),
    columns: Sequence[str] = (),
    metric: str | None = None,
    part: str = TEST,
    reference: RunFolder | None = None,
) -> ScoreGrid:
    """Arrange the scores of runs in a table.

    Each score is compared with the best one of its column, or with that of the reference.

    Args:
        runs: Finished runs; each must have other values of the settings in rows and columns.
        rows: Names of settings; by default those in which the runs differ and that are not in the columns.
        columns: Names of settings; by default a single column.
        metric: Name of the score; by default UAR or CCC.
        part: ``test`` or ``validation``.
        reference: Run with which all others are compared; by default the best one of each column.

    Raises:
        PredictionsError: a setting is unknown, two runs belong to one cell, or a run has no such score.
    """
    settings = compared_settings(runs)
    column_names = tuple(find_setting(name, settings) for name in columns)
    row_names = tuple(find_setting(name, settings) for name in rows) or _other(settings, column_names)
    score = metric or name_of_main_score(part_scores(runs[0], part)) or MAIN_SCORES[0]
    labels = labels_of(runs)
    cells: dict[tuple[Key, Key], GridCell] = {}
    for run, label, own in zip(runs, labels, settings, strict=True):
        key = (_values(row_names, own), _values(column_names, own))
        if key in cells:
            other = settings[labels.index(cells[key].label)]
            raise PredictionsError(_in_one_cell(cells[key].label, label, [other, own], row_names + column_names))
        cells[key] = _cell(run, label, score, part)
    keys = [*cells]
    grid = ScoreGrid(
        metric=score,
        part=part,
        row_settings=row_names,
        column_settings=column_names,
        rows=tuple(_ordered([row for row, _ in keys])),
        columns=tuple(_ordered([column for _, column in keys])),
        cells=_with_best(cells, score),
        notes=(),
    )
    return _judged(grid, reference)


def _other(settings: Sequence[Mapping[str, str]], columns: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in distinguishing(settings, columns) if name not in columns) or ("head",)


def _values(names: Sequence[str], settings: Mapping[str, str]) -> Key:
    return tuple(value_of(name, settings) for name in names)


def _ordered(keys: Sequence[Key]) -> list[Key]:
    """Return the keys once each: numbers in ascending order, other values in the order of the runs."""
    once = list(dict.fromkeys(keys))
    try:
        return sorted(once, key=lambda key: tuple(map(float, key)))
    except ValueError:
        return once


def _in_one_cell(first: str, second: str, settings: Sequence[Mapping[str, str]], used: Sequence[str]) -> str:
    same = ", ".join(f"{name} {settings[0].get(name, value_of(name, settings[0]))}" for name in used)
    found = [name for name in distinguishing(settings) or differing(settings) if name not in used]
    if not found:
        return f"{first} and {second} have the same settings; leave one of them out"
    return (
        f"{first} and {second} belong to one cell ({same}), but differ in {', '.join(found)}; add {found[0]} to --rows "
        "or --columns, or leave one of them out"
    )


def _cell(run: RunFolder, label: str, metric: str, part: str) -> GridCell:
    there = part_scores(run, part)
    if metric not in there:
        if not there and part == VALIDATION:
            raise PredictionsError(f"{label} records no validation scores; fit it again with --overwrite")
        if not there:
            raise PredictionsError(f"{label} has no test scores; use --part validation, or leave it out")
        advice = "the runs of a table need one score"
        raise PredictionsError(f"{label}: {unknown_name('score', metric, there, hint=advice)}")
    score = there[metric]
    bounds = score.get("ci95")
    return GridCell(
        label=label,
        run=run,
        mean=score["mean"],
        std=score["std"],
        ci95=(bounds[0], bounds[1]) if bounds else None,
        num_seeds=len(score.get("per_seed") or []) or len(run.config.get("seeds", ())),
    )


def _with_best(cells: Mapping[tuple[Key, Key], GridCell], metric: str) -> dict[tuple[Key, Key], GridCell]:
    sign = 1 if find_score(metric)[0].higher_is_better else -1
    best: dict[Key, float] = {}
    for (_, column), cell in cells.items():
        best[column] = max(best.get(column, -math.inf), -math.inf if cell.mean is None else sign * cell.mean)
    return {
        key: replace(cell, best=cell.mean is not None and sign * cell.mean == best[key[1]])
        for key, cell in cells.items()
    }


def _judged(grid: ScoreGrid, reference: RunFolder | None) -> ScoreGrid:
    """Return the table with the significance of each score, and the notes."""
    cells, notes = dict(grid.cells), _notes(grid)
    tested = grid.part == TEST and grid.metric.partition("_")[0] in COMPARED
    if not tested and len(cells) > 1:
        kind = "validation scores" if grid.part == VALIDATION else label_of(grid.metric)
        notes.append(f"Not tested for significance: there is no test for {kind}.")
    groups = [list(cells)] if reference else [[key for key in cells if key[1] == column] for column in grid.columns]
    for keys in groups if tested else ():
        found, told = _compared([cells[key] for key in keys], grid.metric, reference)
        notes += told
        for key in keys:
            if cells[key].label in found:
                against, p = found[cells[key].label]
                cells[key] = replace(cells[key], p=p, reference=against)
    marked = [cell for cell in cells.values() if cell.differs]
    if marked:
        notes.append(_explained(marked[0].reference if reference else None))
    return replace(grid, cells=cells, notes=tuple(dict.fromkeys(notes)))


def _compared(
    cells: Sequence[GridCell], metric: str, reference: RunFolder | None
) -> tuple[dict[str, tuple[str, float]], list[str]]:
    """Compare the runs of a column with the best one, or all runs with the reference.

    The best run is chosen by its score, so the correction is for all pairs of the column.

    Returns:
        Label of a run → label of the run with which it is compared, and the corrected p value; and notes.
    """
    scored = [cell for cell in cells if cell.mean is not None]
    best = [cell for cell in scored if (cell.run is reference if reference else cell.best)]
    if not best or len(scored) < 2:
        return {}, []
    against = best[0].label
    labels = [cell.label for cell in scored]
    try:
        predictions = {cell.label: load_predictions(cell.run) for cell in scored}
        if reference:
            pairs = [(against, label) for label in labels if label != against]
            found = corrected([compare({one: predictions[one] for one in pair}, score=metric)[0] for pair in pairs])
        else:
            found = compare({label: predictions[label] for label in labels}, score=metric)
    except (PredictionsError, StoreError) as error:  # the scores are shown anyway
        return {}, [f"Not tested for significance: {error}."]
    told = []
    if few := too_few(found[0]):
        told.append(f"{few}.")
    if found[0].unit == "utterances":
        told.append("Tests are over utterances, and say nothing about other speakers.")
    return {_other_of(one, against): (against, p_of(one)) for one in found if against in (one.first, one.second)}, told


def _other_of(found: Comparison, label: str) -> str:
    return found.second if found.first == label else found.first


def _explained(reference: str | None) -> str:
    against = reference or "the best of its column"
    return (
        f"{MARK}: differs from {against} (p < {SIGNIFICANT:g} in the paired test of 'featcache compare', with Holm's "
        f"correction for all {'comparisons with it' if reference else 'pairs of the column'})."
    )


def _notes(grid: ScoreGrid) -> list[str]:
    cells = list(grid.cells.values())
    seeds = sorted({cell.num_seeds for cell in cells})
    number = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    spread = f"mean ± standard deviation over {number} seeds" if seeds != [1] else "one seed"
    units = dict.fromkeys(cell.run.metrics["bootstrap"]["unit"] for cell in cells if cell.ci95)
    over = " or ".join(units) + (" and seeds" if seeds != [1] else "")
    told = [f"{grid.heading}: {spread}{f'; 95 % confidence intervals over {over} in brackets' if units else ''}."]
    if len(cells) > 1:
        told.append(BEST)
    if 1 in seeds and grid.part == TEST:
        told.append(f"{ONE_SEED}.")
    if grid.part == VALIDATION:
        told.append("Validation scores choose settings; report test scores.")
    if any(cell.run.config.get("norm") == "speaker" for cell in cells):
        told.append("Speaker normalisation uses the statistics of test speakers (transductive).")
    for cell in cells if grid.part == TEST else ():
        metrics = cell.run.metrics
        few = caution(metrics["bootstrap"]["unit"], metrics["bootstrap"]["count"], metrics["num_speakers"])
        told += [f"{few[0].upper()}{few[1:]}."] if few else []
    return told
