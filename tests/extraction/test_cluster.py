"""An extraction on a Dask cluster of two worker processes makes the same store as a local one, even if workers die."""

import csv
import logging
import os
import re
import shutil
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import cloudpickle
import numpy as np
import pytest
import soundfile

from featcache.cache.identity import StoreIdentity
from featcache.cache.reader import FeatureStore
from featcache.cache.shards import shard_numbers
from featcache.cli import app as cli
from featcache.corpora.synthetic import make_corpus
from featcache.errors import AudioError, ClusterError, ModelError, StoreError
from featcache.extraction import dask_submit as clusters
from featcache.extraction import dask_worker as worker
from featcache.extraction import extract
from featcache.extraction import plan as planning
from featcache.extractors import create_extractor
from featcache.fitting.fit import fit
from tests.extraction.workers import check_equal, check_equal_store, cluster, stores

distributed = pytest.importorskip("distributed")

# distributed reports lost workers in the logs of other threads, and leaves sockets open.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:Sending large graph:UserWarning"),
]
# Functions of this module are pickled by value: the workers can import featcache, but not its tests.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    """Return the folder of a corpus of sixteen short utterances."""
    folder = tmp_path_factory.mktemp("corpora") / "speech"
    make_corpus(folder, num_speakers=2, repetitions=2)
    return folder


@pytest.fixture
def corpus(speech, tmp_path):
    """Return a copy of the corpus that a test may change."""
    return shutil.copytree(speech, tmp_path / "speech")


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(planning, "SHARD_UTTERANCES", 2)


@pytest.fixture(scope="module")
def scheduler():
    """Yield the address of a cluster for the tests that do not change its workers."""
    with cluster() as address:
        yield address


@contextmanager
def at_the_first_result(monkeypatch, action):
    """Call ``action`` as soon as the first group is done."""

    @contextmanager
    def acting(_title, _total, *, rate):
        acted = []

        def advance(_amount):
            if not acted:
                acted.append(True)
                action()

        yield advance

    with monkeypatch.context() as patch:
        patch.setattr(clusters, "progress", acting)
        yield


def run_on(address, function, workers=None):
    with distributed.Client(address, set_as_default=False) as client:
        return client.run(function, workers=workers)


def die_in_the_next_shard():
    """Kill this worker with SIGKILL when half a shard is written."""
    from featcache.cache.writer import StoreWriter

    StoreWriter._write_statistics = lambda *_: os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_worker_leaves_no_trace(corpus, tiny_model, small_shards, tmp_path, monkeypatch):
    options = {"model": tiny_model("wav2vec2"), "name": "wav2vec2", "data": corpus}
    extract(**options, home=tmp_path / "here", workers=1)
    with cluster() as address:
        victim, survivor = run_on(address, os.getpid).items()
        with at_the_first_result(monkeypatch, lambda: run_on(address, die_in_the_next_shard, [victim[0]])):
            report = extract(**options, home=tmp_path / "there", scheduler=address)
        alive = run_on(address, os.getpid).values()
        assert victim[1] not in alive
        assert survivor[1] in alive
        assert extract(**options, home=tmp_path / "there", scheduler=address).num_extracted == 0
    assert (report.num_extracted, report.failures, report.interrupted) == (16, (), False)
    found = stores(tmp_path / "there")
    check_equal(found, stores(tmp_path / "here"))
    for store in found.values():
        assert store.complete
        assert shard_numbers(store.path) == list(range(8))
        assert not list(store.path.glob(".*.tmp"))


def test_a_group_that_takes_its_workers_along_is_told(corpus, tiny_model, small_shards, tmp_path, monkeypatch):
    options = {"model": tiny_model("wav2vec2"), "name": "wav2vec2", "data": corpus, "home": tmp_path / "there"}
    lost = "1 workers were lost while they computed the utterances '.*', '.*'"
    told = rf"^{lost}; see their logs: .*\. Written features are kept"
    with cluster(allowed_failures=0) as address:
        with (
            at_the_first_result(monkeypatch, lambda: run_on(address, die_in_the_next_shard)),
            pytest.raises(ClusterError, match=told),
        ):
            extract(**options, scheduler=address)
        kept = stores(tmp_path / "there")
        assert all(len(store) and not store.complete for store in kept.values())
        assert not list(tmp_path.rglob("*.tmp"))
        before = set(kept["egemaps"])
        report = extract(**options, scheduler=address)
    assert report.num_extracted <= 16 - len(before & set(kept["wav2vec2"]))
    extract(**{**options, "home": tmp_path / "here"}, workers=1)
    whole = stores(tmp_path / "here")
    for name, store in stores(tmp_path / "there").items():
        check_equal_store(store, whole[name])


