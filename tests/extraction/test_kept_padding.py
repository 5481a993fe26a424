"""Padding that is kept changes no other byte of a store, and equals what Hugging Face's encoder computes for it."""

import shutil

import h5py
import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
import transformers

import featcache
from featcache.audio import Signal
from featcache.cache.reader import FeatureStore
from featcache.cache.shards import disk_bytes
from featcache.cli import app as cli
from featcache.errors import FeatcacheError, ModelError, StoreError
from featcache.extraction import extract
from featcache.extraction import plan as planning
from featcache.extraction.merge import merge
from featcache.extraction.verify import check_all_finite, damaged_files, recompute
from featcache.extractors import create_extractor
from featcache.fitting.fit import fit
from tests.extractors.speech import assert_close

RATE = 16000
PADDED = 100  # frames of a model that computes two seconds
# Seconds. The two longest utterances have no padding, and share a shard.
DURATIONS = {"a1": 0.21, "a2": 1.0, "b1": 2.0, "b2": 2.0, "c1": 0.5, "c2": 1.98, "d1": 0.73, "d2": 0.02}
# The documented size of the tables of a store differs by some percent in shards with few utterances.
SIZE_TOLERANCE = 0.15


@pytest.fixture(scope="module")
def corpus(tmp_path_factory, speech_like):
    """Return the folder of a corpus of eight utterances by four speakers."""
    folder = tmp_path_factory.mktemp("corpora") / "speech"
    folder.mkdir()
    rows = ["utterance_id,path,speaker_id,emotion,transcript"]
    for seed, (name, seconds) in enumerate(DURATIONS.items()):
        samples = speech_like(round(seconds * RATE), pitch=100 + 20 * seed, seed=seed)
        soundfile.write(folder / f"{name}.wav", samples, RATE, subtype="FLOAT")
        rows.append(f"{name},{name}.wav,{name[0]},{'anger' if name[1] == '1' else 'joy'},hello")
    (folder / "manifest.csv").write_text("\n".join(rows))
    return folder


@pytest.fixture(scope="module")
def whisper(tiny_model):
    return tiny_model("whisper", max_source_positions=PADDED)


@pytest.fixture(scope="module")
def run(corpus, whisper):
    """Return a function that extracts into a home and returns the store; shards have two utterances."""

    def run(home, name="padded", **options):
        given = {"model": whisper, "data": corpus, "name": name, "home": home, "egemaps": False, **options}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(planning, "SHARD_UTTERANCES", 2)
            report = extract(**given)
        return FeatureStore(report.cache / name)

    return run


@pytest.fixture(scope="module")
def home(run, tmp_path_factory):
    """Return a home with a store without and with padding, of each storage dtype."""
    home = tmp_path_factory.mktemp("home")
    for dtype in ("float16", "float32", "int8"):
        run(home, f"plain-{dtype}", store=dtype)
        run(home, f"padded-{dtype}", store=dtype, keep_padding=True)
    return home


def opened(home, name):
    return FeatureStore(home / "cache" / "speech" / name)


def check_same_with_padding(store, expected):
    """Check that two stores have the same features, with and without padding, in any order of utterances."""
    assert set(store) == set(expected)
    for key in expected:
        for padded in (False, True):
            np.testing.assert_array_equal(store.view(key, with_padding=padded), expected.view(key, with_padding=padded))


@pytest.mark.parametrize("dtype", ["float16", "float32", "int8"])
def test_padding_changes_no_byte_that_is_read_without_it(home, dtype):
    plain, padded = opened(home, f"plain-{dtype}"), opened(home, f"padded-{dtype}")
    assert (plain.padded_frames, padded.padded_frames) == (None, PADDED)
    assert plain.identity.differences(padded.identity) == ["keep_padding"]
    for one, other in zip(sorted(plain.path.glob("shard*")), sorted(padded.path.glob("shard*")), strict=True):
        with h5py.File(one) as expected, h5py.File(other) as found:
            # Everything that a release reads which does not know the padding.
            has_padding = dtype == "int8" or list(expected["utterances"]["num_frames"]) != [PADDED, PADDED]
            assert found.keys() - expected.keys() == ({"padding"} if has_padding else set())
            for name in ("hidden_states", *(f"statistics/{part}" for part in expected["statistics"])):
                assert found[name][()].tobytes() == expected[name][()].tobytes()
                assert found[name].attrs["crc32"] == expected[name].attrs["crc32"]
            assert found["utterances"].attrs["crc32"] == expected["utterances"].attrs["crc32"]
    for key in plain:
        np.testing.assert_array_equal(padded.view(key), plain.view(key))
        whole = padded.view(key, with_padding=True)
        assert whole.shape == (4, PADDED, 32)
        np.testing.assert_array_equal(whole[:, : plain.view(key).shape[1]], plain.view(key))
        np.testing.assert_array_equal(padded.view(key, [2, 0], slice(3, 70), with_padding=True), whole[[2, 0], 3:70])


