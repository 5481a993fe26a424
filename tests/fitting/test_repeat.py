"""A run can be repeated from its ``config.yaml``, which does not cause an import of the code that it names."""

import sys

import pytest
import yaml
from typer.testing import CliRunner

import featcache
from featcache.cli.app import app
from featcache.errors import FeatcacheError
from featcache.fitting.common_options import options_for
from featcache.fitting.plan import plan_runs
from featcache.fitting.repeat import read_options
from featcache.registry import named_plugins
from featcache.settings.checked import configured
from featcache.settings.fits import FitSettings
from tests.data.test_stored import HOME

QUICK = {"seeds": "7,8", "max_epochs": 2, "learning_rate": 0.01}
OPTIONS = [
    {},
    {"head": "linear", "norm": "global", "layers": "0,2", "layer_weighting": "softmax", "clip_value": 0.5},
    {"head": "ffn", "layers": "last", "protocol": "group-kfold", "patience": 3, "batch_size": 4, "memory": "float16"},
    {"head": "svm", "layers": "last", "norm": "none", "pooling": "max"},
    {"head": "lstm", "select": {"emotion": ["anger", "joy"]}, "limit": 12, "protocol": "random-80-20", "max_frames": 5},
    {"norm_by": "speaker_id", "scalar_norm": True, "target": "emotion=joy", "epsilon": 1e-6},
]


@pytest.fixture
def cache(make_cache, quick_reports):
    return make_cache()


@pytest.mark.parametrize("options", OPTIONS)
def test_the_record_of_a_run_makes_the_same_run(cache, options, monkeypatch):
    run = featcache.fit(**{**options_for(options.get("head", "dense"), QUICK), **options})
    monkeypatch.setattr("featcache.fitting.job.FitJob.carry_out", lambda *_, **__: pytest.fail("it is trained again"))
    assert featcache.fit(config=run.path / "config.yaml").path == run.path
    assert featcache.fit(config=run.path).path == run.path


@pytest.mark.parametrize("options", OPTIONS[:2])
def test_options_override_the_record(cache, options):
    run = featcache.fit(**{**QUICK, **options})
    other = featcache.fit(config=run.path, norm="none", max_epochs=1)
    changed = {name for name in run.config if run.config[name] != other.config[name]}
    assert changed - {"norm", "norm_by", "training"} == set()
    assert other.config["norm"] == "none"
    assert other.config["training"] == {**run.config["training"], "max_epochs": 1}


def test_the_default_of_an_option_overrides_too(cache):
    run = featcache.fit(**QUICK, norm="none")
    assert featcache.fit(config=run.path, norm="speaker").config["norm"] == "speaker"


@pytest.mark.parametrize("path", sorted(HOME.glob("runs/*/*/config.yaml")), ids=lambda path: path.parent.name)
def test_runs_of_earlier_releases_are_repeated(path):
    if "members" in yaml.safe_load(path.read_text()):
        with pytest.raises(FeatcacheError, match="an ensemble has no options"):
            read_options(path)
        return
    request = configured(FitSettings, read_options(path))
    cache = HOME / "cache" / request.corpus
    [planned] = plan_runs([request], cache=cache, name=path.parent.name, home=HOME)  # refuses a run with other settings
    assert planned.finished is not None


@pytest.mark.parametrize(("recorded", "expected"), [("int8", "int8"), ("1GiB", None), ("int8,1GiB", None), ([1], None)])
def test_a_record_says_the_dtype_in_memory_and_not_how_much_is_taken(tmp_path, recorded, expected):
    content = {"corpus": "toy", "features": {}, "training": {}, "working_dtype": recorded}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
    assert read_options(tmp_path)["memory"] == expected


def test_code_that_a_record_names_is_not_imported(cache, tmp_path, monkeypatch):
    run = featcache.fit(**QUICK)
    (tmp_path / "planted.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    for name, reference in (("head", "planted:Head"), ("head", "./planted.py:Head"), ("protocol", "planted:FOLDS")):
        written = tmp_path / "config.yaml"
        written.write_text(yaml.safe_dump({**run.config, name: reference}))
        with pytest.raises(FeatcacheError, match=r"--plugin|unknown"):
            featcache.fit(config=written)
    assert "planted" not in sys.modules


@pytest.mark.parametrize("option", ["head", "protocol", "plugin", "config", "set", "select"])
@pytest.mark.parametrize("value", [5, 0.5, True, object(), [b"x"], {b"x": 1}])
def test_options_of_other_types_are_refused_in_one_line(cache, option, value, monkeypatch):
    monkeypatch.setattr("featcache.fitting.job.FitJob.carry_out", lambda *_, **__: pytest.fail("it is trained"))
    before = named_plugins()
    with pytest.raises(FeatcacheError) as caught:
        featcache.fit(**{**QUICK, option: value})
    assert "\n" not in str(caught.value)
    assert named_plugins() == before


def test_heads_of_a_list_may_have_spaces(cache, tmp_path):
    (tmp_path / "mine.py").write_text("x = 1")
    done = CliRunner().invoke(app, ["fit", "--head", f"linear, {tmp_path / 'mine.py'}:Mine", "--seeds", "1"])
    assert "has no 'Mine'" in str(done.exception)


@pytest.mark.parametrize(
    "content",
    ["", "[]", "head: dense", "{training: 1, features: {}, corpus: toy}", "{features: [1], training: {}, corpus: toy}"],
)
def test_what_is_no_record_is_refused_in_one_line(cache, tmp_path, content):
    (tmp_path / "mine.yaml").write_text(content)
    for path in (tmp_path / "mine.yaml", tmp_path / "missing.yaml"):
        with pytest.raises(FeatcacheError) as caught:
            featcache.fit(config=path)
        assert "\n" not in str(caught.value)
