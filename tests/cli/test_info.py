"""``featcache info`` of caches, stores, runs and transcripts: kind, settings and state."""

import contextlib
import re
import sys

import numpy as np
import pytest
import soundfile

import featcache
from featcache.cache.reader import FeatureStore
from featcache.cli import app as cli
from featcache.errors import FeatcacheError
from featcache.extraction.merge import merge
from featcache.extraction.verify import damaged_files
from featcache.runs.writer import UnfinishedRun
from featcache.transcripts.files import write_transcripts

QUICK = {"seeds": (1,), "max_epochs": 1, "protocol": "loso"}


@pytest.fixture
def info(monkeypatch, capsys):
    """Return the rows that ``featcache info NAME`` prints, by name, or the error."""

    def run(*names):
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["featcache", "info", *map(str, names)])
        monkeypatch.setenv("COLUMNS", "80")
        with pytest.raises(SystemExit) as exited:
            cli.main()
        out, err = capsys.readouterr()
        if exited.value.code:
            return err
        # only a single word, such as a path, may be wider than the terminal
        assert all(len(line) <= 80 or " " not in line.split("  ")[-1].strip() for line in out.splitlines())
        rows = re.findall(r"^(\S+(?: \S+)*)  +(\S.*?) *$((?:\n  .*)*)", out, re.MULTILINE)
        return {name: " ".join([value, *more.split()]) for name, value, more in rows}

    return run


@pytest.fixture
def write_corpus(tmp_path):
    def write(count):
        folder = tmp_path / "corpus"
        folder.mkdir()
        rng = np.random.default_rng(0)
        for number in range(count):
            soundfile.write(folder / f"{number}.wav", rng.uniform(-0.1, 0.1, 2000), 16000)
        rows = "".join(f"{number}.wav,{number},joy\n" for number in range(count))
        (folder / "manifest.csv").write_text(f"path,speaker_id,emotion\n{rows}")
        return folder

    return write


def test_a_limited_store_says_how_much_of_the_corpus_it_holds(info, write_corpus, caplog):
    data = write_corpus(6)
    wanted = {"model": "egemaps", "data": data}
    with caplog.at_level("INFO"):
        featcache.extract(**wanted, limit=2)
        featcache.extract(**wanted, limit=4)
    told = [message for message in caplog.messages if "to extract" in message]
    assert told[0] == "egemaps: 2 of 2 utterances to extract, 0 cached"
    new, cached, others = map(
        int,
        re.fullmatch(
            r"egemaps: (\d) of 4 utterances to extract, (\d) cached(?: \((\d) others cached\))?", told[1]
        ).groups("0"),
    )
    assert (new + cached, cached + others) == (4, 2)
    for name in ("egemaps", "corpus/egemaps"):
        found = info(name)
        assert found["utterances"] == f"{4 + others} of 6"
        assert found["finished"] == "yes, for --limit 4"
    featcache.extract(**wanted)
    found = info("egemaps")
    assert (found["utterances"], found["finished"]) == ("6 of 6", "yes")


def test_utterances_that_are_cached_and_not_wanted_are_counted_apart(write_corpus, caplog):
    data = write_corpus(3)
    featcache.extract(model="egemaps", data=data)
    with caplog.at_level("INFO"):
        featcache.extract(model="egemaps", data=data, limit=1)
    assert "egemaps: 0 of 1 utterances to extract, 1 cached (2 others cached)" in caplog.messages


def test_an_interrupted_store_says_what_it_holds(info, make_cache):
    cache = make_cache(stores={"half": {"complete": False}})
    found = info("half")
    assert found["finished"] == "no: run the same 'featcache extract' again"
    assert found["utterances"] == "16 of 16"
    begun = cache / "begun"
    begun.mkdir()
    (begun / ".lock").touch()
    for name in ("begun", begun):
        found = info(name)
        assert found["utterances"] == "0 of 16"
        assert found["finished"].startswith("no: extraction ended before features were written")
    assert info("toy")["cache"].endswith("toy")


