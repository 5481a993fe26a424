"""Recognition of the corpus in a folder, and messages if there is none."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featcache import corpora
from featcache.corpora import CORPORA, NAMED, read_corpus, recognise
from featcache.corpora.base import NamedCorpus, as_named
from featcache.corpora.folder_contents import audio_files
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
            from_label_files = corpus.complete is not as_named
            assert utterance.labels.get(corpus.target, "") in corpus.classes or from_label_files
            assert set(corpus.published_counts) in (set(corpus.classes), set())  # some corpora grow with each release
        assert all(low < high for low, high in corpus.dimensions.values())


def test_the_corpus_is_recognised_by_most_of_its_names(tmp_path):
    touch(tmp_path, "03a01Fa.wav", "03a01Nc.wav", "03-01-06-01-02-01-12.wav", "noise.wav")
    found = read_corpus(tmp_path)
    assert found.corpus.name == "emodb"
    assert found.root == tmp_path
    assert found.manifest.utterance_ids == ("03a01Fa", "03a01Nc")
    assert found.ignored == ("03-01-06-01-02-01-12.wav", "noise.wav")
    assert read_corpus(tmp_path, kind="ravdess").manifest.utterance_ids == ("03-01-06-01-02-01-12",)


@given(data=st.data())
def test_no_name_is_that_of_two_corpora(data):
    corpus = data.draw(st.sampled_from(NAMED))
    name = data.draw(st.from_regex(corpus.pattern, fullmatch=True)).replace("\n", "")
    path = f"{data.draw(st.sampled_from(['', 'wav/', 'DC/', 'train/', 'Session1/']))}{name}.wav"
    assert [other.name for other in NAMED if other.match(path)] in ([corpus.name], [])


def test_the_name_of_the_folder_does_not_matter(tmp_path):
    for folder in ("iemocap", "ravdess", "meld", "test", "DC"):
        touch(tmp_path, f"{folder}/wav/F21N05.wav")
        assert read_corpus(tmp_path / folder).corpus.name == "shemo"


def test_two_corpora_in_one_folder_are_told(tmp_path):
    touch(tmp_path, "03a01Fa.wav", "F21N05.wav")
    with pytest.raises(
        CorpusError, match="1 files are named as in emodb, and equally many as in shemo; give the folder of"
    ):
        read_corpus(tmp_path)


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
    touch(tmp_path, "notes.txt", "a/._1.wav", ".hidden/3.wav", "clip.mp4", "c.MKV", "wav", "x.wav/inside.txt")
    assert audio_files(tmp_path) == ["a/deep/1.wav", "b/2.FLAC", "c.aiff", "c.au", "c.mp3", "c.ogg", "clip.mp4"]


def test_linked_folders_are_followed_but_not_in_circles(tmp_path):
    touch(tmp_path, "elsewhere/1.wav", "corpus/2.wav")
    try:
        os.symlink(tmp_path / "elsewhere", tmp_path / "corpus" / "linked", target_is_directory=True)
        os.symlink(tmp_path / "corpus", tmp_path / "corpus" / "round", target_is_directory=True)
    except OSError:
        pytest.skip("no symbolic links here")
    assert audio_files(tmp_path / "corpus") == ["2.wav", "linked/1.wav"]


def test_a_kind_that_does_not_fit(tmp_path):
    touch(tmp_path, "03a01Fa.wav")
    with pytest.raises(CorpusError, match="no corpus 'ravdes'; did you mean 'ravdess'"):
        read_corpus(tmp_path, kind="ravdes")
    with pytest.raises(CorpusError, match=r"1 audio files .*, expected file names of RAVDESS, like '03-01-"):
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
    (tmp_path / "manifest.csv").write_text("sound\nx.wav\n")
    with pytest.raises(ManifestError, match="column 'path'"):
        read_corpus(tmp_path)


def test_a_folder_that_no_corpus_has_is_described_in_a_short_line(tmp_path):
    with pytest.raises(CorpusError, match=r"no audio files and no table of utterances, it is empty; check the folder"):
        read_corpus(tmp_path)
    touch(tmp_path / "none", "a.zip", "notes.txt")
    with pytest.raises(CorpusError, match=r"no audio files and no table of utterances, only 'a\.zip', 'notes\.txt'"):
        read_corpus(tmp_path / "none")
    touch(tmp_path / "own", *(f"call {number}.wav" for number in range(5)))
    with pytest.raises(CorpusError, match=r"5 audio files \('call 0\.wav', 'call 1\.wav' and 3 more\), exp") as error:
        read_corpus(tmp_path / "own")
    text = str(error.value).replace(str(tmp_path), "")
    assert len(text) < 400
    for way in ("--layout NAME", "'featcache corpora'", "featcache new-corpus", "manifest.csv", "--layout audio"):
        assert way in text


@pytest.mark.parametrize(
    ("noise", "others", "expected"),
    [(0, 3, "emodb"), (0, 41, "savee"), (5000, 3, "emodb"), (5000, 41, "savee")],
)
def test_a_large_folder_is_recognised_as_if_all_its_names_were_matched(tmp_path, monkeypatch, noise, others, expected):
    paths = [f"noise/{number}.wav" for number in range(noise)]
    paths += [f"emodb/{speaker:02}a{text:02}Fa.wav" for speaker in (3, 8) for text in range(20)]
    paths += [f"savee/DC/a{number:02}.wav" for number in range(others)]
    monkeypatch.setattr(corpora, "_SAMPLE", 10)
    assert recognise(tmp_path, paths) == expected
    monkeypatch.setattr(corpora, "_SAMPLE", len(paths))
    assert recognise(tmp_path, paths) == expected
