"""Verification finds every changed byte, and features that were computed in another way."""

import h5py
import numpy as np
import pytest
import soundfile

from featcache.cache import layout
from featcache.cache.reader import FeatureStore
from featcache.cache.statistics import of_frames
from featcache.cache.writer import Record, StoreWriter
from featcache.cli.app import main
from featcache.errors import ModelError, StoreError
from featcache.extraction import extract
from featcache.extraction.verify import (
    TOLERANCES,
    damaged_datasets,
    damaged_files,
    not_finite,
    recompute,
    unchecked_files,
)
from featcache.extractors.base import SAME_IN_ANY_BATCH
from featcache.features import Description

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
    # In float16, some values must have been rounded.
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
            size, offset = None, path.read_bytes().index(b"u1")  # Ids are stored in a separate heap.
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


@pytest.mark.parametrize("named", ["/tmp", "../model", "./model", "..", "a/../../b", "a\\b"])
def test_a_store_does_not_decide_which_folder_is_read(store, corpus, monkeypatch, named):
    made = FeatureStore(store())
    monkeypatch.setattr("featcache.cache.identity.StoreIdentity.model_and_options", lambda _: (named, {}))
    monkeypatch.setattr("featcache.extraction.verify.create_extractor", lambda *_, **__: pytest.fail("it is read"))
    with pytest.raises(ModelError, match=r"whose path is not recorded; .* give it with --model FOLDER$"):
        recompute(made, corpus, 1)


def test_a_model_that_is_missing_can_be_given_as_a_folder(store, corpus, monkeypatch):
    """A folder with the name of a published model is not distinguished from that model."""
    made = FeatureStore(store())
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("featcache.cache.identity.StoreIdentity.model_and_options", lambda _: ("wav2vec2-base", {}))
    with pytest.raises(
        ModelError, match=r"not on this machine .*; if the model is in a folder, give it with --model FO"
    ):
        recompute(made, corpus, 1)


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


@pytest.fixture
def verify(monkeypatch, capsys):
    """Return a function that runs the command, and returns its exit code and output."""

    def verify(*arguments):
        monkeypatch.setattr("sys.argv", ["featcache", "verify", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        printed = capsys.readouterr()
        return stopped.value.code, printed.out, printed.err

    return verify


def test_without_a_corpus_good_checksums_are_good(store, verify, tmp_path, monkeypatch):
    folder = store()
    monkeypatch.setenv("FEATCACHE_HOME", str(tmp_path / "data"))
    code, out, _ = verify(folder)
    assert code == 0
    assert "all checksums are correct" in out
    assert "no utterance was recomputed, because the corpus was not found" in out
    code, _, err = verify(folder, "--data", tmp_path / "nowhere")  # An explicit corpus is not skipped.
    assert code == 1
    assert "nowhere: no such folder" in err


FLIPPED = ["index.h5", "request.json", "../manifest.csv", "../corpus.json", "../checksums.sha256"]


@pytest.mark.parametrize("name", FLIPPED)
def test_every_file_beside_the_shards_is_covered(store, rng, name):
    folder = store(limit=2)
    path = folder / name
    whole = path.read_bytes()
    for _ in range(20):
        changed = bytearray(whole)
        changed[int(rng.integers(len(whole)))] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        assert list(damaged_files(folder))
    path.unlink()
    lost = list(damaged_files(folder))
    assert bool(lost) == (name in ("../manifest.csv", "../corpus.json"))  # The other files are written again.
    path.write_bytes(whole)
    assert list(damaged_files(folder)) == []
    assert unchecked_files(folder) == []


def test_a_cache_of_an_earlier_release_is_whole_without_checksums(store, verify):
    folder = store()
    (folder.parent / "checksums.sha256").unlink()
    (folder / "request.json").unlink()
    code, out, _ = verify(folder, "--recompute", "0")
    assert code == 0
    assert "files without a checksum, from an earlier release: 'manifest.csv', 'corpus.json'\n" in out


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("pool", [False, True])
@pytest.mark.parametrize("in_statistics", [True, False])
def test_features_that_are_not_finite_are_told_though_every_checksum_holds(
    tmp_path, verify, value, pool, in_statistics
):
    features = {name: np.ones((3, 5, 4), np.float32) for name in ("u0", "u1", "u2")}
    features["u1"][1:, 2, 3] = value
    # Without: as from another program, whose values overflowed when they were rounded.
    with np.errstate(invalid="ignore"):
        write_bad_store(tmp_path / "store", features, of_frames if in_statistics else None, pool=pool)
    store = FeatureStore(tmp_path / "store")
    code, _, err = verify(tmp_path / "store", "--recompute", "0")
    if pool and not in_statistics:
        assert code == 0
        return
    assert code == 1
    assert "the features of 1 utterance ('u1') are NaN or infinite in the layers 1, 2" in err
    assert not_finite(store) == {"u1": ["1", "2"]}
    assert store.not_finite() == ({"u1": ["1", "2"]} if in_statistics else {})
    assert store.not_finite(["u0", "u2"]) == {}


def write_bad_store(folder, features, statistics, *, pool):
    description = Description(
        dataset="hidden_states",
        layer_names=("0", "1", "2"),
        hidden_size=4,
        frame_shift=0.02,
        sampling_rate=RATE,
        channel="mean",
        settings={"extractor": "ssl", "weights": "random"},
    )
    writer = StoreWriter(folder, description, "float32", pool=pool)
    ones = of_frames(np.ones((3, 5, 4), np.float32))
    writer.write_shard(
        [
            Record(
                utterance_id=key,
                features=None if pool else values,
                statistics=statistics(values) if statistics else ones,
                duration=0.1,
                audio_sha256="",
                start=None,
                end=None,
            )
            for key, values in features.items()
        ]
    )
    writer.finish(list(features), failed=[])


def test_the_command_says_what_it_checked(store, corpus, model, capsys, monkeypatch):
    folder = store()
    monkeypatch.setattr("sys.argv", ["featcache", "verify", str(folder), "--data", str(corpus), "--model", model])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 0
    printed = capsys.readouterr().out
    assert "1 shard: all checksums are correct" in printed
    assert "Maximum absolute error" in printed
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


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize("storage", ["float16", "float32"])
def test_a_healthy_store_in_half_precision_passes_however_it_was_batched(store, corpus, model, precision, storage):
    folder = store(store=storage, precision=precision, batch_seconds=10.0)
    deviations = recompute(FeatureStore(folder), corpus, 3, model=model)
    assert all(deviation.within for deviation in deviations)
    assert {d.tolerance for d in deviations} == {TOLERANCES[storage] + SAME_IN_ANY_BATCH[precision]}
    # In batches, some values must have been rounded differently.
    assert max(deviation.largest for deviation in deviations) > TOLERANCES["float32"]


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_a_store_in_half_precision_that_was_made_otherwise_does_not_pass(store, corpus, model, precision):
    folder = store(precision=precision, store="float32")
    frame = FeatureStore(folder).view("u0")[1, 0]
    path = folder / layout.shard_name(0)
    path.write_bytes(path.read_bytes().replace(frame.tobytes(), (np.float32(1.25) * frame).tobytes()))
    deviations = {deviation.layer: deviation for deviation in recompute(FeatureStore(folder), corpus, 3, model=model)}
    assert not deviations["1"].within
    assert deviations["0"].within