def test_runs_are_shown_by_name_and_by_path(info, make_cache, quick_reports):
    make_cache()
    run = featcache.fit(**QUICK, name="mine")
    for name in ("mine", run.path, run.path / "metrics.json", "toy/mine"):
        found = info(name)
        assert found["finished"] == "yes"
        assert (found["utterances"], found["speakers"], found["corpus"]) == ("16", "4", "toy")
    other = UnfinishedRun(run.path.with_name("other"), {"seeds": [1], "computed_with": {}})
    other.begin(resume=False, overwrite=False)
    other.keep(1, 1, {}, {})
    for name in ("other", run.path.with_name(".other.unfinished")):
        assert info(name)["finished"].startswith("no: 1 training finished; run the same")


def test_transcripts_are_shown_by_name(info, make_cache):
    cache = make_cache()
    about = {
        "settings": {"model_id": "m", "language": None},
        "revision": None,
        "num_utterances": 1,
        "num_failed": 0,
        "wer": None,
    }
    write_transcripts(cache, "heard", {"a": "x"}, about)
    (cache / "transcripts" / "begun").mkdir()
    (cache / "transcripts" / "begun" / "journal.jsonl").write_text("{}\n{}\n{}\n")
    for name in ("heard", cache / "transcripts" / "heard.csv", cache / "transcripts" / "heard.json"):
        assert info(name)["finished"] == "yes"
    assert info("begun")["finished"].startswith("no: 2 utterances finished; run the same 'featcache transcribe' again")


def test_a_name_in_several_corpora_is_not_guessed(info, make_cache):
    for corpus in ("one", "two"):
        make_cache(corpus)
    assert re.fullmatch(r"error: which 'ssl'\? .*one/ssl or .*two/ssl\n", info("ssl"))
    assert info("two/ssl")["utterances"] == "16 of 16"
    assert info("one")["cache"].endswith("one")


def test_what_is_none_of_these_is_told(info, make_cache, tmp_path):
    make_cache()
    assert "no cache, store, run or transcripts 'sls'; did you mean 'ssl'" in info("sls")
    (tmp_path / "folder").mkdir()
    assert "is no cache, store, run or transcripts; expected the folder or name of one" in info(tmp_path / "folder")


@pytest.mark.parametrize("name", [".", "", "/"])
def test_the_folder_one_stands_in_may_be_named(info, write_corpus, monkeypatch, name):
    data = write_corpus(1)
    error = "no cache, store, run or transcripts"
    if name != "/":
        monkeypatch.chdir(data.parent)
    assert re.search(error, info(name))
    featcache.extract(model="spectrogram", data=data)
    store = (data.parent / "data" / "cache" / "corpus" / "spectrogram").resolve()
    monkeypatch.chdir(store)
    if name in (".", ""):
        assert info(name)["store"].endswith("spectrogram")


@pytest.mark.parametrize("target", ["nowhere", "index.h5"])
def test_an_index_that_leads_nowhere_is_told_and_does_no_harm(info, make_cache, target):
    store = next(path for path in make_cache().iterdir() if (path / "index.h5").is_file())
    (store / "index.h5").unlink()
    (store / "index.h5").symlink_to(target)
    assert "on disk" in info(store)
    assert [fault for fault in damaged_files(store) if fault.startswith("index.h5: ")]


def test_links_in_a_circle_are_one_line(tmp_path):
    loop = tmp_path / "loop"
    loop.symlink_to("loop")
    for call in (
        lambda: merge(tmp_path / "new", [loop]),
        lambda: FeatureStore(loop),
        lambda: list(damaged_files(loop)),
    ):
        with contextlib.suppress(FeatcacheError):
            call()


def test_a_cache_counts_the_names_of_features_and_a_store_lists_them(info, write_corpus):
    data = write_corpus(2)
    featcache.extract(model="egemaps-functionals", data=data)
    assert info("corpus")["feature_names"] == "88; 'featcache info egemaps-functionals' lists them"
    names = info("egemaps-functionals")["feature_names"].split(", ")
    assert (len(names), names[0]) == (88, "F0semitoneFrom27.5Hz_sma3nz_amean")
