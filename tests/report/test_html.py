"""The HTML report: complete, escaped, well formed, and without external resources."""

import base64
import html.parser
import json
import re

import numpy as np
import pandas as pd
import pytest

from featcache.evaluate.metrics import summarise
from featcache.evaluate.regression import summarise_regression
from featcache.report import figures
from featcache.report.html import write_report
from featcache.report.utterance_list import details_of
from tests.report.saved_runs import CLASSES, make_manifest, predictions_of

SCRIPT = "<script>alert('x')</script>"
VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(html.parser.HTMLParser):
    """Parser that collects tags, attributes and text, and fails if tags are not nested correctly."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.words = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.words))


@pytest.fixture
def metrics():
    rng = np.random.default_rng(0)
    target = rng.choice(["anger", SCRIPT], 40)
    common = {"fold": 0, "utterance_id": [f"u{i}" for i in range(40)], "speaker_id": [f"s{i % 4}" for i in range(40)]}
    tables = [
        pd.DataFrame(
            {"seed": s, "target": target, "prediction": np.where(rng.random(40) < 0.8, target, "anger")} | common
        )
        for s in range(2)
    ]
    return summarise(pd.concat(tables), ["anger", SCRIPT, "joy"])


def write(folder, metrics, **changes):
    given = {
        "title": "emodb · dense",
        "settings": {
            "head": {"name": "dense", "dropout": 0.2},
            "features": ["wav2vec2-base", "egemaps"],
            "weights": None,
        },
        "metrics": metrics,
        "notes": ["speaker normalisation is transductive: statistics of test speakers were used"],
        "warnings": [],
        "figures": [],
    }
    return write_report(folder, **given | changes)


def test_report_holds_what_it_was_given(tmp_path, metrics):
    path = write(tmp_path, metrics, warnings=["fold 3 reached the last epoch"])
    assert path == tmp_path / "report.html"
    text = Page(path.read_text(encoding="utf-8")).text
    uar = metrics["uar"]
    for expected in (
        "emodb · dense",
        f"{uar['mean']:.1f} ± {uar['std']:.1f}",
        f"{uar['ci95'][0]:.1f}–{uar['ci95'][1]:.1f}",
        "95 % CI: over 4 speakers and",
        "statistics of test speakers were used",
        "fold 3 reached the last epoch",
        "head.dropout",
        "wav2vec2-base, egemaps",
        "joy no utterances",
    ):
        assert expected in re.sub(r"\s+", " ", text)


def test_text_of_users_is_escaped_everywhere(tmp_path, metrics):
    figures.save(figures.confusion_matrix([[1]], ["a"]), tmp_path / "confusion")
    path = write(
        tmp_path,
        metrics,
        title=SCRIPT,
        settings={SCRIPT: {SCRIPT: SCRIPT}},
        notes=[SCRIPT],
        warnings=[SCRIPT],
        figures=[("confusion", f'" onload="x {SCRIPT}')],
    )
    page = Page(path.read_text(encoding="utf-8"))
    assert "script" not in {tag for tag, _ in page.tags}
    assert page.text.count("<script>") >= 6
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)


def test_figures_are_inside_and_nothing_is_loaded(tmp_path, metrics):
    figures.save(figures.confusion_matrix(metrics["confusion"]["counts"], ["a", "b", "c"]), tmp_path / "confusion")
    page = Page(write(tmp_path, metrics, figures=[("confusion", "Recall")]).read_text(encoding="utf-8"))
    [image] = [attributes for tag, attributes in page.tags if tag == "img"]
    head, _, data = image["src"].partition(",")
    assert head == "data:image/png;base64"
    assert base64.b64decode(data) == (tmp_path / "confusion.png").read_bytes()
    assert image["alt"] == "Recall"
    assert not [attributes for _, attributes in page.tags if "href" in attributes]
    assert not {"link", "script", "iframe"} & {tag for tag, _ in page.tags}


def test_one_seed_needs_no_spread(tmp_path, metrics):
    single = metrics | {"uar": metrics["uar"] | {"std": None}}
    assert f"{metrics['uar']['mean']:.1f} " in Page(write(tmp_path, single).read_text(encoding="utf-8")).text


def test_writing_again_gives_the_same_bytes(tmp_path, metrics):
    first = write(tmp_path, metrics).read_bytes()
    assert write(tmp_path, metrics).read_bytes() == first


def test_few_speakers_are_warned_of(tmp_path, metrics):
    assert (
        "Only 4 speakers: the intervals are rough." in Page(write(tmp_path, metrics).read_text(encoding="utf-8")).text
    )
    many = metrics | {"bootstrap": {"unit": "speakers", "count": 30}}
    assert "intervals are rough" not in write(tmp_path, many).read_text(encoding="utf-8")


def test_a_regression_has_its_own_scores_and_no_recall(tmp_path):
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"seed": 0, "fold": 0, "utterance_id": range(30), "speaker_id": np.arange(30) % 5})
    for name in (SCRIPT, "constant"):
        target = rng.normal(size=30) if name == SCRIPT else 1.0
        noise = rng.normal(size=30) if name == SCRIPT else 0.0
        table = table.assign(**{f"target_{name}": target, f"prediction_{name}": target + noise})
    metrics = summarise_regression(table, [SCRIPT, "constant"])
    page = Page(write(tmp_path, metrics).read_text(encoding="utf-8"))
    assert f"(CCC): {SCRIPT} {metrics[f'ccc_{SCRIPT}']['mean']:.3f} " in page.text
    assert "(CCC): constant - - - -" in page.text
    assert "Recall" not in page.text
    assert "Chance level" not in page.text
    assert "script" not in {tag for tag, _ in page.tags}


def test_control_characters_of_users_reach_no_page(tmp_path, metrics):
    hostile = "\x1b[31mred\u202e\nnext <b>"
    metrics["recall"] = {hostile: next(iter(metrics["recall"].values()))}
    page = write(tmp_path, metrics, title=hostile, notes=[hostile], warnings=[hostile]).read_text(encoding="utf-8")
    assert not set(page) & {"\x1b", "\u202e"}
    assert Page(page).text.count(r"\x1b[31mred\u202e\nnext <b>") >= 4


def test_a_report_has_speakers_utterances_and_folds_as_tables(tmp_path):
    manifest = make_manifest()
    table = predictions_of(manifest, right=0.6, seeds=2)
    config = {
        "head": "dense",
        "features": {"wav2vec2-base": "0" * 64},
        "norm": "none",
        "classes": CLASSES,
        "target": "emotion",
        "folds": [{"fold": 1, "name": SCRIPT, "train": 12, "validation": 6, "test": 24}],
    }
    details = details_of(table, config, manifest)
    path = write(tmp_path, summarise(table, CLASSES), title="run_0123ab", settings=config, details=details)
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert "dense · wav2vec2-base · no normalisation Run run_0123ab" in page.text
    assert f"Fold Name Training Validation Test 1 {SCRIPT} 12 6 24" in page.text
    assert "{'" not in text
    assert "folds" not in re.search(r"<h2>Settings</h2>.*?</table>", text, re.DOTALL)[0]
    assert "By speaker speaker Utterances UAR (%) 01 6" in page.text
    assert "By gender gender Utterances UAR (%) f 12" in page.text
    [data] = re.findall(r'id="utterance-data">(.*?)</script>', text)
    assert {row[0] for row in json.loads(data)["rows"]} == set(manifest.utterance_ids)
    assert "Audio" not in data
    assert details_of(table[:0], config) is None


def test_the_times_of_trainings_are_told_to_be_a_sum(tmp_path, metrics):
    text = Page(write(tmp_path, metrics | {"seconds": 90.0}).read_text(encoding="utf-8")).text
    assert "Time of all trainings, summed (several may run in parallel) 1 min 30 s" in text


def test_validation_stands_beside_test_and_alone_in_a_run_without_test_part(tmp_path, metrics):
    validation = {name: {"mean": 61.25, "std": 1.5, "per_seed": [60.0, 62.5]} for name in ("uar", "wa", "macro_f1")}
    both = Page(write(tmp_path, metrics | {"validation": validation}).read_text(encoding="utf-8")).text
    assert f"(UAR) 61.2 ± 1.5 {metrics['uar']['mean']:.1f}" in both
    alone = {"validation": validation, "num_seeds": 2, "num_folds": 1, "chance_uar": 33.3}
    text = Page(write(tmp_path, alone).read_text(encoding="utf-8")).text
    assert "No test part" in text
    assert "Weighted accuracy (WA) 61.2 ± 1.5 Macro-F1" in text


def test_a_regression_lists_errors_and_its_spread_over_several_heads(rng):
    rows = pd.DataFrame({"seed": [0] * 6 + [1] * 6, "fold": 1, "utterance_id": [*"abcdef"] * 2, "speaker_id": "s"})
    rows = rows.assign(target_v=[*map(float, range(6))] * 2, prediction_v=rng.normal(2, 1, 12))
    titles = [
        [column["title"] for column in details_of(table, {"target": "v"}).utterances["columns"]]
        for table in (rows, rows[rows["seed"] == 0])
    ]
    assert titles[0] == ["Utterance", "Speaker", "v: target", "v: prediction", "v: std", "v: error"]
    assert titles[1] == [title for title in titles[0] if title != "v: std"]
