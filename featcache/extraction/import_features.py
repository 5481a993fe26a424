"""Folder of imported features × manifest → a feature store, without audio or model.

The model, its weights and the checksums of the audio are recorded as unknown. Instead, the settings of the store
contain one checksum of all imported files, so that other features cannot be added to the same store.
"""

import logging
import os
import re
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from featcache.cache.failures import Failure, write_failures
from featcache.cache.identity import IMPORTED
from featcache.cache.layout import StorageDtype
from featcache.cache.locks import finishing, lock_if_writable
from featcache.cache.writer import StoreWriter
from featcache.errors import FeatureError, StoreError, listed
from featcache.extraction.feature_files import FeatureFiles, FoundFeatures, ImportedFeatures, find_features
from featcache.extraction.locate import LocatedCorpus, find_place, keep_manifest
from featcache.extraction.plan import StoreJob, make_plan, tell_size
from featcache.extraction.run import ExtractionRun
from featcache.extraction.summary import GOES_ON, failures_of, lines_on_failures, nothing_new
from featcache.features import Description
from featcache.manifest import Utterance
from featcache.registry import naming
from featcache.settings.checked import configured
from featcache.settings.extractions import ImportSettings
from featcache.settings.public import documented, without
from featcache.terminal.escape import escaped
from featcache.threads import available_cores
from featcache.workspace import Workspace, check_name

UNKNOWN = "unknown"

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ImportReport:
    """Result of an import or, with ``dry_run``, its plan.

    Attributes:
        store: Folder of the store.
        num_utterances: Number of requested utterances.
        num_imported: Number of utterances written by this call; the others were stored before, or failed.
        planned_bytes: Planned size on disk, in bytes.
        seconds: Duration of the call in seconds.
        interrupted: Whether Ctrl-C stopped the import.
        failures: Utterances whose files are missing or faulty.
    """

    store: Path
    num_utterances: int
    num_imported: int
    planned_bytes: int
    seconds: float
    interrupted: bool
    failures: tuple[Failure, ...]


@documented("featcache.import_features", ImportSettings, expand=naming("layout"))
def import_features(
    *,
    folder: str | os.PathLike[str],
    name: str,
    frame_shift: float | None = None,
    layer_names: str | Sequence[str] | None = None,
    array: str | None = None,
    corpus: str | None = None,
    data: str | os.PathLike[str] | None = None,
    layout: str | None = None,
    speaker_from: str | None = None,
    store: StorageDtype | None = None,
    pool: bool = False,
    limit: int | None = None,
    workers: int | None = None,
    strict: bool = False,
    dry_run: bool = False,
    home: str | os.PathLike[str] | None = None,
) -> ImportReport:
    """Import features that were computed elsewhere as a store.

    A second call continues where the first one ended. The folder contains one ``.npy``, ``.npz`` or HDF5 file for each
    utterance, with an array of real numbers of shape (num_layers, num_frames, hidden_size) or (num_frames,
    hidden_size), or (hidden_size,) if an utterance has a single vector. The name of the file is the id of the utterance
    or the path of its audio, subfolders included: see :mod:`featcache.extraction.feature_files`. No pickle is loaded.
    No audio is read: the list of utterances comes from the manifest of the cache, or from the corpus.

    Args:
        folder: Folder of the files.
        home: Folder of corpora, caches and runs; by default ``$FEATCACHE_HOME``, or ``data``.

    Returns:
        Numbers of requested and imported utterances, the store, and the utterances that failed.

    Raises:
        FeatcacheError: no corpus, or several; no file belongs to an utterance, or file names are ambiguous; a store
            that has other features or settings; too little disk space; with ``strict``, a faulty file. Features that
            were written before the error are kept.
        TypeError: an unknown option.

    Example:
        >>> report = featcache.import_features(folder="path/to/features", name="mine", frame_shift=0.02)
        >>> report.num_imported == report.num_utterances
        True
        >>> store = featcache.FeatureStore(report.store)
        >>> len(store) == report.num_imported
        True
    """
    asked = configured(ImportSettings, without(locals(), "folder", "home"))
    if asked.pool and asked.store is not None:
        raise StoreError(f"--store {asked.store} and --pool exclude each other; omit one of them")
    root, workers = Path(folder), asked.workers or available_cores()
    place = find_place(
        Workspace.at(home),
        asked.corpus,
        asked.data,
        audio=False,
        layout=asked.layout,
        speaker_from=asked.speaker_from,
    )
    wanted = list(place.manifest.limited(asked.limit))
    found = find_features(root, list(place.manifest), array=asked.array, frame_shift=asked.frame_shift)
    if found.left_over:
        told = listed(found.left_over)
        log.warning("files that belong to no utterance are ignored (%d): %s", len(found.left_over), told)
    description = _description(found, asked.frame_shift, asked.layer_names, asked.array, workers)
    dtype: StorageDtype = "float32" if asked.pool or not found.layered else "float16"
    target = place.cache / check_name("store", asked.name, place.cache)
    source = FeatureFiles(root, found, array=asked.array, frame_shift=asked.frame_shift)
    with ExitStack() as stack:
        unwritable = None if asked.dry_run else lock_if_writable(stack, [target])
        if unwritable is not None:
            raise unwritable
        writer = StoreWriter(target, description, asked.store or dtype, pool=asked.pool)
        job = StoreJob(target.name, ImportedFeatures(description), writer)
        return _fill(job, source, place, wanted, workers=workers, strict=asked.strict, dry_run=asked.dry_run)


