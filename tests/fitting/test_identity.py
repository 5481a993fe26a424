"""Settings and content identify a run, not releases, machines or free memory; changes of these are reported."""

import json
import threading

import numpy as np
import pytest
import torch
import yaml

from featcache.errors import StoreError
from featcache.files.checksums import CHECKSUMS
from featcache.fitting import job, memory_plan
from featcache.fitting import record as recording
from featcache.fitting.common_options import options_for
from featcache.fitting.conditions import conditions, recorded_copy
from featcache.fitting.fit import fit, fit_all, sweep
from featcache.fitting.groups import group
from featcache.fitting.plan import plan_runs
from featcache.fitting.relevance import layer_relevance
from featcache.runs import identity as identities
from featcache.runs.changes import changes
from featcache.runs.identity import (
    BEFORE,
    COMPUTED,
    ENVIRONMENT,
    NUMERICS,
    RECORDED,
    RELEASE,
    RESUMED,
    SOLVER,
    TRAINING,
    differences,
    hash_of,
)
from featcache.runs.parse import read_config
from featcache.runs.reader import RunFolder
from featcache.runs.writer import UnfinishedRun
from featcache.settings.fits import FitSettings
from featcache.training import memory
from featcache.training.memory import DTYPES, WorkingCopy
from featcache.training.train import Training
from featcache.workspace import Workspace
from tests.untimed import bytes_without_times

SHORT = {"seeds": (1, 2), "protocol": "random-80-20", "max_epochs": 2, "learning_rate": 0.01}
# The toy cache needs 5 kB in float32, 3 kB in float16, and 2 kB in int8 with quantisation scales.
LITTLE, PLENTY = "2500B", "1GiB"

pytestmark = pytest.mark.usefixtures("quick_reports")


@pytest.fixture
def toy(make_cache, monkeypatch):
    """Make the toy cache, and count only features for --memory."""
    monkeypatch.setattr(memory, "_resident", lambda: 0.0)
    monkeypatch.setattr(memory_plan, "_overhead", lambda *_: 0.0)
    monkeypatch.setattr(memory_plan, "_training_bytes", lambda *_, **__: 0.0)
    monkeypatch.setattr(memory, "has_fast_bfloat16", lambda device="cpu": False)
    return make_cache()


