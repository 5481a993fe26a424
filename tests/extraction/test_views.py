"""Stores of views: augmented speech, the same in any order, with the clean values at zero strength."""

import logging
from pathlib import Path

import numpy as np
import pytest
import soundfile

import featcache
from featcache.audio import Recording
from featcache.augmentation.augment_option import parse
from featcache.augmentation.augmented_view import AugmentedView
from featcache.cache.reader import FeatureStore
from featcache.cli.info import print_info
from featcache.errors import AudioError, FeatcacheError, ModelError
from featcache.extraction import extract
from featcache.extraction.merge import merge
from featcache.extraction.verify import recompute

RATE = 16000
ALL = ("noise:10-20", "speed:0.9,1.1", "reverb")
NAME = "spectrogram@speed0.9-1.1+reverb+noise10-20"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory, speech_like):
    folder = tmp_path_factory.mktemp("views") / "made-up"
    folder.mkdir()
    for number, seconds in enumerate((0.5, 0.8, 0.3, 0.6)):
        signal = np.stack([speech_like(int(seconds * RATE), seed=number + channel) for channel in (0, 10)], axis=1)
        soundfile.write(folder / f"u{number}.wav", signal, RATE)
    (folder / "manifest.csv").write_text("path,emotion\n" + "".join(f"u{n}.wav,joy\n" for n in range(4)))
    return folder


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    """Return a folder with noise of another sampling rate."""
    folder, rng = tmp_path_factory.mktemp("sounds"), np.random.default_rng(1)
    (folder / "deeper").mkdir()
    soundfile.write(folder / "a.wav", rng.normal(0, 0.1, 6000), 12000)
    soundfile.write(folder / "deeper" / "b.flac", rng.normal(0, 0.1, 40000), RATE)
    return folder


def cache_of(corpus, home, **options):
    report = extract(**{"model": "spectrogram", "data": corpus, "home": home, "augment": ALL, **options})
    return featcache.open(report.cache)


def values(store):
    return {utterance_id: store[utterance_id] for utterance_id in sorted(store)}


def assert_same(one, other):
    assert one.keys() == other.keys()
    for utterance_id, features in one.items():
        np.testing.assert_array_equal(features, other[utterance_id])


@pytest.fixture(scope="module")
def cache(corpus, tmp_path_factory):
    return cache_of(corpus, tmp_path_factory.mktemp("whole"), views=2, workers=1)


def test_views_lie_beside_the_clean_store_which_stays_as_it_was(cache, corpus, tmp_path):
    assert list(cache) == ["spectrogram", f"{NAME}-1", f"{NAME}-2"]
    plain = cache_of(corpus, tmp_path, augment=())
    assert list(plain) == ["spectrogram"]
    assert plain["spectrogram"].identity == cache["spectrogram"].identity
    assert_same(values(plain["spectrogram"]), values(cache["spectrogram"]))
    assert not plain["spectrogram"].identity.is_view
    for number in (1, 2):
        view = cache[f"{NAME}-{number}"]
        assert view.complete
        assert view.identity.is_view
        assert view.identity.without_view() == cache["spectrogram"].identity
        assert view.identity.settings["augment"] == ["speed:0.9,1.1", "reverb", "noise:10-20"]
        assert view.audio_sha256(view.utterance_ids) == plain["spectrogram"].audio_sha256(view.utterance_ids)
    one, two = (values(cache[f"{NAME}-{number}"]) for number in (1, 2))
    assert any(one[i].shape != two[i].shape or not np.array_equal(one[i], two[i]) for i in one)


def test_views_have_the_same_bits_in_parts_in_batches_with_threads_and_after_an_interruption(cache, corpus, tmp_path):
    options = {"views": 2, "workers": 3, "batch_seconds": 5.0}
    cache_of(corpus, tmp_path, limit=2, **options)  # the rest follows, as after an interruption
    parts = [cache_of(corpus, tmp_path, shard_index=index, num_shards=2, **options) for index in (1, 0)][-1]
    for name in cache:
        assert_same(values(cache[name]), values(parts[name]))


