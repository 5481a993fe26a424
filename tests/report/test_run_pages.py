"""``featcache report``: pages over all runs. Runs are only read, texts are harmless, and damage hides no other run."""

import base64
import hashlib
import json
import re

import pytest
from typer.testing import CliRunner

from featcache.cli.app import app
from featcache.errors import StoreError
from featcache.files.checksums import wrong_files
from featcache.report.run_pages import PAGES, write_pages
from tests.report.saved_runs import (
    ARABIC,
    JAPANESE,
    REVERSED,
    SCRIPT,
    make_manifest,
    write_audio,
    write_corpus_cache,
    write_run,
)
from tests.report.test_html import Page


def data_of(path, name="run-data"):
    text = path.read_text(encoding="utf-8")
    [found] = re.findall(rf'<script type="application/json" id="{name}">(.*?)</script>', text, re.DOTALL)
    return json.loads(found)


def snapshot(folder):
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    manifest = make_manifest()
    write_corpus_cache(home, "toy", manifest)
    write_audio(home / "corpora" / "toy", manifest, without=["02-3"])
    write_run(home, "toy", "better", manifest, right=0.9)
    write_run(home, "toy", "worse", manifest, right=0.3, config={"norm": "none", "head": "lstm"})
    return home


@pytest.fixture(scope="module")
def written(home):
    before = {name: snapshot(home / "runs" / "toy" / name) for name in ("better", "worse")}
    found = write_pages("toy", home=home)
    assert before == {name: snapshot(home / "runs" / "toy" / name) for name in ("better", "worse")}
    return found


def test_the_page_has_all_runs_with_validation_beside_test_and_run_folders_are_only_read(home, written):
    assert written.path == home / "runs" / "toy" / "report.html"
    table = data_of(written.path)["table"]
    titles = [column["title"] for column in table["columns"]]
    assert titles[:3] == ["Run", "Validation UAR (%)", "Test UAR (%)"]
    assert table["sort"] == [1, "descending"]
    rows = {row[0][1]: row for row in table["rows"]}
    for name in ("better", "worse"):
        metrics = json.loads((home / "runs" / "toy" / name / "metrics.json").read_text())
        assert rows[name][2] == [metrics["uar"]["mean"], f"{metrics['uar']['mean']:.1f} ± {metrics['uar']['std']:.1f}"]
        assert (written.path.parent / rows[name][0][2]).is_file()
        assert wrong_files(home / "runs" / "toy" / name) == {}
    assert rows["better"][1][0] > rows["worse"][1][0]
    assert rows["better"][0][0] == "dense · ssl · speaker normalisation"


def test_sizes_and_missing_audio_are_told(home, written):
    assert written.page_bytes == written.path.stat().st_size
    pages = list((home / "runs" / "toy" / PAGES).iterdir())
    assert {page.name for page in pages} == {"better.html", "worse.html"}
    assert written.total_bytes == written.page_bytes + sum(page.stat().st_size for page in pages)
    assert written.notes == ("Audio that was not found: 1 of 24 utterances.",)


def test_the_page_of_a_run_has_its_utterances_speakers_groups_and_folds(home, written):
    path = home / "runs" / "toy" / PAGES / "better.html"
    found = data_of(path, "utterance-data")
    columns = [column["title"] for column in found["columns"]]
    assert columns == [
        "Utterance",
        "Audio",
        "Speaker",
        "Target",
        "Predicted",
        "Right (%)",
        "Agreement (%)",
        "Confidence (%)",
    ]
    first = dict(zip(columns, found["rows"][0], strict=True))
    assert (first["Utterance"], first["Right (%)"], first["Confidence (%)"]) == ("01-0", 0.0, 10.0)
    audio = {row[0]: row[1] for row in found["rows"]}
    assert audio["02-3"] == 0
    assert audio["01-5"] == "wav/0-5.wav#t=0.25,0.5"
    assert found["columns"][1]["base"] == "./../../../corpora/toy/"
    text = Page(path.read_text(encoding="utf-8")).text
    for told in (
        "By speaker",
        "By gender",
        "part 1 12 6 12",
        "of 24 utterances are wrong in every head",
        "transductive",
    ):
        assert told in text
    assert "{'fold'" not in text