@pytest.fixture
def interrupt(monkeypatch):
    """Return a function that interrupts a fit after a number of trainings."""

    def call(after, **options):
        keep, left = UnfinishedRun.keep, threading.Semaphore(after)

        def stopped(*arguments):
            if not left.acquire(blocking=False):
                raise KeyboardInterrupt
            keep(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(UnfinishedRun, "keep", stopped)
            with pytest.raises(KeyboardInterrupt):
                fit(**{**SHORT, **options})

    return call


def as_written_by_0_1_0(path):
    """Change a run to the form of the first release: its name and settings contained the release."""
    folder = path if path.exists() else UnfinishedRun.folder_of(path)
    config = {key: value for key, value in read_config(folder).items() if key not in (NUMERICS, ENVIRONMENT)}
    config[RELEASE] = "0.1.0"
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    (folder / CHECKSUMS).unlink(missing_ok=True)
    for record in (folder.parent / "finished").glob("*.json"):
        record.write_text(json.dumps(json.loads(record.read_text())["record"]))
    old = path.with_name(path.name[:-6] + hash_of({k: v for k, v in config.items() if k != COMPUTED})[:6])
    assert old != path
    path.rename(old) if path.exists() else folder.parent.rename(UnfinishedRun.folder_of(old).parent)
    return old


def results_of(run):
    names = ("predictions.csv", "validation_predictions.csv", "history.csv", "layer_weights.csv", "metrics.json")
    heads = sorted((run.path / "heads").iterdir())
    return [bytes_without_times(path) for path in (*(run.path / name for name in names), *heads)]


def test_another_release_gives_the_same_run_back(toy, monkeypatch):
    first = fit(**SHORT)
    assert first.config[RELEASE] == recording.__version__
    monkeypatch.setattr(recording, "__version__", "99.0")
    monkeypatch.setattr(Training, "learn", None)
    assert fit(**SHORT).path == first.path
    assert fit(name=first.name, **SHORT).path == first.path


def test_another_numerics_version_is_another_run(toy, monkeypatch):
    first = fit(**SHORT)
    assert first.config[NUMERICS] == identities.NUMERICS_VERSION
    monkeypatch.setattr(recording, "NUMERICS_VERSION", identities.NUMERICS_VERSION + 1)
    assert fit(**SHORT).path != first.path
    with pytest.raises(StoreError, match=r"is a run with other settings \(numerics_version differ\)"):
        fit(name=first.name, **SHORT)


def test_only_heads_of_solvers_of_an_earlier_release_are_trained_again(toy, monkeypatch):
    machine, network = fit(head="svm", layers="last", **options_for("svm", SHORT)), fit(**SHORT)
    assert machine.config[SOLVER] == identities.SOLVER_VERSION
    assert SOLVER not in network.config
    before = {key: value for key, value in machine.config.items() if key != SOLVER}
    assert differences({**before, TRAINING: {"max_epochs": 100}}, machine.config) == [SOLVER, TRAINING]
    monkeypatch.setattr(recording, "SOLVER_VERSION", identities.SOLVER_VERSION + 1)
    assert fit(head="svm", layers="last", **options_for("svm", SHORT)).path != machine.path
    assert fit(**SHORT).path == network.path


def test_a_run_of_the_first_release_is_the_same_run(toy, monkeypatch):
    path = as_written_by_0_1_0(fit(**SHORT).path)
    with monkeypatch.context() as patch:
        patch.setattr(Training, "learn", None)
        again = fit(**SHORT)
    assert again.path == path
    assert NUMERICS not in again.config
    assert fit(norm="none", **SHORT).path != path
    assert fit(overwrite=True, **SHORT).path == path  # the old run is replaced
    assert RunFolder(path).config[NUMERICS] == BEFORE[NUMERICS]


def test_what_the_first_release_began_goes_on(toy, interrupt):
    whole = results_of(fit(name="whole", **SHORT))
    interrupt(1)
    [hidden] = Workspace.at().runs("toy").glob(".*.unfinished")
    path = as_written_by_0_1_0(hidden.with_name(hidden.name[1:].removesuffix(".unfinished")))
    run = fit(resume=True, **SHORT)
    assert run.path == path
    assert results_of(run) == whole


@pytest.mark.parametrize("key", RECORDED)
def test_what_is_recorded_beside_the_settings_makes_no_other_run(key):
    assert differences({"norm": "none", key: 1}, {"norm": "none"}) == []
    assert differences({"norm": "none", key: 1}, {"norm": "global", key: 2}) == ["norm"]


def test_a_run_records_what_it_was_computed_with(toy):
    run = fit(memory=LITTLE, **SHORT)
    assert run.config[COMPUTED] == {"device": "cpu", "working_copy": "int8", "compute": "float32"}
    assert run.config[ENVIRONMENT]["torch"] == str(torch.__version__)
    assert "int8" in (run.path / "report.html").read_text(encoding="utf-8")
    machine = fit(head="svm", layers="last", **options_for("svm", SHORT))
    assert set(machine.config[ENVIRONMENT]) - set(run.config[ENVIRONMENT]) == {"scikit-learn"}


def test_a_run_that_was_made_under_other_conditions_is_given_back_and_told(toy, caplog, monkeypatch):
    caplog.set_level("INFO", "featcache")
    first = fit(memory=LITTLE, **SHORT)
    caplog.clear()
    monkeypatch.setattr(Training, "learn", None)
    assert fit(memory=LITTLE, **SHORT).path == first.path
    assert "conditions" not in caplog.text
    assert f"{first.path} exists already; --overwrite trains it again" in caplog.text
    caplog.clear()
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "XYZ")
    assert fit(memory=PLENTY, **SHORT).path == first.path
    [told] = [record.getMessage() for record in caplog.records if "conditions" in record.getMessage()]
    assert "\n" not in told
    assert told.startswith(
        f"{first.path}: exists already, computed under other conditions: features in int8 (now float32), "
    )
    assert told.endswith("(now XYZ); --overwrite trains it again")


def test_runs_that_differ_alike_are_told_in_one_line(toy, caplog):
    runs = sweep(norms=["speaker", "none"], memory=LITTLE, **SHORT)
    caplog.clear()
    sweep(norms=["speaker", "none"], memory=PLENTY, **SHORT)
    [told] = [record.getMessage() for record in caplog.records if "conditions" in record.getMessage()]
    assert all(run.name in told for run in runs)


def test_layers_per_target_tell_it_too(toy, caplog, monkeypatch):
    layer_relevance(target="emotion", **SHORT)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "XYZ")
    caplog.clear()
    layer_relevance(target="emotion", **SHORT)
    assert "(now XYZ); remove the folder of a run to train it again" in caplog.text


def test_memory_that_is_too_small_now_is_no_matter_for_what_exists(toy, monkeypatch):
    first = fit(**SHORT)
    monkeypatch.setattr(memory_plan, "_overhead", lambda *_: 1e9)
    assert fit(memory="1B", **SHORT).path == first.path


@pytest.mark.parametrize(("before", "after"), [(LITTLE, PLENTY), (PLENTY, LITTLE), ("1kB", PLENTY)])
def test_an_interrupted_run_goes_on_with_its_dtype_whatever_memory_is_free(toy, interrupt, before, after):
    whole = fit(name="whole", memory=before, **SHORT)
    assert whole.config[COMPUTED] != fit(name="other", memory=after, **SHORT).config[COMPUTED]
    interrupt(1, name="mine", memory=before)
    run = fit(name="mine", memory=after, resume=True, **SHORT)
    assert run.config[COMPUTED] == whole.config[COMPUTED]
    assert RESUMED not in run.config
    assert results_of(run) == results_of(whole)


