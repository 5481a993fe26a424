"""Runs of a sweep are the same as alone, for any number of threads and processes."""

import os
import subprocess
import sys
from pathlib import Path

import joblib
import pytest

import featcache
from featcache.errors import ManifestError, ModelError, StoreError
from featcache.fitting import job, memory_plan
from featcache.fitting.fit import fit, fit_all, sweep
from featcache.fitting.plan import plan_runs
from featcache.manifest import Manifest, Utterance
from featcache.runs.file_names import METRICS
from featcache.runs.identity import COMPUTED
from featcache.runs.writer import write_json
from featcache.settings.fits import FitSettings
from featcache.training import memory
from featcache.training.batches import FeatureWindows
from featcache.training.train import Training
from tests.benchmarks.synthetic_cache import write_cache
from tests.untimed import bytes_without_times

SHORT = {"seeds": (1, 2), "max_epochs": 2, "learning_rate": 0.01}
ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.usefixtures("quick_reports")


def bytes_of(run):
    """Return the bytes of each file of a run without times, including the report with the version and the settings."""
    files = (path for path in run.path.rglob("*") if path.is_file())
    return {path.relative_to(run.path).as_posix(): bytes_without_times(path) for path in files}


@pytest.mark.parametrize("working_dtype", ["float32", "bfloat16", "int8"])
def test_each_run_of_a_sweep_is_what_it_is_alone(make_cache, elsewhere, working_dtype):
    make_cache()
    heads, norms, layers = ["dense", "lstm"], ["speaker", "global"], ["all", "last", "0,2"]
    together = sweep(heads=heads, norms=norms, layers=layers, memory=working_dtype, **SHORT)
    assert len({run.path for run in together}) == 12
    elsewhere()
    asked = [(head, norm, chosen) for head in heads for norm in norms for chosen in layers]
    assert [(run.config["head"], run.config["norm"], run.config["layers"]) for run in together] == asked
    # All pairs of settings occur together; for reduced dtypes, each setting occurs.
    compared = (0, 2, 4, 7, 9, 11) if working_dtype == "float32" else (1, 5, 6)
    for run, (head, norm, chosen) in ((together[number], asked[number]) for number in compared):
        alone = fit(head=head, norm=norm, layers=chosen, memory=working_dtype, **SHORT)
        assert (alone.config["head"], alone.config["norm"], alone.config["layers"]) == (head, norm, chosen)
        assert alone.path != run.path
        assert bytes_of(alone) == bytes_of(run)


@pytest.mark.parametrize("working_dtype", ["float32", "int8"])
def test_heads_of_stores_that_do_not_pair_are_what_they_are_alone(make_cache, elsewhere, working_dtype):
    make_cache(stores={"ssl": {}, "text": {"kind": "text"}, "functionals": {"kind": "functionals"}})
    same = {"features": ["ssl", "text", "functionals"], "memory": working_dtype, **SHORT}
    together = sweep(heads=["fusion", "ffn"], layers=["all", "last"], **same)
    assert len({run.path for run in together}) == 4
    elsewhere()
    for run in together:
        alone = fit(head=run.config["head"], layers=run.config["layers"], **same)
        assert alone.path != run.path
        assert bytes_of(alone) == bytes_of(run)


def test_heads_and_layers_read_the_features_together(make_cache, monkeypatch):
    monkeypatch.setattr(job, "write_results", lambda run, setup: write_json(run.folder / METRICS, {}))
    make_cache(stores={"ssl": {}, "egemaps": {"kind": "egemaps"}})
    loads, load = [], FeatureWindows.load
    monkeypatch.setattr(FeatureWindows, "load", lambda source, ids: loads.append(ids) or load(source, ids))
    sweep(heads=["dense", "lstm"], norms=["speaker", "none"], layers=["all", "last"], features=["ssl"], **SHORT)
    assert len(loads) == 2  # one load per normalisation
    loads.clear()
    sweep(heads=["dense", "ffn"], layers=["0,2"], features=["ssl"], **SHORT)
    assert len(loads) == 1
    loads.clear()
    # paired frames, and frames of each store separately
    sweep(heads=["fusion", "ffn"], features=["ssl", "egemaps"], **SHORT)
    assert len(loads) == 2
    loads.clear()
    sweep(heads=["dense", "lstm"], norms=["global"], layers=["all", "last"], features=["ssl"], **SHORT)
    assert len(loads) == 4  # one load for the statistics of each fold


