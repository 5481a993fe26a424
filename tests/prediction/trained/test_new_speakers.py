"""Statistics of new speakers: from all given audio of each speaker, computed here by a plain formula."""

import shutil

import numpy as np
import pytest
import soundfile

from featcache import audio
from featcache.errors import ManifestError
from featcache.extractors import create_extractor
from featcache.manifest import Manifest, Utterance
from featcache.prediction import predictor as of_predictor
from featcache.prediction.speaker_statistics import without_overlap
from tests.prediction.trained.conftest import RATE

pytestmark = pytest.mark.usefixtures("quick_reports")

# float32 statistics are merged from float32 statistics of utterances.
CLOSE = 1e-5


@pytest.fixture
def run(place):
    return place.fit(head="dense", norm="speaker", features=["ssl"], max_frames=0)


@pytest.fixture
def new_audio(tmp_path, speech_like):
    """Two files of one new speaker and one of another, interleaved."""
    utterances = []
    for number, speaker in enumerate("aba"):
        soundfile.write(tmp_path / f"{number}.wav", speech_like(8000 + 900 * number, RATE, seed=50 + number), RATE)
        utterances.append(Utterance(utterance_id=f"n{number}", path=f"{number}.wav", speaker_id=speaker))
    return Manifest(utterances)


def expected_of(place, run, manifest, root, measured=None):
    """Return (num_utterances, num_classes): plain z-scores over the frames of each speaker, then the saved heads."""
    extractor = create_extractor(place.models)
    features = {}
    for u in manifest:
        signal = audio.read(root, u).signal(channel="mean", sampling_rate=RATE, max_seconds=None)
        [features[u.utterance_id]] = extractor.extract([signal])
    rows = []
    for u in manifest:
        same = [v.utterance_id for v in measured or manifest if v.speaker_id == u.speaker_id]
        frames = np.concatenate([features[i] for i in same], axis=1).astype(np.float64)
        statistics = [(frames.mean(axis=1).astype("f4"), frames.std(axis=1).astype("f4"))]
        heads = (run.head(seed=seed, fold=fold) for seed in run.config["seeds"] for fold in (1, 2, 3))
        outputs = [head([[features[u.utterance_id]]], normalisation=statistics).softmax(dim=1) for head in heads]
        rows.append(np.mean([one[0].detach().numpy() for one in outputs], axis=0))
    return np.array(rows)


def probabilities(run, table):
    return table[[f"p_{name}" for name in run.config["classes"]]].to_numpy()


def test_each_new_speaker_has_its_own_statistics(place, run, new_audio, tmp_path, caplog, monkeypatch):
    request = place.request(manifest=new_audio, root=tmp_path)
    table = place.predict(run, request).table
    assert list(table["utterance_id"]) == ["n0", "n1", "n2"]
    np.testing.assert_allclose(probabilities(run, table), expected_of(place, run, new_audio, tmp_path), atol=CLOSE)
    assert "2 speakers with less than 30 s of audio" in caplog.text
    monkeypatch.setattr(of_predictor, "PART_UTTERANCES", 1)  # a part contains all audio of a speaker nevertheless
    np.testing.assert_array_equal(probabilities(run, place.predict(run, request).table), probabilities(run, table))


def test_unknown_speakers_are_one_clear_error(place, run, new_audio, tmp_path):
    unknown = Manifest([Utterance(utterance_id=u.utterance_id, path=u.path) for u in new_audio])
    with pytest.raises(ManifestError, match=r"statistics of each speaker.*--speaker-from REGEX, or --one-speaker$"):
        place.predict(run, place.request(manifest=unknown, root=tmp_path))
    by_half = place.fit(head="dense", norm="speaker", norm_by="half", features=["ssl"])
    with pytest.raises(ManifestError, match=r"a column half, or --one-speaker"):
        place.predict(by_half, place.request(manifest=new_audio, root=tmp_path))


def test_the_runs_own_corpus_keeps_the_statistics_of_the_run(place, run):
    """A few utterances of a corpus get the numbers of predictions.csv, with the statistics of all."""
    ids = ["01-joy-1", "03-anger-2"]
    table = place.predict(run, place.request(ids, corpus="toy", cache=place.cache)).table
    columns = [f"p_{name}" for name in run.config["classes"]]
    expected = run.predictions.groupby("utterance_id")[columns].mean().loc[ids]
    np.testing.assert_allclose(table[columns], expected, atol=CLOSE)


def test_new_audio_under_the_ids_of_the_corpus_has_its_own_statistics(place, run, tmp_path, speech_like):
    """A folder with the name and the ids of the corpus counts as the corpus only as far as its audio is the same."""
    ids = ["01-joy-1", "02-joy-1"]
    shutil.copy(place.root / "02-joy-1.wav", tmp_path)
    soundfile.write(tmp_path / "01-joy-1.wav", speech_like(8000, RATE, seed=77), RATE)
    table = place.predict(run, place.request(ids, root=tmp_path, corpus="toy", cache=place.cache)).table
    expected = expected_of(place, run, place.manifest.subset(ids[:1]), tmp_path)
    np.testing.assert_allclose(probabilities(run, table)[0], expected[0], atol=CLOSE)
    columns = [f"p_{name}" for name in run.config["classes"]]
    saved = run.predictions.groupby("utterance_id")[columns].mean().loc[ids[1]]
    np.testing.assert_allclose(table[columns].iloc[1], saved, atol=CLOSE)


def test_overlapping_windows_count_once(place, run, tmp_path, speech_like):
    soundfile.write(tmp_path / "x.wav", speech_like(2 * RATE, RATE, seed=7), RATE)
    starts = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
    windows = Manifest(
        [
            Utterance(utterance_id=f"x@{start}", path="x.wav", start=start, end=start + 0.5, speaker_id="a")
            for start in starts
        ]
    )
    measured = without_overlap(list(windows))
    assert [u.start for u in measured] == [0.0, 0.5, 1.0, 1.5]
    table = place.predict(run, place.request(manifest=windows, root=tmp_path), window=0.5, hop=0.25).table
    expected = expected_of(place, run, windows, tmp_path, measured)
    np.testing.assert_allclose(probabilities(run, table), expected, atol=CLOSE)
