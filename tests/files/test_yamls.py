"""YAML that is small on disk but large or deeply nested in memory is refused immediately, in one line."""

import pytest
import yaml

from featcache.corpora import read_corpus
from featcache.errors import ManifestError, PipelineError, StoreError
from featcache.files.yaml_file import MOST_BYTES
from featcache.files.yaml_text import MOST_NODES, YamlError, load
from featcache.pipeline.read import read_pipeline
from featcache.runs.parse import read_yaml

# Nine lines, each with ten aliases of the previous one: a thousand million texts.
BOMB = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 10))
MERGES = "a0: &a0 {k: v}\n" + "".join(
    f"a{i}: &a{i}\n  <<: [{', '.join([f'*a{i - 1}'] * 10)}]\n  k{i}: v\n" for i in range(1, 10)
)
CYCLE = "a: &a\n  b: *a\n"
DEEP = {"lists": "a: " + "[" * 50_000, "blocks": "- " * 20_000 + "x"}
HUGE = {"aliases": BOMB, "merges": MERGES, "cycle": CYCLE, **DEEP}


@pytest.mark.parametrize("text", HUGE.values(), ids=HUGE)
def test_they_are_refused(tmp_path, text):
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(PipelineError) as error:
        read_pipeline(tmp_path / "x.yaml")
    assert str(error.value).startswith(str(tmp_path / "x.yaml"))
    assert "\n" not in str(error.value)
    (tmp_path / "db.yaml").write_text(text)
    with pytest.raises(ManifestError, match=r"db\.yaml: not YAML as expected"):
        read_corpus(tmp_path)


def test_why_is_told():
    for text, reason in (
        (BOMB, f"more than {MOST_NODES} values, aliases counted each time"),
        (MERGES, f"more than {MOST_NODES} values"),
        (CYCLE, "an alias refers to a value that contains it"),
        (DEEP["blocks"], "too many levels of nesting"),
    ):
        with pytest.raises(YamlError, match=reason):
            load(text)


def test_a_pipeline_is_not_that_long(tmp_path):
    (tmp_path / "x.yaml").write_text("#" * (MOST_BYTES + 1))
    with pytest.raises(PipelineError, match=f"more than {MOST_BYTES} bytes"):
        read_pipeline(tmp_path / "x.yaml")


@pytest.mark.parametrize(
    "text", ["a: 1\nb: [x, {c: 2024-01-01}]\n", "a: &x [1, 2]\nb: *x\nc:\n  <<: {d: 1}\n", "", "~"]
)
def test_what_is_plain_is_as_yaml_has_it(text):
    assert load(text) == yaml.safe_load(text)


@pytest.mark.parametrize("text", ["a: [", "a: 2024-99-99", "a: !!python/object:os.system x", "\x00", "a: b: c"])
def test_what_is_no_yaml_is_told_in_one_line(text):
    with pytest.raises(YamlError) as error:
        load(text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["a: !!int ''", "a: !!int '-'", "a: !!float ''", "a: !!bool x", "a: !!timestamp x"])
def test_values_that_contradict_their_tag_are_told(tmp_path, text):
    with pytest.raises(YamlError, match=r"^not YAML: "):
        load(text)
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(StoreError, match=r"config.yaml is damaged \(not YAML: "):
        read_yaml(tmp_path / "config.yaml")


@pytest.mark.parametrize(
    ("text", "key", "line"), [("a: 1\nb: 2\na: 3\n", "a", 3), ("x:\n- {k: 1, k: 1}\n", "k", 2), ("1: a\n1: b", "1", 2)]
)
def test_a_key_that_is_given_twice_is_refused(text, key, line):
    """PyYAML keeps the last value silently."""
    with pytest.raises(YamlError, match=f"^'{key}' is given twice; keep one$") as error:
        load(text)
    assert error.value.line == line


def test_a_merged_key_may_be_overridden():
    text = "a: &a {k: 1, l: 2}\nb: {<<: *a, k: 3}\n"
    assert load(text) == yaml.safe_load(text)
