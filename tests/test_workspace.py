"""Default corpus and cache of a command, and messages if the choice is not clear."""

from pathlib import Path

import pytest

from featcache.errors import CorpusError, StoreError
from featcache.workspace import Workspace


@pytest.fixture
def workspace(tmp_path):
    return Workspace(home=tmp_path)


def make(*folders):
    for folder in folders:
        folder.mkdir(parents=True)


def test_home_is_what_is_asked_for_or_the_environments_or_data(tmp_path, monkeypatch):
    monkeypatch.setenv("FEATCACHE_HOME", str(tmp_path / "a"))
    assert Workspace.at(tmp_path / "b").home == tmp_path / "b"
    assert Workspace.at().home == tmp_path / "a"
    monkeypatch.setenv("FEATCACHE_HOME", "")
    assert Workspace.at().home == Path("data")
    monkeypatch.delenv("FEATCACHE_HOME")
    assert Workspace.at().home == Path("data")


def test_where_things_lie(workspace, tmp_path):
    assert workspace.corpora == tmp_path / "corpora"
    assert workspace.cache("emodb") == tmp_path / "cache" / "emodb"
    assert workspace.runs("emodb") == tmp_path / "runs" / "emodb"


def test_the_only_corpus_needs_no_name(workspace):
    make(workspace.corpora / "emodb", workspace.corpora / ".hidden")
    (workspace.corpora / "notes.txt").touch()
    assert workspace.find_corpus(None, None) == ("emodb", workspace.corpora / "emodb")


def test_several_corpora_are_listed(workspace):
    make(workspace.corpora / "ravdess", workspace.corpora / "emodb")
    assert workspace.find_corpus("emodb", None) == ("emodb", workspace.corpora / "emodb")
    with pytest.raises(
        CorpusError, match=r"several corpora under .*; which corpus\? --corpus emodb or --corpus ravdess"
    ):
        workspace.find_corpus(None, None)
    with pytest.raises(
        CorpusError, match=r"no corpus 'iemocap' under .* \(available: emodb, ravdess\); .* --data PATH"
    ):
        workspace.find_corpus("iemocap", None)


def test_no_corpus_at_all(workspace):
    with pytest.raises(CorpusError, match=r"no corpus under .*; put one there or give its folder with --data PATH"):
        workspace.find_corpus(None, None)
    with pytest.raises(CorpusError, match=r"no corpus 'emodb' under .* \(available: none\)"):
        workspace.find_corpus("emodb", None)
    assert not workspace.home.joinpath("corpora").exists()


def test_a_corpus_elsewhere_is_called_as_its_folder(workspace, tmp_path, monkeypatch):
    make(tmp_path / "elsewhere" / "my.corpus")
    data = tmp_path / "elsewhere" / "my.corpus"
    assert workspace.find_corpus(None, data) == ("my.corpus", data)
    assert workspace.find_corpus("other", data) == ("other", data)
    monkeypatch.chdir(data)
    assert workspace.find_corpus(None, Path()) == ("my.corpus", Path())
    table = data / "some.csv"
    table.touch()
    assert workspace.find_corpus(None, table) == ("some", table)
    with pytest.raises(CorpusError, match=r"^--data .*nowhere: no such folder$"):
        workspace.find_corpus(None, tmp_path / "nowhere")


def test_the_only_cache_needs_no_name(workspace):
    make(workspace.cache("emodb"), workspace.cache(".hidden"))
    assert workspace.find_cache(None) == workspace.find_cache("emodb") == workspace.cache("emodb")


def test_several_caches_are_listed(workspace):
    make(workspace.cache("ravdess"), workspace.cache("emodb"))
    assert workspace.find_cache("ravdess") == workspace.cache("ravdess")
    with pytest.raises(StoreError, match=r"several caches under .*; which corpus\? --corpus emodb or --corpus ravdess"):
        workspace.find_cache(None)
    with pytest.raises(
        StoreError,
        match=r"no cache 'iemocap' .* \(available: emodb, ravdess\); make one with 'featcache extract --data PATH",
    ):
        workspace.find_cache("iemocap")


def test_no_cache_at_all(workspace):
    with pytest.raises(StoreError, match=r"no cache under .*; make one with 'featcache extract --data PATH --model"):
        workspace.find_cache(None)