def test_ctrl_c_ends_what_is_under_way_and_nothing_else(corpus, scheduler, small_shards, tmp_path, monkeypatch):
    def interrupt():
        raise KeyboardInterrupt

    options = {"model": "egemaps", "data": corpus, "home": tmp_path / "there", "scheduler": scheduler}
    with at_the_first_result(monkeypatch, interrupt):
        report = extract(**options)
    store = stores(tmp_path / "there")["egemaps"]
    assert report.interrupted
    assert report.num_extracted == len(store) < 16
    assert not store.complete
    assert (store.path / "index.h5").is_file()
    assert not list(store.path.glob(".*.tmp"))
    assert extract(**options).num_extracted == 16 - len(store)
    extract(**{**options, "home": tmp_path / "here", "scheduler": None})
    check_equal_store(stores(tmp_path / "there")["egemaps"], stores(tmp_path / "here")["egemaps"])


def test_bad_audio_is_listed_and_ends_with_3(corpus, scheduler, small_shards, tmp_path, monkeypatch, capsys):
    paths = sorted(path.relative_to(corpus).as_posix() for path in corpus.rglob("*.wav"))
    (corpus / paths[3]).write_bytes(b"no audio")
    soundfile.write(corpus / paths[6], np.zeros(10), 16000)
    arguments = ["extract", "--model", "egemaps", "--data", str(corpus), "--scheduler", scheduler]
    monkeypatch.setattr(sys, "argv", ["featcache", *arguments])
    with pytest.raises(SystemExit) as exited:
        cli.main()
    assert exited.value.code == 3
    assert "14 of 16 utterances extracted" in capsys.readouterr().out
    store = stores(tmp_path / "data")["egemaps"]
    assert store.complete
    assert len(store) == 14
    with open(store.path / "failures.csv", newline="") as file:
        assert {row["path"]: row["reason"] for row in csv.DictReader(file)} == {
            paths[3]: f"{paths[3]}: not an audio file but text ('no audio' …); download it again",
            paths[6]: "10 samples at 16000 Hz are too short for eGeMAPS, which needs 60 ms",
        }


def test_strict_stops_at_the_first_failure(corpus, scheduler, small_shards, tmp_path):
    first = min(corpus.rglob("*.wav"))
    first.write_bytes(b"no audio")
    told = rf"^utterance '.*': \S+/{first.name}: not an audio file but text .* \(stopped by --strict\)$"
    with pytest.raises(AudioError, match=told):
        extract(model="egemaps", data=corpus, home=tmp_path / "there", scheduler=scheduler, strict=True)
    folder = tmp_path / "there" / "cache" / "speech" / "egemaps"
    assert not list(folder.glob(".*.tmp"))
    assert len(shard_numbers(folder)) < 8


def test_other_settings_are_refused_before_anything_is_computed(corpus, scheduler, tmp_path):
    options = {"model": "egemaps", "data": corpus, "home": tmp_path / "there", "scheduler": scheduler}
    extract(**options, limit=2)
    with pytest.raises(StoreError, match=r"was made with other settings: channel is mean there and first now"):
        extract(**options, channel="first")


def test_a_worker_with_other_weights_is_refused(corpus, scheduler, tiny_model, tmp_path):
    folder = Path(tiny_model("wav2vec2", hidden_size=16))

    def make_another(model, *, device, **options):
        from featcache.extractors import create_extractor

        return create_extractor(model, device=device, do_normalize=False, **options)

    def patch():
        worker.create_extractor = make_another

    def mend():
        from featcache.extractors import create_extractor

        worker.create_extractor = create_extractor

    run_on(scheduler, patch)
    try:
        with pytest.raises(
            ClusterError,
            match=rf"^the worker tcp://\S+ creates another {folder} than .* \(do_normalize differ\); use the same",
        ):
            extract(model=str(folder), data=corpus, egemaps=False, home=tmp_path / "there", scheduler=scheduler)
    finally:
        run_on(scheduler, mend)


