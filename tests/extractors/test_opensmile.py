"""Feature sets and configuration files of openSMILE, compared with direct calls of opensmile."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import opensmile
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featcache.audio import Signal
from featcache.errors import AudioError, ModelError
from featcache.extractors import create_extractor, store_name
from featcache.registry import name_plugins

LLD, FUNCTIONALS = opensmile.FeatureLevel.LowLevelDescriptors, opensmile.FeatureLevel.Functionals
# Reference → options, and the feature set, the level and the number of values of opensmile.
SETS = {
    "compare2016": ({}, opensmile.FeatureSet.ComParE_2016, LLD, 65),
    "compare2016-functionals": ({}, opensmile.FeatureSet.ComParE_2016, FUNCTIONALS, 6373),
    "opensmile:emobase": ({}, opensmile.FeatureSet.emobase, LLD, 26),
    "opensmile:GeMAPSv01b": ({"level": "functionals"}, opensmile.FeatureSet.GeMAPSv01b, FUNCTIONALS, 62),
    "opensmile:IS09": ({"level": "lld_de"}, opensmile.FeatureSet.IS09, opensmile.FeatureLevel("lld_de"), 16),
    "opensmile:eGeMAPSv02": ({}, opensmile.FeatureSet.eGeMAPSv02, LLD, 25),
}
CONFIGURATIONS = Path(opensmile.__file__).parent / "core" / "config"


@pytest.fixture(scope="module")
def extractors():
    return {name: create_extractor(name, **options) for name, (options, *_) in SETS.items()}


@pytest.fixture
def configuration(tmp_path, monkeypatch):
    """Return the package's configuration IS09 as a user's file, together with its includes."""
    monkeypatch.setattr("featcache.registry._named", {})
    for folder in ("is09-13", "shared"):
        shutil.copytree(CONFIGURATIONS / folder, tmp_path / folder)
    return tmp_path / "is09-13" / "IS09_emotion.conf"


@pytest.mark.parametrize("name", SETS)
def test_features_are_those_of_opensmile(extractors, speech_like, name):
    _, feature_set, level, size = SETS[name]
    own = extractors[name]
    by_hand = opensmile.Smile(feature_set=feature_set, feature_level=level)
    signals = [Signal(samples=speech_like(n, rate), sampling_rate=rate) for n, rate in ((4000, 16000), (9000, 22050))]
    for signal, features in zip(signals, own.extract(signals), strict=True):
        expected = by_hand.process_signal(signal.samples, signal.sampling_rate).to_numpy()[None]
        np.testing.assert_array_equal(features, expected)
        assert features.shape == (1, own.num_frames(len(signal.samples), signal.sampling_rate), size)
        np.testing.assert_array_equal(features, own.extract([signal])[0])
    description = own.description
    assert description.provenance["feature_names"] == list(by_hand.feature_names)
    assert (description.hidden_size, description.frame_shift) == (size, None if level == FUNCTIONALS else 0.010)
    assert description.provenance.get("one_vector", False) == (level == FUNCTIONALS)


@settings(max_examples=25)
@given(name=st.sampled_from(list(SETS)), rate=st.sampled_from((8000, 16000, 22050)), seconds=st.floats(0, 0.2))
def test_num_frames_is_exact(extractors, speech_like, name, rate, seconds):
    own, num_samples = extractors[name], round(seconds * rate)
    num_frames = own.num_frames(num_samples, rate)
    signal = Signal(samples=speech_like(num_samples, rate), sampling_rate=rate)
    if num_frames == 0:
        with pytest.raises(AudioError, match=rf"^{num_samples} samples at {rate} Hz are too short for openSMILE's"):
            own.extract([signal])
    else:
        [features] = own.extract([signal])
        assert features.shape[1] == num_frames
        assert np.isfinite(features).all()


def test_the_shortest_signals_are_those_of_the_sets_windows(extractors):
    shortest = {"compare2016": 960, "opensmile:emobase": 640, "opensmile:IS09": 400, "opensmile:eGeMAPSv02": 960}
    for name, num_samples in shortest.items():
        own = extractors[name]
        first = own.num_frames(num_samples, 16000)
        assert own.num_frames(num_samples - 1, 16000) == 0 < first
        assert [own.num_frames(num_samples + more, 16000) - first for more in (159, 160, 16000)] == [0, 1, 100]


def test_threads_may_share_an_extractor(extractors, speech_like):
    own = extractors["compare2016"]
    signals = [Signal(samples=speech_like(2000 + 700 * i, seed=i), sampling_rate=11025) for i in range(6)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda signal: own.extract([signal])[0], signals))
    for features, alone in zip(found, own.extract(signals), strict=True):
        np.testing.assert_array_equal(features, alone)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("opensmile:GeMAPS2", {}, "no feature set 'GeMAPS2'; did you mean 'GeMAPS'"),
        ("opensmile:GeMAPSv01b", {"level": "lld_de"}, "has no level 'lld_de', expected lld, functionals"),
        ("opensmile:emobase", {"level": "x"}, "feature set emobase has no level 'x'"),
        ("opensmile:", {}, "opensmile needs a feature set, such as .*:GeMAPSv01b, or a .* file: opensmile:FILE.conf"),
        ("opensmile:emobase", {"feature_set": "IS09"}, "^--feature-set does not apply to 'opensmile:emobase'$"),
        ("compare2016", {"level": "functionals"}, "^--level does not apply to 'compare2016'$"),
        (
            "compare2016",
            {"chunk_seconds": 5},
            "^--chunk-seconds does not apply to .*, which computes whole",
        ),
    ],
)
def test_what_cannot_be(name, options, message):
    with pytest.raises(ModelError, match=message):
        create_extractor(name, **options)


def test_a_configuration_is_identified_by_all_its_files(configuration, extractors, speech_like, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path.parent)
    reference = f"opensmile:{configuration}"
    assert store_name(reference) == "opensmile-is09_emotion"
    with pytest.raises(ModelError, match=r"a file may not decide which .*--model opensmile:PATH/IS09_emotion.conf$"):
        create_extractor(reference)
    name_plugins([reference])
    own = create_extractor(reference, level="lld_de")
    settings = own.description.settings
    assert (settings["extractor"], settings["feature_set"]) == ("opensmile", "IS09_emotion.conf")
    assert len(settings["configuration_sha256"]) == 64
    included = configuration.with_name("IS09_emotion_core.lld.conf.inc")
    included.write_bytes(included.read_bytes() + b"\n// another comment\n")
    other = create_extractor(reference, level="lld_de").description.settings
    assert {name for name in settings if settings[name] != other[name]} == {"configuration_sha256"}
    shutil.rmtree(configuration.parent)  # The extractor's copy remains.
    signal = Signal(samples=speech_like(4000), sampling_rate=16000)
    np.testing.assert_array_equal(own.extract([signal])[0], extractors["opensmile:IS09"].extract([signal])[0])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\\{/etc/passwd}\n", "includes '/etc/passwd', expected a path relative to"),
        (b"\\{../../../../../../x}\n", "expected a path relative to"),
        (b"\\{missing.inc}\n", r"missing.inc: the configuration file cannot be read \(No such file or directory\)"),
        (b"nothing of openSMILE\n", "openSMILE does not accept .*own.conf .*it must include"),
    ],
)
def test_configurations_that_cannot_be_used(tmp_path, monkeypatch, content, message):
    monkeypatch.setattr("featcache.registry._named", {})
    (tmp_path / "own.conf").write_bytes(content)
    name_plugins([reference := f"opensmile:{tmp_path}/own.conf"])
    with pytest.raises(ModelError, match=message):
        create_extractor(reference)
