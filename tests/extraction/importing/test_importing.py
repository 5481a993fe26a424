"""Imported features → a store like any other: its content, its messages and its use."""

import json

import numpy as np
import pytest

import featcache
from featcache.cache.writer import StoreWriter
from featcache.cli.app import app
from featcache.errors import FeatureError, ModelError, StoreError
from featcache.extraction import plan
from featcache.extraction.merge import merge
from featcache.fitting.probe import probe_stores
from featcache.manifest import Manifest, Utterance
from tests.extraction.importing.conftest import save


@pytest.fixture
def opened(tmp_path):
    return lambda name="mine": featcache.open(tmp_path / "data" / "cache" / "corpus")[name]


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".h5", ".hdf5"])
@pytest.mark.parametrize(
    ("shape", "layer_names", "frame_shift"),
    [("layers", ("0", "1", "2"), 0.02), ("frames", ("",), 0.01), ("vector", ("",), None)],
)
def test_a_store_holds_the_arrays(arrays, importing, opened, suffix, shape, layer_names, frame_shift):
    values = arrays(shape, suffix)
    report = importing(store="float32", frame_shift=frame_shift)
    assert (report.num_utterances, report.num_imported, report.failures) == (24, 24, ())
    store = opened()
    assert store.complete
    assert store.layer_names == layer_names
    np.testing.assert_equal(store.frame_shift, np.nan if frame_shift is None else frame_shift)
    assert store.has_frames == (frame_shift is not None)
    for utterance_id, expected in values.items():
        as_stored = expected.reshape((-1, *expected.shape[-2:]) if shape != "vector" else (1, 1, 4))
        np.testing.assert_array_equal(store[utterance_id], as_stored)
    assert store.audio_sha256(list(values)) == [""] * 24
    for name in ("model_id", "weights", "revision", "audio_sha256"):
        assert store.metadata[name] == "unknown"


