"""Tokenizers, Whisper models and folders that name other files are refused in one line."""

import os
import shutil
from pathlib import Path

import pytest

from featcache.errors import ModelError
from featcache.extractors import create_extractor
from featcache.files.content import describe_content
from featcache.transcription.whisper import Transcriber
from tests.extractors.hostile.spoilt import DEEP, HTML, LFS, edit, one_line_or_fine, refused


@pytest.fixture
def text_folder(tiny_text_model, tmp_path):
    return Path(shutil.copytree(tiny_text_model("bert"), tmp_path / "models" / "my-bert"))


@pytest.mark.parametrize(
    ("key", "where"),
    [
        ("vocab_file", "absolute"),
        ("tokenizer_file", "../secret.txt"),
        ("special_tokens_map_file", "..\\secret.txt"),
        ("vocab", "absolute"),
        ("merges_file", "a/../../secret.txt"),
    ],
)
def test_tokenizers_name_no_file_elsewhere(text_folder, tmp_path, key, where):
    secret = tmp_path / "models" / "secret.txt"
    secret.write_text("[UNK]\nhello\n")
    edit(text_folder, "tokenizer_config.json", **{key: str(secret) if where == "absolute" else where})
    refused(text_folder, rf"tokenizer_config\.json has '{key}': .*, outside of the folder", text=True)


def test_the_paths_that_a_tokenizers_author_had_do_no_harm(text_folder, tiny_text_model):
    edit(text_folder, "tokenizer_config.json", special_tokens_map_file="/no/such/cache/map.json", tokenizer_file=None)
    own, usual = (create_extractor(str(model), text=True) for model in (text_folder, tiny_text_model("bert")))
    assert own.description.settings["tokenizer_sha256"] == usual.description.settings["tokenizer_sha256"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        *(("tokenizer.json", content) for content in (b"", LFS, DEEP, b"\x80\x04\x95 pickled", "link", "fifo")),
        *(("vocab.txt", content) for content in (b"", HTML, b"\x80\x04\x95 pickled", "link", "fifo")),
        ("tokenizer_config.json", LFS),
        ("special_tokens_map.json", "link"),
    ],
)
def test_files_of_a_tokenizer_are_checked(text_folder, tmp_path, name, content):
    path = text_folder / name
    path.unlink(missing_ok=True)
    outside = tmp_path / name
    outside.write_text("{}")
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        {"link": lambda: path.symlink_to(outside), "fifo": lambda: os.mkfifo(path)}[content]()
    refused(text_folder, r"my-bert: cannot be loaded \(", text=True)


@pytest.mark.parametrize(
    "changes",
    [
        {"model_max_length": "many"},
        {"model_max_length": [1]},
        {"tokenizer_class": "NoSuchTokenizer"},
        {"tokenizer_class": 7},
        {"auto_map": {"AutoTokenizer": ["own.Tokenizer", None]}, "tokenizer_class": "Own"},
        {"unk_token": 3.5},
        {"added_tokens_decoder": "x"},
    ],
)
def test_settings_of_a_tokenizer_are_followed_or_refused(text_folder, tmp_path, changes):
    sprung = tmp_path / "sprung"
    (text_folder / "own.py").write_text(f"open({str(sprung)!r}, 'w')\nclass Tokenizer: pass\n")
    edit(text_folder, "tokenizer_config.json", **changes)
    one_line_or_fine(lambda: create_extractor(str(text_folder), text=True))
    assert not sprung.exists()


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "generation_config.json", "config.json"])
def test_transcription_reads_no_link_that_leads_out(tiny_model, tmp_path, name):
    folder = Path(shutil.copytree(tiny_model("whisper"), tmp_path / "whisper"))
    (folder / name).unlink(missing_ok=True)
    (tmp_path / name).write_text("{}")
    (folder / name).symlink_to(tmp_path / name)
    with pytest.raises(ModelError, match="outside of the folder"):
        Transcriber(str(folder))


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize(
    "model", ["/no/such/folder", "./folder", "../folder", "~/folder", "a/b/c", "C:\\models\\mine", "x\\y", "folder/"]
)
def test_a_folder_that_does_not_exist_is_called_so(model, text):
    refused(model, r"^model folder .* does not exist; expected a folder with config\.json and", text=text)


def test_transcription_says_the_same():
    with pytest.raises(ModelError, match=r"^model folder './folder' does not exist; expected a folder"):
        Transcriber("./folder")


def test_a_file_is_no_folder(folder):
    refused(folder / "model.safetensors", "^model folder .* is not a folder; expected a folder with config")


@pytest.mark.parametrize(
    ("head", "found"),
    [
        (b"", "empty"),
        (LFS, "git lfs pull"),
        (HTML, "HTML"),
        (b"\x80\x04", "pickle"),
        (b"\0\0", "zeros"),
        (b"\x01ab", None),
    ],
)
def test_content_is_described_by_its_first_bytes(head, found):
    described = describe_content(head, text=False)
    assert described is None if found is None else found in described
