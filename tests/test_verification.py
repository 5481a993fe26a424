"""Verification: a changed byte is found wherever it lies, and features made otherwise are told apart."""

import h5py
import numpy as np
import pytest
import soundfile

from featcache.cache import layout
from featcache.cache.reader import FeatureStore
from featcache.cli import main
from featcache.errors import StoreError
from featcache.extraction import extract
from featcache.verification import TOLERANCES, damaged_datasets, recompute

RATE = 16000


@pytest.fixture(scope="module")
def corpus(tmp_path_factory, speech_like):
    folder = tmp_path_factory.mktemp("verified") / "made-up"
    folder.mkdir()
    for number, seconds in enumerate((0.5, 0.8, 0.3)):
        soundfile.write(folder / f"u{number}.wav", speech_like(int(seconds * RATE), seed=number), RATE)
    (folder / "manifest.csv").write_text("path\nu0.wav\nu1.wav\nu2.wav\n")
    return folder


@pytest.fixture(scope="module")
def model(tiny_model):
    return tiny_model("wav2vec2")


@pytest.fixture
def store(corpus, model, tmp_path):
    def make(**options):
        report = extract(model=model, data=corpus, home=tmp_path / "data", name="ssl", **options)
        return report.cache / "ssl"

    return make


@pytest.mark.parametrize("storage", ["float16", "float32"])
def test_what_was_written_is_whole_and_within_rounding(store, corpus, model, storage):
    folder = store(store=storage)
    assert list(damaged_datasets(folder)) == []
    deviations = recompute(FeatureStore(folder), corpus, 2, model=model)
    assert [deviation.layer for deviation in deviations] == ["0", "1", "2", "3"]
    assert all(deviation.tolerance == TOLERANCES[storage] for deviation in deviations)
    assert all(deviation.within for deviation in deviations)
    # in float16 something must have been rounded
    assert (max(deviation.largest for deviation in deviations) > 0) == (storage == "float16")


def test_descriptors_are_recomputed_too(store, corpus):
    folder = store().parent / "egemaps"
    assert all(deviation.largest == 0 for deviation in recompute(FeatureStore(folder), corpus, 3))


def test_options_that_change_numbers_are_taken_over(store, corpus, model):
    folder = store(max_seconds=0.4, layers="0,last", do_normalize=False)
    assert all(deviation.within for deviation in recompute(FeatureStore(folder), corpus, 3, model=model))


def test_pruned_models_are_recomputed_pruned(store, corpus, model):
    folder = store(num_blocks=2, weights="random")
    deviations = recompute(FeatureStore(folder), corpus, 3, model=model)
    assert [deviation.layer for deviation in deviations] == ["0", "1", "2"]
    assert all(deviation.within for deviation in deviations)
    assert FeatureStore(folder).num_blocks == 2
    with pytest.raises(StoreError, match="num_blocks"):
        store(weights="random")


DATASETS = ["hidden_states", "statistics/count", "statistics/mean", "statistics/m2", "statistics/max", "utterances"]


@pytest.mark.parametrize("dataset", DATASETS)
def test_any_single_changed_byte_of_a_payload_is_found(store, rng, dataset):
    path = store() / layout.shard_name(0)
    with h5py.File(path) as file:
        if dataset == "utterances":
            size, offset = None, path.read_bytes().index(b"u1")  # ids lie in a heap of their own
        else:
            size, offset = file[dataset].nbytes, file[dataset].id.get_offset()
    whole = path.read_bytes()
    for _ in range(5):
        place = offset if size is None else offset + int(rng.integers(size))
        changed = bytearray(whole)
        changed[place] ^= 1 << int(rng.integers(7))
        path.write_bytes(changed)
        assert list(damaged_datasets(path.parent)), place
    path.write_bytes(whole)
    assert list(damaged_datasets(path.parent)) == []


def test_a_truncated_shard_is_told(store):
    path = store() / layout.shard_name(0)
    path.write_bytes(path.read_bytes()[:-1000])
    assert any(path.name in line for line in damaged_datasets(path.parent))


def test_another_model_is_not_compared(store, corpus, tiny_model):
    with pytest.raises(StoreError, match=r"differs in architecture|differs in .*weights_sha256"):
        recompute(FeatureStore(store()), corpus, 1, model=tiny_model("xls-r"))


def test_audio_of_another_corpus_is_not_compared(store, model, tmp_path):
    soundfile.write(tmp_path / "other.wav", np.zeros(RATE), RATE)
    (tmp_path / "manifest.csv").write_text("path\nother.wav\n")
    with pytest.raises(StoreError, match="has none of the utterances"):
        recompute(FeatureStore(store()), tmp_path, 1, model=model)


def test_features_that_were_made_otherwise_are_outside_the_tolerance(store, corpus, model):
    folder = store()
    frame = FeatureStore(folder).view("u0")[1, 0]
    path = folder / layout.shard_name(0)
    path.write_bytes(path.read_bytes().replace(frame.tobytes(), (2 * frame).tobytes()))
    deviations = {deviation.layer: deviation for deviation in recompute(FeatureStore(folder), corpus, 3, model=model)}
    assert not deviations["1"].within
    assert deviations["0"].within


def test_the_command_says_what_it_checked(store, corpus, model, capsys, monkeypatch):
    folder = store()
    monkeypatch.setattr("sys.argv", ["featcache", "verify", str(folder), "--data", str(corpus), "--model", model])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 0
    printed = capsys.readouterr().out
    assert "1 shards: every checksum holds" in printed
    assert "Largest deviation" in printed
    path = folder / layout.shard_name(0)
    whole = path.read_bytes()
    place = FeatureStore(folder).view("u1")[0, 0].tobytes()
    for changed, told in (
        (whole.replace(b"u1", b"v1"), f"{path}: not readable as HDF5 (its checksum is wrong); remove it and extract"),
        (whole.replace(place, place[::-1]), "/hidden_states has changed; remove damaged shards and extract again"),
    ):
        path.write_bytes(changed)
        with pytest.raises(SystemExit) as stopped:
            main()
        assert stopped.value.code == 1
        assert f"is damaged: shard-00000.h5: {told}" in capsys.readouterr().err
    path.write_bytes(whole)
