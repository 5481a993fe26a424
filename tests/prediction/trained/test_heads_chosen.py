"""Audio of the run's own corpus is predicted only by heads that did not train on it."""

import logging
import shutil

import numpy as np
import pytest
import soundfile

from featcache.errors import AudioError
from featcache.manifest import Manifest, Utterance
from tests.prediction.trained.conftest import RATE

pytestmark = pytest.mark.usefixtures("quick_reports")


@pytest.fixture
def run(place):
    return place.fit(head="linear", norm="none", features=["ssl"])


def heads_mean(place, run, utterance, folds, root=None):
    """Return the mean probabilities of the heads of some folds, from features computed by a plain extractor call."""
    from featcache import audio
    from featcache.extractors import create_extractor

    signal = audio.read(root or place.root, utterance).signal(channel="mean", sampling_rate=RATE, max_seconds=None)
    [features] = create_extractor(place.models).extract([signal])
    outputs = [
        run.head(seed=seed, fold=fold)([[features]]).softmax(dim=1)[0].detach().numpy()
        for fold in folds
        for seed in run.config["seeds"]
    ]
    return np.mean(outputs, axis=0)


def probabilities(run, table):
    return table[[f"p_{name}" for name in run.config["classes"]]].to_numpy()


def test_a_copy_under_another_name_is_known_by_its_checksum(place, run, tmp_path):
    shutil.copy(place.root / "02-joy-1.wav", tmp_path / "new.wav")
    manifest = Manifest([Utterance(utterance_id="new", path="new.wav")])
    table = place.predict(run, place.request(manifest=manifest, root=tmp_path)).table
    [fold] = run.predictions.query("utterance_id == '02-joy-1'")["fold"].unique()
    expected = heads_mean(place, run, place.manifest["02-joy-1"], [fold])
    np.testing.assert_allclose(probabilities(run, table)[0], expected, atol=1e-5)


def test_all_heads_predict_new_audio_and_their_number_is_told(place, run, tmp_path, caplog, speech_like):
    soundfile.write(tmp_path / "new.wav", speech_like(9000, RATE, seed=99), RATE)
    utterance = Utterance(utterance_id="new", path="new.wav")
    with caplog.at_level(logging.INFO, "featcache"):
        table = place.predict(run, place.request(manifest=Manifest([utterance]), root=tmp_path)).table
    expected = heads_mean(place, run, utterance, (1, 2, 3), tmp_path)
    np.testing.assert_allclose(probabilities(run, table)[0], expected, atol=1e-5)
    assert "mean of 6 heads" in caplog.text
    assert "could not be checked" not in caplog.text


def test_part_of_a_file_is_compared_by_its_time(place, run, tmp_path):
    [fold] = run.predictions.query("utterance_id == '01-joy-1'")["fold"].unique()
    utterance = Utterance(utterance_id="part", path="01-joy-1.wav", start=0.1, end=0.35)
    table = place.predict(run, place.request(manifest=Manifest([utterance]))).table
    expected = heads_mean(place, run, utterance, [fold])
    np.testing.assert_allclose(probabilities(run, table)[0], expected, atol=1e-5)
    assert (table["start"][0], table["end"][0]) == (0.1, 0.35)


@pytest.fixture
def untested(place, run, tmp_path):
    """A copy of the run that does not tell which utterances were tested, like a run on all utterances."""
    import featcache

    folder = place.workspace.runs("toy") / "untested"
    if not folder.exists():
        shutil.copytree(run.path, folder)
        rows = run.predictions[run.predictions["utterance_id"] == "01-joy-1"]
        rows.to_csv(folder / "predictions.csv", index=False)
        (folder / "checksums.sha256").unlink()
    return featcache.load_run(folder, home=place.workspace.home)


def test_audio_on_which_all_heads_trained_is_refused(place, untested):
    with pytest.raises(AudioError, match=r"'02-joy-1': all heads trained on it.*--include-trained"):
        place.predict(untested, place.request(["02-joy-1"]))
    found = place.predict(untested, place.request(["01-joy-1", "02-joy-1"]))
    assert list(found.table["utterance_id"]) == ["01-joy-1"]
    assert [(one.utterance_id, one.path) for one in found.failures] == [("02-joy-1", "02-joy-1.wav")]


def test_include_trained_uses_all_heads_and_tells_so(place, run, caplog):
    table = place.predict(run, place.request(["02-joy-1"]), include_trained=True).table
    expected = heads_mean(place, run, place.manifest["02-joy-1"], (1, 2, 3))
    np.testing.assert_allclose(probabilities(run, table)[0], expected, atol=1e-5)
    assert "optimistic" in caplog.text


def test_utterances_without_a_label_were_trained_on_by_no_head(place, run, untested, tmp_path):
    """Unless the run predicted them, so that they had a label when it was trained."""
    from featcache.prediction.members import voters_of
    from featcache.prediction.trained_on import OwnCorpus
    from featcache.workspace import Workspace

    workspace = Workspace.at(tmp_path)
    shutil.copytree(place.cache, workspace.cache("toy"))
    rows = [
        Utterance(utterance_id=u.utterance_id, path=u.path, speaker_id=u.speaker_id, labels={"emotion": label})
        for u, label in zip(place.manifest, ["", *["joy"] * 11], strict=True)
    ]
    Manifest(rows).write(workspace.cache("toy") / "manifest.csv")
    ids = place.manifest.utterance_ids
    (untested.path / "validation_predictions.csv").unlink(missing_ok=True)
    own = OwnCorpus(voters_of(untested, place.workspace), workspace)
    assert own.folds_for(rows[0], own.sha256(ids[0])) is None
    assert own.folds_for(rows[1], own.sha256(ids[1])) == frozenset()
    own = OwnCorpus(voters_of(run, place.workspace), workspace)
    assert own.folds_for(rows[0], own.sha256(ids[0])) == {1}
    assert own.folds_for(rows[1], own.sha256(ids[1])) == {1}


def test_a_corpus_without_checksums_is_known_by_its_ids(place, untested, tmp_path, monkeypatch, caplog):
    """Stores of early releases have no checksums of audio; the cache still names its utterances."""
    from featcache.cache.reader import FeatureStore

    recordings = FeatureStore.recordings
    monkeypatch.setattr(FeatureStore, "audio_sha256", lambda self, ids: [""] * len(ids))
    monkeypatch.setattr(FeatureStore, "recordings", lambda *given: [("", *rest) for _, *rest in recordings(*given)])
    request = place.request(["01-joy-1", "02-joy-1"], root=tmp_path, corpus="toy", cache=place.cache)
    found = place.predict(untested, request)
    assert list(found.table["utterance_id"]) == ["01-joy-1"]
    assert "could not be checked" not in caplog.text


def test_without_a_cache_nothing_can_be_checked_and_all_heads_predict(place, run, tmp_path, caplog):
    from featcache.prediction.predictor import Predictor
    from featcache.settings.predictions import PredictSettings
    from featcache.workspace import Workspace

    predictor = Predictor(run, Workspace.at(tmp_path), models=[place.models], device="cpu")
    table = predictor.predict(place.request(["02-joy-1"]), PredictSettings(workers=1)).table
    expected = heads_mean(place, run, place.manifest["02-joy-1"], (1, 2, 3))
    np.testing.assert_allclose(probabilities(run, table)[0], expected, atol=1e-5)
    assert "could not be checked" in caplog.text
