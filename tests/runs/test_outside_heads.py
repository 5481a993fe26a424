"""Run folders that name heads from outside of featcache do not cause an import of that code."""

import logging
import sys
from pathlib import Path

import pytest
import yaml

import featcache
from featcache import registry
from featcache.errors import StoreError
from featcache.files.checksums import CHECKSUMS
from featcache.fitting.fit import fit_all
from featcache.fitting.plan import plan_runs
from featcache.runs.reader import RunFolder
from featcache.settings.fits import FitSettings
from tests.outside_heads import ATTENTIVE, named  # noqa: F401

pytestmark = pytest.mark.usefixtures("quick_reports")


def edit_config(run, **changes):
    """Change the settings of a run and remove its checksums, as an attacker would."""
    config = {**yaml.safe_load((run.path / "config.yaml").read_text()), **changes}
    (run.path / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    (run.path / CHECKSUMS).unlink(missing_ok=True)
    return RunFolder(run.path)


@pytest.fixture
def planted(tmp_path, monkeypatch):
    """Make an importable file in the current folder that creates a file ``sprung`` if it is imported."""
    code = f"open({str(tmp_path / 'sprung')!r}, 'w')\n{ATTENTIVE}"
    for name in ("head.py", "planted_module.py"):
        (tmp_path / name).write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "_named", {})
    return tmp_path


@pytest.mark.parametrize(
    "head",
    [
        "os:system",
        "antigravity:fly",
        "planted_module:Attentive",
        "./head.py:Attentive",
        "head.py:Attentive",
        "heads/../head.py:Attentive",
    ],
)
@pytest.mark.parametrize("with_record", [True, False])
def test_a_hostile_run_folder_imports_nothing(run, planted, head, with_record):
    before = set(sys.modules)
    (run.path / "head.py").write_text((planted / "head.py").read_text())
    recorded = {"reference": head, "distribution": "featcache", "version": "1"}
    parts = {"parts": {"head": recorded}} if with_record else {}
    with pytest.raises(StoreError, match=r"is code from outside of featcache, .*: --plugin ") as told:
        edit_config(run, head=head, **parts).head(seed=1, fold=1)
    assert "\n" not in str(told.value)
    assert "name_plugins" in str(told.value)
    assert not (planted / "sprung").exists()
    assert not {
        name for name in set(sys.modules) - before if "planted" in name or "plugin" in name or name == "antigravity"
    }


def test_a_reference_that_the_user_allowed_may_still_be_no_head(run, planted):
    featcache.name_plugins(["os:system", "os:getcwd"])
    for head in ("os:system", "os:getcwd"):
        with pytest.raises(StoreError, match=rf"head '{head}' is <built-in .*, expected a subclass of featcache.heads"):
            edit_config(run, head=head).head(seed=1, fold=1)


@pytest.fixture
def outside_run(cache, named):  # noqa: F811
    """Make a run of an external head with a changed option; afterwards, no plugin is named."""
    path = named()
    request = FitSettings(
        head=f"{path}:Attentive",
        features=("ssl",),
        norm="none",
        target="emotion",
        protocol="loso",
        seeds=(1,),
        max_epochs=1,
        set={"width": 3},
    )
    [run] = fit_all(plan_runs([request], cache=cache.path, name="outside"), cache=cache.path)
    registry._named.clear()
    return run, path


def test_a_run_of_an_external_head_opens_and_its_head_loads_once_the_user_names_it(outside_run, caplog):
    run, path = outside_run
    opened = featcache.load_run(run.path)
    assert len(opened.predictions)
    with pytest.raises(StoreError, match="is code from outside of featcache"):
        opened.head(seed=1, fold=1)
    featcache.name_plugins(str(path))
    assert opened.head(seed=1, fold=1).head.options.width == 3
    assert not caplog.records


def test_another_file_than_the_run_was_trained_with_is_told(outside_run, caplog, tmp_path):
    run, path = outside_run
    other = tmp_path / "elsewhere" / path.name
    other.parent.mkdir()
    other.write_text(ATTENTIVE + "\n# changed\n")
    path.unlink()
    featcache.name_plugins([str(other)])
    assert run.head(seed=1, fold=1).head.options.width == 3
    [record] = [one for one in caplog.records if one.levelno == logging.WARNING]
    assert "Attentive' was trained as " in record.getMessage()
    assert "outputs may differ" in record.getMessage()
    assert "\n" not in record.getMessage()


HUGE = 10**9


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"set": []}, "set: expected an object, found a list"),
        ({"set": {1: 2}}, "names of set"),
        ({"set": {"num_hidden": HUGE}}, "num_hidden takes a number of at most 16, got 1000000000"),
        ({"set": {"num_hidden": 16}}, r"further.0.linear.bias of a head: expected shape \(128,\), found none"),
        ({"set": {"hidden_units": 2**14}}, r"branches.0.linear.bias of a head: expected shape \(16384,\), found"),
        ({"set": {"num_hidden": [[[[1]]]]}}, "num_hidden takes one integer, got a list"),
        ({"set": {"widht": 1}}, "no option 'widht'"),
        ({"set": {"dropout": float("nan")}}, "dropout takes a finite number, got nan"),
        ({"set": {"dropout": {"a": "b" * 10_000}}}, "dropout takes one number, got an object"),
        ({"head": "svm", "set": {"x": 1}}, "its weights have another dtype"),
        ({"head": "lstm", "set": {"cell": "os:system"}}, "cell takes lstm or gru, got 'os:system'"),
    ],
)
def test_options_of_a_hostile_configuration_are_told_in_one_line(run, changes, message):
    with pytest.raises(StoreError, match=message) as told:
        edit_config(run, **changes).head(seed=1, fold=1)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("parts", [[], {"head": []}, {"head": 3}])
def test_a_damaged_record_of_parts_is_told(outside_run, parts):
    run, path = outside_run
    featcache.name_plugins([str(path)])
    with pytest.raises(StoreError, match=r"parts.* expected an object") as told:
        edit_config(run, parts=parts).head(seed=1, fold=1)
    assert "\n" not in str(told.value)


def test_sizes_of_a_hostile_configuration_take_no_memory(outside_run):
    run, path = outside_run
    featcache.name_plugins([str(path)])
    inputs = yaml.safe_load(Path(run.path / "config.yaml").read_text())["head_inputs"]
    for hidden_size in (10**12, 10**18, 10**40):
        inputs["ssl"]["hidden_size"] = hidden_size
        with pytest.raises(StoreError, match=r"projections.0.weight of a head|fails with|too large") as told:
            edit_config(run, head_inputs=inputs).head(seed=1, fold=1)
        assert "\n" not in str(told.value)