def test_frames_and_padding_are_those_of_hugging_face(home, corpus, whisper):
    model = transformers.AutoModel.from_pretrained(whisper).get_encoder().eval()
    prepare = transformers.AutoFeatureExtractor.from_pretrained(whisper)
    store = opened(home, "padded-float32")
    for key in store:
        samples, _ = soundfile.read(corpus / f"{key}.wav", dtype="float32")
        mel = prepare(samples, sampling_rate=RATE, return_tensors="pt").input_features
        with torch.inference_mode():
            output = model(mel, output_hidden_states=True)
        expected = torch.cat([*output.hidden_states[:-1], output.last_hidden_state]).numpy()
        assert expected.shape[1] == PADDED
        assert_close(store.view(key, with_padding=True), expected)


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_padding_is_rounded_like_all_frames(home, dtype):
    exact, rounded = opened(home, "padded-float32"), opened(home, f"padded-{dtype}")
    for key in exact:
        real = exact.view(key).shape[1]
        expected = exact.view(key, with_padding=True)[:, real:]
        found = rounded.view(key, with_padding=True)[:, real:]
        if dtype == "float16":
            np.testing.assert_array_equal(found, expected.astype("float16"))
        elif expected.size:
            mean = expected.mean(axis=1, keepdims=True)
            step = np.abs(expected - mean).max(axis=1, keepdims=True) / 127
            # Half a step of the padding alone, and the float32 rounding of mean and step.
            assert (np.abs(found - expected) <= 0.501 * step + 1e-6 * np.abs(expected).max()).all()


@pytest.mark.parametrize(("dtype", "size"), [("float16", "25.6 kB"), ("int8", "12.8 kB")])
def test_size_is_planned_and_told(corpus, whisper, home, tmp_path, caplog, dtype, size):
    caplog.set_level("INFO")
    given = {"model": whisper, "data": corpus, "home": tmp_path, "egemaps": False, "store": dtype, "dry_run": True}
    planned = extract(**given, keep_padding=True).planned_bytes - extract(**given).planned_bytes
    assert caplog.text.count(f": every utterance takes {size}, because its padding is kept") == 1
    written = disk_bytes(opened(home, f"padded-{dtype}").path) - disk_bytes(opened(home, f"plain-{dtype}").path)
    assert planned == pytest.approx(written, rel=SIZE_TOLERANCE)


def test_resumed_merged_and_limited_stores_have_the_same_padding(run, home, tmp_path):
    whole = opened(home, "padded-float16")
    options = {"keep_padding": True, "store": "float16"}
    first = run(tmp_path / "limited", limit=3, **options)
    assert len(first) == 3
    limited = run(tmp_path / "limited", **options)
    (limited.path / "shard-00001.h5").unlink()
    resumed = run(tmp_path / "limited", **options)
    assert len(resumed) == 8
    check_same_with_padding(resumed, whole)
    parts = [run(tmp_path / f"part-{part}", shard_index=part, num_shards=2, **options).path for part in range(2)]
    merge(tmp_path / "merged" / "speech" / "padded", parts)
    merged = FeatureStore(tmp_path / "merged" / "speech" / "padded")
    assert merged.complete
    assert merged.padded_frames == PADDED
    check_same_with_padding(merged, whole)


