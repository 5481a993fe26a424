"""Stores made apart and merged: the same as one extraction, however often, and after any interruption."""

import csv
import errno
import multiprocessing
import os
import re
import shutil
import signal
import sys

import numpy as np
import pytest
import soundfile

import featcache
from featcache.cache.reader import FeatureStore
from featcache.cache.request import REQUEST
from featcache.cache.shards import shard_numbers
from featcache.cache.writer import StoreWriter
from featcache.cli import app as cli
from featcache.corpora.synthetic import make_corpus
from featcache.errors import StoreError
from featcache.extraction import extract
from featcache.extraction import merge as merging
from featcache.extraction import plan as planning
from featcache.extraction.merge import merge
from featcache.files import regular as files
from featcache.manifest import Manifest

NUM_PARTS = 3


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch):
    monkeypatch.setattr(planning, "SHARD_UTTERANCES", 2)


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    """Sixteen short utterances."""
    folder = tmp_path_factory.mktemp("corpora") / "speech"
    make_corpus(folder, num_speakers=2, repetitions=2)
    return folder


@pytest.fixture
def corpus(speech, tmp_path):
    """The sixteen, to be changed."""
    return shutil.copytree(speech, tmp_path / "speech")


@pytest.fixture
def run(corpus, tmp_path):
    """Extract into ``tmp_path / home``, and give the store's folder there."""

    def run(home, model="spectrogram", **options):
        report = extract(**{"model": model, "data": corpus, "home": tmp_path / home, "egemaps": False, **options})
        return report.cache / report.stores[0]

    return run


@pytest.fixture(scope="module")
def extracted_parts(speech, tmp_path_factory):
    """Where the three parts of a spectrogram's extraction were made."""
    home = tmp_path_factory.mktemp("parts")
    options = {"model": "spectrogram", "data": speech, "num_shards": NUM_PARTS}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "SHARD_UTTERANCES", 2)
        for index in range(NUM_PARTS):
            extract(**options, shard_index=index, home=home / f"part-{index}")
    return home


@pytest.fixture
def parts(extracted_parts, tmp_path):
    """The parts, to be merged and damaged."""
    shutil.copytree(extracted_parts, tmp_path, dirs_exist_ok=True)
    return [tmp_path / f"part-{index}" / "cache" / "speech" / "spectrogram" for index in range(NUM_PARTS)]


def contents(*folders):
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes())
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file()
    }


def check_equal(folder, expected):
    """Bit for bit: features, statistics and what is said of each utterance."""
    store, whole = FeatureStore(folder), FeatureStore(expected)
    assert set(store) == set(whole)
    assert store.metadata["fingerprint"] == whole.metadata["fingerprint"]
    for key in whole:
        np.testing.assert_array_equal(store.view(key), whole.view(key))
    ids = list(whole)
    for kind in ("mean", "std", "max"):
        np.testing.assert_array_equal(store.pooled(kind, ids), whole.pooled(kind, ids))
    assert store.audio_sha256(ids) == whole.audio_sha256(ids)
    return store


@pytest.mark.parametrize("links", [True, False])
def test_merged_parts_are_one_extraction(run, tiny_model, tmp_path, monkeypatch, links):
    if not links:

        def refuse(_source, _target):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

        monkeypatch.setattr(files.os, "link", refuse)
    options = {"model": tiny_model("wav2vec2"), "name": "tiny", "store": "int8", "egemaps": True}
    whole = run("whole", **options)
    parts = [run(f"part-{index}", shard_index=index, num_shards=NUM_PARTS, **options) for index in range(NUM_PARTS)]
    before = contents(*(part.parents[2] for part in parts))
    for name in ("tiny", "egemaps"):
        into = tmp_path / "merged" / "speech" / name
        merged = merge(into, [part.parent / name for part in parts])
        assert merged == merging.Merged(num_shards=9, num_utterances=16, num_failed=0, complete=True)
        store = check_equal(into, whole.parent / name)
        assert store.complete
        assert store.metadata["num_requested"] == 16
        first = into / "shard-00000.h5", parts[0].parent / name / "shard-00000.h5"
        assert os.path.samefile(*first) == links
        assert first[0].read_bytes() == first[1].read_bytes()
    assert contents(*(part.parents[2] for part in parts)) == before
    cache = featcache.open(tmp_path / "merged" / "speech")
    assert list(cache.manifest) == list(featcache.open(whole.parent).manifest)
    assert (cache.path / "corpus.json").read_bytes() == (whole.parent / "corpus.json").read_bytes()


def test_a_merged_store_is_fitted_and_extended_right_away(run, parts, corpus, tmp_path, quick_reports):
    into = tmp_path / "merged" / "cache" / "speech" / "spectrogram"
    merge(into, parts)
    options = {"head": "dense", "features": ["spectrogram"], "norm": "global", "home": tmp_path / "merged"}
    result = featcache.fit(**options, protocol="random-80-20", seeds=[1], training={"max_epochs": 1})
    assert "uar" in result.metrics
    before = contents(into)
    report = extract(model="spectrogram", data=corpus, home=tmp_path / "merged")
    assert report.num_extracted == 0
    assert {k: v for k, v in contents(into).items() if "shard" in k.name} == {
        k: v for k, v in before.items() if "shard" in k.name
    }


