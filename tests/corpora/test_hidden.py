"""Hidden files of macOS, archives and version control are not part of a corpus, for any reader."""

import json
import logging
import shutil

import pytest

from featcache.corpora import CORPORA, read_corpus
from featcache.manifest import Manifest
from featcache.workspace import Workspace

APPLE = b"\0\x05\x16\x07\0\x02\0\0Mac OS X        \0\xff"
ROW = {"key": "toy-1", "dataset": "toy", "wav": "1.wav", "emo": "neu"}
CORPORA_WITH_FILES = {
    "manifest": {"manifest.csv": "path,emotion\n1.wav,joy\n"},
    "huggingface csv": {"train/metadata.csv": "file_name,emotion\n1.wav,joy\n", "train/1.wav": "RIFF"},
    "huggingface jsonl": {"metadata.jsonl": '{"file_name": "1.wav"}\n'},
    "emobox": {"fold_1/toy_train_fold_1.jsonl": json.dumps(ROW) + "\n", "1.wav": "RIFF"},
    "emodb": {"03a01Fa.wav": "RIFF"},
    "iemocap": {
        "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav": "RIFF",
        "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt": "[6.2 - 8.2]\tSes01F_impro01_F000\tneu\t[2.5, 2.5, 2.5]\n",
    },
    "msp-podcast": {
        "Audios/MSP-PODCAST_0001_0008.wav": "RIFF",
        "Labels/labels_consensus.csv": "FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set\n"
        "MSP-PODCAST_0001_0008.wav,N,2.2,4.0,2.6,30,Male,Test1\n",
        "Transcripts/MSP-PODCAST_0001_0008.txt": "Hello.",
    },
}


@pytest.mark.parametrize("name", CORPORA_WITH_FILES)
def test_every_reader_skips_what_is_hidden(write, tmp_path, name):
    folder = write(CORPORA_WITH_FILES[name], tmp_path / "toy")
    read = folder / "fold_1" if name == "emobox" else folder
    before = read_corpus(read)
    for path in list(folder.rglob("*")):
        if path.is_file():
            path.with_name(f"._{path.name}").write_bytes(APPLE)
            path.with_name(".DS_Store").write_bytes(APPLE)
    shutil.copytree(folder, tmp_path / "copy")
    for hidden in ("__MACOSX", ".git"):
        shutil.copytree(tmp_path / "copy", folder / hidden)
    after = read_corpus(read)
    assert list(after.manifest) == list(before.manifest)
    assert (after.corpus, after.ignored, after.missing) == (before.corpus, before.ignored, before.missing)


@pytest.mark.parametrize("kind", ["manifest.csv", "metadata.csv", "metadata.jsonl"])
def test_rows_of_what_macos_adds_are_left_out_and_told(tmp_path, caplog, kind):
    names = ["1.wav", "._1.wav", "__MACOSX/1.wav", "x/.DS_Store", ".hidden/2.wav"]
    column = "path" if kind == "manifest.csv" else "file_name"
    lines = [column, *names] if kind.endswith("csv") else [json.dumps({column: name}) for name in names]
    (tmp_path / kind).write_text("\n".join(lines) + "\n")
    with caplog.at_level(logging.WARNING):
        manifest = read_corpus(tmp_path).manifest
    assert [utterance.path for utterance in manifest] == ["1.wav", ".hidden/2.wav"]  # the user's own hidden files count
    assert "files that macOS added are ignored (3): '._1.wav', '__MACOSX/1.wav', 'x/.DS_Store'" in caplog.text


def test_folders_of_corpora_and_caches(tmp_path):
    for name in ("emodb", "__MACOSX", ".git"):
        (tmp_path / "corpora" / name).mkdir(parents=True)
    assert Workspace.at(tmp_path).find_corpus(None, None)[0] == "emodb"
    assert CORPORA


def test_a_resource_file_in_place_of_a_table_is_named(tmp_path):
    (tmp_path / "._manifest.csv").write_bytes(APPLE)
    with pytest.raises(ValueError, match="not a CSV table but a macOS resource file"):
        Manifest.read(tmp_path / "._manifest.csv")
