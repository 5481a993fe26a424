"""Heads from outside of featcache in whole fits: alone, in other processes, and the identity of runs."""

import logging
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import featcache
from featcache import registry
from featcache.errors import ClusterError, ModelError
from featcache.fitting import job as jobs
from featcache.fitting.existing import folder_of
from featcache.fitting.fit import fit_all
from featcache.fitting.plan import plan_runs
from featcache.fitting.relevance import layer_relevance
from featcache.heads import HEADS, head_names
from featcache.registry import name_plugins
from featcache.runs.file_names import head_name
from featcache.runs.identity import differences
from featcache.runs.writer import UnfinishedRun
from featcache.settings.fits import FitSettings
from featcache.training.memory import Memory
from tests.outside_heads import ATTENTIVE

QUICK = {"seeds": (1, 2), "protocol": "loso", "norm": "none", "max_epochs": 2, "learning_rate": 0.01}

pytestmark = pytest.mark.usefixtures("quick_reports")


@pytest.fixture
def toy(make_cache):
    return make_cache(stores={"ssl": {}, "egemaps": {"kind": "egemaps"}})


def train(cache, *, name=None, held=None, workers=1, scheduler=None, **changes):
    """Train the run of a request."""
    planned = plan_runs([FitSettings(**{"features": ("ssl",), **QUICK, **changes})], cache=cache, name=name)
    [run] = fit_all(planned, cache=cache, jobs=workers, memory=held, scheduler=scheduler)
    return run


def check_predictions(run, cache, tolerance=1e-5):
    """Compare predictions.csv with the outputs of loaded heads for the stored features."""
    store = featcache.open(cache)["ssl"]
    for (seed, fold), rows in run.predictions.groupby(["seed", "fold"]):
        head = run.head(seed=seed, fold=fold)
        with torch.inference_mode():
            found = head([[store[i] for i in rows["utterance_id"]]]).softmax(dim=1)
        columns = [f"p_{name}" for name in head.outputs]
        np.testing.assert_allclose(found, rows[columns].to_numpy("f8"), rtol=0, atol=tolerance)


def test_a_head_of_a_file_is_fitted_saved_and_loaded_with_its_option(toy, named):
    reference = f"{named()}:Attentive"
    run = train(toy, head=reference, set={"width": "16"})
    assert run.config["head"] == reference
    assert run.config["set"] == {"width": 16}
    assert run.config["parts"]["head"] == HEADS.origin(reference).settings()
    assert len(run.config["parts"]["head"]["sha256"]) == 64
    assert run.head(seed=1, fold=1).head.projections[0].weight.shape == (16, 4)
    assert not run.layer_weights.empty
    check_predictions(run, toy)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float16", 1e-3), ("int8", 0.05)])
def test_a_head_that_learns_no_layer_weights_takes_all_layers(toy, named, caplog, dtype, tolerance):
    caplog.set_level(logging.INFO, "featcache")
    run = train(toy, head=f"{named()}:Stacked", held=Memory(dtype=dtype), memory=dtype)
    assert "learns no layer weights: it uses all layers unweighted" in caplog.text
    assert run.layer_weights.empty
    assert list(run.layer_weights.columns) == ["seed", "fold", "layer", "weight", "features"]
    assert run.head(seed=1, fold=1).head.output.weight.shape == (2, 12)
    check_predictions(run, toy, tolerance)
    with pytest.raises(ModelError, match="Stacked' learns no layer weights; use another one, such as --head dense"):
        layer_relevance(["ssl"], head=f"{named()}:Stacked", protocol="loso")


def test_two_processes_give_what_one_gives_bit_for_bit(toy, named, tmp_path):
    reference = f"{named()}:Attentive"
    one, two = (
        train(toy, head=reference, set={"dropout": 0.5}, features=("ssl", "egemaps"), name=f"jobs-{n}", workers=n)
        for n in (1, 2)
    )
    assert differences(one.config, two.config) == []
    assert (one.path / "predictions.csv").read_bytes() == (two.path / "predictions.csv").read_bytes()
    for fold in (1, 2, 3, 4):
        first, second = (load_file(run.path / head_name(2, fold)) for run in (one, two))
        assert all(torch.equal(values, second[name]) for name, values in first.items())


