"""Corpus → stores and transcripts: the commands that make, show, check and merge them."""

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
    """Run a frozen model on a corpus and cache every layer.

    The same command continues an interrupted extraction. Nothing that is cached is recomputed.
    """
    from featcache.extraction import extract as run
    from featcache.extraction import summarise_with_next_step

    _print_report(run(**given), summarise_with_next_step, dry_run=given.get("dry_run", False))


@command_of(TranscribeSettings)
def transcribe(given: dict[str, Any]) -> None:
    """Transcribe a corpus with Whisper.

    The ASR transcripts are stored beside the human transcripts, and the word error rate is reported. The same command
    continues an interrupted transcription. Nothing is sampled: the same audio always gives the same text. Audio longer
    than 30 s is transcribed in windows, as by Whisper's authors; nothing is cut.
    """
    from featcache.transcription import summarise
    from featcache.transcription import transcribe as run

    _print_report(run(**given), summarise, dry_run=given.get("dry_run", False))


@command_of(ImportSettings)
def import_features(given: dict[str, Any], folder: options.FeatureFolder) -> None:
    """Import features from other programs into a store.

    FOLDER contains one file per utterance, named by the utterance id of the manifest. Arrays have the shape
    (num_layers, num_frames, hidden_size) or (num_frames, hidden_size). No audio is read.
    """
    from featcache.extraction.import_features import import_features as run
    from featcache.extraction.import_features import summarise_import

    _print_report(run(folder=folder, **given), summarise_import, dry_run=given.get("dry_run", False))


def _print_report(report: "Report", summarise: "Callable[[Report], str]", *, dry_run: bool) -> None:
    """Print a summary of the work, or the unreadable files that a dry run found, and end with the exit code."""
    from featcache.extraction.summary import summarise_dry_run

    if not dry_run:
        print(summarise(report))
    elif report.failures:
        print(summarise_dry_run(report.num_utterances, report.failures))
    end(interrupted=report.interrupted, num_failures=len(report.failures))


def info(path: options.Shown = None) -> None:
    """Show the content and origin of a cache, store, run or transcripts."""
    from featcache.cli.info import print_info

    print_info(path)


def verify(
    store: options.Store,
    data: options.CorpusData = None,
    recompute: options.Recompute = "4",
    model: options.MovedModel = None,
    augment: options.Augment = None,
    device: options.Device = "cpu",
    plugin: options.Plugins = None,
) -> None:
    """Check the checksums of a store, and compare it with recomputed utterances.

    The utterances are recomputed one by one. The largest difference of each layer is compared with a tolerance.
    """
    from featcache.cli.listing import print_verification
    from featcache.cli.parsing import read_value
    from featcache.registry import name_plugins

    number = read_value("--recompute", recompute, int, minimum=0)
    name_plugins(plugin or ())
    print_verification(store, data=data, number=number, model=model, augment=augment or (), device=device)


def merge(into: options.MergedStore, parts: options.Parts) -> None:
    """Merge stores that were extracted in parts.

    For example, the parts were extracted on machines without a shared disk. Utterances in INTO are kept. If several
    parts contain an utterance, the first part is used. The same utterance id with different audio is an error. A cache
    without a manifest gets the manifest of the parts.
    """
    from featcache.cli.listing import print_merge

    print_merge(into, parts)