def test_plots_have_layer_weights_and_curves(written):
    for run in data_of(written.path)["runs"]:
        [layers] = run["layers"]
        assert [point[:2] for point in layers["points"]] == [[0, 0.2], [1, 0.3], [2, 0.5]]
        assert run["curves"]["number"] == 4
        assert run["curves"]["lines"][0] == [[1.0, 0.5, 0.3], [1.1, 0.8, 0.9], [50.0, 50.0, 50.0]]
        assert run["confusion"]["classes"] == ["anger", "joy", "sadness"]
        assert [name for name, _, _ in run["groups"]["gender"]] == ["f", "m"]


def test_nothing_is_loaded_and_only_own_scripts_may_run(home, written):
    for path in (written.path, *(home / "runs" / "toy" / PAGES).iterdir()):
        text = path.read_text(encoding="utf-8")
        page = Page(text)
        [policy] = [a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy"]
        scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
        for script in scripts:
            assert f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" in policy
        assert len(scripts) == policy.partition("script-src ")[2].partition(";")[0].count("sha256")
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy
        for _, attributes in page.tags:
            assert not {name for name in attributes if name.startswith("on") or name == "style"}
            assert attributes.get("src", "data:").startswith("data:")
            assert not re.match(r"(?!file)[a-z]+:|/", attributes.get("href", ""))


def test_texts_of_a_corpus_are_harmless(tmp_path):
    names = {"01-0": SCRIPT, "01-1": ARABIC, "01-2": REVERSED, "01-3 text": SCRIPT, "01-4 text": JAPANESE}
    manifest = make_manifest(speakers=(SCRIPT, ARABIC, JAPANESE, "04"), names={**names, f"{SCRIPT}-0": SCRIPT})
    for one in manifest:
        one.labels[SCRIPT] = SCRIPT if one.labels["gender"] == "f" else ARABIC
    write_corpus_cache(tmp_path, "toy", manifest)
    folds = [{"fold": SCRIPT, "name": SCRIPT, "train": 1, "validation": SCRIPT, "test": 1}]
    config = {"head": SCRIPT, "features": {ARABIC: SCRIPT}, "folds": folds, SCRIPT: [SCRIPT]}
    run = write_run(tmp_path, "toy", 'a "quoted" <b> #1 100%', manifest, config=config)
    written = write_pages(home=tmp_path)
    for path in (written.path, tmp_path / "runs" / "toy" / PAGES / f"{run.name}.html"):
        text = path.read_text(encoding="utf-8")
        page = Page(text)
        assert {tag for tag, _ in page.tags} & {"img", "b", "iframe"} <= {"img"}
        assert all(attributes["src"].startswith("data:") for tag, attributes in page.tags if tag == "img")
        assert "\u202e" not in text
        assert "\u2028" not in text
        assert SCRIPT not in text
        for other in re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', text, re.DOTALL):
            assert not set(other) & set("<>&")
    assert SCRIPT in data_of(written.path)["table"]["rows"][0][0][0]
    assert data_of(written.path)["table"]["rows"][0][0][2] == f"{PAGES}/a%20%22quoted%22%20%3Cb%3E%20%231%20100%25.html"
    speakers = {name for name, _, _ in data_of(written.path)["runs"][0]["speakers"]}
    assert {SCRIPT, ARABIC, JAPANESE} <= speakers


def test_a_damaged_or_foreign_run_hides_no_other(tmp_path, caplog):
    manifest = make_manifest()
    write_run(tmp_path, "toy", "good", manifest)
    for name, file, content in (
        ("changed", "predictions.csv", "seed\n1\n"),
        ("types", "config.yaml", "head: [1]\nfeatures: 3\n"),
        (
            "incomplete",
            "metrics.json",
            '{"bootstrap": {"unit": "speakers", "count": 3}, "uar": {"mean": 1.0, "std": null}}',
        ),
    ):
        run = write_run(tmp_path, "toy", name, manifest)
        (run / file).write_text(content)
        if name != "changed":
            (run / "checksums.sha256").unlink()
    (write_run(tmp_path, "toy", "strange", manifest) / "history.csv").write_text("a,b\n1,2\n")
    (tmp_path / "runs" / "toy" / "strange" / "checksums.sha256").unlink()
    written = write_pages(home=tmp_path)
    shown = {row[0][1] for row in data_of(written.path)["table"]["rows"]}
    assert shown == {"good", "strange"}
    assert [record.getMessage() for record in caplog.records if "left out" in record.getMessage()] != []
    assert "history.csv is not shown" in caplog.text
    assert "no audio and no groups are shown" in caplog.text
    assert "\n" not in caplog.records[0].getMessage()


def test_a_link_in_a_run_folder_shows_no_other_file(tmp_path):
    run = write_run(tmp_path, "toy", "mine", make_manifest())
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"\x89PNG secret")
    (run / "layer_weights.png").symlink_to(secret)
    write_pages(home=tmp_path)
    page = Page((tmp_path / "runs" / "toy" / PAGES / "mine.html").read_text(encoding="utf-8"))
    assert len([1 for tag, _ in page.tags if tag == "img"]) == 1


