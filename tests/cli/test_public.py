"""``import featcache`` provides all public names with types, and imports no large library before its use."""

import ast
import inspect
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import featcache

HEAVY = ("torch", "transformers", "opensmile", "matplotlib", "pandas", "numpy", "h5py", "typer", "rich")


PROMISED = {"extract", "fit", "open", "run_pipeline", "sweep", "transcribe"}
PROMISED |= {"FeatcacheError", "FeatureCache", "FeatureStore", "Manifest", "RunFolder", "Utterance", "__version__"}


def test_every_public_name_is_there():
    assert set(featcache.__all__) >= PROMISED
    assert featcache.__all__ == sorted(featcache.__all__) == dir(featcache)


def test_type_checkers_see_what_python_gives():
    stub = Path(featcache.__file__).with_suffix(".pyi")
    statements = ast.parse(stub.read_text(encoding="utf-8")).body[1:]
    assert all(isinstance(statement, ast.ImportFrom) and statement.level == 1 for statement in statements)
    seen = [(statement.module, alias) for statement in statements for alias in statement.names]
    for module, alias in seen:
        assert alias.asname == alias.name  # without it, the name would be private to the stub
        assert getattr(featcache, alias.name) is getattr(import_module(f"featcache.{module}"), alias.name)
    assert sorted(alias.name for _, alias in seen) == featcache.__all__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="No featcache attribute fti"):
        featcache.fti  # noqa: B018
    assert not hasattr(featcache, "torch")


def test_importing_loads_nothing_heavy_until_a_name_is_used():
    code = f"""
import sys, featcache
heavy = set({HEAVY!r})
assert not heavy & set(sys.modules), heavy & set(sys.modules)
featcache.Utterance, featcache.FeatcacheError
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
    names = {}
    exec("from featcache import *", names)
    assert names["open"] is featcache.open
    assert names["fit"] is featcache.fit


@pytest.mark.parametrize(
    "function",
    [
        *(featcache.extract, featcache.import_features, featcache.fit, featcache.sweep),
        *(featcache.finetune, featcache.run_pipeline, featcache.transcribe),
    ],
)
def test_functions_take_keywords_only_with_types_and_a_docstring_for_each(function):
    signature = inspect.signature(function)
    assert signature.return_annotation is not inspect.Signature.empty
    for name, parameter in signature.parameters.items():
        assert parameter.kind in (parameter.KEYWORD_ONLY, parameter.VAR_KEYWORD)
        assert parameter.annotation is not parameter.empty
        assert f"\n        {name}: " in function.__doc__


def test_the_example_of_the_documentation_works(make_cache, quick_reports):
    cache = featcache.open(make_cache())
    assert list(cache) == ["ssl"]
    assert "ssl" in cache
    assert len(cache) == 1
    store = cache["ssl"]
    first = cache.manifest[0].utterance_id
    assert store[first].shape == (len(store.layer_names), store.num_frames([first])[0], store.hidden_size)
    assert store.pooled("mean").shape == (len(cache.manifest), 3, store.hidden_size)
    run = featcache.fit(head="dense", norm="speaker", seeds=(1,), max_epochs=1)
    assert 0 <= run.metrics["uar"]["mean"] <= 100
