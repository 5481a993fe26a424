"""Extraction → report, its summary for the terminal, and the failures of utterances that cannot be read."""

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from featcache.augmentation.augmented_view import SEPARATOR
from featcache.cache.failures import Failure
from featcache.cache.reader import FeatureCache, FeatureStore
from featcache.cache.tuned_store import TunedOrigin
from featcache.corpora.recorded import corpus_of
from featcache.errors import AudioError, FeatcacheError, StoreError, listed
from featcache.extraction.inputs import SECONDS, TOKENS
from featcache.extraction.left_out import lines_on_left_out
from featcache.manifest import Manifest, Utterance
from featcache.runs.identity import FINAL
from featcache.terminal.escape import escaped
from featcache.units import counted
from featcache.utterances import VOTES, is_target
from featcache.workspace import Workspace

TOLD_AT_ONCE = 3
MOST_LINES = 100
GOES_ON = "stopped before the end; run the same command again to continue"


@dataclass(frozen=True, kw_only=True)
class ExtractionReport:
    """Result of an extraction or, with ``dry_run``, its plan.

    Attributes:
        cache: Folder of the corpus's cache.
        stores: Names of the stores that were filled.
        num_utterances: Number of requested utterances.
        num_extracted: Number of utterances computed by this call for at least one store; the others were cached, or
            failed.
        planned_bytes: Planned size on disk, in bytes.
        audio_seconds: Length of the audio computed by this call, in seconds.
        num_tokens: Number of tokens computed by this call, if the extractor reads text.
        seconds: Duration of the call in seconds.
        interrupted: Whether Ctrl-C stopped the extraction.
        failures: Utterances that could not be extracted, or whose headers cannot be read.
        ends_early: Ids of the utterances that are cut, because the end of their files is missing.
        num_unlabelled: Number of requested utterances without any label.
        left_out: Reason → number of utterances or files that are not in the stores for this reason.
    """

    cache: Path
    stores: tuple[str, ...]
    num_utterances: int
    num_extracted: int
    planned_bytes: int
    audio_seconds: float
    num_tokens: int
    seconds: float
    interrupted: bool
    failures: tuple[Failure, ...]
    ends_early: tuple[str, ...] = ()
    num_unlabelled: int = 0
    left_out: Mapping[str, int] = field(default_factory=dict)


def failures_of(reasons: Mapping[str, str], store: str, wanted: Sequence[Utterance]) -> dict[str, Failure]:
    """Return the failures of utterances that cannot be read, by their ids.

    Args:
        reasons: Utterance id → reason why it cannot be read.
        store: Name of the store in which it is missing.
        wanted: All requested utterances.

    Raises:
        AudioError: no utterance can be read.
    """
    if reasons and len(reasons) == len(wanted):
        counts = Counter(reasons.values()).most_common()
        told = [reason if number == 1 else f"{reason} ({number} utterances)" for reason, number in counts]
        more = f"; and {len(told) - TOLD_AT_ONCE} more" if len(told) > TOLD_AT_ONCE else ""
        raise AudioError(
            f"none of {counted(len(wanted), 'utterance')} can be read: {'; '.join(told[:TOLD_AT_ONCE])}{more}"
        )
    return {
        u.utterance_id: Failure(store=store, utterance_id=u.utterance_id, path=u.path, reason=reasons[u.utterance_id])
        for u in wanted
        if u.utterance_id in reasons
    }


def summarise_dry_run(num_utterances: int, failures: Sequence[Failure]) -> str:
    """Return the utterances that a dry run cannot read, one line for each reason; an empty string if there are none."""
    if not failures:
        return ""
    counts = Counter(failure.reason for failure in failures).most_common()
    lines = [f"{len(failures)} of {num_utterances} utterances cannot be read:"]
    lines += [f"  {reason}" if number == 1 else f"  {reason} ({number} utterances)" for reason, number in counts]
    if len(lines) > MOST_LINES:
        lines[MOST_LINES:] = [f"  and {len(lines) - MOST_LINES} more"]
    return "\n".join(map(escaped, lines))


def lines_on_failures(failures: Sequence[Failure], table: str | Path = "failures.csv") -> list[str]:
    """Return the number of failed utterances and the first reason, in one line; an empty list if none failed.

    Args:
        failures: Failures in one or several stores.
        table: Path of the list of all failures.
    """
    failed = {failure.utterance_id for failure in failures}
    if not failed:
        return []
    first = failures[0]
    return [f"{len(failed)} failed, listed in {table}; first: {first.utterance_id!r}: {first.reason}"]