def test_parts_of_a_view_can_be_merged(cache, corpus, tmp_path):
    parts = [
        cache_of(corpus, tmp_path / str(index), shard_index=index, num_shards=2).path / f"{NAME}-1" for index in (0, 1)
    ]
    merge(tmp_path / "merged" / f"{NAME}-1", parts)
    assert_same(values(cache[f"{NAME}-1"]), values(FeatureStore(tmp_path / "merged" / parts[0].name)))


@pytest.mark.parametrize("augment", [["noise:0-5:p=0", "speed:0.9:p=0", "reverb:p=0"], ["noise:inf", "speed:1"]])
def test_zero_strength_gives_the_clean_values(cache, corpus, tmp_path, augment):
    found = cache_of(corpus, tmp_path, augment=augment)
    clean, view = (found[name] for name in found)
    assert view.identity.is_view
    assert_same(values(clean), values(view))


def test_speed_changes_the_duration(corpus, tmp_path):
    found = cache_of(corpus, tmp_path, augment=["speed:0.5"])
    clean, view = (found[name] for name in found)
    np.testing.assert_allclose(view.durations(clean.utterance_ids), 2 * clean.durations(clean.utterance_ids))
    frames = view.num_frames(clean.utterance_ids) / clean.num_frames(clean.utterance_ids)
    np.testing.assert_allclose(frames, 2, atol=0.05)  # one frame more or less


def test_other_numbers_make_another_view():
    texts = [("noise:0.1234567-1", "noise:0.1234568-1"), ("speed:0.9", "speed:0.9000001"), ("reverb", "reverb:p=1e-9")]
    for pair in texts:
        one, other = (AugmentedView(number=1, augmentations=parse([text])) for text in pair)
        assert one.settings() != other.settings()
        assert one.name != other.name
    [text] = AugmentedView(number=1, augmentations=parse(["noise:10.50-20:p=0.50"])).settings()["augment"]
    assert text == "noise:10.5-20:p=0.5"


def test_noise_has_the_requested_ratio_and_reverberation_keeps_the_level(corpus, rng):
    recording = Recording(channels=rng.normal(0, 0.1, (1, RATE)).astype(np.float32), sampling_rate=RATE, sha256="")
    clean = recording.channels[0]

    def heard(*texts, utterance_id="u"):
        view = AugmentedView(number=1, augmentations=parse(texts))
        return view.apply(recording, utterance_id, channel="mean", max_seconds=None).channels[0]

    for colour in ("white", "pink"):
        noise = heard(f"noise:15:{colour}") - clean
        ratio = 10 * np.log10(np.mean(clean**2) / np.mean(noise**2))
        np.testing.assert_allclose(ratio, 15, atol=1e-3)  # float32 rounds the sum
        power = np.abs(np.fft.rfft(noise)) ** 2
        slope = power[100:1000].mean() / power[4000:8000].mean()
        assert slope > 5 if colour == "pink" else 0.5 < slope < 2
    wet = heard("reverb:0.5")
    np.testing.assert_allclose(np.mean(wet**2), np.mean(clean**2), rtol=1e-3)
    assert not np.allclose(wet, clean, atol=0.01)
    drawn = {len(heard("speed:0.9,1.1", utterance_id=str(number))) for number in range(20)}
    assert drawn == {round(RATE / 0.9), round(RATE / 1.1)}
    changed = [not np.array_equal(heard("noise:0:p=0.5", utterance_id=str(n)), clean) for n in range(200)]
    assert 70 < sum(changed) < 130  # binomial with 200 draws: more than four standard deviations


def test_noise_and_impulse_responses_from_a_folder_are_identified_by_their_content(corpus, sounds, tmp_path):
    augment = [f"noise:5:{sounds}", f"reverb:{sounds}"]
    found = cache_of(corpus, tmp_path / "one", augment=augment)
    name = next(name for name in found if "@" in name)
    assert name == f"spectrogram@reverb-{sounds.name}+noise5-{sounds.name}-1"
    again = cache_of(corpus, tmp_path / "two", augment=augment, workers=1)
    assert_same(values(found[name]), values(again[name]))
    assert str(sounds) not in found[name].identity.to_json()
    with pytest.raises(ModelError, match="the folder of these files is not recorded; give --augment"):
        recompute(found[name], corpus, 2)
    assert recompute(found[name], corpus, 2, augment=augment)[0].within
    soundfile.write(sounds / "c.wav", np.ones(100) / 2, RATE)
    with pytest.raises(FeatcacheError, match="made with other settings: augment_files"):
        cache_of(corpus, tmp_path / "one", augment=augment)
    (sounds / "c.wav").write_bytes(b"RIFF")
    with pytest.raises(ModelError, match=r"c\.wav.*remove this file"):
        cache_of(corpus, tmp_path / "one", augment=augment)
    (sounds / "c.wav").unlink()