def _description(
    found: FoundFeatures,
    frame_shift: float | None,
    layer_names: Sequence[str] | None,
    array: str | None,
    workers: int,
) -> Description:
    names = _layer_names(found, layer_names)
    known: dict[str, object] = {"frame_shift": frame_shift} if frame_shift is not None else {}
    known |= {"layers": list(names)} if found.layered else {}
    known |= {"array": array} if array is not None else {}
    settings = {
        "extractor": IMPORTED,
        "model_id": UNKNOWN,
        "weights": UNKNOWN,
        "content_sha256": found.content_sha256(workers),
        **known,
    }
    last = {"num_blocks": int(names[-1])} if found.layered and names[-1].isdecimal() else {}
    return Description(
        dataset="hidden_states" if found.layered else "frames",
        layer_names=names,
        hidden_size=found.hidden_size,
        frame_shift=frame_shift,
        sampling_rate=None,
        channel=None,
        settings=settings,
        provenance={"revision": UNKNOWN, "audio_sha256": UNKNOWN, **last},
    )


def _layer_names(found: FoundFeatures, given: Sequence[str] | None) -> tuple[str, ...]:
    if given is None:
        return tuple(map(str, range(found.num_layers))) if found.layered else ("",)
    if not found.layered:
        raise FeatureError("--layer-names needs arrays of (num_layers, num_frames, hidden_size), found no layers")
    names = tuple(given)
    if len(names) != found.num_layers:
        raise FeatureError(f"--layer-names has {len(names)} names, but the arrays have {found.num_layers} layers")
    odd = [name for name in names if not re.fullmatch(r"[\w.+-]+", name) or names.count(name) > 1]
    if odd:
        raise FeatureError(f"--layer-names has {listed(odd)}; expected unique names of letters, digits and ._+-")
    return names


def _fill(
    job: StoreJob,
    source: FeatureFiles,
    place: LocatedCorpus,
    wanted: Sequence[Utterance],
    *,
    workers: int,
    strict: bool,
    dry_run: bool,
) -> ImportReport:
    """Write the missing utterances, the failures and the index.

    Raises:
        FeatureError: no file could be imported, or one failed with ``strict``.
    """
    folder, start = job.writer.folder, time.perf_counter()
    plan = make_plan([job], source, wanted, workers)
    tell_size(plan, [job], source, place.cache, "import")
    job.failures.update(failures_of(plan.unreadable, job.name, wanted))
    if strict and job.failures:
        first = next(iter(job.failures.values()))
        raise FeatureError(f"utterance {first.utterance_id!r}: {first.reason} (stopped by --strict)")
    interrupted, imported = False, set[str]()
    if not dry_run:
        if place.files is not None:
            keep_manifest(place.cache, place.files)
        ids = [utterance.utterance_id for utterance in wanted]
        job.writer.begin(ids, num_in_corpus=len(place.manifest), write=bool(job.todo))
        run = ExtractionRun([job], source, plan, workers=workers, batch_length=0.0, strict=strict)
        interrupted, imported = run.to_the_end(), run.extracted
        with finishing(folder):
            failed = write_failures(folder, list(job.failures.values()), set(ids))
            job.writer.finish(ids, failed=failed, num_in_corpus=len(place.manifest))
        if job.failures and not job.writer.entries():
            first = next(iter(job.failures.values()))
            raise FeatureError(f"no file could be imported; {first.utterance_id!r}: {first.reason}")
    return ImportReport(
        store=folder,
        num_utterances=len(wanted),
        num_imported=len(imported),
        planned_bytes=plan.bytes,
        seconds=time.perf_counter() - start,
        interrupted=interrupted,
        failures=tuple(job.failures.values()),
    )


def summarise_import(report: ImportReport) -> str:
    """Return a summary of an import in a few lines for the terminal."""
    if not (report.num_imported or report.interrupted):
        lines = nothing_new(report.num_utterances, report.failures, "stored")
    else:
        told = f"{report.num_imported} of {report.num_utterances} utterances imported in {report.seconds:.0f} s"
        lines = [told, *lines_on_failures(report.failures)]
    if report.interrupted:
        lines.append(GOES_ON)
    return "\n".join(map(escaped, [*lines, str(report.store)]))
