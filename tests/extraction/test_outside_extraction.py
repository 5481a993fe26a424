"""An extractor in a user's file, from extraction to verification; stores that name code that the user did not name."""

import sys

import numpy as np
import pytest
import soundfile

import featcache
from featcache.cache.identity import StoreIdentity
from featcache.cache.reader import FeatureStore
from featcache.cache.shards import shard_numbers
from featcache.cli.info import print_info
from featcache.corpora.synthetic import make_corpus
from featcache.errors import ClusterError, ModelError, StoreError
from featcache.extraction import dask_worker as worker
from featcache.extraction import extract
from featcache.extraction.dask_worker import recipe_of
from featcache.extraction.merge import merge
from featcache.extraction.verify import check_all_finite, damaged_files, recompute
from featcache.registry import name_plugins
from featcache.training.store_features import features_of
from tests.extractors.outside import PROSODY, write


@pytest.fixture(autouse=True)
def nothing_named(monkeypatch):
    """Forget after each test the code that it named."""
    monkeypatch.setattr("featcache.registry._named", {})


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpora") / "speech"
    make_corpus(folder, num_speakers=2, repetitions=1)
    return folder


@pytest.fixture
def made(speech, tmp_path, monkeypatch):
    """Return the working folder of the user, with the file and a store that it made."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path)
    report = extract(model="./prosody.py:Prosody", data=speech, home=tmp_path / "data", set={"f0_max": "300"}, limit=6)
    assert (report.stores, report.num_extracted, report.failures) == (("prosody",), 6, ())
    return FeatureStore(tmp_path / "data" / "cache" / "speech" / "prosody")


def test_the_store_records_what_made_it(made):
    settings = made.identity.settings
    assert (settings["extractor"], settings["f0_max"]) == ("./prosody.py:Prosody", 300.0)
    assert settings["origin"].keys() == {"reference", "sha256"}
    assert (made.frame_shift, made.hidden_size, made.averages_frames, made.has_frames) == (0.01, 2, True, True)
    model, options = made.identity.model_and_options()
    assert (model, options) == ("./prosody.py:Prosody", {"f0_max": 300.0, "sampling_rate": 0, "channel": "mean"})
    [values] = [made[i] for i in made.utterance_ids[:1]]
    assert values.dtype == np.float32
    assert (values[0, :, 1] > values[0, :, 0]).any()


def test_it_is_verified_and_continued_from_another_folder(made, speech, tmp_path, monkeypatch):
    [deviation] = recompute(made, speech, 3)
    assert (deviation.largest, deviation.within) == (0, True)
    monkeypatch.chdir(tmp_path.parent)
    monkeypatch.setattr("featcache.registry._named", {})
    with pytest.raises(ModelError, match=r"prosody: extractor './prosody.py:Prosody' is code from outside .* --plugin"):
        recompute(made, speech, 3)
    reference = str(tmp_path / "prosody.py:Prosody")
    assert recompute(made, speech, 3, model=reference)[0].within
    assert extract(model=reference, data=speech, home=tmp_path / "data", set={"f0_max": 300}).num_extracted == 2
    assert extract(model=reference, data=speech, home=tmp_path / "data", set={"f0_max": 300}).num_extracted == 0


def test_another_content_of_the_file_or_another_option_is_another_store(made, speech, tmp_path):
    options = {"model": "./prosody.py:Prosody", "data": speech, "home": tmp_path / "data"}
    with pytest.raises(StoreError, match=r"other settings: f0_max is 300.0 there and 400.0 now; give"):
        extract(**options)
    write(tmp_path, PROSODY + "\n# changed\n")
    with pytest.raises(StoreError, match=r"with other settings: origin\.sha256 is \w{12}… there and \w{12}… now"):
        extract(**options, set={"f0_max": 300})
    with pytest.raises(StoreError, match=r"the extractor on this machine differs in origin; nothing was compared$"):
        recompute(made, speech, 3)


def test_errors_of_the_code_are_failures_of_single_utterances(speech, tmp_path):
    lengths = {path.stem: soundfile.info(path).frames for path in sorted(speech.rglob("*.wav"))}
    [bad, *_] = (name for name in lengths if list(lengths.values()).count(lengths[name]) == 1)
    told = f"        if len(signal.samples) == {lengths[bad]}:\n            raise KeyError('a\\nbug')\n        hop ="
    reference = write(tmp_path, PROSODY.replace("        hop =", told))
    report = extract(model=reference, data=speech, home=tmp_path / "data")
    [failure] = report.failures
    assert failure.utterance_id == bad
    assert failure.reason.startswith("extractor './prosody.py:Prosody' failed (KeyError: ")
    assert "\n" not in failure.reason
    assert report.num_extracted == len(lengths) - 1


def test_workers_make_it_from_what_the_user_named(made, tmp_path, monkeypatch):
    name_plugins(["./prosody.py:Prosody"])
    recipe = recipe_of("./prosody.py:Prosody", {"f0_max": 300, "sampling_rate": 0}, "cpu")
    assert recipe.model == f"{tmp_path}/prosody.py:Prosody"
    assert recipe.model in recipe.plugins
    monkeypatch.chdir(tmp_path.parent)  # A worker, for which no code was named.
    monkeypatch.setattr("featcache.registry._named", {})
    monkeypatch.setattr(worker, "_here", lambda: "the worker")
    worker._extractor.cache_clear()
    expected = StoreIdentity(settings=made.identity.settings)
    assert worker._extractor(recipe, expected).description.hidden_size == 2
    write(tmp_path, PROSODY + "\n# changed\n")
    worker._extractor.cache_clear()
    with pytest.raises(
        ClusterError, match=r"the worker creates another .*prosody.py:Prosody than .* \(origin differ\)"
    ):
        worker._extractor(recipe, expected)


@pytest.mark.parametrize("extractor", ["./planted.py:Planted", "planted:Planted", "os:system", "opensmile"])
def test_a_store_imports_nothing(made, speech, write_store, tmp_path, monkeypatch, extractor):
    planted = f"import pathlib\npathlib.Path({str(tmp_path / 'ran')!r}).touch()\n{PROSODY}\nPlanted = Prosody\n"
    (tmp_path / "planted.py").write_text(planted, encoding="utf-8")
    (tmp_path / "planted.conf").write_text("\\{\\cm[source{?}:x]}", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("featcache.registry._named", {})
    settings = {"extractor": extractor, "feature_set": "planted.conf", "level": "lld", "f0_max": 400}
    frames = {i: made[i] for i in made.utterance_ids}
    write_store(made.path.parent / "hostile", frames, kind="egemaps", settings=settings)
    cache = featcache.open(made.path.parent)
    store = cache["hostile"]
    assert len(store) == 6
    assert features_of([store], layers="all", max_frames=None, pooling=None)[0].num_frames(made.utterance_ids[0]) > 1
    print_info(store.path)
    assert len(shard_numbers(store.path)) == 1
    list(damaged_files(store.path))
    check_all_finite(store)
    merge(tmp_path / "data" / "cache" / "speech" / "merged", [store.path])
    told = r"(is code from outside of featcache|openSMILE executes planted.conf), and a file may not decide"
    with pytest.raises(ModelError, match=told):
        recompute(store, speech, 2)
    assert not (tmp_path / "ran").exists()
    assert "planted" not in sys.modules


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_a_cluster_fills_the_same_store(made, speech, tmp_path):
    workers = pytest.importorskip("tests.extraction.workers")
    options = {"model": "./prosody.py:Prosody", "data": speech, "set": {"f0_max": 300}, "limit": 6, "strict": True}
    with workers.cluster() as address:
        report = extract(**options, home=tmp_path / "there", scheduler=address)
    assert (report.num_extracted, report.failures) == (6, ())
    workers.check_equal_store(FeatureStore(tmp_path / "there" / "cache" / "speech" / "prosody"), made)
