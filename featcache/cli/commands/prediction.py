"""Runs × new audio → predictions."""

from typing import Any

from featcache.cli import options
from featcache.cli.from_settings import command_of
from featcache.settings.predictions import PredictCommandSettings


@command_of(PredictCommandSettings)
def predict(given: dict[str, Any], run: options.PredictingRun, audio: options.NewAudio) -> None:
    """Predict new audio with the heads of a run.

    RUN is the name or folder of a run or an ensemble, a published folder, or hf:owner/name[@revision]. AUDIO is files,
    folders, a manifest.csv or a corpus. The table has the mean over all heads, and their standard deviation. Audio of
    the run's own corpus is predicted only by the heads that did not train on it.
    """
    from featcache.cli.prediction_output import print_predictions

    print_predictions(run, audio, given)
