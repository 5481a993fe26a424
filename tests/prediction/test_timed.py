"""Figures over time need windows; this is told before anything is computed."""

from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from featcache.errors import AudioError
from featcache.prediction.loaded_run import predict_audio
from featcache.settings.predictions import PredictSettings
from featcache.workspace import Workspace


def test_whole_files_are_refused_before_the_prediction_and_windows_are_not(tmp_path):
    soundfile.write(tmp_path / "x.wav", np.full(8000, 0.1), 8000)
    predicted = []

    def predict(request, settings):
        predicted.append(len(list(request.manifest)))
        return SimpleNamespace(table=SimpleNamespace(attrs={}), failures=())

    predictor = SimpleNamespace(
        needed=[SimpleNamespace(reads_text=False)], workspace=Workspace.at(tmp_path / "home"), predict=predict
    )
    path = str(tmp_path / "x.wav")
    with pytest.raises(AudioError, match=r"^--plot needs windows, but 'x\.wav' would be .* add --window 4 --hop 1$"):
        predict_audio(predictor, path, PredictSettings(), timed=True)
    assert not predicted
    predict_audio(predictor, path, PredictSettings(window=0.5), timed=True)
    predict_audio(predictor, path, PredictSettings())
    assert predicted == [2, 1]
