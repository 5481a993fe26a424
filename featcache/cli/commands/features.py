"""Corpus → stores and transcripts: what makes them, shows them, checks them and merges them."""

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from featcache.cli import options
from featcache.cli.exit_codes import end
from featcache.cli.parsing import plain

if TYPE_CHECKING:
    from featcache.extraction import ExtractionReport
    from featcache.extraction.import_features import ImportReport
    from featcache.transcription import TranscriptionReport

    Report = TypeVar("Report", ExtractionReport, TranscriptionReport, ImportReport)


def extract(
    model: options.Model = None,
    text: options.TextModel = None,
    transcripts: options.Transcripts = None,
    corpus: options.SourceCorpus = None,
    data: options.SourceData = None,
    egemaps: options.Egemaps = True,
    name: options.StoreName = None,
    store: options.Storage = None,
    pool: options.Pool = False,
    limit: options.Limit = None,
    device: options.ExtractionDevice = "auto",
    workers: options.ExtractionWorkers = None,
    batch_seconds: options.BatchSeconds = None,
    strict: options.Strict = False,
    dry_run: options.DryRun = False,
    shard_index: options.ShardIndex = 0,
    num_shards: options.NumShards = 1,
    scheduler: options.ExtractionScheduler = None,
    weights: options.Weights = None,
    revision: options.Revision = None,
    num_blocks: options.NumBlocks = None,
    layers: options.ExtractedLayers = None,
    do_normalize: options.DoNormalize = None,
    max_seconds: options.MaxSeconds = None,
    chunk_seconds: options.ChunkSeconds = None,
    overlap_seconds: options.OverlapSeconds = None,
    precision: options.Precision = None,
    sampling_rate: options.SamplingRate = None,
    channel: options.Channel = None,
    window: options.Window = None,
    hop: options.Hop = None,
    n_fft: options.FFTLength = None,
    center: options.Center = None,
) -> None:
    """Run a frozen model over a corpus and keep every layer. A second call goes on where the first ended."""
    given = plain(locals())
    from featcache.extraction import extract as run
    from featcache.extraction import summarise_report

    _print_report(run(**given), summarise_report, dry_run=dry_run)


def transcribe(
    model: options.Whisper = "whisper-tiny",
    corpus: options.SourceCorpus = None,
    data: options.SourceData = None,
    name: options.TranscriptsName = None,
    language: options.Language = None,
    limit: options.Limit = None,
    device: options.TranscriptionDevice = "auto",
    workers: options.TranscriptionWorkers = None,
    strict: options.Strict = False,
    overwrite: options.OverwriteTranscripts = False,
    dry_run: options.DryRun = False,
    weights: options.WhisperWeights = None,
    revision: options.Revision = None,
) -> None:
    """Have Whisper write down a corpus, beside the human transcripts, and tell the word error rate.

    A second call goes on where the first ended. Nothing is sampled: the same audio gives the same words. What is longer
    than 30 s is done window after window, as Whisper's authors do it; nothing is cut.
    """
    given = plain(locals())
    from featcache.transcription import summarise
    from featcache.transcription import transcribe as run

    _print_report(run(**given), summarise, dry_run=dry_run)


def import_features(
    folder: options.FeatureFolder,
    name: options.ImportedName,
    frame_shift: options.FrameShift = None,
    layer_names: options.LayerNames = None,
    array: options.ArrayName = None,
    corpus: options.SourceCorpus = None,
    data: options.SourceData = None,
    layout: options.Layout = None,
    store: options.Storage = None,
    pool: options.Pool = False,
    limit: options.Limit = None,
    workers: options.ExtractionWorkers = None,
    strict: options.Strict = False,
    dry_run: options.DryRun = False,
) -> None:
    """Make a store of features that others have computed, with the manifest's utterance ids as file names.

    Arrays are (num_layers, num_frames, hidden_size) or (num_frames, hidden_size). No audio is read.
    """
    given = plain(locals())
    from featcache.extraction.import_features import import_features as run
    from featcache.extraction.import_features import summarise_import

    _print_report(run(**given), summarise_import, dry_run=dry_run)


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
) -> None:
    """Check every byte of a store, and compare some utterances, computed anew, with what is stored."""
    from featcache.cli.listing import print_verification

    print_verification(store, data=data, number=recompute, model=model, device=device)


def merge(into: options.MergedStore, parts: options.Parts) -> None:
    """Make one store of parts that were extracted into folders apart, for instance on machines without a shared disk.

    What INTO has stays, and among the parts the first one counts; the same utterance from other audio is refused. A
    cache without a manifest gets the parts'.
    """
    from featcache.cli.listing import print_merge

    print_merge(into, parts)