def test_workers_of_a_cluster_give_what_one_process_gives_bit_for_bit(toy, named):
    from tests.extraction.workers import cluster  # skips this test without Dask

    reference = f"{named()}:Attentive"
    with cluster() as address:
        shared = train(toy, head=reference, name="shared", scheduler=address)
    alone = train(toy, head=reference, name="alone")
    assert (alone.path / "predictions.csv").read_bytes() == (shared.path / "predictions.csv").read_bytes()


def test_options_make_another_run_and_their_defaults_the_same(toy, named):
    reference = f"{named()}:Attentive"
    plain = train(toy, head=reference)
    assert "set" not in plain.config
    for head, given, same in [
        (reference, {"width": 8, "dropout": "0.1"}, True),
        (reference, {"width": 9}, False),
        ("dense", {"hidden_units": "128"}, True),
        ("dense", {"hidden_units": 64}, False),
    ]:
        default, [planned] = (
            plan_runs([FitSettings(features=("ssl",), **QUICK, head=head, set=options)], cache=toy)
            for options in ({}, given)
        )
        assert (planned.path == default[0].path) == same
        assert (planned.setup.config == default[0].setup.config) == same
        assert ("set" in planned.setup.config) != same
        assert ("parts" in planned.setup.config) == (head == reference)


def test_another_content_of_the_file_makes_another_run(toy, named):
    path = named()
    paths = []
    for text in (ATTENTIVE, ATTENTIVE + "\n# changed\n"):
        path.write_text(text)
        [planned] = plan_runs([FitSettings(features=("ssl",), **QUICK, head=f"{path}:Attentive")], cache=toy)
        paths.append(planned.path)
    assert paths[0] != paths[1]


@pytest.mark.parametrize(
    ("head", "told"),
    [
        ("mylab.heads:Attentive", "ssl_mylab.heads-Attentive_none_loso_"),
        ("./head.py:Attentive", "ssl_head.py-Attentive_none_loso_"),
        ("../a b/../my head.py:X", "ssl_my-head.py-X_none_loso_"),
        ("an entry/point", "ssl_point_none_loso_"),
        ("dense", "ssl_dense_none_loso_"),
    ],
)
def test_folders_of_runs_are_named_after_any_head(tmp_path, head, told):
    config = {"layers": "all", "head": head, "norm": "none", "protocol": "loso", "features": {"ssl": "1"}}
    one, two = (folder_of(tmp_path, {**config, **more}) for more in ({}, {"set": {"width": 3}}))
    assert one.parent == two.parent == tmp_path
    assert one.name[:-6] == two.name[:-6] == told
    assert one != two


def test_another_process_with_another_file_is_refused(toy, named, monkeypatch):
    path = named()
    [planned] = plan_runs([FitSettings(features=("ssl",), **QUICK, head=f"{path}:Attentive")], cache=toy)
    job = jobs.FitJob(
        cache=toy,
        requests=[planned.request],
        paths=[planned.path],
        device="cpu",
        plugins=registry.named_plugins(),
        parts=(planned.setup.config["parts"],),
    )
    assert len(job.resolved_elsewhere()) == 1
    path.write_text(ATTENTIVE + "\n# changed\n")
    with pytest.raises(ClusterError, match=r"has another version of .*head.py:Attentive than the process that") as told:
        job.resolved_elsewhere()
    assert "\n" not in str(told.value)
    path.unlink()
    with pytest.raises(
        ClusterError, match=r"differs from the process that started the fit: head .* no such file"
    ) as told:
        job.resolved_elsewhere()
    assert "\n" not in str(told.value)


def test_a_head_that_is_named_nowhere_is_not_fitted(toy, tmp_path, named):
    (tmp_path / "planted.py").write_text(f"open({str(tmp_path / 'sprung')!r}, 'w')")
    named()
    for reference in ("os:system", f"{tmp_path}/planted.py:Attentive", "nowhere.at_all:Head"):
        with pytest.raises(ModelError, match="is code from outside of featcache"):
            train(toy, head=reference)
    assert not (tmp_path / "sprung").exists()


