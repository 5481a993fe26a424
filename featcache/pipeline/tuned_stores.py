"""Finished fine-tuned runs of a pipeline → stores of their models, and the rows that read these stores.

Such a store is named after its run, so that a run with other settings never meets the store of an earlier one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from featcache.fitting.plan import plan_runs
from featcache.pipeline.locate import PipelineCorpus
from featcache.pipeline.rows import Row
from featcache.pipeline.stores import PipelineStore
from featcache.runs.identity import hash_of
from featcache.runs.reader import RunFolder


def with_sources(
    stores: Sequence[PipelineStore], rows: Sequence[Row], runs: Mapping[str, RunFolder]
) -> tuple[list[PipelineStore], list[Row]]:
    """Return the stores and rows, where stores of finished fine-tuned runs have their name in the cache.

    Args:
        stores: Stores of the pipeline.
        rows: Rows of the table.
        runs: Name of a row → its finished run.
    """
    sources = {store.name: runs[run] for store in stores if (run := store.spec.run) is not None and run in runs}
    names = {name: f"{name}-{hash_of(run.name)[:6]}" for name, run in sources.items()}
    found = [
        replace(store, name=names[store.name], source=sources[store.name].path) if store.name in names else store
        for store in stores
    ]
    return found, [_reading(row, names) for row in rows]


def finished_sources(
    stores: Sequence[PipelineStore], rows: Sequence[Row], place: PipelineCorpus
) -> dict[str, RunFolder]:
    """Return name of a row → its run, for the rows from which stores are made and whose run exists already."""
    wanted = {store.spec.run for store in stores}
    missing = {store.name for store in stores if store.missing}
    found = {}
    for row in rows:
        if row.name in wanted and missing.isdisjoint(row.request.features):
            [planned] = plan_runs([row.request], cache=place.cache, home=place.workspace.home)
            if planned.finished is not None:
                found[row.name] = planned.finished
    return found


def _reading(row: Row, names: Mapping[str, str]) -> Row:
    features = tuple(names.get(store, store) for store in row.request.features)
    return row if features == row.request.features else replace(row, request=replace(row.request, features=features))
