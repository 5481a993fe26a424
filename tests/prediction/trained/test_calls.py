"""featcache.load_run(…).predict(…) and the command featcache predict."""

import io
import shutil

import h5py
import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

import featcache
from featcache.cli.app import main
from featcache.errors import AudioError, FeatcacheError, ModelError
from tests.prediction.trained.conftest import RATE

pytestmark = pytest.mark.usefixtures("quick_reports")


@pytest.fixture
def run(place):
    return place.fit(head="dense", norm="global", features=["ssl"], max_frames=5)


@pytest.fixture
def x(tmp_path, speech_like):
    soundfile.write(tmp_path / "x.wav", speech_like(9000, RATE, seed=99), RATE, subtype="FLOAT")
    return tmp_path / "x.wav"


def options(place):
    return {"model": place.models, "device": "cpu", "workers": 1}


def test_files_lists_and_samples_give_the_same_numbers(place, run, x):
    one = run.predict(x, **options(place))
    samples, rate = soundfile.read(x, dtype="float32")
    [listed, in_memory] = run.predict([str(x)], **options(place)), run.predict((samples, rate), **options(place))
    columns = ["prediction", "p_anger", "p_joy", "std_anger", "std_joy"]
    assert list(one.columns) == ["path", "utterance_id", "start", "end", *columns]
    pd.testing.assert_frame_equal(listed, one)
    pd.testing.assert_frame_equal(in_memory[columns], one[columns])
    assert isinstance(run, featcache.RunFolder)
    both = run.predict([(samples, rate), (torch.from_numpy(samples[:5000]), rate)], **options(place))
    np.testing.assert_array_equal(both[columns[1:]].to_numpy()[0], one[columns[1:]].to_numpy()[0])


@pytest.mark.parametrize("audio", [[], 5, None, [None]])
def test_other_things_than_audio_are_one_line(place, run, audio):
    with pytest.raises(FeatcacheError, match="expected a path"):
        run.predict(audio, **options(place))


def test_windows_need_audio(place, x):
    words = place.fit(head="dense", norm="global", features=["text"])
    with pytest.raises(ModelError, match=r"^--window does not apply to a run that reads transcripts"):
        words.predict(x, window=1.0, **{**options(place), "model": place.words})


def test_the_model_is_loaded_once(place, run, x, monkeypatch):
    from featcache.prediction import recreate

    run.predict(x, **options(place))
    monkeypatch.delattr(recreate, "create_extractor")
    run.predict(x, **options(place))


def command(place, monkeypatch, capsys, *arguments):
    monkeypatch.setenv("FEATCACHE_HOME", str(place.workspace.home))
    monkeypatch.setattr("sys.argv", ["featcache", "predict", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        main()
    captured = capsys.readouterr()
    return stop.value.code or 0, captured.out, captured.err


def test_the_command_prints_the_table_of_python(place, run, x, monkeypatch, capsys):
    code, out, err = command(place, monkeypatch, capsys, run.name, x, "--model", place.models, "--device", "cpu")
    assert code == 0
    expected = run.predict(x, **options(place))
    pd.testing.assert_frame_equal(pd.read_csv(io.StringIO(out)), expected, rtol=1e-6)
    assert "mean of 6 heads" in err


def test_a_bad_file_does_not_stop_the_rest(place, run, x, monkeypatch, capsys):
    (x.parent / "bad.wav").write_bytes(b"no audio")
    given = ("--model", place.models, "--device", "cpu")
    code, out, err = command(place, monkeypatch, capsys, run.name, x, x.parent / "bad.wav", *given)
    assert code == 3
    assert pd.read_csv(io.StringIO(out))["path"].tolist() == ["x.wav"]
    assert "bad" in err
    code, out, err = command(place, monkeypatch, capsys, run.name, x.parent / "bad.wav", *given)
    assert (code, out) == (1, "")
    assert "error: none of 1 " in err


@pytest.mark.parametrize(
    ("options_of_fit", "size"),
    [
        ({"head": "dense", "norm": "global", "features": ["ssl"], "max_frames": 5}, 128),
        ({"head": "svm", "norm": "speaker", "features": ["ssl"], "layers": "last", "seeds": 1}, 32),
    ],
    ids=["dense", "svm"],
)
def test_embeddings_have_one_dataset_per_head(place, options_of_fit, size, tmp_path):
    run = place.fit(**options_of_fit)
    shutil.copy(place.root / "01-joy-1.wav", tmp_path / "own.wav")
    ids = ["01-joy-1", "02-joy-1"]
    place.predict(run, place.request(ids, corpus="toy", cache=place.cache), embeddings=tmp_path / "e.h5")
    with h5py.File(tmp_path / "e.h5") as file:
        assert [text.decode() for text in file["utterance_id"]] == ids
        heads = {name: dataset[()] for name, dataset in file[run.name].items()}
    assert set(heads) == {f"seed-{seed}-fold-{fold}" for seed in run.config["seeds"] for fold in (1, 2, 3)}
    tested = run.predictions.set_index("utterance_id")["fold"]
    for name, values in heads.items():
        assert values.shape == (2, size)
        for row, utterance_id in zip(values, ids, strict=True):
            used = int(name[-1]) in set(np.atleast_1d(tested[utterance_id]))
            assert np.isfinite(row).all() == used
            if used and run.config["head"] == "dense":  # the last layer gives the recorded probabilities
                seed = int(name.split("-")[1])
                logits = run.head(seed=seed, fold=int(name[-1])).head.output(torch.from_numpy(row))
                recorded = run.predictions.query(f"seed == {seed} and utterance_id == '{utterance_id}'")
                expected = recorded[["p_anger", "p_joy"]].to_numpy()[0]
                np.testing.assert_allclose(logits.softmax(dim=0).detach(), expected, atol=1e-5)


def test_strict_stops_at_the_first_failure(place, run, x):
    (x.parent / "bad.wav").write_bytes(b"no audio")
    with pytest.raises(AudioError):
        run.predict([x.parent / "bad.wav", x], strict=True, **options(place))


def test_a_file_to_predict_is_not_replaced_by_the_table(place, run, x, monkeypatch, capsys):
    content = x.read_bytes()
    code, out, err = command(place, monkeypatch, capsys, run.name, x, "--out", x)
    assert (code, out) == (1, "")
    assert "is one of the files to predict" in err
    assert x.read_bytes() == content