def test_views_keep_padding_too(run, whisper, tmp_path):
    run(tmp_path, limit=1, keep_padding=True, augment=["noise:10"], store="float32")
    store = FeatureStore(next((tmp_path / "cache" / "speech").glob("padded@*")))
    (key,) = store
    assert store.view(key, with_padding=True).shape[1] == store.padded_frames == PADDED


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_verify_finds_no_fault_and_any_change_of_the_padding(home, corpus, whisper, tmp_path, dtype):
    folder = shutil.copytree(home / "cache" / "speech" / f"padded-{dtype}", tmp_path / "speech" / "padded")
    (tmp_path / "speech" / "corpus.json").write_bytes((home / "cache" / "speech" / "corpus.json").read_bytes())
    store = FeatureStore(folder)
    check_all_finite(store)
    assert list(damaged_files(folder)) == []
    assert all(deviation.within for deviation in recompute(store, corpus, 8, model=whisper))
    shard = folder / "shard-00000.h5"
    with h5py.File(shard) as file:
        names = [f"padding/{name}" for name in file["padding"]]
        places = [file[name].id.get_offset() + file[name].nbytes // 2 for name in names]
    for name, place in zip(names, places, strict=True):
        content = bytearray(shard.read_bytes())
        content[place] ^= 0x7F
        changed = shutil.copytree(folder, tmp_path / name.replace("/", "-") / "padded")
        (changed / "shard-00000.h5").write_bytes(content)
        assert f"shard-00000.h5: /{name} has changed" in list(damaged_files(changed))


def test_recomputed_padding_is_compared(home, corpus, whisper, monkeypatch):
    store = opened(home, "padded-float32")
    view = FeatureStore.view

    def changed(self, *arguments, with_padding=False, **options):
        features = np.array(view(self, *arguments, with_padding=with_padding, **options))
        return features + 0.01 * with_padding

    monkeypatch.setattr(FeatureStore, "view", changed)
    assert not any(deviation.within for deviation in recompute(store, corpus, 1, model=whisper))


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_fits_and_predictions_are_the_same(home, corpus, whisper, tmp_path, quick_reports, monkeypatch, dtype):
    shutil.copytree(home, tmp_path, dirs_exist_ok=True)
    monkeypatch.setenv("FEATCACHE_HOME", str(tmp_path))
    tables, predicted = [], []
    for name in ("plain", "padded"):
        given = {"corpus": "speech", "head": "dense", "norm": "global", "target": "emotion", "seeds": [1]}
        run = fit(**given, features=[f"{name}-{dtype}"], max_epochs=2, protocol="loso", name=name)
        tables.append((run.path / "predictions.csv").read_text())
        loaded = featcache.load_run(run.path)
        predicted.append(loaded.predict(corpus / "a2.wav", include_trained=True, model=[whisper]))
    assert tables[0] == tables[1]
    pd.testing.assert_frame_equal(pd.DataFrame(predicted[0]), pd.DataFrame(predicted[1]))


def test_extractors_return_the_same_features_with_and_without_padding(whisper, speech_like):
    signals = [Signal(samples=speech_like(length), sampling_rate=RATE) for length in (16000, 32000, 1)]
    plain, padded = create_extractor(whisper), create_extractor(whisper, keep_padding=True, device="cpu,cpu")
    for extractor in (plain, padded):
        found = [features for features, _ in extractor.extract_with_padding(signals)]
        for one, other, third in zip(plain.extract(signals), padded.extract(signals), found, strict=True):
            np.testing.assert_array_equal(one, other)
            np.testing.assert_array_equal(one, third)
    assert [padding for _, padding in plain.extract_with_padding(signals)] == [None, None, None]
    shapes = [padding.shape for _, padding in padded.extract_with_padding(signals)]
    assert shapes == [(4, 50, 32), (4, 0, 32), (4, 99, 32)]


@pytest.mark.parametrize("family", ["wav2vec2", "qwen2_audio_encoder", "audio-spectrogram-transformer"])
def test_other_families_are_refused(tiny_model, family):
    with pytest.raises(ModelError, match=r"^--keep-padding applies to Whisper only, not to [^;]+; omit it$"):
        create_extractor(tiny_model(family), keep_padding=True)


REFUSED = {
    "statistics": ({"pool": True}, "--keep-padding and --pool exclude each other: .*; omit one of them"),
    "windows": (
        {"chunk_seconds": 1, "overlap_seconds": 0.5},
        "--keep-padding and --chunk-seconds exclude each other: .*; omit one of them",
    ),
    "descriptors": ({"model": "spectrogram"}, "--keep-padding does not apply to 'spectrogram'"),
    "text": ({"model": None, "text": "tinybert", "weights": "random"}, "--keep-padding does not apply to 'tinybert'"),
}


@pytest.mark.parametrize("how", REFUSED)
def test_padding_that_cannot_be_kept_is_refused_in_one_line(corpus, whisper, tmp_path, how):
    changes, message = REFUSED[how]
    with pytest.raises(FeatcacheError, match=message) as refused:
        extract(**{"model": whisper, "data": corpus, "home": tmp_path, "keep_padding": True, **changes})
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.rglob("*.h5"))


def test_a_store_without_padding_says_so(run, home, whisper, tmp_path):
    shutil.copytree(home, tmp_path, dirs_exist_ok=True)
    for dtype in ("float16", "int8"):
        with pytest.raises(StoreError, match=r"contains no padding; extract with --keep-padding into a store of anot"):
            opened(home, f"plain-{dtype}").view("a1", with_padding=True)
    with pytest.raises(StoreError, match="keep_padding is None there and True now; give the new store another name"):
        run(tmp_path, "plain-float16", keep_padding=True)
    with pytest.raises(StoreError, match="keep_padding is True there and None now; give the new store another name"):
        run(tmp_path, "padded-float16")
    pooled = run(tmp_path, "pooled", pool=True)
    with pytest.raises(StoreError, match="contains only statistics"):
        pooled.view("a1", with_padding=True)
    assert pooled.padded_frames is None


def test_info_shows_the_padding(home, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["featcache", "info", str(home / "cache" / "speech" / "padded-int8")])
    with pytest.raises(SystemExit, match="0"):
        cli.main()
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if line)
    real = sum(round(seconds * RATE + 159) // 320 for seconds in DURATIONS.values())
    assert lines["padded_frames"] == str(PADDED)
    assert abs(int(lines["frames"]) - real) <= len(DURATIONS)