def test_a_mistake_in_a_head_is_told_before_anything_is_trained(toy, named, monkeypatch):
    monkeypatch.setattr(jobs.FitJob, "train", None)  # training would fail
    reference = f"{named(ATTENTIVE.replace('Dropout(generator, rate=self.options.dropout)', 'nn.Dropout()'))}:Attentive"
    with pytest.raises(ModelError, match=r"draws from torch's global random generator .*featcache.heads.Dropout"):
        train(toy, head=reference)


def test_a_mistake_that_only_real_data_bring_out_is_one_line(toy, named):
    late = ATTENTIVE.replace(
        "[utterances] = features", "[utterances] = features; assert len(utterances) < 4, 'too many'"
    )
    with pytest.raises(ModelError, match="Stacked' fails with AssertionError: too many") as told:
        train(toy, head=f"{named(late)}:Stacked")
    assert "\n" not in str(told.value)
    assert isinstance(told.value.__cause__, AssertionError)


@pytest.mark.parametrize(
    ("head", "given"),
    [
        ("dense", {"num_hidden": 3, "hidden_units": 8, "dropout": 0}),
        ("lstm", {"cell": "gru", "bidirectional": True, "hidden_units": 8}),
        ("linear", {"projection": 5}),
        ("ffn", {"hidden_units": 6, "dropout": 0.4}),
    ],
)
def test_options_of_the_heads_of_featcache_come_back_from_the_run_folder(toy, head, given):
    run = train(toy, head=head, set=given, pooling="mean" if head == "linear" else None)
    assert run.config["set"] == given
    assert "parts" not in run.config
    if head != "linear":
        check_predictions(run, toy)
    assert run.head(seed=1, fold=1).head.options == type(run.head(seed=1, fold=1).head.options)(**given)


def test_a_head_of_an_installed_package_needs_no_naming_and_its_version_makes_the_run(toy, install, caplog):
    install("1.2")
    assert "attention" in head_names()
    assert "mylab" not in sys.modules
    run = train(toy, head="attention")
    assert run.config["parts"]["head"] == {"reference": "attention", "distribution": "mylab", "version": "1.2"}
    assert run.head(seed=1, fold=1).head.options.width == 8  # a file may name it, because it is installed
    assert not caplog.records
    install("1.3")
    [planned] = plan_runs([FitSettings(features=("ssl",), **QUICK, head="attention")], cache=toy)
    assert planned.finished is None
    run.head(seed=1, fold=1)
    [warning] = [record.getMessage() for record in caplog.records]
    assert "head 'attention' was trained as mylab 1.2 and is now mylab 1.3; its outputs may differ" in warning


def test_a_module_of_a_package_is_recorded_with_its_distribution(toy, install):
    install()
    with pytest.raises(ModelError, match="is code from outside of featcache"):
        train(toy, head="mylab.heads:Attentive")
    name_plugins(["mylab.heads"])
    [planned] = plan_runs([FitSettings(features=("ssl",), **QUICK, head="mylab.heads:Attentive")], cache=toy)
    assert planned.setup.config["parts"]["head"]["distribution"] == "mylab"
    assert planned.path.name.startswith("ssl_mylab.heads-Attentive_none_loso_")


def test_a_file_that_is_edited_while_a_fit_goes_on_changes_nothing(toy, named, monkeypatch):
    path = named()
    keep, kept = UnfinishedRun.keep, []

    def edited(run, *arguments):
        kept.append(path.write_text("raise SystemExit"))
        keep(run, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(UnfinishedRun, "keep", edited)
        run = train(toy, head=f"{path}:Attentive", name="edited", norm="global")
    assert len(kept) == 8
    path.write_text(ATTENTIVE)
    whole = train(toy, head=f"{path}:Attentive", name="whole", norm="global")
    assert (run.path / "predictions.csv").read_bytes() == (whole.path / "predictions.csv").read_bytes()
    assert whole.config["parts"] == run.config["parts"]
