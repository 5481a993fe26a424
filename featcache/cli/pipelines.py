"""Plans and results of pipelines → tables on the terminal."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from featcache.files.regular import read_regular
from featcache.fitting.checks import explained
from featcache.fitting.plan import plan_runs
from featcache.fitting.task import resolve_folds, selected
from featcache.heads import head_spec
from featcache.pipeline.locate import PipelineCorpus
from featcache.pipeline.read import find_pipeline, read_pipeline, shipped_pipelines
from featcache.pipeline.rows import Row
from featcache.pipeline.run import Listener, PipelineOutcome, PipelineWork, run_pipeline
from featcache.pipeline.schema import EACH
from featcache.report.contrast import Contrast, contrast_table
from featcache.report.cost_table import CAPTION, cost_table
from featcache.report.experiment import ComparedRow, compared_table, numbered_notes, titled_costs
from featcache.report.tables import plain_table
from featcache.terminal.console import Console, print_line, print_lines
from featcache.units import counted, format_bytes


def print_pipelines() -> None:
    """Print the pipelines that come with featcache."""
    table = plain_table("Pipeline", "Corpus", "Title")
    for name, path in shipped_pipelines().items():
        pipeline = read_pipeline(path)
        table.add_row(name, ", ".join(pipeline.corpus) or "any", pipeline.title)
    Console().print(table)


class Printing(Listener):
    """Listener that prints the plan and the results of a pipeline."""

    def planned(self, title: str, work: PipelineWork) -> None:
        print_plan(title, work)

    def filled(self, summary: str) -> None:
        print_lines(summary)

    def finished(
        self,
        rows: Sequence[ComparedRow],
        notes: Sequence[str],
        comparisons: Sequence[tuple[str, Sequence[str]]],
        contrasts: Sequence[Contrast],
        folder: Path,
    ) -> None:
        print_results(rows, notes, comparisons, contrasts, folder)


def run_and_print(**options: Any) -> PipelineOutcome:
    """Run a pipeline, and print its plan and results.

    Args:
        options: Options of :func:`~featcache.pipeline.run.run_pipeline`.
    """
    return run_pipeline(**options, listener=Printing())


def print_pipeline(pipeline: str) -> None:
    """Print the YAML of a pipeline as a template."""
    path = find_pipeline(pipeline)
    read_pipeline(path)  # A faulty file is an error here already, not only when its copy is run.
    sys.stdout.write(read_regular(path).decode())


def print_plan(title: str, work: PipelineWork) -> None:
    """Print which transcripts, stores and runs exist, and the work for the others."""
    place, transcripts, stores, rows, limit = work.place, work.transcripts, work.stores, work.rows, work.limit
    print_line(title)
    print_line(f"{place.name}: {len(place.manifest.limited(limit))} of {len(place.manifest)} utterances")
    print_line()
    if transcripts:
        table = plain_table("Transcripts", "Model", "To do")
        for one in transcripts:
            todo = f"{counted(one.missing, 'utterance')} to transcribe" if one.missing else "exists"
            table.add_row(one.name, one.spec.model, todo)
        Console().print(table)
        Console().print()
    table = plain_table("Store", "Model", "To do")
    sizes = {store.name: store.planned_size() for store in stores if store.missing}
    for store in stores:
        told = (
            f"{counted(store.missing, 'utterance')} to extract, {sizes[store.name][1]}" if store.missing else "exists"
        )
        table.add_row(store.name, store.spec.encoder, told)
    Console().print(table)
    missing = {store.name for store in stores if store.missing}
    table = plain_table("Run", "Title", "To do")
    trainings = 0
    for row in rows:
        if row.spec.layers == EACH:
            table.add_row(row.name, row.spec.title, "one run per layer; the number is unknown without the model")
            continue
        number = _num_trainings(place, row, ready=missing.isdisjoint(row.request.features))
        trainings += number
        table.add_row(row.name, row.spec.title, counted(number, "training") if number else "exists")
    Console().print()
    Console().print(table)
    if work.cited:
        print_line()
        print_line(f"published results without a run: {'; '.join(work.cited)}")
    if any(store.lacks_audio for store in stores):
        print_line()
        print_line(
            f"no audio under {place.workspace.corpora / place.name}: to extract, add --data PATH with its folder"
        )
    told = _together([size for size, _ in sizes.values()], trainings)
    print_line()
    print_line(told)
    print_line()


def _together(sizes: Sequence[int | None], trainings: int) -> str:
    """Return the total work: ``in total about 1.2 GB, 1 store of unknown size and 25 trainings``."""
    known = [size for size in sizes if size is not None]
    unknown = len(sizes) - len(known)
    told = [f"about {format_bytes(sum(known))}"] if known else []
    told += [f"{counted(unknown, 'store')} of unknown size"] if unknown else []
    told += [counted(trainings, "training")] if trainings else []
    if not told:
        return "nothing to extract or train"
    return f"in total {' and '.join(filter(None, [', '.join(told[:-1]), told[-1]]))}"


def _num_trainings(place: PipelineCorpus, row: Row, *, ready: bool) -> int:
    """Return the number of trainings of a row; 0 if its run exists."""
    if ready:
        [planned] = plan_runs([row.request], cache=place.cache, home=place.workspace.home)
        return 0 if planned.finished else len(planned.setup.folds) * len(planned.setup.config["seeds"])
    select, limit = row.request.select, row.request.limit
    manifest = selected(place.manifest, select, limit)
    with explained(place.manifest, manifest, manifest, limit=limit, select=select):
        _, _, folds = resolve_folds(manifest, place.kind, protocol=row.request.protocol, target=row.request.target)
    number = len(folds) if row.request.fold is None else 1
    return number * (len(row.request.seeds) if head_spec(row.request.head).is_network else 1)


def print_results(
    rows: Sequence[ComparedRow],
    notes: Sequence[str],
    comparisons: Sequence[tuple[str, Sequence[str]]],
    contrasts: Sequence[Contrast],
    folder: Path,
) -> None:
    """Print the table, its notes, the comparisons, and the folder of the results."""
    numbers = numbered_notes(rows)
    for metric in dict.fromkeys(row.metric for row in rows):
        Console().print(compared_table([row for row in rows if row.metric == metric], numbers))
        Console().print()
    for note, number in numbers.items():
        print_line(f"{number}  {note}")
    for note in notes:
        print_line(note)
    table = cost_table([(title, costs) for title, costs in titled_costs(rows) if costs.entries()])
    if table is not None:
        print_line()
        Console().print(table)
        print_line(CAPTION)
    for name, sentences in comparisons:
        print_line()
        print_line(name)
        for told in sentences:
            print_line(f"  {told}")
    for contrast in contrasts:
        print_line()
        print_line(f"{contrast.heading} of each layer")
        Console().print(contrast_table(contrast))
        for told in contrast.conclusions:
            print_line(told)
    print_line()
    print_line(str(folder))
