"""Merged parts equal one extraction, also after repeated or interrupted merges."""

import errno
import multiprocessing
import os
import shutil
import signal

import numpy as np
import pytest
import soundfile

import featcache
from featcache.cache.reader import FeatureStore
from featcache.cache.request import REQUEST
from featcache.cache.shards import shard_numbers
from featcache.cache.writer import StoreWriter
from featcache.errors import StoreError
from featcache.extraction import extract
from featcache.extraction import merge as merging
from featcache.extraction.merge import merge
from featcache.files import regular as files
from featcache.manifest import Manifest
from tests.extraction.merging.parts import NUM_PARTS, check_equal, contents


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
    result = featcache.fit(**options, protocol="random-80-20", seeds=[1], max_epochs=1)
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
    # The index is written again, with a new time.
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
        if not asked:  # As in stores of earlier releases.
            (folder / REQUEST).unlink()
    assert merge(tmp_path / "alone" / "a", [whole]).complete
    merged = merge(tmp_path / "alone" / "b", parts)
    assert merged.complete == asked  # Otherwise it is not known whether the store is complete.
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
    """The request is known to any later merge, even part by part."""
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

    def write_and_merge(writer, records, number=None, decoders=()):
        write_shard(writer, records, number, decoders)
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
    """No shard is overwritten if the file system has no locks and another process writes at the same time."""
    into = tmp_path / "merged" / "speech" / "spectrogram"
    link = os.link

    def other_first(source, target):
        if os.path.basename(target) == "shard-00005.h5":
            shutil.copyfile(parts[0] / "shard-00000.h5", target)
        link(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "link", other_first)
        with pytest.raises(
            StoreError, match=r"another process wrote .*shard-00005.h5 at the same time; shards that were merged"
        ):
            merge(into, parts)
    assert (into / "shard-00005.h5").read_bytes() == (parts[0] / "shard-00000.h5").read_bytes()
    assert merge(into, parts).complete


@pytest.mark.parametrize("after", range(4))
def test_features_that_are_out_of_date_never_come_back(run, corpus, tmp_path, monkeypatch, after):
    """If a part contains an utterance twice, because its audio changed, the newer one counts after a stopped merge."""
    victim = min(corpus.rglob("*.wav"))
    part = run("part")
    samples, rate = soundfile.read(victim)
    soundfile.write(victim, samples[: len(samples) // 2], rate)
    run("part")
    whole = run("whole")
    into = tmp_path / "merged" / "speech" / "spectrogram"
    # The store has the newer one already, so that the shard with the older one is added only for its neighbour.
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
