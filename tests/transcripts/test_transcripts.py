"""Transcripts on disk: every text is read back unchanged, and only finished transcripts are read."""

import csv
import os
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featcache.errors import StoreError
from featcache.transcripts.files import (
    is_finished,
    mark_unfinished,
    read_description,
    read_transcripts,
    transcript_names,
    write_transcripts,
)
from featcache.workspace import check_name

TEXTS = st.text(st.characters(codec="utf-8")) | st.sampled_from(["", "\r", "\n", '"', ",", '"",\r\n', "\u2028", "NA"])
DESCRIPTION = {"settings": {"model_id": "tiny"}, "wer": None}


def begin(cache, name):
    """Make the files of a transcription that has started."""
    folder = cache / "transcripts" / name
    folder.mkdir(parents=True)
    (folder / "journal.jsonl").touch()


@given(st.dictionaries(TEXTS, TEXTS))
def test_any_text_comes_back_in_its_order(transcripts):
    with TemporaryDirectory() as folder:
        write_transcripts(Path(folder), "mine", transcripts, DESCRIPTION)
        found = read_transcripts(Path(folder), "mine")
        assert list(found.items()) == list(transcripts.items())
        assert read_description(Path(folder), "mine") == DESCRIPTION


def test_the_table_is_one_that_pandas_reads(tmp_path):
    transcripts = {"a": 'He said "no",\nand left.', "b": "", "c": "für Ämter 🙂"}
    write_transcripts(tmp_path, "mine", transcripts, DESCRIPTION)
    table = pd.read_csv(tmp_path / "transcripts" / "mine.csv", keep_default_na=False)
    assert list(table.columns) == ["utterance_id", "transcript"]
    assert dict(table.itertuples(index=False)) == transcripts


def test_hours_of_words_come_back(tmp_path):
    before = csv.field_size_limit(131072)  # Python's default
    try:
        transcripts = {"a": "word " * 100_000}
        write_transcripts(tmp_path, "mine", transcripts, DESCRIPTION)
        assert read_transcripts(tmp_path, "mine") == transcripts
    finally:
        csv.field_size_limit(before)


def test_what_is_missing_is_told_with_what_is_there(tmp_path):
    with pytest.raises(
        StoreError, match=r"no transcripts 'mine' in .* \(available: none\); make them with 'featcache trans"
    ):
        read_transcripts(tmp_path, "mine")
    write_transcripts(tmp_path, "one", {"a": "x"}, DESCRIPTION)
    begin(tmp_path, "two")
    for read in (read_transcripts, read_description):
        with pytest.raises(StoreError, match=r"no transcripts 'mine' in .* \(available: one, two\); make them with"):
            read(tmp_path, "mine")


def test_what_is_unfinished_is_refused(tmp_path):
    begin(tmp_path, "mine")
    for read in (read_transcripts, read_description):
        with pytest.raises(StoreError, match=r"the transcripts 'mine' of .* are unfinished; run the same"):
            read(tmp_path, "mine")
    write_transcripts(tmp_path, "mine", {"a": "x"}, DESCRIPTION)
    assert read_transcripts(tmp_path, "mine") == {"a": "x"}
    mark_unfinished(tmp_path, "mine")
    with pytest.raises(StoreError, match="unfinished"):
        read_transcripts(tmp_path, "mine")


@pytest.mark.parametrize("killed_at", [1, 2])
def test_a_kill_between_the_two_files_leaves_something_unfinished(tmp_path, monkeypatch, killed_at):
    begin(tmp_path, "mine")
    calls = []
    real = os.replace

    def replace(*arguments):
        calls.append(arguments)
        if len(calls) == killed_at:
            raise InterruptedError
        real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr("featcache.files.regular.os.replace", replace)
        with pytest.raises(InterruptedError):
            write_transcripts(tmp_path, "mine", {"a": "x"}, DESCRIPTION)
    assert not is_finished(tmp_path, "mine")
    with pytest.raises(StoreError, match="unfinished"):
        read_transcripts(tmp_path, "mine")