def test_what_is_begun_and_what_is_new_share_no_features_where_dtypes_differ(toy, interrupt):
    interrupt(1, memory=LITTLE)
    runs = sweep(heads=["dense", "linear"], memory=PLENTY, resume=True, **SHORT)
    assert [run.config[COMPUTED]["working_copy"] for run in runs] == ["int8", "float32"]


def test_other_conditions_in_the_middle_of_a_run_are_told_and_recorded(toy, interrupt, caplog, monkeypatch):
    interrupt(1, name="mine")
    before = read_config(UnfinishedRun.folder_of(Workspace.at().runs("toy") / "mine"))
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "XYZ")
    run = fit(name="mine", resume=True, **SHORT)
    changed = f"CPU {before[ENVIRONMENT]['processor']} (now XYZ)"
    assert f"mine continues under other conditions than it began: {changed}" in caplog.text
    assert run.config[RESUMED] == [changed]
    assert run.config[ENVIRONMENT] == before[ENVIRONMENT]


def test_conditions_are_told_one_by_one_and_only_where_both_are_known():
    one = {COMPUTED: {"device": "cuda:0", "working_copy": "int8", "compute": "bfloat16", "room": 2.0**31}}
    two = {COMPUTED: {"device": "cpu", "working_copy": "float32", "compute": "float32"}, ENVIRONMENT: {"torch": "3"}}
    assert changes(one, two) == [
        "device cuda (now cpu)",
        "features in int8 (now float32)",
        "training in bfloat16 (now float32)",
        "features read in windows of 1.1 GB (now all at once)",
    ]
    other = {COMPUTED: {**one[COMPUTED], "device": "cuda:1"}}
    assert changes(one, other) == changes({}, two) == changes({COMPUTED: "?", ENVIRONMENT: []}, two) == []
    assert changes({ENVIRONMENT: {"torch": "2"}}, two) == ["torch 2 (now 3)"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("room", [None, 2.0**20])
def test_how_features_are_held_comes_back_from_a_configuration(dtype, room):
    copy = WorkingCopy(dtype=DTYPES[dtype], compute=torch.bfloat16, room=room)
    written = yaml.safe_load(yaml.safe_dump(conditions("cpu", copy, "dense")))
    assert recorded_copy(written) == copy
    assert recorded_copy({}) is None


@pytest.mark.parametrize(
    "recorded",
    ["?", [], {"working_copy": "int4", "compute": "float32"}, {"working_copy": "int8", "compute": []}]
    + [{"working_copy": "int8", "compute": "float32", "room": room} for room in (0, -1, "nan", "inf", "x", [])],
)
def test_a_configuration_that_says_what_cannot_be_is_told_in_one_line(recorded):
    with pytest.raises(
        StoreError, match="expected the dtypes of its features and of training; start again with"
    ) as told:
        recorded_copy({COMPUTED: recorded})
    assert "\n" not in str(told.value)


def test_runs_that_are_held_otherwise_share_no_pass(toy):
    planned = plan_runs(
        [FitSettings(seeds=(1,), head=head) for head in ("dense", "linear", "lstm")], cache=toy, name=None
    )
    setups = [one.setup for one in planned if one.setup.config["pooling"] is None]
    half = WorkingCopy(dtype=torch.float16, compute=torch.float32, room=None)
    assert len(group(setups, [1])) == len(group(setups, [1], [half, half])) == 1
    assert len(group(setups, [1], [half, None])) == 2


def test_damaged_records_are_told_and_trained_again(toy, interrupt, caplog):
    options = {**SHORT, "seeds": (1, 2, 3)}
    whole = results_of(fit(name="whole", **options))
    interrupt(2, name="mine", seeds=(1, 2, 3))
    hidden = Workspace.at().runs("toy") / ".mine.unfinished"
    first, second = sorted((hidden / "finished").glob("*.json"))
    first.write_bytes(first.read_bytes().replace(b"0.", b"1.", 1))
    head = hidden / "run" / "heads" / f"{second.stem}.safetensors"
    content = bytearray(head.read_bytes())
    content[-1] ^= 1
    head.write_bytes(content)
    assert results_of(fit(name="mine", resume=True, **options)) == whole
    assert f"mine: trainings '{first.stem}', '{second.stem}' are damaged and are repeated" in caplog.text


def test_numbers_of_threads_and_processes_are_no_part_of_it(toy, monkeypatch):
    first = fit(**SHORT)
    for cores, jobs in ((1, 1), (4, 2)):
        monkeypatch.setattr(job, "available_cores", lambda cores=cores: cores)
        [again] = fit_all(plan_runs([FitSettings(**SHORT)], cache=toy), cache=toy, jobs=jobs)
        assert again.path == first.path
        assert np.array_equal(again.metrics["uar"]["per_seed"], first.metrics["uar"]["per_seed"])