def test_runs_that_are_there_are_not_trained_again(make_cache, monkeypatch):
    make_cache()
    [first] = sweep(layers=["last"], **SHORT)
    before = bytes_of(first)
    seen, learn = set(), Training.learn
    monkeypatch.setattr(
        Training, "learn", lambda one, window: seen.add(one.head.averages[0].num_layers) or learn(one, window)
    )
    runs = sweep(layers=["all", "last"], **SHORT)
    assert seen == {3}
    assert runs[1].path == first.path
    assert bytes_of(runs[1]) == before


def test_settings_named_twice_are_one_run(make_cache):
    make_cache()
    runs = sweep(heads=["dense", "dense"], layers=["last", "all", "last"], **SHORT)
    assert [run.config["layers"] for run in runs] == ["last", "all"]


def test_a_store_that_misses_a_speaker_leaves_its_runs_fewer_folds(make_cache, write_store):
    cache = featcache.open(make_cache())
    some = {i: cache["ssl"][i][:1] for i in cache.manifest.utterance_ids if not i.startswith("04-")}
    write_store(cache.path / "egemaps", some, kind="egemaps")
    for heads in (["dense", "fusion"], ["fusion", "dense"]):
        runs = sweep(heads=heads, overwrite=True, **SHORT)
        found = {run.config["head"]: set(run.predictions["speaker_id"]) for run in runs}
        assert found == {"dense": {"01", "02", "03", "04"}, "fusion": {"01", "02", "03"}}


def test_what_cannot_be_fitted_is_told_before_anything_is_trained(make_cache, monkeypatch):
    folder = make_cache()
    monkeypatch.setattr(Training, "learn", None)
    with pytest.raises(ModelError, match=r"norm takes speaker, global or none, got 'globel'; did you mean 'global'\?"):
        sweep(norms=["speaker", "globel"], **SHORT)
    table = folder / "manifest.csv"
    table.write_text(table.read_text().replace(",04,", ",,"))
    with pytest.raises(ManifestError, match=r"4 utterances have no speaker_id .* which --norm speaker needs"):
        sweep(norms=["global", "speaker"], protocol="random-80-20", **SHORT)


def test_any_runs_are_trained_together_and_share_what_they_can(make_cache, elsewhere, monkeypatch):
    cache = make_cache(stores={"ssl": {}, "egemaps": {"kind": "egemaps"}})
    loads, load = [], FeatureWindows.load
    monkeypatch.setattr(FeatureWindows, "load", lambda source, ids: loads.append(tuple(ids)) or load(source, ids))
    same = {**SHORT}
    requests = [
        FitSettings(features=("ssl",), **same),
        FitSettings(features=("egemaps",), head="lstm", **same),
        FitSettings(features=("ssl",), layers="last", seeds=(3,), max_epochs=1),
        FitSettings(features=("ssl",), protocol="group-kfold", **same),  # other folds, so the windows differ
        FitSettings(features=("ssl",), select={"emotion": ["joy", "anger"]}, limit=12, protocol="random-80-20", **same),
        FitSettings(features=("ssl",), **same),  # the first run again
    ]
    runs = fit_all(plan_runs(requests, cache=cache), cache=cache)
    assert len(loads) == 4
    assert sorted(map(len, loads)) == [12, 16, 16, 16]
    assert runs[0].path == runs[5].path
    assert [run.metrics["num_seeds"] for run in runs] == [2, 2, 1, 2, 2, 2]
    assert [run.config["protocol"] for run in runs[2:5]] == ["loso", "group-kfold", "random-80-20"]
    elsewhere()
    home = os.environ["FEATCACHE_HOME"]
    for request, run in zip(requests[:5], runs, strict=False):
        here = Path(home) / "cache" / cache.name
        [alone] = fit_all(plan_runs([request], cache=here), cache=here)
        assert bytes_of(alone) == bytes_of(run)