def test_what_killed_writes_left_is_removed_and_nothing_else(tmp_path):
    folder = tmp_path / "transcripts"
    folder.mkdir()
    unfinished = "0123456789abcdef" * 2
    (folder / f".mine.csv.{unfinished}.tmp").touch()
    (folder / f".mine.json.{unfinished}.tmp").touch()
    others = [folder / f".mine.csv.csv.{unfinished}.tmp", folder / f".mine2.json.{unfinished}.tmp"]
    for other in others:
        other.touch()
    write_transcripts(tmp_path, "mine", {"a": "x"}, DESCRIPTION)
    assert sorted(folder.iterdir()) == sorted([*others, folder / "mine.csv", folder / "mine.json"])


def test_names_are_those_of_finished_and_begun(tmp_path):
    assert transcript_names(tmp_path) == []
    write_transcripts(tmp_path, "whisper-tiny.en", {"a": "x"}, DESCRIPTION)
    write_transcripts(tmp_path, "both", {"a": "x"}, DESCRIPTION)
    begin(tmp_path, "both")
    begin(tmp_path, "begun")
    (tmp_path / "transcripts" / "empty").mkdir()
    assert transcript_names(tmp_path) == ["begun", "both", "whisper-tiny.en"]
    assert [is_finished(tmp_path, name) for name in transcript_names(tmp_path)] == [False, True, True]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "expected the columns utterance_id, transcript and two fields in every row"),
        (b"utterance_id,text\r\na,x\r\n", "expected the columns utterance_id, transcript"),
        (b"utterance_id,transcript\r\na,x,y\r\n", "two fields in every row"),
        (b'utterance_id,transcript\r\na,"x\r\n', "cannot be read as a CSV table in UTF-8"),
        (b"utterance_id,transcript\r\na,\xff\r\n", "cannot be read as a CSV table in UTF-8"),
        (b"utterance_id,transcript\r\na,x\r\na,y\r\n", "1 row with the id of an earlier row"),
    ],
)
def test_a_damaged_table_is_told(tmp_path, content, told):
    write_transcripts(tmp_path, "mine", {"a": "x"}, DESCRIPTION)
    (tmp_path / "transcripts" / "mine.csv").write_bytes(content)
    with pytest.raises(StoreError, match=told) as caught:
        read_transcripts(tmp_path, "mine")
    assert "\n" not in str(caught.value)


def test_a_table_that_is_gone_and_a_damaged_description_are_told(tmp_path):
    write_transcripts(tmp_path, "mine", {"a": "x"}, DESCRIPTION)
    (tmp_path / "transcripts" / "mine.csv").unlink()
    with pytest.raises(StoreError, match=r"mine\.csv: cannot be read"):
        read_transcripts(tmp_path, "mine")
    (tmp_path / "transcripts" / "mine.json").write_text("{")
    with pytest.raises(StoreError, match=r"mine\.json is damaged \(cannot be read as JSON"):
        read_description(tmp_path, "mine")


@pytest.mark.parametrize(
    "content",
    [
        *("[]", "null", "5", "{}", "[" * 100_000, '{"settings": 5}', '{"settings": {}, "wer": 5}'),
        *('{"settings": {}, "wer": {"percent": "x"}}', '{"settings": {}, "num_failed": "x"}', '{"settings": {"a": '),
        '{"settings": ' + '{"a": ' * 500 + "1" + "}" * 501,
    ],
)
def test_a_description_of_other_types_is_told_in_one_line(tmp_path, content):
    write_transcripts(tmp_path, "mine", {"a": "x"}, DESCRIPTION)
    (tmp_path / "transcripts" / "mine.json").write_text(content)
    with pytest.raises(StoreError, match=r"mine\.json is damaged \(") as caught:
        read_description(tmp_path, "mine")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["whisper-tiny", "whisper-tiny.en", "openai--whisper", "mit Leerzeichen", "größer"])
def test_names_of_files_are_names(name):
    assert check_name("transcripts", name) == name


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", ".hidden", "../x", "a/b", "/etc/x", "a\\b", "C:x", "a\0", "a\n", " a", "a ", "a.csv", "a.json"],
)
def test_other_names_are_refused_wherever_they_are_given(tmp_path, name):
    others = (partial(read_transcripts, tmp_path), partial(mark_unfinished, tmp_path))
    for use in (partial(check_name, "transcripts"), *others):
        with pytest.raises(StoreError, match=r"transcripts name .*: .*; choose another with --name"):
            use(name)