def test_a_file_that_cannot_be_read_any_more_fails_its_utterances(corpus, sounds, monkeypatch, tmp_path):
    def refuse(*_):
        raise AudioError("gone")

    monkeypatch.setattr("featcache.augmentation.kinds._transformed", refuse)
    report = extract(
        model="spectrogram", data=corpus, home=tmp_path, augment=f"noise:5:{sounds}:p=0.5", views=2, workers=2
    )
    failed = {(failure.store, failure.utterance_id) for failure in report.failures}
    assert failed
    assert all("@noise5" in store for store, _ in failed)
    assert {failure.reason for failure in report.failures} == {"gone"}
    assert len(featcache.open(report.cache)["spectrogram"]) == 4


def test_views_of_a_model_and_egemaps_are_made_together_and_shown(corpus, tiny_model, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FEATCACHE_HOME", str(tmp_path))
    model = tiny_model("wav2vec2")
    found = cache_of(corpus, tmp_path, model=model, name="ssl", limit=2)
    view = "speed0.9-1.1+reverb+noise10-20-1"
    assert list(found) == ["egemaps", f"egemaps@{view}", "ssl", f"ssl@{view}"]
    assert all(one.within for one in recompute(found[f"ssl@{view}"], corpus, 1, model=model))
    print_info(Path(f"ssl@{view}"))
    assert "speed:0.9,1.1" in capsys.readouterr().out


def test_views_are_the_same_in_windows(cache, corpus, tmp_path):
    found = cache_of(corpus, tmp_path, chunk_seconds=0.3, overlap_seconds=0.1)
    view = found[f"{NAME}-1"]
    assert recompute(view, corpus, 4)[0].within
    whole = cache[f"{NAME}-1"]
    for utterance_id in whole:  # windows of a spectrogram have the same values, see test_long.py
        np.testing.assert_allclose(view[utterance_id], whole[utterance_id], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"augment": (), "views": 2}, "--views 2 needs an augmentation"),
        ({"augment": "nois:3"}, "no augmentation 'nois'; did you mean 'noise'"),
        ({"augment": "noise"}, "expected noise:10-20 for SNRs from -100 to 100 dB"),
        ({"augment": "noise:20-10"}, "expected noise:10-20"),
        ({"augment": "noise:10-inf"}, "expected noise:10-20"),
        ({"augment": "noise:-9999"}, "expected noise:10-20"),
        ({"augment": "noise:0-9999999"}, "expected noise:10-20"),
        ({"augment": "reverb:0.000001"}, "reverberation times from 0.01 to 10 seconds"),
        ({"augment": "noise:3:p=2"}, "expected a probability from 0 to 1"),
        ({"augment": "speed:0.1"}, "factors from 0.5 to 2"),
        ({"augment": "reverb:0.8-0.2"}, "expected reverb"),
        ({"augment": ("noise:3", "noise:4")}, "noise is given twice"),
        ({"augment": "noise:3:missing"}, "no folder 'missing'"),
        ({"augment": "noise:3", "model": None, "text": "tinybert"}, "--augment changes audio"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(corpus, tmp_path, options, message):
    with pytest.raises(ModelError, match=message) as error:
        cache_of(corpus, tmp_path, **options)
    assert "\n" not in str(error.value)


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.filterwarnings("ignore:Sending large graph:UserWarning")
def test_workers_of_a_cluster_make_the_same_views(cache, corpus, tmp_path):
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": None, "silence_logs": logging.CRITICAL}
    with distributed.LocalCluster(processes=False, **options) as running:
        found = cache_of(corpus, tmp_path, views=2, scheduler=running.scheduler_address)
    assert list(found) == list(cache)
    for name in cache:
        assert found[name].identity == cache[name].identity
        assert_same(values(found[name]), values(cache[name]))
