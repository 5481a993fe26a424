"""Journal entries are never lost, never incomplete, and never mixed with entries of other settings."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featcache.errors import StoreError
from featcache.manifest import Utterance
from featcache.transcription.journal import Entry, Journal

SETTINGS = {"model_id": "tiny", "language": None}
# Texts for ids and transcripts, which never contain lone surrogates.
TEXTS = st.text(st.characters(codec="utf-8"))


def entry(utterance_id, transcript="word", **changes):
    return Entry(
        **{
            "utterance_id": utterance_id,
            "transcript": transcript,
            "audio_sha256": "1",
            "start": None,
            "end": None,
            **changes,
        }
    )


def write(path, *entries, settings=SETTINGS):
    journal = Journal(path, settings)
    journal.begin()
    for one in entries:
        journal.add(one)
    return journal


def read(path, settings=SETTINGS):
    return Journal(path, settings).entries


@given(st.lists(st.tuples(TEXTS, TEXTS, st.none() | st.floats(0, 1e6)), min_size=1))
def test_what_is_added_is_read_back_and_the_later_counts(rows):
    entries = [entry(utterance_id, text, start=start) for utterance_id, text, start in rows]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "journal.jsonl"
        write(path, *entries)
        assert read(path) == {one.utterance_id: one for one in entries}


def test_a_write_that_was_killed_costs_its_own_line_alone(tmp_path):
    path = tmp_path / "journal.jsonl"
    write(path, entry("a"), entry("b", "Wort\nund \u2028 Satz"), entry("c"))
    whole = path.read_bytes()
    ends = [number for number, byte in enumerate(whole, start=1) if byte == ord("\n")]
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        known = max(sum(end <= length for end in ends) - 1, 0)
        assert list(read(path)) == ["a", "b", "c"][:known]
        write(path, *(entry(name) for name in "abc"[known:]))
        assert list(read(path)) == ["a", "b", "c"]


def test_settings_that_differ_are_named(tmp_path):
    path = tmp_path / "mine" / "journal.jsonl"
    write(path, entry("a"))
    before = path.read_bytes()
    with pytest.raises(StoreError, match="mine was made with other settings: language is None there and de now; give"):
        read(path, {**SETTINGS, "language": "de"})
    assert path.read_bytes() == before


def test_overwriting_forgets_when_the_work_begins_and_not_before(tmp_path):
    path = tmp_path / "journal.jsonl"
    write(path, entry("a"))
    other = {**SETTINGS, "language": "de"}
    journal = Journal(path, other, overwrite=True)
    assert journal.entries == {}
    assert list(read(path)) == ["a"]
    journal.begin()
    assert read(path, other) == {}
    journal.add(entry("b"))
    assert list(read(path, other)) == ["b"]


ROW = {"utterance_id": "x", "transcript": "y", "audio_sha256": "1", "start": None, "end": None}


@pytest.mark.parametrize(
    "line",
    [
        *("no json", "{}", '{"utterance_id": "x"}', "[]", '{"settings": {}}', "[" * 100_000, "5", "null"),
        *(json.dumps({**ROW, **change}) for change in ({"transcript": 5}, {"start": "1"}, {"end": []}, {"more": 1})),
        *(json.dumps({"settings": settings, "fingerprint": ""}) for settings in (5, [], "x")),
    ],
)
def test_a_damaged_journal_is_told(tmp_path, line):
    path = tmp_path / "journal.jsonl"
    write(path, entry("a"))
    header, first = path.read_text().splitlines()
    for lines in ([header, line, first], [line, first]):
        path.write_text("\n".join(lines) + "\n")
        with pytest.raises(StoreError, match=r"journal\.jsonl is damaged .*; transcribe all utterances again with --o"):
            read(path)


def test_a_full_disk_keeps_what_was_before(tmp_path, monkeypatch):
    path = tmp_path / "journal.jsonl"
    journal = write(path, entry("a"))

    def full(_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("featcache.transcription.journal.os.fsync", full)
        with pytest.raises(
            StoreError,
            match=r"could not be written \(No space left on device\); the 1 earlier transcripts are kept: free",
        ):
            journal.add(entry("b"))
    assert list(journal.entries) == ["a"]
    journal.add(entry("c"))
    assert list(read(path)) == ["a", "c"]


@pytest.mark.parametrize(
    ("changes", "checksum", "same"),
    [
        ({}, "1", True),
        ({}, "2", False),
        ({}, None, True),  # The audio no longer exists.
        ({"start": 0.5}, "1", False),
        ({"end": 0.5}, None, False),
    ],
)
def test_a_transcript_is_of_one_stretch_of_one_audio(changes, checksum, same):
    assert entry("a").is_of(Utterance(utterance_id="a", path="a.wav", **changes), checksum) is same


def test_lines_are_plain_json(tmp_path):
    path = tmp_path / "journal.jsonl"
    write(path, entry("ä", "für\n", start=1.5, end=2.0))
    lines = path.read_bytes().decode("ascii").splitlines()
    assert json.loads(lines[0])["settings"] == SETTINGS
    assert json.loads(lines[1]) == {
        "utterance_id": "ä",
        "transcript": "für\n",
        "audio_sha256": "1",
        "start": 1.5,
        "end": 2.0,
    }