def test_runs_normalised_by_other_labels_do_not_share(make_cache):
    speakers = [("01", "x"), ("02", "x"), ("03", "y"), ("04", "y")]
    manifest = Manifest(
        [
            Utterance(
                utterance_id=f"{speaker}-{emotion}",
                path=f"{speaker}-{emotion}.wav",
                speaker_id=speaker,
                labels={"emotion": emotion, "room": room},
            )
            for speaker, room in speakers
            for emotion in ("anger", "joy")
        ]
    )
    cache = make_cache(manifest=manifest)
    same = {"target": "emotion", **SHORT, "seeds": (1,)}
    by_speaker, by_room = (FitSettings(norm_by=by, **same) for by in ("speaker_id", "room"))
    first, second = fit_all(plan_runs([by_speaker, by_room], cache=cache), cache=cache)
    assert (first.config["norm_by"], second.config["norm_by"]) == ("speaker_id", "room")
    assert (
        "is per value of the label &#39;room&#39;, in place of the speaker" in (second.path / "report.html").read_text()
    )
    assert bytes_of(second) == bytes_of(fit(norm_by="room", overwrite=True, **same))
    assert (first.path / "predictions.csv").read_bytes() != (second.path / "predictions.csv").read_bytes()
    # other normalisations do not depend on the column of the speaker
    assert fit(norm="global", norm_by="room", **same).config["norm_by"] is None


def test_a_name_is_for_a_single_run(make_cache):
    make_cache()
    with pytest.raises(StoreError, match="--name is for a single run, found 2 runs; remove --name"):
        sweep(heads=["dense", "lstm"], name="mine", **SHORT)
    assert sweep(heads=["dense"], name="mine", **SHORT)[0].name == "mine"


@pytest.mark.parametrize("norm", ["speaker", "global"])
def test_processes_leave_the_same_bytes(make_cache, elsewhere, norm):
    make_cache()
    options = {"heads": ["dense", "lstm"], "norms": [norm], "layers": ["all", "last"], **SHORT}
    one = sweep(**options)
    elsewhere()
    two = sweep(jobs=2, **options)
    assert [bytes_of(run) for run in one] == [bytes_of(run) for run in two]


def test_jobs_run_in_whatever_joblib_is_told(make_cache, elsewhere):
    make_cache()
    one = fit(**SHORT)
    elsewhere()
    with joblib.parallel_config(backend="threading"):
        threads = fit(jobs=2, **SHORT)
    assert bytes_of(threads) == bytes_of(one)


@pytest.fixture
def little_memory(monkeypatch):
    """Simulate a small memory, so that a toy cache is read in windows; --memory counts only features."""
    monkeypatch.setattr(memory, "_resident", lambda: 0.0)
    monkeypatch.setattr(memory_plan, "_overhead", lambda *_: 0.0)
    monkeypatch.setattr(memory_plan, "_training_bytes", lambda *_, **__: 0.0)
    return "1KiB,float32"


@pytest.mark.parametrize("norm", ["speaker", "global"])
def test_features_larger_than_memory_give_a_whole_run(make_cache, elsewhere, little_memory, norm):
    cache = featcache.open(make_cache())
    run = fit(norm=norm, memory=little_memory, **SHORT)
    assert run.config[COMPUTED]["room"] == 1024
    assert sorted(run.predictions["utterance_id"]) == sorted(2 * cache.manifest.utterance_ids)
    elsewhere()
    assert bytes_of(fit(norm=norm, memory=little_memory, **SHORT)) == bytes_of(run)


def test_too_little_memory_is_told_in_one_line(make_cache):
    make_cache()
    with pytest.raises(
        featcache.FeatcacheError, match=r"^1\.0 kB of memory is not enough, expected [\d.]+ [MG]B or more"
    ) as told:
        fit(memory="1kB", **SHORT)
    assert "\n" not in str(told.value)


MEASURED = """
import os, re, sys
from pathlib import Path
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])  # each core takes room of its own
import featcache
options = {"seeds": (1,), "max_epochs": 1, "batch_size": 8, "protocol": "random-80-20", "overwrite": True}
run = featcache.fit(features="wav2vec2-base", memory=sys.argv[1], home=sys.argv[2], **options)
# not ru_maxrss, which begins with what the process had that started this one
peak = re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1]
print(run.config["computed_with"].get("room", 0), 1024 * int(peak))
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="measures as Linux does")
def test_a_fit_stays_within_its_memory(tmp_path):
    write_cache(tmp_path, 80)  # 300 MB
    for limit, in_windows in (("930MiB", True), ("1100MiB", False)):
        result = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", MEASURED, f"{limit},float16", str(tmp_path)],
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert result.returncode == 0, result.stderr
        room, peak = map(float, result.stdout.split()[-2:])
        assert (room > 0) == in_windows
        assert peak <= int(limit.removesuffix("MiB")) * 2**20
