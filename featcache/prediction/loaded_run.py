"""Name or folder of a run → the run, which also predicts new audio."""

import logging
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from featcache.errors import AudioError, ModelError
from featcache.registry import naming
from featcache.runs.reader import RunFolder, find_run
from featcache.settings.checked import configured
from featcache.settings.predictions import PredictSettings
from featcache.settings.public import documented, without
from featcache.units import counted
from featcache.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

    from featcache.prediction.predictor import Prediction, Predictor

log = logging.getLogger(__name__)

Samples = tuple[npt.ArrayLike, int]
Audio = str | os.PathLike[str] | Samples


class LoadedRun(RunFolder):
    """A finished run that also predicts new audio.

    Args:
        path: The run folder.
        workspace: Folder of corpora, caches and runs; by default ``$FEATCACHE_HOME``, or ``data``.

    Raises:
        StoreError: the folder is not a finished run, or a file has changed since it was written.
    """

    def __init__(self, path: str | os.PathLike[str], workspace: Workspace | None = None) -> None:
        super().__init__(path)
        self._workspace = workspace or Workspace.at()
        self._predictors: dict[tuple[Any, ...], Predictor] = {}

    @documented("predict", PredictSettings, expand=naming("layout", "plugin"))
    def predict(
        self,
        audio: Audio | Sequence[Audio],
        *,
        layout: str | None = None,
        plugin: str | Sequence[str] = (),
        speaker_from: str | None = None,
        one_speaker: bool = False,
        include_trained: bool = False,
        window: float | None = None,
        hop: float | None = None,
        limit: int | None = None,
        model: str | Sequence[str] | Mapping[str, str] = (),
        embeddings: str | os.PathLike[str] | None = None,
        device: str = "auto",
        workers: int | None = None,
        batch_seconds: float | None = None,
        strict: bool = False,
    ) -> "pd.DataFrame":
        """Predict new audio with the heads of the run.

        The features are computed with the model, precision and windows of the run. Models and heads stay in memory for
        the next call; fine-tuned models are loaded in each call, one after another.

        Args:
            audio: A file, a folder, a ``manifest.csv`` or the name of a corpus; or ``(samples, sampling_rate)``, where
                samples are (num_samples,) or (num_channels, num_samples) float32 in [-1, 1] and the sampling rate is in
                Hz; or a list of these.

        Returns:
            One row per utterance, or per window, with the mean over heads: path, utterance_id, start, end, and for
            classes prediction, ``p_<class>`` and ``std_<class>``; for dimensions their values and ``std_<dimension>``.
            Utterances that cannot be predicted are left out with a warning, and listed in ``.attrs["failures"]``.

        Raises:
            FeatcacheError: features of the run cannot be computed here, the model has other weights, speakers are
                unknown but needed, or no utterance can be predicted.

        Example:
            >>> run = featcache.load_run("data/runs/emodb/mine")
            >>> table = run.predict("x.wav", one_speaker=True)
            >>> list(table.columns[:5])
            ['path', 'utterance_id', 'start', 'end', 'prediction']
        """
        settings = configured(PredictSettings, without(locals(), "self", "audio"))
        found = predict_audio(self._predictor(settings), audio, settings)
        if found.failures:
            first = found.failures[0]
            number = counted(len(found.failures), "utterance")
            log.warning("%s failed; first: %r: %s", number, first.utterance_id, first.reason)
        return found.table

    def _predictor(self, settings: PredictSettings) -> "Predictor":
        from featcache.prediction.predictor import Predictor

        key = (settings.model, settings.device)
        if key not in self._predictors:
            self._predictors[key] = Predictor(self, self._workspace, models=settings.model, device=settings.device)
        return self._predictors[key]


def load_run(path: str | os.PathLike[str], *, home: str | os.PathLike[str] | None = None) -> LoadedRun:
    """Open a finished run.

    Args:
        path: The run folder, or its name under ``data/runs``, such as ``mine`` or ``emodb/mine``; or a folder of
            ``featcache publish``.
        home: Folder of corpora, caches and runs; by default ``$FEATCACHE_HOME``, or ``data``.

    Returns:
        The run: ``config``, ``metrics``, ``predictions``, ``layer_weights``, ``history``, ``head(seed, fold)`` and
        ``predict(audio)``.

    Raises:
        StoreError: the run does not exist or is not finished, several corpora have a run of that name, or a file has
            changed since it was written.

    Example:
        >>> run = featcache.load_run("data/runs/emodb/mine")
        >>> list(run.predictions.columns[:5])
        ['seed', 'fold', 'utterance_id', 'speaker_id', 'target']
    """
    workspace = Workspace.at(home)
    return LoadedRun(find_run(workspace, os.fspath(path)).path, workspace)


def predict_audio(
    predictor: "Predictor", audio: Audio | Sequence[Audio], settings: PredictSettings, *, timed: bool = False
) -> "Prediction":
    """Predict files or signals.

    Args:
        predictor: Heads and extractors.
        audio: Files or signals, see :meth:`LoadedRun.predict`.
        settings: Options.
        timed: Whether to refuse utterances without start and end, before anything is computed.

    Raises:
        FeatcacheError: see :meth:`LoadedRun.predict`; or an utterance has no start or end, but ``timed`` is given.
    """
    from featcache.prediction.inputs import collect

    if settings.window is not None and any(one.reads_text for one in predictor.needed):
        raise ModelError("--window does not apply to a run that reads transcripts; predict whole utterances")
    with _as_files(audio) as paths:
        request = collect(
            paths,
            workspace=predictor.workspace,
            layout=settings.layout,
            speaker_from=settings.speaker_from,
            one_speaker=settings.one_speaker,
            window=settings.window,
            hop=settings.hop,
            limit=settings.limit,
            reads_audio=not all(one.reads_text for one in predictor.needed),
        )
        whole = [one.path for one in request.manifest if one.start is None or one.end is None]
        if timed and whole:
            raise AudioError(
                f"--plot needs windows, but {whole[0]!r} would be predicted as a whole; add --window 4 --hop 1"
            )
        found = predictor.predict(request, settings)
    found.table.attrs["failures"] = [(one.utterance_id, one.path, one.reason) for one in found.failures]
    return found


@contextmanager
def _as_files(audio: Any) -> Iterator[list[str]]:
    """Yield paths of audio; signals are written to temporary files without loss."""
    if isinstance(audio, str | os.PathLike) or _is_signal(audio):
        audio = [audio]
    if not isinstance(audio, Sequence) or not audio:
        raise AudioError(f"expected a path, (samples, sampling_rate), or a list of these, found {audio!r:.80}")
    with ExitStack() as stack:
        folder: Path | None = None  # Ctrl-C during an import ends the process, and would leave the folder behind
        paths = []
        for number, one in enumerate(audio, start=1):
            if isinstance(one, str | os.PathLike):
                paths.append(os.fspath(one))
                continue
            if folder is None:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="featcache-signals-")))
            paths.append(_written(one, folder / f"signal-{number}.wav"))
        yield paths


def _is_signal(audio: Any) -> bool:
    return isinstance(audio, tuple) and len(audio) == 2 and not isinstance(audio[0], str | os.PathLike | tuple)


def _written(signal: Any, path: Path) -> str:
    """Write a signal as 32-bit float WAV, which changes no sample, and return its path.

    Raises:
        AudioError: it is no signal with its sampling rate.
    """
    from featcache.prediction.in_memory import write_samples

    if not _is_signal(signal):
        raise AudioError(f"expected a path or (samples, sampling_rate), found {type(signal).__name__}")
    write_samples(signal[0], signal[1], path)
    return str(path)