def test_merging_again_changes_nothing(parts, tmp_path):
    into = tmp_path / "merged" / "speech" / "spectrogram"
    first = merge(into, parts)
    before = contents(into.parent)
    assert merge(into, parts) == merging.Merged(num_shards=0, num_utterances=16, num_failed=0, complete=True)
    after = contents(into.parent)
    assert first.num_shards == 9
    assert after.keys() == before.keys()
    # the index is written anew and carries its time
    assert [path.name for path in after if after[path] != before[path]] == ["index.h5"]
    assert FeatureStore(into).complete


def test_a_store_is_finished_with_its_last_part(run, parts, tmp_path):
    into = tmp_path / "merged" / "speech" / "spectrogram"
    for number, part in enumerate(parts, start=1):
        assert merge(into, [part]).complete == (number == NUM_PARTS)
        assert FeatureStore(into).complete == (number == NUM_PARTS)
    check_equal(into, run("whole"))


def test_a_limit_is_what_was_asked_for(run, tmp_path):
    parts = [run(f"part-{i}", limit=5, shard_index=i, num_shards=2) for i in range(2)]
    assert not merge(tmp_path / "merged" / "speech" / "one", parts[:1]).complete
    assert merge(tmp_path / "merged" / "speech" / "both", parts) == merging.Merged(
        num_shards=3, num_utterances=5, num_failed=0, complete=True
    )


def test_parts_of_their_own_manifests_come_together(run, corpus, tmp_path):
    manifest = Manifest.read(corpus / "manifest.csv")
    parts = []
    for number, half in enumerate((manifest[:7], manifest[7:])):
        half.write(corpus / "manifest.csv")
        parts.append(run(f"half-{number}"))
    into = tmp_path / "merged" / "speech" / "spectrogram"
    for part in parts:
        assert merge(into, [part]).complete
    assert list(featcache.open(into.parent).manifest) == list(manifest)
    manifest.write(corpus / "manifest.csv")
    assert FeatureStore(check_equal(into, run("whole")).path).utterance_ids == manifest.utterance_ids


@pytest.mark.parametrize("asked", [True, False])
def test_without_manifests_stores_say_what_they_were_asked_for(parts, run, tmp_path, asked):
    whole = run("whole", limit=4)
    for folder in (whole, *parts):
        (folder.parent / "manifest.csv").unlink()
        if not asked:  # as in stores of earlier releases
            (folder / REQUEST).unlink()
    assert merge(tmp_path / "alone" / "a", [whole]).complete
    merged = merge(tmp_path / "alone" / "b", parts)
    assert merged.complete == asked  # else nobody can tell whether this is all
    assert merged.num_utterances == 16
    assert not (tmp_path / "alone" / "manifest.csv").exists()


