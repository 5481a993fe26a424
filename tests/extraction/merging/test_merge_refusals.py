"""Merges of incompatible or damaged stores are refused in one line, and nothing is lost."""

import csv
import errno
import os
import re
import sys

import pytest
import soundfile

from featcache.cache.shards import shard_numbers
from featcache.cli import app as cli
from featcache.errors import StoreError
from featcache.extraction import extract
from featcache.extraction.merge import merge
from featcache.files import regular as files
from tests.extraction.merging.parts import check_equal, contents


def test_other_audio_is_refused(run, corpus, tmp_path):
    first = run("first")
    victim = min(corpus.rglob("*.wav"))
    samples, rate = soundfile.read(victim)
    soundfile.write(victim, samples[: len(samples) // 2], rate)
    second = run("second")
    into = tmp_path / "merged" / "speech" / "spectrogram"
    told = f"^{re.escape(str(second))} has '{victim.stem}' from other audio than {re.escape(str(first))}; extract the "
    with pytest.raises(StoreError, match=told):
        merge(into, [first, second])
    assert not shard_numbers(into)


def test_other_settings_are_refused_and_named(run, parts, tmp_path):
    other = run("other", n_fft=1024)
    into = tmp_path / "merged" / "speech" / "spectrogram"
    only = f"only stores with the same settings can be merged with {parts[0]}"
    told = f"{other} was made with other settings: n_fft is 1024 there and .* now; {only}"
    with pytest.raises(StoreError, match=told):
        merge(into, [*parts, other])
    assert not shard_numbers(into)
    merge(into, parts)
    before = contents(into.parent)
    with pytest.raises(
        StoreError,
        match=f"n_fft is 1024 there and .* now; only stores with the same settings can be merged with {into}",
    ):
        merge(into, [other])
    assert contents(into.parent) == before


def test_a_damaged_part_is_refused(parts, tmp_path):
    shard = parts[1] / "shard-00001.h5"
    shard.write_bytes(shard.read_bytes()[:-100])
    into = tmp_path / "merged" / "speech" / "spectrogram"
    with pytest.raises(StoreError, match=rf"{shard}: not readable as HDF5 \(.*\); remove it and extract again"):
        merge(into, parts)
    assert not shard_numbers(into)


def test_what_is_no_store_and_the_store_itself_are_refused(parts, tmp_path):
    with pytest.raises(StoreError, match=r"nowhere contains no features; expected shards such as shard-00000.h5"):
        merge(tmp_path / "merged", [*parts, tmp_path / "nowhere"])
    with pytest.raises(StoreError, match="is also one of the parts; name it only once, as the first argument"):
        merge(parts[0], parts)


def test_a_full_disk_keeps_what_was_taken(run, parts, tmp_path, monkeypatch):
    copied = []

    def copyfile(source, target):
        if len(copied) == 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        copied.append(target)
        target.write_bytes(source.read_bytes())

    def refuse(_source, _target):
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    into = tmp_path / "merged" / "speech" / "spectrogram"
    monkeypatch.setattr(files.os, "link", refuse)
    with monkeypatch.context() as patch:
        patch.setattr(files.shutil, "copyfile", copyfile)
        with pytest.raises(
            StoreError,
            match=r"shard-00004.h5 could not be written \(No space left on device\); shards that were merged before",
        ):
            merge(into, parts)
    assert shard_numbers(into) == [5, 6, 7, 8]
    assert not list(into.glob(".*.tmp"))
    assert merge(into, parts).num_shards == 5
    check_equal(into, run("whole"))


def test_the_command_tells_what_came_of_it(corpus, tmp_path, monkeypatch, capsys):
    victim = min(corpus.rglob("*.wav"))
    victim.write_bytes(b"no audio")
    for index in range(2):
        extract(model="spectrogram", data=corpus, home=tmp_path / f"p{index}", shard_index=index, num_shards=2)
    parts = [tmp_path / f"p{index}" / "cache" / "speech" / "spectrogram" for index in range(2)]
    into = tmp_path / "merged" / "spectrogram"

    def tell(*arguments):
        monkeypatch.setattr(sys, "argv", ["featcache", "merge", *map(str, arguments)])
        with pytest.raises(SystemExit) as exited:
            cli.main()
        assert exited.value.code == 0
        return " ".join(capsys.readouterr().out.split())

    assert tell(into, parts[1]) == (
        "4 shards copied; 8 utterances "
        f"not finished: utterances are missing; merge the other parts too, or run 'featcache extract' {into}"
    )
    assert tell(into, *parts) == f"4 shards copied; 15 utterances, 1 listed in failures.csv {into}"
    assert tell(into, *parts) == f"nothing new; 15 utterances, 1 listed in failures.csv {into}"
    with open(into / "failures.csv", newline="") as file:
        assert [row["utterance_id"] for row in csv.DictReader(file)] == [victim.stem]
