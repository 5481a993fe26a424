"""``featcache check``: every kind of finding is planted, found, written, shown, and ends with exit code 3."""

import csv
from collections import defaultdict

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from featcache.audio import decoding
from featcache.checks.findings import KINDS
from featcache.cli.app import app
from featcache.errors import FeatcacheError, StoreError
from featcache.report import check_figures
from featcache.report.check_page import CHECK, FILES, FINDINGS, write_check
from tests.checks.planted import RATE, SCRIPT, clean_corpus, planted_corpus, voice, write_manifest

# Kinds that only other corpora than the planted one can have; each has a test of its own.
ELSEWHERE = {"counts", "no-folds"}


def rows_of(written):
    with open(written.table, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Return what is planted, and the check of the corpus."""
    home = tmp_path_factory.mktemp("planted")
    expected = planted_corpus(home / "corpora" / "planted", np.random.default_rng(0))
    return expected, write_check("planted", home=home)


def test_every_planted_problem_is_found_and_no_other(planted):
    expected, written = planted
    assert set(expected) == set(KINDS) - ELSEWHERE
    found = defaultdict(set)
    for row in rows_of(written):
        found[row["kind"]].add(row["utterance_id"] or row["path"])
    assert {kind: names for kind, names in found.items() if expected[kind] is not None} == {
        kind: names for kind, names in expected.items() if names is not None
    }
    assert set(found) == set(expected)


def test_no_file_is_written_under_a_name_that_is_not_checked_before(planted):
    _, written = planted
    assert {one.name for one in written.page.parent.iterdir()} == set(FILES)


def test_findings_say_what_was_found(planted):
    _, written = planted
    found = {(row["kind"], row["utterance_id"]): row["found"] for row in rows_of(written)}
    assert found["identical-audio-apart", "copy"] == (
        "identical to 'A-anger-1'; speakers: 'A', 'D'; values of emotion: 'anger', 'joy'; values of split: 'test', "
        "'train'; in several parts of 1 of 1 fold"
    )
    assert found["identical-audio", "again"] == "identical to 'B-joy-1'"
    assert found["pointer", "pointer"].endswith("a Git LFS pointer; run 'git lfs pull'")
    assert found["pointer", "annex"].endswith("a git-annex pointer; run 'git annex get'")
    assert found["segment", "outside"].startswith("A-joy-0.wav: the utterance ends at 6.0 s, the file at 1.00 s")
    assert found["label-spelling", ""] == "emotion: 'Anger ' (1), 'anger' (40)"
    assert found["low-sampling-rate", ""] == "1 utterance has 8000 Hz"
    assert found["sampling-rate", "other-rate"].startswith("8000 Hz (")
    assert found["no-label", ""].startswith("1 of ")


def test_the_page_shows_all_findings_and_runs_nothing_of_the_corpus(planted):
    _, written = planted
    page = written.page.read_text(encoding="utf-8")
    assert SCRIPT not in page
    for kind in {row["kind"] for row in rows_of(written)}:
        assert KINDS[kind].title.replace("'", "&#39;") in page
    assert page.count('src="data:image/png;base64,') == 4
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert {path.suffix for path in written.page.parent.iterdir()} == {".html", ".csv", ".png", ".svg", ".pdf"}


@pytest.fixture
def no_figures(monkeypatch):
    monkeypatch.setattr(check_figures, "check_figures", lambda checked: [])


@pytest.mark.usefixtures("no_figures")
def test_a_clean_corpus_has_no_findings(tmp_path):
    clean_corpus(tmp_path / "clean", np.random.default_rng(1), number=5)
    written = write_check(data=tmp_path / "clean", home=tmp_path)
    assert rows_of(written) == []
    assert "Nothing needs attention." in written.page.read_text(encoding="utf-8")
    with_path = write_check(str(tmp_path / "clean"), home=tmp_path, out=tmp_path / "out")
    assert with_path.page == tmp_path / "out" / "check.html"


@pytest.mark.usefixtures("no_figures")
def test_each_file_is_opened_once_for_all_its_utterances(tmp_path, monkeypatch):
    rng, folder = np.random.default_rng(2), tmp_path / "long"
    folder.mkdir()
    samples = voice(rng, 20.0)
    for name in ("a", "b"):
        soundfile.write(folder / f"{name}.wav", samples + 0.001 * (name == "b"), RATE)
    # Segments overlap, and are not in the order of time.
    bounds = rng.permutation([(0.5 * i, 0.5 * i + 1.5) for i in range(36)])
    rows = [
        [f"{name}{i}", f"{name}.wav", str(start), str(end), "sp", "joy", "train"]
        for name in "ab"
        for i, (start, end) in enumerate(bounds)
    ]
    write_manifest(folder, rows)
    opened, original = [], decoding.open_audio
    monkeypatch.setattr(decoding, "open_audio", lambda path: opened.append(path.name) or original(path))
    written = write_check(data=folder, home=tmp_path, workers=2)
    assert sorted(opened) == ["a.wav", "b.wav"]
    facts = written.checked.facts
    assert facts["measured"].all()
    assert np.allclose(facts["duration"], 1.5)
    # An independent computation, from the whole file in float64; the facts are float32 sums of the same samples.
    whole, _ = soundfile.read(folder / "a.wav")
    for row, (start, end) in enumerate(bounds):
        part = whole[round(start * RATE) : round(end * RATE)]
        assert facts["level"][row] == pytest.approx(10 * np.log10(np.mean(part**2)), abs=1e-3)
        assert facts["offset"][row] == pytest.approx(abs(part.mean()), abs=1e-6)
        assert facts["peak"][row] == pytest.approx(np.abs(part).max(), abs=1e-6)


@pytest.mark.usefixtures("no_figures")
def test_published_numbers_are_compared(tmp_path):
    folder = tmp_path / "emodb"
    folder.mkdir()
    rng = np.random.default_rng(3)
    for speaker in ("03", "08", "09"):
        for code in "WF":
            soundfile.write(folder / f"{speaker}a01{code}a.wav", voice(rng), RATE)
    written = write_check(data=folder, home=tmp_path)
    found = [row["found"] for row in rows_of(written) if row["kind"] == "counts"]
    assert "emotion 'anger' has 3 utterances; the published corpus has 127" in found
    assert len(found) == 7
    assert "3 of 127" not in found
    assert "Published" in written.page.read_text(encoding="utf-8")


@pytest.mark.usefixtures("no_figures")
def test_a_corpus_without_labels_and_speakers_is_checked(tmp_path):
    folder = tmp_path / "plain"
    folder.mkdir()
    soundfile.write(folder / "a.wav", voice(np.random.default_rng(4)), RATE)
    written = write_check(data=folder, home=tmp_path, layout="audio")
    kinds = [row["kind"] for row in rows_of(written)]
    assert kinds == ["no-label", "no-speaker", "no-folds"]
    assert not any(one.needs_attention for one in written.checked.findings)


@pytest.mark.usefixtures("no_figures")
def test_the_exit_code_says_whether_something_needs_attention(tmp_path, monkeypatch):
    monkeypatch.setenv("FEATCACHE_HOME", str(tmp_path))
    rows = clean_corpus(tmp_path / "corpora" / "small", np.random.default_rng(5), number=5)
    result = CliRunner().invoke(app, ["--quiet", "check", "small"])
    assert (result.exit_code, result.output.splitlines()[0]) == (0, "40 utterances checked: nothing to look at")
    write_manifest(tmp_path / "corpora" / "small", rows[1:])
    result = CliRunner().invoke(app, ["--quiet", "check"])
    assert result.exit_code == 3
    assert "Audio files outside the corpus" in result.output
    assert "39 utterances checked: 1 finding to look at" in result.output
    for arguments in (["other"], ["small", "--target", "mood"], ["small", "--protocol", "loso2"]):
        assert isinstance(CliRunner().invoke(app, ["--quiet", "check", *arguments]).exception, FeatcacheError)


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("name", [CHECK, FINDINGS, "classes.png"])
def test_files_of_others_are_not_replaced(tmp_path, name):
    clean_corpus(tmp_path / "corpora" / "small", np.random.default_rng(5), number=1)
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / name).write_text("finding,of mine\n", encoding="utf-8")
    with pytest.raises(StoreError, match=f"mine contains '{name}', but no {FINDINGS} of an earlier check; choose"):
        write_check("small", home=tmp_path, out=folder)
    assert [one.name for one in folder.iterdir()] == [name]
    (folder / name).rename(folder / "notes.txt")
    for _ in range(2):
        written = write_check("small", home=tmp_path, out=folder)
    assert {one.name for one in folder.iterdir()} == {"notes.txt", written.page.name, FINDINGS}