def test_no_manifest_is_left_among_other_files(parts, tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").touch()
    assert merge(tmp_path / "home" / "spectrogram", parts).complete
    assert sorted(path.name for path in (tmp_path / "home").iterdir()) == ["letter.txt", "spectrogram"]


def _merge_and_die(into, parts, after):
    link = os.link
    done = []

    def link_or_die(source, target):
        if len(done) == after:
            os.kill(os.getpid(), signal.SIGKILL)
        done.append(target)
        link(source, target)

    files.os.link = link_or_die
    merge(into, parts)


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork to kill its own copy")
@pytest.mark.parametrize("after", [0, 1, 4, 8])
def test_a_killed_merge_is_done_by_the_next(run, parts, tmp_path, after):
    into = tmp_path / "merged" / "speech" / "spectrogram"
    process = multiprocessing.get_context("fork").Process(target=_merge_and_die, args=(into, parts, after))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert len(shard_numbers(into)) == after
    if after:
        assert not FeatureStore(into).complete
    merged = merge(into, parts)
    assert merged.complete
    assert merged.num_shards == 9 - after
    check_equal(into, run("whole"))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork to kill its own copy")
@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_merge_of_limited_parts_without_manifests_is_done_by_another_one(run, tmp_path, after):
    """Whoever merges again, be it part by part: what was asked for is known."""
    parts = [run(f"part-{index}", limit=6, shard_index=index, num_shards=3) for index in range(NUM_PARTS)]
    for part in parts:
        (part.parent / "manifest.csv").unlink()
    into = tmp_path / "merged" / "spectrogram"
    process = multiprocessing.get_context("fork").Process(target=_merge_and_die, args=(into, parts, after))
    process.start()
    process.join()
    assert len(shard_numbers(into)) == after
    for part in parts:
        merged = merge(into, [part])
    assert merged == merging.Merged(num_shards=merged.num_shards, num_utterances=6, num_failed=0, complete=True)
    store = FeatureStore(into)
    assert (store.complete, store.num_requested, store.num_in_corpus) == (True, 6, 16)


@pytest.mark.parametrize("limit", [None, 6])
@pytest.mark.parametrize("manifests", [True, False])
def test_a_part_that_is_still_being_extracted_is_completed_later(run, corpus, tmp_path, monkeypatch, limit, manifests):
    done = run("part-0", limit=limit, shard_index=0, num_shards=2)
    write_shard = StoreWriter.write_shard
    into, asked = tmp_path / "merged" / "spectrogram", limit or 16

    def write_and_merge(writer, records, number=None):
        write_shard(writer, records, number)
        if not manifests:
            (writer.folder.parent / "manifest.csv").unlink(missing_ok=True)
        merged = merge(into, [done, writer.folder])
        assert merged.complete == (merged.num_utterances == asked)

    if not manifests:
        (done.parent / "manifest.csv").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(StoreWriter, "write_shard", write_and_merge)
        running = run("part-1", limit=limit, shard_index=1, num_shards=2)
    store = FeatureStore(into)
    assert store.num_requested == asked
    assert merge(into, [running]).complete
    (into / "index.h5").unlink()
    assert FeatureStore(into).complete


def test_a_merge_never_overwrites_a_shard(parts, tmp_path, monkeypatch):
    """As where a file system has no locks, and another process writes at the same time."""
    into = tmp_path / "merged" / "speech" / "spectrogram"
    link = os.link

    def other_first(source, target):
        if os.path.basename(target) == "shard-00005.h5":
            shutil.copyfile(parts[0] / "shard-00000.h5", target)
        link(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "link", other_first)
        with pytest.raises(
            StoreError, match=r"another process has written .*shard-00005.h5 meanwhile; what was merged"
        ):
            merge(into, parts)
    assert (into / "shard-00005.h5").read_bytes() == (parts[0] / "shard-00000.h5").read_bytes()
    assert merge(into, parts).complete


@pytest.mark.parametrize("after", range(4))
def test_features_that_are_out_of_date_never_come_back(run, corpus, tmp_path, monkeypatch, after):
    """A part whose audio changed holds an utterance twice; wherever a merge is stopped, the newer one counts."""
    victim = min(corpus.rglob("*.wav"))
    part = run("part")
    samples, rate = soundfile.read(victim)
    soundfile.write(victim, samples[: len(samples) // 2], rate)
    run("part")
    whole = run("whole")
    into = tmp_path / "merged" / "speech" / "spectrogram"
    # the store has the newer one already, so that the shard with the older one is taken for its neighbour alone
    manifest = Manifest.read(corpus / "manifest.csv")
    manifest.subset([victim.stem]).write(corpus / "manifest.csv")
    merge(into, [run("other")])
    done = []

    def link_or_stop(source, target):
        if len(done) == after:
            raise KeyboardInterrupt
        done.append(target)
        shutil.copyfile(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "link", link_or_stop)
        with pytest.raises(KeyboardInterrupt):
            merge(into, [part])
    expected = FeatureStore(whole)
    assert victim.stem in FeatureStore(into)
    for key, features in FeatureStore(into).items():
        np.testing.assert_array_equal(features, expected[key])
    assert merge(into, [part]).complete
    check_equal(into, whole)


def test_other_audio_is_refused(run, corpus, tmp_path):
    first = run("first")
    victim = min(corpus.rglob("*.wav"))
    samples, rate = soundfile.read(victim)
    soundfile.write(victim, samples[: len(samples) // 2], rate)
    second = run("second")
    into = tmp_path / "merged" / "speech" / "spectrogram"
    told = (
        f"^{re.escape(str(second))} has '{victim.stem}' from other audio than {re.escape(str(first))}; extract what is"
    )
    with pytest.raises(StoreError, match=told):
        merge(into, [first, second])
    assert not shard_numbers(into)


def test_other_settings_are_refused_and_named(run, parts, tmp_path):
    other = run("other", n_fft=1024)
    into = tmp_path / "merged" / "speech" / "spectrogram"
    told = f"{other} was made with other settings: n_fft is 1024 there and .* now; only what was made as {parts[0]} was"
    with pytest.raises(StoreError, match=told):
        merge(into, [*parts, other])
    assert not shard_numbers(into)
    merge(into, parts)
    before = contents(into.parent)
    with pytest.raises(StoreError, match=f"n_fft is 1024 there and .* now; only what was made as {into} was"):
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
    with pytest.raises(StoreError, match=r"nowhere holds no features; expected shards like shard-00000.h5"):
        merge(tmp_path / "merged", [*parts, tmp_path / "nowhere"])
    with pytest.raises(StoreError, match="is itself among the parts; name it once, as what they are merged into"):
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
            StoreError, match=r"shard-00004.h5 could not be written \(No space left on device\); what was"
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
        return capsys.readouterr().out.splitlines()

    assert tell(into, parts[1]) == [
        "4 shards taken; 8 utterances",
        "not finished: utterances are missing; merge the other parts too, or run 'featcache extract'",
        str(into),
    ]
    assert tell(into, *parts) == ["4 shards taken; 15 utterances, 1 listed in failures.csv", str(into)]
    assert tell(into, *parts) == ["nothing new; 15 utterances, 1 listed in failures.csv", str(into)]
    with open(into / "failures.csv", newline="") as file:
        assert [row["utterance_id"] for row in csv.DictReader(file)] == [victim.stem]