def test_a_deterministic_head_and_a_run_without_test_part_are_shown(tmp_path):
    manifest = make_manifest()
    write_run(tmp_path, "toy", "svm", manifest, seeds=1, learns=False, deterministic=True)
    final = write_run(tmp_path, "toy", "final", manifest, config={"final": True, "protocol": "final"})
    validation = {name: {"mean": 61.0, "std": 1.0, "per_seed": [60.0, 62.0]} for name in ("uar", "wa", "macro_f1")}
    (final / "metrics.json").write_text(json.dumps({"validation": validation, "num_seeds": 2, "num_folds": 1}))
    header = (final / "predictions.csv").read_text().partition("\n")[0]
    (final / "predictions.csv").write_text(f"{header}\n")
    (final / "checksums.sha256").unlink()
    written = write_pages(home=tmp_path)
    found = data_of(written.path)
    rows = {row[0][1]: row for row in found["table"]["rows"]}
    assert rows["final"][1:3] == [[61.0, "61.0 ± 1.0"], None]
    runs = dict(zip(rows, found["runs"], strict=True))
    assert runs["svm"]["curves"] is None
    assert runs["svm"]["layers"] == []
    assert "No test part" in Page((written.path.parent / PAGES / "final.html").read_text(encoding="utf-8")).text


def test_what_cannot_be_reported_is_told_in_one_line(home, tmp_path):
    with pytest.raises(StoreError, match=r"^no runs under .*; make one with 'featcache fit'$"):
        write_pages(home=tmp_path)
    with pytest.raises(StoreError, match=r"^no corpus with runs 'toi'; did you mean 'toy'\?$"):
        write_pages("toi", home=home)
    with pytest.raises(StoreError, match="not a path"):
        write_pages("../toy", home=home)
    with pytest.raises(StoreError, match="no such folder"):
        write_pages(home=home, data=tmp_path / "nowhere", out=tmp_path)
    write_run(tmp_path, "other", PAGES, make_manifest())
    with pytest.raises(StoreError, match="is a run, not a folder of pages; choose another folder with --out"):
        write_pages(home=tmp_path)
    write_run(tmp_path, "toy", "one", make_manifest())
    with pytest.raises(StoreError, match="which one\\? featcache report other or featcache report toy"):
        write_pages(home=tmp_path)
    with pytest.raises(TypeError, match="did you mean 'data'"):
        write_pages(home=tmp_path, date=1)


def test_another_folder_gets_the_pages_and_their_links_lead_back(home, tmp_path):
    written = write_pages("toy", home=home, out=tmp_path / "shown")
    [base] = [
        c["base"]
        for c in data_of(tmp_path / "shown" / PAGES / "better.html", "utterance-data")["columns"]
        if "base" in c
    ]
    assert (tmp_path / "shown" / PAGES / base / "wav" / "0-0.wav").is_file()
    assert written.path == tmp_path / "shown" / "report.html"


def test_many_utterances_make_no_large_page(tmp_path):
    # 10,000 utterances and 50 runs must stay far below 500 MB: less than 250 bytes per utterance and run, and in the
    # page over all runs nothing per utterance.
    sizes = {}
    for number in (24, 96):
        own = tmp_path / str(number)
        write_run(own, "toy", "one", make_manifest(speakers=[f"{i:02}" for i in range(number // 6)]))
        found = write_pages(home=own)
        sizes[number] = (found.page_bytes, found.total_bytes - found.page_bytes)
    per_utterance = [(more - less) / 72 for less, more in zip(sizes[24], sizes[96], strict=True)]
    assert per_utterance[0] < 15  # only its speaker
    assert per_utterance[1] < 250


def test_the_command_prints_the_place_and_the_size(home, monkeypatch):
    monkeypatch.setenv("FEATCACHE_HOME", str(home))
    result = CliRunner().invoke(app, ["report", "toy"])
    assert result.exit_code == 0
    note, sizes, _, place = result.output.splitlines()
    assert note == "Audio that was not found: 1 of 24 utterances."
    assert re.fullmatch(r"2 runs, [\d.]+ kB; with the pages of the runs [\d.]+ kB", sizes)
    assert place == str(home / "runs" / "toy" / "report.html")
