"""``featcache predict`` gives the same table for a run and for the folder published from it."""

import numpy as np
import pandas as pd
import pytest
import soundfile
from typer.testing import CliRunner

import featcache
from featcache.cli.app import app

RUNS = (
    {"head": "dense", "norm": "global"},
    {"head": "lstm", "norm": "speaker"},
    {"head": "ffn", "norm": "global", "target": "arousal"},
)


@pytest.fixture
def corpus(tmp_path, speech_like, tiny_model, quick_reports):
    """Make a corpus with its cache, and a recording that is not in it; return the folder of the model."""
    folder, rows = tmp_path / "toy", []
    folder.mkdir()
    for number, speaker in enumerate("abc"):
        for emotion in ("joy", "anger"):
            samples = speech_like(6000, pitch=100.0 + 40 * number, seed=len(rows))
            soundfile.write(folder / f"{speaker}-{emotion}.wav", samples, 16000)
            rows.append((f"{speaker}-{emotion}.wav", speaker, emotion, len(rows)))
    pd.DataFrame(rows, columns=["path", "speaker_id", "emotion", "arousal"]).to_csv(
        folder / "manifest.csv", index=False
    )
    soundfile.write(tmp_path / "new.wav", speech_like(9000, pitch=180.0, seed=99), 16000)
    model = tiny_model("wav2vec2")
    featcache.extract(model=model, name="ssl", data=folder, egemaps=False, workers=1)
    return model


def test_new_audio_has_the_same_predictions_bit_for_bit(corpus, tmp_path):
    for number, options in enumerate(RUNS):
        run = featcache.fit(**{"protocol": "loso", "seeds": 1, "max_epochs": 1, **options})
        folder = featcache.publish(run.path, tmp_path / f"shared-{number}")
        given = {"model": {"ssl": corpus}, "device": "cpu", "workers": 1, "one_speaker": options["norm"] == "speaker"}
        tables = [featcache.load_run(path).predict(tmp_path / "new.wav", **given) for path in (run.path, folder)]
        pd.testing.assert_frame_equal(*tables, check_exact=True)
        assert len(tables[0]) == 1
        columns = [name for name in tables[0] if name.startswith(("p_", "std_", "arousal"))]
        assert len(columns) >= 2
        assert np.isfinite(tables[0][columns]).all(axis=None)
    printed = [_printed(path, tmp_path / "new.wav", corpus) for path in (run.path, folder)]
    assert printed[0] == printed[1]
    assert "new" in printed[0]


def _printed(run, audio, model):
    options = ["--model", f"ssl={model}", "--device", "cpu", "--workers", "1"]
    done = CliRunner().invoke(app, ["predict", str(run), str(audio), *options])
    assert done.exit_code == 0, done.output
    return done.stdout
