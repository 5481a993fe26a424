"""Identity of a store: settings, fingerprint, model and options, and the differences between two identities."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from featcache.cache.identity import StoreIdentity, read_extractor_description, root_attributes
from featcache.cache.shards import read_attributes
from featcache.errors import StoreError
from featcache.extractors import create_extractor
from featcache.extractors.models import known_models
from featcache.features import Description

SSL = {
    "extractor": "ssl",
    "model_id": "facebook/wav2vec2-base",
    "weights": "pretrained",
    "weights_sha256": "a" * 64,
    "architecture": {"hidden_size": 768, "conv_stride": (5, 2, 2)},
    "layers": ["0", "1", "12"],
    "num_blocks": None,
    "do_normalize": False,
    "precision": "float32",
    "sampling_rate": 16000,
    "channel": "mean",
    "max_seconds": 12.5,
}
TEXT = {
    "extractor": "text",
    "model_id": "prajjwal1/bert-tiny",
    "weights": "random",
    "layers": ["2"],
    "precision": "bfloat16",
    "special_tokens": {"before": 1, "after": 1},
    "max_tokens": 512,
    "transcripts": "whisper-tiny",
    "transcripts_made_by": '{"language": "größe"}',
}
STORAGE = (("float16", False), ("float32", True), ("int8", False))
DESCRIPTORS = {
    "egemaps": ("egemaps", {}),
    "egemaps in windows": ("egemaps", {"chunk_seconds": 30, "sampling_rate": 16000}),
    "functionals": ("egemaps-functionals", {"channel": "first"}),
    "spectrogram": ("spectrogram", {"window": "400samples", "hop": "320samples", "n_fft": 512, "sampling_rate": 0}),
    "logmel": ("logmel", {"n_mels": 40, "fmax": 7000, "chunk_seconds": 30, "max_seconds": 12}),
    "compare2016": ("compare2016", {"channel": "first"}),
    "compare2016-functionals": ("compare2016-functionals", {"max_seconds": 2.5}),
    "a set of openSMILE": ("opensmile:IS09", {"level": "lld_de", "sampling_rate": 16000}),
}
# Computed by featcache 0.1.0, for each of STORAGE. Existing stores keep these fingerprints, so they must never change.
FINGERPRINTS = {
    "ssl": [
        "acc0faab914da8b1976fda943a6cb72932dc3164cc8a9543db25cfa30cbeb9df",
        "9c423b1785931a8d49aed2e5a27a7f7a13547a426ed0d757f1383c5be85eb9fc",
        "c1e498030d3fd30fb1d565e0e5b685c84c4e48a4e1c11acf22e273a9c4d247ba",
    ],
    "text": [
        "df08cc101fb02f8ea8ba7fe334a7ed1247af264277e42a321a750cf750de0f2d",
        "be306d8efcc58261588012354fefb6a2771576cea354c2f7977c3970e0d4f35b",
        "c348d38cce92e87adf06ddc0b00e3df81259d6da8c46446ba6c8a60948784f1b",
    ],
    "egemaps": [
        "fc0ede237d868d30c9503b25492caa3b08cf8a2df64a39e4fa9aa7bed7bae997",
        "0cc5c94950034a9aed986bb97dbebe3e56540c807ce740568a024570104242ce",
        "1f1d48828918022441333daac1e5483e621ff03991f3703fccbdab2ee2690e39",
    ],
    "egemaps in windows": [
        "96db4e6acde12f7747d3df6ae4af30bb3f0e494eae0ac92bcf8041bb9d962444",
        "90329cea5d93d5c9e6aed85b0846d150b8d12f691ca0d62235fe0f4cc09f9f1b",
        "14caa2ae6fab9f4fd29bb38e6952ac9edefa439649d382fc8dbcac241e1b9783",
    ],
    "functionals": [
        "dd3858aadf1db3e86ed604723480c02522f1431951eded11e8dbbf999c57007c",
        "985ad7405624cf72bbe4396a971e0c32e52ead6a1e2da0ef8ef1a028adcb4aa5",
        "f17d42ce4dfeadb1efe686e3905a80088f36a5299523dac3d9bc6b2349920135",
    ],
    "spectrogram": [
        "8187218087a752c4b18fc93360997ecc34002e81df73c02a7ff6953f2da7f336",
        "5f5c0eff5807b162dabbea1f9f6621321f30ff3d8681ceb38284336bc10036c2",
        "5cc7f674e91bd2870900fe9805d0159c598ca53746e5c9c646d8db8ca9f3360d",
    ],
}


def describe_model(settings):
    audio = settings["extractor"] == "ssl"
    return Description(
        dataset="hidden_states",
        layer_names=tuple(settings["layers"]),
        hidden_size=4,
        frame_shift=0.02 if audio else None,
        sampling_rate=16000 if audio else None,
        channel="mean" if audio else None,
        settings=settings,
    )


@pytest.mark.parametrize("name", FINGERPRINTS)
def test_fingerprints_are_those_of_the_stores_there_are(name):
    if name in DESCRIPTORS:
        model, options = DESCRIPTORS[name]
        description = create_extractor(model, **options).description
    else:
        description = describe_model({"ssl": SSL, "text": TEXT}[name])
    found = [StoreIdentity.of(description, dtype, pool=pool).fingerprint for dtype, pool in STORAGE]
    assert found == FINGERPRINTS[name]
    assert found == [root_attributes(description, dtype, pool=pool)["fingerprint"] for dtype, pool in STORAGE]


def test_the_order_of_settings_is_no_part_of_the_fingerprint():
    one, other = StoreIdentity(settings={"a": 1, "b": [2]}), StoreIdentity(settings={"b": [2], "a": 1})
    assert one.fingerprint == other.fingerprint
    assert hash(one) == hash(other)


def test_every_setting_and_the_storage_dtype_are_part_of_the_fingerprint(describe):
    made = [
        (describe(), "float16"),
        (describe(), "float32"),
        (describe(precision="float32"), "float16"),
        (describe(precision="bfloat16"), "float16"),
        (describe(do_normalize=None), "float16"),
        (describe(do_normalize=False), "float16"),
        (describe(layers=["0", "1"]), "float16"),
    ]
    fingerprints = {root_attributes(*arguments)["fingerprint"] for arguments in made}
    assert len(fingerprints) == len(made)


def test_versions_and_revisions_are_no_part_of_the_fingerprint(describe):
    old, new = (root_attributes(describe(provenance={"torch_version": v}), "float16") for v in ("2.6", "2.7"))
    assert old["fingerprint"] == new["fingerprint"]
    assert new["torch_version"] == "2.7"


def test_settings_come_back_from_the_attributes(describe):
    description = describe(layers=("0", "1"), do_normalize=None, n_fft=800)
    identity = StoreIdentity.read(root_attributes(description, "float16"))
    assert identity == StoreIdentity.of(description, "float16")
    settings = identity.settings
    assert settings == json.loads(json.dumps(settings))  # Plain JSON values: a tuple became a list.
    assert settings["n_fft"] == 800
    assert identity.fingerprint == root_attributes(description, "float16")["fingerprint"]


@pytest.mark.parametrize(
    "changes",
    [
        {"dataset": "hidden_states", "provenance": {"torch_version": "2.6", "num_blocks": 2}},
        {"dataset": "frames", "frame_shift": None, "num_layers": 1, "provenance": {"feature_names": ["a", "b"]}},
    ],
)
def test_a_description_comes_back_from_the_attributes_of_a_file(describe, tmp_path, changes):
    description = describe(**changes, layers=["0", "1"], do_normalize=None, architecture={"stride": [5, 2]})
    expected = root_attributes(description, "int8")
    with h5py.File(tmp_path / "file.h5", "w") as file:
        file.attrs.update(expected)
        found = read_extractor_description(read_attributes(file, tmp_path / "file.h5"))
    assert found == description
    np.testing.assert_equal(root_attributes(found, "int8"), expected)


@pytest.mark.parametrize("name", DESCRIPTORS)
def test_model_and_options_make_the_same_extractor_again(name):
    model, options = DESCRIPTORS[name]
    made = StoreIdentity.of(create_extractor(model, **options).description, "float32")
    model, options = made.model_and_options()
    again = StoreIdentity.of(create_extractor(model, **options).description, "float32")
    assert again.differences(made) == []


def test_options_of_models_come_back_under_their_own_names():
    model, options = StoreIdentity.of(describe_model(SSL), "float16").model_and_options()
    assert model == "facebook/wav2vec2-base"
    assert options == {
        "weights": "pretrained",
        "layers": "0,1,12",
        "do_normalize": False,
        "precision": "float32",
        "max_seconds": 12.5,
    }
    model, options = StoreIdentity.of(describe_model(TEXT), "int8").model_and_options()
    assert model == "prajjwal1/bert-tiny"
    assert options == {
        "text": True,
        "weights": "random",
        "layers": "2",
        "precision": "bfloat16",
        "transcripts": "whisper-tiny",
        "transcripts_made_by": TEXT["transcripts_made_by"],
    }


def test_settings_without_an_extractor_are_refused():
    with pytest.raises(StoreError, match="name no extractor; the store was not made by 'featcache extract'"):
        StoreIdentity(settings={"storage_dtype": "float16"}).model_and_options()


def test_what_differs_is_named():
    old = StoreIdentity.of(describe_model(SSL), "float16")
    new = StoreIdentity.of(describe_model(SSL | {"weights_sha256": "b" * 64, "max_seconds": None}), "int8", pool=True)
    assert old.differences(new) == ["max_seconds", "pool", "storage_dtype", "weights_sha256"]
    assert old.differences(old) == []
    old.check_same(old, Path("store"))
    message = (
        "^store was made with other settings: max_seconds is 12.5 there and None now; pool is None there and True now; "
        "storage_dtype is float16 there and int8 now; weights_sha256 is aaaaaaaaaaaa… there and bbbbbbbbbbbb… now; "
        "remove it$"
    )
    with pytest.raises(StoreError, match=message):
        old.check_same(new, Path("store"), "remove it")


@pytest.mark.parametrize(
    ("options", "same"),
    [
        ({}, True),
        ({"weights": "pretrained", "layers": "all", "precision": "float32"}, True),
        ({"revision": "main"}, False),  # Only the hub knows which commit this is.
        ({"layers": "last"}, False),
        ({"num_blocks": 2}, False),
        ({"do_normalize": False}, False),
        ({"chunk_seconds": 30.0}, False),
        ({"weights": "random"}, False),
        ({"keep_padding": False}, True),
        ({"keep_padding": True}, False),
    ],
)
def test_a_model_is_recognised_by_its_name_and_options(options, same):
    model = known_models()["wav2vec2-base"]
    settings = {
        **SSL,
        "max_seconds": None,
        "layers": [str(n) for n in range(13)],
        "do_normalize": model["do_normalize"],
    }
    found = StoreIdentity.of(describe_model(settings), "float16")
    assert found.is_of_model("wav2vec2-base", options, text=False, num_blocks=12) == same
    assert not found.is_of_model("hubert-base", options, text=False, num_blocks=12)
    embedding = StoreIdentity.of(describe_model({**settings, "layers": ["xvector"]}), "float16")
    assert embedding.is_of_model("wav2vec2-base", {**options, "layers": "xvector"}, text=False, num_blocks=12) == (
        same or "layers" in options
    )
    assert not found.is_of_model("wav2vec2-base", options, text=True, num_blocks=12)
