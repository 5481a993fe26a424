"""Options of ``featcache predict`` → table of predictions, figure and embeddings."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from featcache.cache.failures import Failure
from featcache.cli.exit_codes import end
from featcache.errors import AudioError
from featcache.registry import naming
from featcache.settings.checked import configured
from featcache.settings.predictions import PredictCommandSettings
from featcache.units import counted
from featcache.workspace import Workspace

log = logging.getLogger(__name__)


def print_predictions(run: str, audio: Sequence[str], given: dict[str, Any]) -> None:
    """Predict audio, and print or write the table.

    Args:
        run: Name or folder of the run, or ``hf:owner/name[@revision]``.
        audio: Files, folders, a manifest or a corpus.
        given: Options of the user.

    Raises:
        FeatcacheError: the run or the audio cannot be used.
        Exit: utterances failed, or Ctrl-C ended the work early.
    """
    from featcache.prediction.formats import write_predictions
    from featcache.prediction.loaded_run import load_run, predict_audio
    from featcache.prediction.predictor import Predictor

    settings = configured(PredictCommandSettings, naming("layout", "plugin")(given))
    for path in filter(None, (settings.out, settings.embeddings)):
        _check_is_no_audio(path, audio)
    workspace = Workspace.at()
    predictor = Predictor(load_run(_local(run)), workspace, models=settings.model, device=settings.device)
    found = predict_audio(predictor, list(audio), settings, timed=settings.plot is not None)
    write_predictions(found.table, format=settings.format, out=settings.out, task=found.task)
    if settings.out is not None:
        log.info("%s written to %s", counted(len(found.table), "prediction"), settings.out)
    if settings.plot is not None:
        from featcache.report.timeline import write_timelines

        ranges = predictor.voters.members[0].config.get("label_ranges")
        for path in write_timelines(found.table, settings.plot, outputs=ranges or found.outputs, task=found.task):
            log.info("%s.png  .svg  .pdf", path)
    print_failures(found.failures)
    end(interrupted=found.interrupted, num_failures=len(found.failures))


def _check_is_no_audio(path: Path, audio: Sequence[str]) -> None:
    """Check that a file to write is not one of the files to predict, which it would replace.

    Raises:
        AudioError: it is one of them.
    """
    if any(os.path.isfile(one) and os.path.exists(path) and os.path.samefile(one, path) for one in audio):
        raise AudioError(f"{path} is one of the files to predict, and would be replaced; give another name")


def _local(run: str) -> str | Path:
    """Return the folder of a run on the Hugging Face hub; names and folders stay unchanged."""
    from featcache.publishing.hub_folder import is_hub_reference, local_folder

    return local_folder(run) if is_hub_reference(run) else run


def print_failures(failures: Sequence[Failure]) -> None:
    """Print a table of the utterances that failed, on standard error."""
    from featcache.report.tables import plain_table
    from featcache.terminal.console import Console

    if not failures:
        return
    table = plain_table("Utterance", "Reason")
    for failure in failures:
        table.add_row(failure.utterance_id, failure.reason)
    Console(stderr=True).print(table)
