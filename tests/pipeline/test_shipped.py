"""The pipelines that come with featcache, from audio to table, on miniature corpora with tiny models."""

import csv
import re
from pathlib import Path

import pytest
import yaml

from featcache import published
from featcache.cache.reader import FeatureCache
from featcache.cli.pipelines import run_and_print
from featcache.pipeline import shipped_pipelines
from featcache.protocols import PROTOCOLS
from featcache.runs.reader import RunFolder

PUBLISHED = Path(published.__file__).parent / "results.csv"
QUICK = {"seeds": 1, "max_epochs": 1}
# Tested in test_words.py.
OF_WORDS = "oliveira2023-msp-podcast"
# Left out here, because they differ from the first ones only in their models, which are all the same here, or in the
# number of blocks.
ALIKE = re.compile("(xls-r|hubert|unispeech).*-ft-apart|two|all")
# Corpora of each pipeline; pipelines for any corpus are tested on one.
CORPORA = {
    "attentive-balanced": ["ravdess"],
    "autrainer-emodb": ["emodb"],
    "egemaps-baselines": ["ravdess"],
    "gavali-ensemble-ravdess": ["ravdess"],
    "gavali2023-ravdess": ["ravdess"],
    "layerwise": ["iemocap"],
    "pepino2021-iemocap": ["iemocap"],
    "pepino2021-issa": ["ravdess", "iemocap"],
    "pepino2021-ravdess": ["ravdess"],
    "superb-er": ["iemocap"],
    "trained-or-not": ["ravdess"],
    "training-options": ["ravdess"],
    "upper-blocks": ["ravdess"],
}


@pytest.fixture(scope="module")
def shared_home(tmp_path_factory, corpora):
    """Return a workspace for all tests of this file, so that stores of several pipelines are extracted once."""
    folder = tmp_path_factory.mktemp("shared")
    (folder / "corpora").symlink_to(corpora)
    return folder


def rows_in(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def published_in(content, row):
    """Return the published results of a row, read without featcache."""
    wanted = {**content.get("published", {}), **row["published"]}
    return [known for known in rows_in(PUBLISHED) if all(known[name] == str(value) for name, value in wanted.items())]


def expected_rows(content, cache):
    """Return name → fields of each row; ``layers: each`` gives one row per layer of the store in the cache."""
    rows = {}
    for name, spec in content["runs"].items():
        if ALIKE.fullmatch(name):
            continue
        if spec.get("layers") != "each":
            rows[name] = spec
            continue
        for layer in FeatureCache(cache)[spec["features"]].layer_names:
            rows[f"{name}-{layer}"] = {**spec, "title": f"{spec['title']}, layer {layer}"}
    votes = content.get("ensembles", {}).items()
    return {
        **rows,
        **content.get("cited", {}),
        **{name: vote for name, vote in votes if rows.keys() >= {*vote["runs"]}},
    }


def test_all_of_them_are_tried():
    assert sorted([*CORPORA, OF_WORDS]) == list(shipped_pipelines())


@pytest.mark.parametrize("name", CORPORA)
def test_every_row_is_made_and_stands_beside_the_papers_number(shared_home, name, tiny_models):
    content = yaml.safe_load(shipped_pipelines()[name].read_text(encoding="utf-8"))
    corpus = None if "corpus" in content else CORPORA[name][0]
    fewer = [run for run in content["runs"] if not ALIKE.fullmatch(run)]
    only = fewer if len(fewer) < len(content["runs"]) else None
    folders = run_and_print(pipeline=name, corpus=corpus, only=only, **QUICK, home=shared_home).folders
    assert [folder.relative_to(shared_home / "runs").as_posix() for folder in folders] == [
        f"{corpus}/{name}" for corpus in CORPORA[name]
    ]
    metric = content.get("metric", "uar")
    first = metric if isinstance(metric, str) else metric[0]  # with several, each has a row
    rows = [(row, folder) for folder in folders for row in rows_in(folder / "results.csv")]
    found = {row["name"]: (row, folder) for row, folder in rows if row["metric"] == first}
    expected = expected_rows(content, shared_home / "cache" / CORPORA[name][0])
    assert set(found) == set(expected)
    for key, spec in expected.items():
        row, folder = found[key]
        if key in content.get("cited", {}):
            assert (row["mean"], row["run"], row["title"]) == ("", "", spec["title"])
            [known] = published_in(content, spec)
            assert float(row["published_mean"]) == float(known["mean"])
            continue
        metrics = RunFolder(folder.parent / row["run"]).metrics
        assert float(row["mean"]) == metrics[first]["mean"]
        assert row["title"] == spec["title"]
        leaks = not PROTOCOLS[row["protocol"]].speaker_independent
        assert ("test speakers are also in the training part" in row["notes"]) == leaks
        assert "utterances" in row["notes"]  # the corpus is not complete
        assert "1 seed, not 5" in row["notes"] or spec.get("head") == "svm"
        if "published" not in spec:
            assert row["published_mean"] == ""
            continue
        [known] = published_in(content, spec)
        assert float(row["published_mean"]) == float(known["mean"])
        assert row["published_std"] == known["std"]
        assert known["corpus"] == folder.parent.name
        tuned = "from_layer" in spec or any("from_layer" in content["runs"][one] for one in spec.get("runs", ()))
        assert ("frozen" in row["notes"]) == (name.startswith("gavali") and not tuned)
        assert ("selected on validation data" in row["notes"]) == ("from_layer" in spec)
    for folder in folders:
        assert {"results.csv", "results.md", "results.tex", "report.html"} <= {path.name for path in folder.iterdir()}
        for contrast in content.get("contrasts", {}):
            assert (folder / f"{contrast}.png").exists()
        for figure, spec in content.get("figures", {}).items():
            assert (folder / f"{figure}.png").exists()
            assert (folder / f"{figure}.csv").exists() == ("probes" in spec)


@pytest.mark.parametrize("weights", [None, "random"])
@pytest.mark.parametrize("name", CORPORA)
def test_every_plan_is_printed_without_any_model(home, name, weights, capsys):
    corpus = CORPORA[name][0]
    outcome = run_and_print(pipeline=name, corpus=corpus, weights=weights, dry_run=True, home=home)
    assert outcome.folders == ()
    content = yaml.safe_load(shipped_pipelines()[name].read_text(encoding="utf-8"))
    printed = capsys.readouterr().out
    assert "in total " in printed
    assert ("published results without a run: " in printed) == ("cited" in content)
    assert not (home / "cache").exists()


def test_nothing_is_left_to_do(shared_home, tiny_models, counted):
    run_and_print(pipeline="pepino2021-issa", home=shared_home, **QUICK)
    for done in (tiny_models, *counted.values()):
        done.clear()
    run_and_print(pipeline="pepino2021-issa", home=shared_home, **QUICK)
    assert counted == {"extractions": [], "runs": []}
    assert tiny_models == []


@pytest.mark.parametrize("source", ["pepino2021", "gavali2023", "gavali-ensemble", "superb", "oliveira2023"])
def test_every_published_row_of_a_paper_has_its_run(source):
    stands_beside = set()
    for path in shipped_pipelines().values():
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        sections = (content.get(section, {}) for section in ("runs", "cited", "ensembles"))
        for row in (row for section in sections for row in section.values()):
            if "published" in row:
                stands_beside |= {tuple(known.values()) for known in published_in(content, row)}
    assert {tuple(row.values()) for row in rows_in(PUBLISHED) if row["source"] == source} <= stands_beside
