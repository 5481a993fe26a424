"""Drafts of descriptions from names of files: what they describe, and the command."""

import pytest
import yaml

from featcache.corpora import CORPORA, read_corpus
from featcache.corpora.described import described
from featcache.corpora.description import parse_description
from featcache.corpora.drafts import draft_description
from featcache.errors import CorpusError

SPEAKERS, EMOTIONS, NUMBERS = ("anna", "bert", "cleo"), ("angry", "happy", "neutral"), ("1", "2", "10")


def names(form):
    return [f"{form.format(s=s, e=e, n=n)}.wav" for s in SPEAKERS for e in EMOTIONS for n in NUMBERS]


@pytest.mark.parametrize(
    ("form", "number"),
    [("{s}_{e}_{n}", 27), ("{e}/{s}-{n}", 27), ("{s}/{e}/{n}", 27), ("{s}/{s} {e} ({n})", 27)],
)
def test_a_draft_reads_speakers_and_emotions(write, form, number):
    folder = write(names(form))
    draft = draft_description(folder, "mine")
    corpus = described(parse_description(yaml.safe_load(draft.text), "draft"))
    manifest = read_corpus(folder, corpus).manifest
    assert len(manifest) == draft.num_files == draft.num_named == number
    assert manifest.speaker_ids == SPEAKERS
    assert set(manifest.labels("emotion").values()) == {"anger", "happiness", "neutral"}
    assert manifest.label_columns == ("emotion",)


def test_other_names_are_counted_and_codes_are_kept(write):
    folder = write([f"{s}{c}{n}.wav" for s in ("01", "02") for c in "WXYZ" for n in range(4)] + ["read me.wav"])
    draft = draft_description(folder, "mine")
    assert (draft.num_files, draft.num_named) == (33, 32)
    assert {part.meaning: len(part.values) for part in draft.parts} == {"speaker": 2, "emotion": 4, "number": 4}


@pytest.mark.parametrize(
    "files",
    [
        ["s1_Ärger_1.wav", "s2_Freude_2.wav", "s1_Freude_3.wav", "s2_Ärger_4.wav"],
        ["s1_怒_1.wav", "s2_喜_2.wav"],
        ["s٠_1.wav", "s٢_2.wav"],
        ["s²_1.wav", "s²_2.wav", "s³_2.wav"],
        [f"{'_'.join([f'{10**8 + n}'] * 3 + [f'{10**8 + k * n}' for k in range(2, 6)])}.wav" for n in (1, 2)],
        ["_".join(f"{(7 * n + 3 * k) % 10}" for k in range(120)) + ".wav" for n in range(9)],
        ["a\nb\\n.wav", "a'\"c.wav", 'x"{y}.wav'],
        ["#%&.wav", "#%!.wav"],
        ["(a+)+$1.wav", "(a+)+$2.wav"],
        ["1.wav"],
    ],
)
def test_hostile_names_are_described_or_refused(write, files):
    folder = write(files)
    try:
        draft = draft_description(folder, "mine")
    except CorpusError as error:
        assert "\n" not in str(error)  # noqa: PT017
        return
    corpus = described(parse_description(yaml.safe_load(draft.text), "draft"))
    assert len(read_corpus(folder, corpus).manifest) == draft.num_named


def test_a_file_beside_the_folders_does_not_hide_them(write):
    folder = write([*names("{s}/{e}/{n}"), "read me.wav"])
    draft = draft_description(folder, "mine")
    assert [part.meaning for part in draft.parts] == ["speaker", "emotion", "number"]
    assert (draft.num_files, draft.num_named) == (28, 27)


def test_the_command_writes_a_draft_that_makes_the_corpus_known(write, tmp_path, capsys):
    from featcache.cli.new_corpus import print_new_corpus

    folder = write(names("{s}_{e}_{n}"), tmp_path / "My corpus")
    write(["odd name.wav"], folder)
    print_new_corpus(folder, None, None)
    told = capsys.readouterr().out
    assert "27 of 28 audio files" in told
    assert "'odd name.wav'" in told
    assert "anna 9, bert 9, cleo 9" in told
    assert "anger 9, happiness 9, neutral 9" in told
    assert read_corpus(folder).reference == "my-corpus"
    assert CORPORA["my-corpus"].classes == ("anger", "happiness", "neutral")
    with pytest.raises(CorpusError, match=r"my-corpus.yaml exists; remove it, or write another file with --out"):
        print_new_corpus(folder, None, None)
    with pytest.raises(CorpusError, match="a corpus 'emodb' is known already; choose another name with --name"):
        print_new_corpus(folder, "emodb", None)
    with pytest.raises(CorpusError, match="name: expected lower-case letters"):
        print_new_corpus(folder, "x", tmp_path / "ok.yaml") or print_new_corpus(folder, "A b", tmp_path / "x.yaml")
    assert not (tmp_path / "x.yaml").exists()


def test_folders_without_common_names_are_refused(write, tmp_path):
    with pytest.raises(CorpusError, match="no audio files; give the folder of the corpus"):
        draft_description(tmp_path, "mine")
    with pytest.raises(CorpusError, match=r"names have no common form; write a manifest.csv instead"):
        draft_description(write(["a.wav"]), "mine")
    with pytest.raises(CorpusError, match="whose names contain control characters; rename them"):
        draft_description(write(["a\n1.wav", "a\n2.wav"], tmp_path / "strange"), "mine")