def test_words_go_to_the_workers_and_no_audio(corpus, scheduler, small_shards, tmp_path):
    options = {"text": "tinybert", "weights": "random", "layers": "last", "data": corpus}
    here = extract(**options, home=tmp_path / "here")
    for path in corpus.rglob("*.wav"):
        path.write_bytes(b"")
    there = extract(**options, home=tmp_path / "there", scheduler=scheduler)
    assert there.num_tokens == here.num_tokens > 0
    one, other = (FeatureStore(report.cache / "tinybert") for report in (here, there))
    assert one.metadata["fingerprint"] == other.metadata["fingerprint"]
    assert sorted(one) == sorted(other)
    for utterance_id in one:
        # Batches differ, and therefore the last rounded digit.
        np.testing.assert_allclose(one[utterance_id], other[utterance_id], rtol=2**-9, atol=1e-3)


def test_workers_keep_the_padding(corpus, scheduler, small_shards, tiny_model, tmp_path):
    model = tiny_model("whisper", max_source_positions=100)
    options = {"model": model, "name": "padded", "keep_padding": True, "egemaps": False, "limit": 4, "data": corpus}
    here = extract(**options, home=tmp_path / "here", workers=1)
    there = extract(**options, home=tmp_path / "there", scheduler=scheduler)
    one, other = (FeatureStore(report.cache / "padded") for report in (here, there))
    check_equal_store(other, one)
    for key in one:
        np.testing.assert_array_equal(other.view(key, with_padding=True), one.view(key, with_padding=True))


def test_a_device_that_a_worker_lacks(corpus, scheduler, tiny_model, tmp_path):
    options = {"model": tiny_model("wav2vec2"), "data": corpus, "home": tmp_path / "there", "scheduler": scheduler}
    with pytest.raises(ModelError, match=r"--device cuda:7 is not available here"):
        extract(**options, device="cuda:7")


@pytest.mark.parametrize("missing", ["root", "marker", "version"])
def test_a_worker_set_up_in_another_way_is_told(scheduler, tmp_path, missing):
    paths = {name: tmp_path / name for name in ("root", "marker")}
    paths["root"].mkdir()
    paths["marker"].write_bytes(worker.RUNNING)
    if missing in paths:
        paths[missing] = tmp_path / "elsewhere" / missing
    version = {"version": "0.0.0"} if missing == "version" else {}
    job = worker.WorkerJob(**paths, **version, stores=(), batch_length=None, strict=False)
    group = worker.WorkerGroup(items=[], todo={}, numbers={})
    told = {
        "root": r"does not see .*/elsewhere/root like the machine that started the extraction; .* share",
        "marker": r"does not see .*/elsewhere like the machine that started the extraction; .* share",
        "version": r"has featcache \S+, the machine that started the extraction has 0\.0\.0; install the same version ",
    }
    with distributed.Client(scheduler, set_as_default=False) as client:
        future = client.submit(worker.do_group, job, group, pure=False)
        with pytest.raises(ClusterError, match=rf"^the worker tcp://\S+ {told[missing]}"):
            future.result()


def fail_to_import(_job, _group):
    raise ModuleNotFoundError("No module named 'featcache.extraction.dask_submit'")


def fail_to_unpack(_job, _group):
    raise RuntimeError("Error during deserialization") from ModuleNotFoundError("No module named 'featcache'")


@pytest.mark.parametrize("failing", [fail_to_import, fail_to_unpack])
def test_machines_without_featcache_are_told(corpus, scheduler, tmp_path, monkeypatch, failing):
    monkeypatch.setattr(clusters, "do_group", failing)
    told = (
        r"^the Dask scheduler or a worker cannot run featcache \(No module named 'featcache.*'\); install the same ver"
    )
    with pytest.raises(ClusterError, match=told):
        extract(model="egemaps", data=corpus, home=tmp_path / "there", scheduler=scheduler)
    assert not list(tmp_path.rglob("*.tmp"))


