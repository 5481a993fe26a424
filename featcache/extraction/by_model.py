"""Plan × fine-tuned models of a run → one plan for each model, of which only one is in memory at a time."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from featcache.cache.identity import StoreIdentity
from featcache.errors import StoreError
from featcache.extraction.dask_worker import Recipe
from featcache.extraction.plan import ExtractionPlan, PlannedUtterance, StoreJob
from featcache.extraction.resolve import ExtractionRequest

log = logging.getLogger(__name__)


def parts_by_model(
    request: ExtractionRequest, jobs: Sequence[StoreJob], plan: ExtractionPlan, *, create: bool
) -> Iterator[tuple[ExtractionPlan, Mapping[str, Recipe]]]:
    """Yield the utterances that the same models compute; most stores have one model for all utterances.

    Args:
        request: The request.
        jobs: The stores; before each part, their extractors become those of this part.
        plan: Missing utterances.
        create: Whether models are loaded here; if not, the workers of a cluster load them.

    Yields:
        Plan of the part, and name of each store → recipe of its extractor.

    Raises:
        FeatcacheError: a model cannot be loaded, or differs from that of another fold in more than its weights.
    """
    loaded = {store.folder.name: store.recipe for store in request.stores}
    if not request.fold_of:
        yield plan, loaded
        return
    by_fold: dict[int, list[PlannedUtterance]] = {}
    for item in plan.items:
        by_fold.setdefault(request.fold_of[item.utterance.utterance_id], []).append(item)
    for fold, items in sorted(by_fold.items()):
        recipes = {store.folder.name: store.by_fold.get(fold, store.recipe) for store in request.stores}
        changing = [job for job in jobs if recipes[job.name] != loaded[job.name]]
        if create and changing:
            log.info("loading the model of fold %d", fold)
            _load(changing, recipes, request.device)
            loaded = recipes
        size, length = sum(item.bytes for item in items), sum(item.length for item in items)
        yield replace(plan, items=items, bytes=size, length=length), recipes


def _load(jobs: Sequence[StoreJob], recipes: Mapping[str, Recipe], device: str) -> None:
    """Replace the extractors of stores: the store of a model, and its views, which share it."""
    for job in jobs:
        del job.extractor  # so that its memory is free before the next model is loaded
    extractor = recipes[jobs[0].name].create(device)
    for job in jobs:
        job.extractor = extractor
        expected = job.writer.identity
        found = StoreIdentity.of(extractor.description, expected.storage_dtype, pool=expected.pool)
        if differing := found.differences(expected.without_view()):
            raise StoreError(
                f"{recipes[job.name].model}: this model differs from that of the first fold in {', '.join(differing)}; "
                "extract one fold with --fold"
            )
