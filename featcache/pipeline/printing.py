"""Plans and tables of pipelines → the terminal."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from featcache.extraction.report import format_bytes
from featcache.pipeline.place import Place
from featcache.pipeline.reading import read_pipeline, shipped_pipelines
from featcache.pipeline.rows import Row
from featcache.pipeline.stores import Store
from featcache.pipeline.transcripts import Transcripts
from featcache.report.compared import ComparedRow, compared_table, numbered_notes
from featcache.report.tables import plain_table
from featcache.training.checks import explained
from featcache.training.fit import plan_runs
from featcache.training.setup import SVM
from featcache.training.task import resolve_folds, selected


def print_pipelines() -> None:
    """The pipelines that come with featcache."""
    table = plain_table("Pipeline", "Corpus", "What")
    for name, path in shipped_pipelines().items():
        pipeline = read_pipeline(path)
        table.add_row(name, ", ".join(pipeline.corpus) or "any", Text(pipeline.title))
    Console().print(table)


def counted(number: int, what: str) -> str:
    """``1 seed``, ``2 seeds``."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def print_line(text: str) -> None:
    """A line that is not broken, whatever the terminal's width."""
    Console(soft_wrap=True, highlight=False).print(Text(text))


def print_plan(
    title: str,
    place: Place,
    transcripts: Sequence[Transcripts],
    stores: Sequence[Store],
    rows: Sequence[Row],
    *,
    limit: int | None,
) -> None:
    """Which transcripts, stores and runs are there, and what it takes to make the others."""
    print_line(f"{title}\n{place.name}: {len(place.manifest.limited(limit))} of {len(place.manifest)} utterances\n")
    if transcripts:
        table = plain_table("Transcripts", "Model", "To do")
        for one in transcripts:
            todo = f"{one.missing} utterances to transcribe" if one.missing else "there"
            table.add_row(Text(one.name), Text(one.spec.model), todo)
        Console().print(table)
        Console().print()
    table = plain_table("Store", "Model", "To do")
    total = 0
    for store in stores:
        size = store.planned_bytes() if store.missing else 0
        total += size or 0
        told = "there"
        if store.missing:
            about = "size known once the model is here" if size is None else f"about {format_bytes(size)}"
            told = f"{store.missing} utterances to extract, {about}"
        table.add_row(Text(store.name), Text(store.spec.encoder), told)
    Console().print(table)
    missing = {store.name for store in stores if store.missing}
    table = plain_table("Run", "Title", "To do")
    trainings = 0
    for row in rows:
        number = _num_trainings(place, row, ready=missing.isdisjoint(row.request.features))
        trainings += number
        table.add_row(Text(row.name), Text(row.spec.title), counted(number, "training") if number else "there")
    Console().print()
    Console().print(table)
    told = f"together about {format_bytes(total)} and {counted(trainings, 'training')}"
    print_line(f"\n{told if missing or trainings else 'nothing to extract or to train'}\n")


def _num_trainings(place: Place, row: Row, *, ready: bool) -> int:
    """How many trainings a row takes; none where its run is there."""
    if ready:
        [planned] = plan_runs([row.request], cache=place.cache, home=place.workspace.home)
        return 0 if planned.finished else len(planned.setup.folds) * len(planned.setup.config["seeds"])
    select, limit = row.request.select, row.request.limit
    manifest = selected(place.manifest, select, limit)
    with explained(place.manifest, manifest, manifest, limit=limit, select=select):
        _, _, folds = resolve_folds(manifest, place.kind, protocol=row.request.protocol, target=row.request.target)
    return len(folds) * (1 if row.request.head == SVM else len(row.request.seeds))


def print_results(
    rows: Sequence[ComparedRow],
    notes: Sequence[str],
    comparisons: Sequence[tuple[str, Sequence[str]]],
    folder: Path,
) -> None:
    """The table, its notes, what was compared, and where it all is."""
    numbers = numbered_notes(rows)
    for metric in dict.fromkeys(row.metric for row in rows):
        Console().print(compared_table([row for row in rows if row.metric == metric], numbers))
        Console().print()
    for note, number in numbers.items():
        print_line(f"{number}  {note}")
    for note in notes:
        print_line(note)
    for name, sentences in comparisons:
        print_line(f"\n{name}")
        for told in sentences:
            print_line(f"  {told}")
    print_line(f"\n{folder}")