def test_workers_compute_with_one_thread(corpus, scheduler, tiny_model, tmp_path):
    options = {"model": tiny_model("wav2vec2"), "data": corpus, "home": tmp_path / "there", "scheduler": scheduler}

    def threads():
        import torch

        return torch.get_num_threads()

    run_on(scheduler, lambda: __import__("torch").set_num_threads(3))
    extract(**options, egemaps=False, limit=2)
    with distributed.Client(scheduler, set_as_default=False) as client:
        done = [client.submit(threads, workers=[address], pure=False) for address in client.nthreads()]
        assert 1 in client.gather(done)


def test_threads_of_a_worker_make_an_extractor_once(tmp_path, monkeypatch):
    made = []

    def make(model, *, device, **options):
        made.append(options)
        return create_extractor(model, device=device, **options)

    store = worker.WorkerStore(
        name="spectrogram",
        folder=tmp_path / "spectrogram",
        recipe=worker.recipe_of("spectrogram", {"n_fft": 512}, "cpu"),
        identity=StoreIdentity.of(create_extractor("spectrogram", n_fft=512).description, "float32"),
    )
    job = worker.WorkerJob(root=tmp_path, marker=tmp_path / "marker", stores=(store,), batch_length=None, strict=False)
    monkeypatch.setattr(worker, "create_extractor", make)
    with ThreadPoolExecutor(8) as pool:
        tools = list(pool.map(lambda _: worker._tools(job, store), range(8)))
    assert made == [{"n_fft": 512}]
    assert len(set(map(id, tools[0]))) == len({id(tool) for pair in tools for tool in pair}) == 2


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "nonsense://127.0.0.1:9", ""])
def test_a_cluster_that_cannot_be_reached(corpus, monkeypatch, capsys, address):
    monkeypatch.setattr("featcache.dask_client.CONNECT_SECONDS", 0.2)
    arguments = ["--quiet", "extract", "--model", "egemaps", "--data", str(corpus), "--scheduler", address]
    monkeypatch.setattr(sys, "argv", ["featcache", *arguments])
    with pytest.raises(SystemExit) as exited:
        cli.main()
    assert exited.value.code == 1
    told = (
        rf"error: --scheduler {re.escape(address)}: no Dask scheduler answers \(.+\); expected an address such as .*\n"
    )
    assert re.fullmatch(told, capsys.readouterr().err)


def test_a_scheduler_that_is_lost(corpus, small_shards, tmp_path, monkeypatch):
    options = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": ":0", "silence_logs": logging.CRITICAL}
    with (
        distributed.LocalCluster(processes=False, protocol="tcp", **options) as running,
        at_the_first_result(monkeypatch, running.close),
        pytest.raises(ClusterError, match=r"^the connection to the Dask scheduler was lost; written features are kept"),
    ):
        extract(model="egemaps", data=corpus, home=tmp_path / "there", scheduler=running.scheduler_address)
    assert len(stores(tmp_path / "there")["egemaps"]) > 0


def test_without_dask_the_extra_is_named(corpus, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ClusterError, match=r"Dask, which is not installed: pip install 'featcache\[dask\]'$"):
        extract(model="egemaps", data=corpus, scheduler="tcp://127.0.0.1:9")


def test_parts_and_a_cluster_do_not_go_together(corpus):
    with pytest.raises(ClusterError, match="divides the work among its workers; omit --num-shards"):
        extract(model="egemaps", data=corpus, scheduler="tcp://127.0.0.1:9", num_shards=2)


def test_a_dry_run_needs_no_cluster(corpus):
    assert extract(model="egemaps", data=corpus, scheduler="tcp://127.0.0.1:9", dry_run=True).num_extracted == 16


def test_a_cluster_fits_as_this_machine_does(make_cache, quick_reports, scheduler):
    make_cache()
    asked = {"seeds": [1, 2], "max_epochs": 3, "norm": "global"}
    here = fit(**asked, name="here")
    there = fit(**asked, name="there", scheduler=scheduler)
    for name in ("predictions.csv", "history.csv", "layer_weights.csv", "heads/seed-2-fold-4.safetensors"):
        assert (there.path / name).read_bytes() == (here.path / name).read_bytes()


def test_a_fit_tells_of_a_cluster_that_is_not_there(make_cache, monkeypatch):
    make_cache()
    monkeypatch.setattr("featcache.dask_client.CONNECT_SECONDS", 0.2)
    with pytest.raises(ClusterError, match=r"no Dask scheduler answers .* expected an address such as tcp://host:8786"):
        fit(scheduler="tcp://127.0.0.1:9")
