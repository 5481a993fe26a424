"""Pipeline files: their content, and one-line messages for all mistakes."""

import tomllib
from pathlib import Path

import pytest
import yaml

from featcache.errors import PipelineError
from featcache.pipeline import find_pipeline, read_pipeline, shipped_pipelines
from featcache.pipeline.schema import EnsembleSpec, FigureSpec, Pipeline, RunSpec, StoreSpec
from featcache.settings.fits import FitSettings
from featcache.settings.types import first_seeds

ROOT = Path(__file__).parents[2]


def test_what_the_defaults_say_counts_unless_a_run_says_otherwise(write_pipeline):
    pipeline = read_pipeline(
        write_pipeline(("title: Global", "title: Global\n    seeds: 3\n    select: {gender: [no]}"))
    )
    first, second = (pipeline.run(name).options for name in pipeline.runs)
    assert first == FitSettings(features=("egemaps",), protocol="pepino2021", max_epochs=2, seeds=first_seeds(2))
    # "no" stays a string, as labels are, and does not become false.
    assert (second.norm, dict(second.select)) == ("global", {"gender": ("no",)})
    assert second.seeds == first_seeds(3)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("learning_rate: 1e-2", {"learning_rate": 0.01}),
        ("label_range: 1,7", {"label_range": (1.0, 7.0)}),
        ("label_range: [1, 7]", {"label_range": (1.0, 7.0)}),
        ("seeds: [7, 8]", {"seeds": (7, 8)}),
        ("clip_value: 0.5", {"clip_value": 0.5}),
        ("set: {hidden_units: 256}", {"set": {"hidden_units": "256"}}),
        ("class_weights: {joy: 2, anger: 1.5}", {"class_weights": {"anger": 1.5, "joy": 2.0}}),
        ("loss: focal", {"loss": "focal:2"}),
    ],
)
def test_a_run_takes_the_options_of_fit_under_the_same_names(write_pipeline, line, expected):
    pipeline = read_pipeline(write_pipeline(("norm: global", line)))
    options = pipeline.run("global").options
    assert {name: getattr(options, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("norm: global", "nrom: global"), "line 16: no field 'nrom'; did you mean 'norm'\\?"),
        (("title: Global", "xyz: red"), "line 15: no field 'xyz'; available: accumulate, also, .*, corpus, .*, title"),
        (
            ("norm: global", "norm: globel"),
            "line 16: runs.global.norm takes speaker, global or none, got 'globel'; did you mean 'global'",
        ),
        (("norm: global", "head: dens"), "line 16: runs.global.head: no head 'dens'; did you mean 'dense'"),
        (
            ("norm: global", "pooling: means"),
            "line 16: runs.global.pooling takes mean, .*, got 'means'; did you mean 'mean'",
        ),
        (("norm: global", "seeds: 0"), "line 16: runs.global.seeds: expected the number of seeds, .* found '0'"),
        (
            ("norm: global", "scalar_norm: perhaps"),
            "line 16: runs.global.scalar_norm takes true or false, got 'perhaps'",
        ),
        (("    title: Global\n", ""), "line 14: runs.global.title is missing"),
        (
            ("protocol: pepino2021", "protocol: pepino"),
            "line 9: defaults.protocol: no protocol 'pepino'; did you mean '",
        ),
        (
            ("corpus: ravdess\npub", "corpus: ravdes\npub"),
            "line 3: corpus.0: no corpus 'ravdes'; did you mean 'ravdess'",
        ),
        (("{model: egemaps}", "{model: egemap}"), "line 6: stores.egemaps.model: no model 'egemap'; did you mean '"),
        (
            ("{model: egemaps}", "{model: egemaps, chanel: first}"),
            "line 6: no field 'chanel'; did you mean 'channel'",
        ),
        (
            ("{model: egemaps}", "{model: egemaps, channel: last}"),
            "line 6: stores.egemaps.channel takes mean or first, got 'last'",
        ),
        (("{model: egemaps}", "{pool: true}"), "line 6: stores.egemaps: expected either 'model', 'text' or 'run'"),
        (
            ("{model: egemaps}", "{text: tinybird}"),
            "line 6: stores.egemaps.text: no text model 'tinybird'",
        ),
        (
            ("{model: egemaps}", "{model: egemaps, text: tinybert}"),
            "line 6: stores.egemaps: expected either 'model', 'text' or 'run'",
        ),
        (
            ("{model: egemaps}", "{model: egemaps, transcripts: asr}"),
            "line 6: stores.egemaps: 'transcripts' applies to 'text' only; a 'model' reads audio",
        ),
        (
            ("{model: egemaps}", "{text: tinybert, channel: first, max_seconds: 3}"),
            "line 6: stores.egemaps: channel, max_seconds does not apply to 'text'",
        ),
        (("{model: egemaps}", "{model: egemaps, num_blocks: 3}"), "--num-blocks does not apply to 'egemaps'"),
        (
            ("{model: egemaps}", "{model: logmel, set: {n_mel: 3}}"),
            "line 6: .*no option 'n_mel'; did you mean 'n_mels'",
        ),
        (("{model: egemaps}", "{text: tinybert, set: {origin: a}}"), "line 6: .*origin does not apply to 'text'"),
        (("{model: egemaps}", "{text: './x.py:C'}"), "line 6: stores.egemaps: ./x.py:C reads audio"),
        (("norm: global", "set: {hiden_units: 3}"), "line 16: head 'dense': no option 'hiden_units'; did you mean '"),
        (
            ("norm: global", "set: {dropout: 2}"),
            "line 16: head 'dense': dropout takes a number of at most 0.99, got '2'",
        ),
        (("max_epochs: 2", "training: {max_epochs: 2}"), "line 11: unknown field 'training'; write its fields next to"),
        (("norm: global", "limit: 3"), "line 16: unknown field 'limit'; it is an option .*: featcache run --limit"),
        (("{model: egemaps}", "{model: egemaps, dry_run: true}"), "line 6: .*command line: featcache run --dry-run"),
        (("max_epochs: 2", "max_epoch: 2"), "line 11: no field 'max_epoch'; did you mean 'max_epochs'"),
        (("norm: global", "features: egemap"), "line 16: no store 'egemap'; did you mean 'egemaps'"),
        (("  features: egemaps\n", ""), "line 12: features are missing.*; line 13: features are missing"),
        (
            ("norm: global", "corpus: iemocap"),
            "line 16: 'iemocap' is not a corpus of this pipeline; add it to 'corpus'",
        ),
        (("published: {features", "published: {head"), "line 13: no published result has head 'egemaps' and the"),
        (
            ("published: {features", "published: {feature"),
            "line 13: no column of published results 'feature'; did you",
        ),
        (("published: {features: egemaps}", "published: {}"), r"line 13: 1\d published results match .*; also give"),
        (
            ("corpus: ravdess\npub", "corpus: ravdess\nmetric: wa\npub"),
            "line 14: no published result has metric 'wa' and the values",
        ),
        (("    norm: global\n", "    norm: global\n  global: {title: again}\n"), "line 17: 'global' is given twice"),
        (("    norm: global\n", "   norm: global\n"), "line 16: not YAML: "),
        (("  egemaps: {model", "  a/b: {model"), "line 6: stores.a/b.*: store name 'a/b': it contains"),
    ],
)
def test_mistakes_are_told_in_one_line_with_file_and_line(write_pipeline, change, told):
    path = write_pipeline(change)
    with pytest.raises(PipelineError, match=told) as error:
        read_pipeline(path)
    assert str(error.value).startswith(f"{path}, line ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ("figures: {weights: {runs: [speakr]}}", "no run 'speakr'; did you mean 'speaker'"),
        (
            "  two: {title: Two, features: [egemaps, egemaps]}\nfigures: {weights: {runs: [two], probes: true}}",
            "run 'two' reads several stores, but a probe needs a single store; remove it from the figure",
        ),
        ("comparisons: {both: {runs: [speaker]}}", "one run cannot be compared; list two or more"),
        ("ensembles: {all: {title: A, runs: [speaker, global], size: 3}}", "3 runs cannot vote: only 2 are listed"),
        ("ensembles: {global: {title: A, runs: [speaker, global], size: 2}}", "a run also has the name 'global'"),
        ("ensembles: {all: {title: A, runs: [speaker, global], size: 2, votes: har}}", "no vote 'har'; did you mean '"),
    ],
)
def test_sections_may_only_name_runs_that_are_there(write_pipeline, section, told):
    path = write_pipeline(("    norm: global\n", f"    norm: global\n{section}\n"))
    with pytest.raises(PipelineError, match=f"line 1[78]: .*{told}"):
        read_pipeline(path)


