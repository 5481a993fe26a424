"""Which corpus lies in a folder, and what is told when none does."""

import os

import pytest

from featcache.corpora import CORPORA, read_corpus
from featcache.corpora.base import NamedCorpus, audio_files
from featcache.errors import CorpusError, ManifestError
from featcache.protocols import PROTOCOLS


def touch(folder, *paths):
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(b"RIFF")
    return folder


def test_the_registry_agrees_with_itself():
    for name, corpus in CORPORA.items():
        assert corpus.name == name
        assert set(corpus.protocols) <= set(PROTOCOLS)
        assert all([corpus.title, corpus.description, corpus.license, corpus.source])
        if isinstance(corpus, NamedCorpus):
            match = corpus.match(corpus.example)
            assert match
            utterance = corpus.utterance(corpus.example, match)
            assert utterance.labels[corpus.target] in corpus.classes


def test_the_corpus_is_recognised_by_most_of_its_names(tmp_path):
    touch(tmp_path, "03a01Fa.wav", "03a01Nc.wav", "03-01-06-01-02-01-12.wav", "noise.wav")
    found = read_corpus(tmp_path)
    assert found.corpus.name == "emodb"
    assert found.root == tmp_path
    assert found.manifest.utterance_ids == ("03a01Fa", "03a01Nc")
    assert found.ignored == ("03-01-06-01-02-01-12.wav", "noise.wav")
    assert read_corpus(tmp_path, kind="ravdess").manifest.utterance_ids == ("03-01-06-01-02-01-12",)


def test_a_manifest_goes_before_names_and_a_kind_before_both(tmp_path):
    touch(tmp_path, "03a01Fa.wav")
    (tmp_path / "manifest.csv").write_text("utterance_id,path,mood\nx,03a01Fa.wav,gay\n")
    assert read_corpus(tmp_path).manifest.labels("mood") == {"x": "gay"}
    assert read_corpus(tmp_path, kind="emodb").manifest.labels("emotion") == {"03a01Fa": "happiness"}


def test_a_manifest_of_any_name(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "Mine.CSV").write_text("path\nb.wav\na.wav\n")
    found = read_corpus(tmp_path / "deep" / "Mine.CSV")
    assert found.corpus.name == "folder"
    assert found.root == tmp_path / "deep"
    assert found.manifest.utterance_ids == ("b", "a")
    assert found.ignored == ()


def test_only_audio_counts_wherever_it_lies(tmp_path):
    touch(tmp_path, "b/2.FLAC", "a/deep/1.wav", "c.mp3", "c.au", "c.ogg", "c.aiff")
    touch(tmp_path, "notes.txt", "a/._1.wav", ".hidden/3.wav", "clip.mp4", "wav", "x.wav/inside.txt")
    assert audio_files(tmp_path) == ["a/deep/1.wav", "b/2.FLAC", "c.aiff", "c.au", "c.mp3", "c.ogg"]


def test_linked_folders_are_followed_but_not_in_circles(tmp_path):
    touch(tmp_path, "elsewhere/1.wav", "corpus/2.wav")
    try:
        os.symlink(tmp_path / "elsewhere", tmp_path / "corpus" / "linked", target_is_directory=True)
        os.symlink(tmp_path / "corpus", tmp_path / "corpus" / "round", target_is_directory=True)
    except OSError:
        pytest.skip("no symbolic links here")
    assert audio_files(tmp_path / "corpus") == ["2.wav", "linked/1.wav"]


def test_no_corpus_that_is_known(tmp_path):
    with pytest.raises(CorpusError, match=r"no audio files, .*EmoDB.*RAVDESS.*manifest.csv with a column 'path'"):
        read_corpus(tmp_path)
    touch(tmp_path, "two.wav", "one.wav")
    with pytest.raises(CorpusError, match=r"2 audio files \('one.wav', …\)"):
        read_corpus(tmp_path)


def test_a_kind_that_does_not_fit(tmp_path):
    touch(tmp_path, "03a01Fa.wav")
    with pytest.raises(CorpusError, match="unknown corpus 'emodv'; nearest: emodb"):
        read_corpus(tmp_path, kind="emodv")
    with pytest.raises(CorpusError, match=r"1 audio files .*, none named as in RAVDESS, like '03-01-"):
        read_corpus(tmp_path, kind="ravdess")
    with pytest.raises(CorpusError, match=r"manifest.csv is not a CSV file; write one"):
        read_corpus(tmp_path, kind="folder")


def test_a_path_that_does_not_fit(tmp_path):
    touch(tmp_path, "03a01Fa.wav")
    with pytest.raises(CorpusError, match="nowhere is missing"):
        read_corpus(tmp_path / "nowhere")
    with pytest.raises(CorpusError, match="wav is not a CSV file"):
        read_corpus(tmp_path / "03a01Fa.wav")
    with pytest.raises(CorpusError, match="wav is a file; give the folder"):
        read_corpus(tmp_path / "03a01Fa.wav", kind="emodb")
    (tmp_path / "manifest.csv").write_text("file\nx.wav\n")
    with pytest.raises(ManifestError, match="column 'path'"):
        read_corpus(tmp_path)