def nothing_new(num_utterances: int, failures: Sequence[Failure], kept: str) -> list[str]:
    """Return the lines on a call that added no utterance to a store.

    Args:
        num_utterances: Number of requested utterances.
        failures: Failures in one or several stores.
        kept: State of the other utterances: ``cached``.
    """
    num_failed = len({failure.utterance_id for failure in failures})
    if not num_failed:
        return [
            f"nothing to do: {'all ' if num_utterances > 1 else ''}{counted(num_utterances, 'utterance', 'are')} {kept}"
        ]
    return [
        f"nothing to do: {num_utterances - num_failed} were {kept}, {num_failed} failed (see failures.csv)",
        f"first failure: {failures[0].utterance_id!r}: {failures[0].reason}",
    ]


def summarise_report(report: ExtractionReport) -> str:
    """Return a summary of an extraction in a few lines for the terminal."""
    lines = []
    if not (report.num_extracted or report.interrupted):
        lines += nothing_new(report.num_utterances, report.failures, "cached")
    elif not report.num_extracted:
        lines += [f"0 of {report.num_utterances} utterances extracted", *lines_on_failures(report.failures)]
    else:
        unit, length = (TOKENS, report.num_tokens) if report.num_tokens else (SECONDS, report.audio_seconds)
        lines.append(
            f"{report.num_extracted} of {report.num_utterances} utterances extracted, {unit.describe(length)} in "
            f"{report.seconds:.0f} s ({unit.describe_speed(length, max(report.seconds, 1e-9))})"
        )
        lines += lines_on_failures(report.failures)
    if report.ends_early:
        lines.append(
            f"{counted(len(report.ends_early), 'utterance', 'are')} cut, because the end of their files is missing: "
            f"{listed(report.ends_early, at_most=10)}"
        )
    if report.num_unlabelled:
        lines.append(
            f"{report.num_unlabelled} of {counted(report.num_utterances, 'utterance', 'have')} no label, which "
            "'featcache fit' needs and 'featcache predict' does not"
        )
    lines += lines_on_left_out(report.left_out)
    if report.interrupted:
        lines.append(GOES_ON)
    lines += [str(report.cache / name) for name in report.stores]
    return "\n".join(map(escaped, lines))


def summarise_with_next_step(report: ExtractionReport) -> str:
    """Return the summary of an extraction and, in the last line, a command that uses the store."""
    command = next_step(report.cache, report.stores[0])
    return summarise_report(report) + (f"\nnext: {escaped(command)}" if command else "")


def next_step(folder: Path, name: str) -> str | None:
    """Return a command that fits a head on a store; None if the store is unfinished or cannot be fitted by default.

    Features of a fine-tuned model have clean scores only in the fold of the model, by the protocol of its run.

    Args:
        folder: Folder of the cache.
        name: Name of the store.
    """
    try:
        cache = FeatureCache(folder)
        store = cache[name]
        target = _target_options(folder, cache.manifest)
        tuned = TunedOrigin.of(store.identity)
    except FeatcacheError:
        return None
    speakers = set(cache.manifest.speaker_ids) - {""}
    own_folds = {"split", "fold"}.intersection(cache.manifest.label_columns)
    if not store.complete or target is None or (len(speakers) < 3 and not own_folds):
        return None
    clean = []
    if tuned is not None and tuned.corpus == cache.name:
        if tuned.fold is None or tuned.protocol == FINAL:
            return None
        clean = ["--fold", str(tuned.fold), "--protocol", tuned.protocol]
    head = "linear" if store.pooled_only else "dense" if store.has_frames else "svm"
    norm = "speaker" if all(utterance.speaker_id for utterance in cache.manifest) else "global"
    features = ["--features", name] if _must_be_named(store, cache) else []
    corpus = ["--corpus", cache.name] if _has_neighbours(folder) else []
    return shlex.join(["featcache", "fit", "--head", head, "--norm", norm, *features, *clean, *target, *corpus])


def _must_be_named(store: FeatureStore, cache: FeatureCache) -> bool:
    """Return whether ``featcache fit`` does not choose this store by default."""
    others = {name.partition(SEPARATOR)[0] for name in cache} - {store.name, "egemaps"}
    return store.metadata["dataset"] != "hidden_states" or bool(others)


def _has_neighbours(folder: Path) -> bool:
    """Return whether there are several caches, so that ``featcache fit`` needs ``--corpus``."""
    try:
        Workspace(home=folder.parent.parent).find_cache(None)
    except StoreError:
        return True
    return False


def _target_options(folder: Path, manifest: Manifest) -> list[str] | None:
    """Return the option that names the label to predict, if it is needed; None if the manifest has no label."""
    if not any(utterance.has_label for utterance in manifest):
        return None
    corpus = corpus_of(folder)
    if corpus is not None and corpus.target:
        return []
    columns = [column for column in manifest.label_columns if not column.startswith(VOTES)]
    labels = [column for column in columns if is_target(column)]
    if len(columns) == 1:
        return []
    return ["--target", "emotion" if "emotion" in labels else labels[0]]
