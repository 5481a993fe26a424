"""Corpus → stores and transcripts: what makes them, shows them, checks them and merges them."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from featcache.cli import options
from featcache.cli.exit_codes import end
from featcache.cli.from_settings import command_of
from featcache.settings.extractions import ExtractorFlags, ExtractSettings, ImportSettings, TranscribeSettings

if TYPE_CHECKING:
    from featcache.extraction import ExtractionReport
    from featcache.extraction.import_features import ImportReport
    from featcache.transcription import TranscriptionReport

    Report = TypeVar("Report", ExtractionReport, TranscriptionReport, ImportReport)


@command_of(ExtractSettings, ExtractorFlags)
def extract(given: dict[str, Any]) -> None:
    """Run a frozen model over a corpus and keep every layer. A second call continues where the first ended."""
    from featcache.extraction import extract as run
    from featcache.extraction import summarise_with_next_step

    _print_report(run(**given), summarise_with_next_step, dry_run=given.get("dry_run", False))


@command_of(TranscribeSettings)
def transcribe(given: dict[str, Any]) -> None:
    """Transcribe a corpus with Whisper, beside the human transcripts, and report the word error rate.

    A second call continues where the first ended. Nothing is sampled: the same audio gives the same words. Audio longer
    than 30 s is transcribed window after window, as Whisper's authors do it; nothing is cut.
    """
    from featcache.transcription import summarise
    from featcache.transcription import transcribe as run

    _print_report(run(**given), summarise, dry_run=given.get("dry_run", False))


@command_of(ImportSettings)
def import_features(given: dict[str, Any], folder: options.FeatureFolder) -> None:
    """Make a store of features that others have computed, with the manifest's utterance ids as file names.

    Arrays are (num_layers, num_frames, hidden_size) or (num_frames, hidden_size). No audio is read.
    """
    from featcache.extraction.import_features import import_features as run
    from featcache.extraction.import_features import summarise_import

    _print_report(run(folder=folder, **given), summarise_import, dry_run=given.get("dry_run", False))


def _print_report(report: "Report", summarise: "Callable[[Report], str]", *, dry_run: bool) -> None:
    """Print what was done, or what a dry run found that cannot be read, and end with the code of that."""
    from featcache.extraction.summary import summarise_dry_run

    if not dry_run:
        print(summarise(report))
    elif report.failures:
        print(summarise_dry_run(report.num_utterances, report.failures))
    end(interrupted=report.interrupted, num_failures=len(report.failures))


def info(path: options.Shown = None) -> None:
    """Show what a store, cache, run or transcripts hold, and what made them."""
    from featcache.cli.info import print_info

    print_info(path)


def verify(
    store: options.Store,
    data: options.CorpusData = None,
    recompute: options.Recompute = 4,
    model: options.MovedModel = None,
    device: options.Device = "cpu",
    plugin: options.Plugins = None,
) -> None:
    """Check every byte of a store, and compare some utterances, computed anew, with what is stored."""
    from featcache.cli.listing import print_verification
    from featcache.registry import name_plugins

    name_plugins(plugin or ())
    print_verification(store, data=data, number=recompute, model=model, device=device)


def merge(into: options.MergedStore, parts: options.Parts) -> None:
    """Make one store of parts that were extracted into folders apart, for instance on machines without a shared disk.

    What INTO has stays, and among the parts the first one counts; the same utterance from other audio is refused. A
    cache without a manifest gets the parts'.
    """
    from featcache.cli.listing import print_merge

    print_merge(into, parts)