@pytest.mark.parametrize("dtype", ["<f2", ">f4", "<f8", ">i2", "|i1", "<u4", "|u1"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_numbers_of_any_kind_and_order_are_taken(arrays, importing, opened, tmp_path, dtype, order):
    arrays()
    values = {}
    for path in sorted((tmp_path / "arrays").glob("*.npy")):
        values[path.stem] = np.asarray(np.abs(10 * np.load(path)), dtype=dtype, order=order)
        np.save(path, values[path.stem])
    importing(store="float32")
    for utterance_id, expected in values.items():
        np.testing.assert_array_equal(opened()[utterance_id], expected.astype(np.float32))


@pytest.mark.parametrize(("shape", "usual"), [("layers", "float16"), ("frames", "float32")])
@pytest.mark.parametrize("store", [None, "float16", "float32", "int8"])
def test_features_are_stored_as_asked(arrays, importing, opened, shape, usual, store):
    values = arrays(shape)
    importing(store=store)
    assert opened().identity.storage_dtype == store or usual
    tolerance = {"float16": 2e-3, "float32": 0, "int8": 0.05}[store or usual]
    for utterance_id, expected in values.items():
        assert np.abs(opened()[utterance_id] - expected).max() <= tolerance
    np.testing.assert_allclose(opened().pooled("mean")[0, -1], values["01-anger-1"].reshape(-1, 5, 4)[-1].mean(0), 1e-5)


def test_statistics_alone_can_be_kept(arrays, importing, opened):
    values = arrays()
    importing(pool=True)
    assert opened().pooled_only
    np.testing.assert_allclose(opened().pooled("max")[3], values["01-joy-1"].max(axis=1), 1e-6)


def test_an_import_is_continued_and_other_features_are_another_store(arrays, importing, opened, tmp_path, monkeypatch):
    arrays()

    monkeypatch.setattr(plan, "SHARD_UTTERANCES", 8)
    writes = []
    usual = StoreWriter.write_shard

    def dying(writer, records, number=None, decoders=()):
        if writes:
            raise KeyError("the machine dies")
        writes.append(len(records))
        usual(writer, records, number, decoders)

    monkeypatch.setattr(StoreWriter, "write_shard", dying)
    with pytest.raises(KeyError):
        importing()
    monkeypatch.setattr(StoreWriter, "write_shard", usual)
    assert len(opened()) == 8
    assert not opened().complete
    with pytest.raises(StoreError, match="is not finished"):
        featcache.fit(features="mine", seeds=[1])
    assert importing(dry_run=True).num_imported == 0
    assert len(opened()) == 8
    assert importing().num_imported == 16
    assert opened().complete
    assert importing().num_imported == 0
    save(tmp_path / "arrays" / "01-joy-1.npy", np.zeros((3, 5, 4)))
    with pytest.raises(StoreError, match=r"was made with other settings: content_sha256 is .*another name"):
        importing()
    assert importing(name="other").num_imported == 24
    assert opened("other").identity.fingerprint != opened().identity.fingerprint


def test_a_dry_run_writes_nothing(arrays, importing, tmp_path):
    arrays()
    (tmp_path / "arrays" / "04-joy-3.npy").unlink()
    report = importing(dry_run=True)
    assert report.planned_bytes > 0
    assert [failure.utterance_id for failure in report.failures] == ["04-joy-3"]
    assert not (tmp_path / "data").exists()


def test_faulty_files_are_listed_and_the_others_are_imported(arrays, importing, opened, tmp_path):
    arrays()
    faults = {
        "01-anger-1": np.zeros((3, 5, 9)),
        "01-anger-2": np.zeros((2, 5, 4)),
        "01-anger-3": np.zeros((5, 4)),
        "01-joy-1": np.full((3, 5, 4), np.nan),
        "01-joy-2": np.full((3, 5, 4), 1e300),
        "01-joy-3": np.zeros((3, 0, 4)),
        "02-joy-1": np.zeros((3, 5, 4), dtype=complex),
        "02-joy-2": np.array([["a"]]),
        "02-joy-3": np.zeros((1, 3, 5, 4)),
        "03-joy-1": np.float32(1),
        "03-joy-2": np.zeros(4),
        "03-joy-3": np.full((3, 5, 4), 1e6),  # It overflows float16.
    }
    for utterance_id, values in faults.items():
        save(tmp_path / "arrays" / f"{utterance_id}.npy", values)
    (tmp_path / "arrays" / "04-joy-3.npy").unlink()
    report = importing()
    assert {failure.utterance_id for failure in report.failures} == {*faults, "04-joy-3"}
    reasons = {failure.utterance_id: failure.reason for failure in report.failures}
    assert "its shape is (3, 5, 9), but most files have 3 layers of 4 values" in reasons["01-anger-1"]
    assert "NaN or infinite" in reasons["01-joy-1"]
    assert "too large for float32" in reasons["01-joy-2"]
    assert "contains no values" in reasons["01-joy-3"]
    assert "expected real numbers" in reasons["02-joy-1"]
    assert "one vector without frames" in reasons["03-joy-2"]
    assert "overflow float16" in reasons["03-joy-3"]
    assert "has no file 04-joy-3.npy" in reasons["04-joy-3"]
    assert opened().complete  # Every utterance is stored or known to fail.
    assert len(opened()) == 11
    assert (opened().path / "failures.csv").read_text().count("\n") == 14
    with pytest.raises(FeatureError, match="stopped by --strict"):
        importing(strict=True, name="strict")


def test_layers_have_names(arrays, importing, opened):
    arrays()
    importing(layer_names="cnn,block1,block2")
    assert opened().layer_names == ("cnn", "block1", "block2")
    importing(layer_names=["0", "6", "12"], name="sparse")
    assert opened("sparse").num_blocks == 12
    for names in ("a,b", "a,b,b", "a,,c", "a,b c,d"):
        with pytest.raises(FeatureError, match="--layer-names"):
            importing(layer_names=names, name="faulty")


@pytest.mark.parametrize("frame_shift", [0.0, -1.0, float("nan"), float("inf")])
def test_a_frame_shift_is_a_time(arrays, importing, frame_shift):
    arrays()
    expected = "a number above 0" if np.isfinite(frame_shift) else "a finite number"
    with pytest.raises(ModelError, match=f"^--frame-shift takes {expected}, got {frame_shift}$"):
        importing(frame_shift=frame_shift)


def test_frames_need_a_frame_shift(arrays, importing):
    arrays()
    with pytest.raises(FeatureError, match=r"5 frames, but without a frame shift .* give --frame-shift"):
        importing(frame_shift=None)


@pytest.mark.parametrize(
    "name", ["01-anger-1.npy", "01/anger-1.npy", "anger-1.npy"], ids=["id", "path of the audio", "its last part"]
)
def test_files_are_named_by_ids_or_audio(manifest, importing, opened, tmp_path, name):
    save(tmp_path / "arrays" / name, np.ones((3, 5, 4)))
    if name == "anger-1.npy":  # It matches utterances of four speakers.
        with pytest.raises(StoreError, match=r"'anger-1.npy' matches several utterances \('01-anger-1', '02"):
            importing()
        one = [u for u in manifest if u.speaker_id == "01"]
        Manifest(one).write(tmp_path / "corpus" / "manifest.csv")
    importing()
    assert list(opened()) == ["01-anger-1"]


def test_ids_with_folders_are_paths_and_ambiguous_names_are_refused(tmp_path, importing, manifest, opened):
    ids = ["a/x", "b/x", "c.v1", "segment1", "segment2"]
    utterances = [Utterance(utterance_id=i, path="long.wav", labels={"emotion": "joy"}) for i in ids]
    Manifest(utterances).write(tmp_path / "corpus" / "manifest.csv")
    for utterance_id in ids:
        save(tmp_path / "arrays" / f"{utterance_id}.npz", np.ones((5, 4)))
    save(tmp_path / "arrays" / "long.npy", np.ones((5, 4)))  # It matches several utterances, and therefore none.
    importing()
    assert sorted(opened()) == sorted(ids)
    save(tmp_path / "arrays" / "a" / "x.npy", np.ones((5, 4)))
    with pytest.raises(StoreError, match=r"'a/x.npy', 'a/x.npz' all match the utterance 'a/x'"):
        importing()


def test_a_folder_of_other_files_is_refused(importing, manifest, tmp_path):
    with pytest.raises(StoreError, match="is not a folder"):
        importing()
    save(tmp_path / "arrays" / "other.npy", np.ones((5, 4)))
    with pytest.raises(StoreError, match=r"found 'other.npy', but none named after .* such as '01-anger-1.npy'"):
        importing()


def test_the_commands_work_on_it(arrays, importing, opened, tmp_path, call, quick_reports):
    arrays()
    folder, corpus = str(tmp_path / "arrays"), str(tmp_path / "corpus")
    asked = ["import-features", folder, "--name", "mine", "--frame-shift", "0.02", "--data", corpus]
    assert call(asked)[0] == 0
    assert "1 shard: all checksums are correct" in call(["verify", str(opened().path)])[1]
    code, printed = call(["verify", str(opened().path)])
    assert code == 0
    assert "the features are imported, and their extractor is unknown" in " ".join(printed.split())
    code, printed = call(["info", "mine"])
    assert code == 0
    assert "unknown" in printed
    (tmp_path / "arrays" / "01-joy-1.npy").unlink()
    assert call([*asked[:3], "other", *asked[4:]])[0] == 3
    fitted = featcache.fit(features="mine", layers="1-2", seeds=[1], max_epochs=2, protocol="loso")
    assert set(fitted.layer_weights["layer"].astype(str)) == {"1", "2"}
    assert call(["layers", str(fitted.path)])[0] == 0


@pytest.fixture
def call(capsys):
    def run(words):
        with pytest.raises(SystemExit) as ended:
            app(words, prog_name="featcache")
        return ended.value.code or 0, capsys.readouterr().out

    return run


def test_it_can_be_probed_and_merged(arrays, importing, opened, tmp_path):
    arrays()
    importing()
    [(store, scores)] = probe_stores(["mine"], protocol="loso", target="emotion").scores
    assert (store.name, set(scores["layer"].astype(str))) == ("mine", {"0", "1", "2"})
    importing(limit=9, home=tmp_path / "elsewhere")
    part = tmp_path / "elsewhere" / "cache" / "corpus" / "mine"
    merged = merge(tmp_path / "merged" / "mine", [part, opened().path])
    assert merged.complete
    assert merged.num_utterances == 24
    record = json.loads((tmp_path / "merged" / "corpus.json").read_text())
    assert record == {"corpus": "folder"}