def test_many_faults_are_counted(write_pipeline):
    path = write_pipeline(("norm: global", "head: a\n    norm: b\n    pooling: c\n    protocol: d"))
    with pytest.raises(PipelineError, match=r"line 16: .*; line 17: .*; line 18: .*; and 1 more fault$"):
        read_pipeline(path)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is empty; expected a pipeline"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b"just text", "line 1: "),
        (b"[a]: b", "line 1: expected a name before the colon"),
        (b"title: &a [*a]", "an alias refers to a value that contains it"),
    ],
)
def test_what_is_no_pipeline_at_all(tmp_path, content, told):
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    with pytest.raises(PipelineError, match=told) as error:
        read_pipeline(path)
    assert "\n" not in str(error.value)


def test_a_pipeline_is_found_by_its_path_or_its_name(write_pipeline):
    mine = write_pipeline()
    assert find_pipeline(mine) == mine
    assert find_pipeline("superb-er") == shipped_pipelines()["superb-er"] == ROOT / "pipelines" / "superb-er.yaml"
    assert find_pipeline("pipelines/superb-er.yaml").read_bytes() == shipped_pipelines()["superb-er"].read_bytes()
    with pytest.raises(
        PipelineError, match=r"no pipeline 'superb'; did you mean 'superb-er'\? \(the path of a file works too\)"
    ):
        find_pipeline("superb")
    with pytest.raises(PipelineError, match=r"no pipeline here/mine.yaml; give a file, or one of attentive-balanced, "):
        find_pipeline("here/mine.yaml")


@pytest.mark.parametrize("part", [Pipeline, StoreSpec, RunSpec, EnsembleSpec, FigureSpec])
def test_every_field_is_explained(part):
    assert all(field.description for field in part.model_fields.values())


def test_a_wheel_holds_every_package_and_the_pipelines():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {path.parent.relative_to(ROOT) for path in (ROOT / "featcache").rglob("__init__.py")}
    assert set(settings["packages"]) == {".".join(folder.parts) for folder in folders} | {"featcache.pipelines"}
    assert (ROOT / settings["package-dir"]["featcache.pipelines"]).samefile(find_pipeline("superb-er").parent)


@pytest.mark.parametrize("path", shipped_pipelines().values(), ids=shipped_pipelines())
def test_our_pipelines_are_plain_yaml_with_an_explanation(path):
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# ")
    assert max(map(len, text.splitlines())) <= 120
    assert yaml.safe_load(text)["title"] == read_pipeline(path).title
