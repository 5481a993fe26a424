"""Stores of other audio, and copies in several folds, are refused or reported before training."""

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import featcache
from featcache.cli.layers import print_layer_scores
from featcache.errors import StoreError
from featcache.fitting.checks import shared_audio
from featcache.manifest import Manifest, Utterance
from featcache.protocols import Fold
from featcache.transcripts.text import Transcript
from featcache.units import counted
from tests.fitting.checks.checked_caches import BAD


def sha(text):
    return Transcript(text=text).sha256


def recordings(ids, **changes):
    """Return utterance id → audio; the named utterances have other audio."""
    return {i: {"audio_sha256": sha(changes.get(i, i)), "duration": 1.0} for i in ids}


IDS = [
    f"{speaker}-{emotion}-{n}" for speaker in ("01", "02", "03", "04") for emotion in ("anger", "joy") for n in (1, 2)
]


@pytest.fixture
def two_stores(make_cache, write_store):
    """Return a function that makes a cache with ``first`` of a model and ``other`` of eGeMAPS, with the given audio."""

    def make(one, other):
        cache = featcache.open(make_cache())
        features = {i: np.array(cache["ssl"][i]) for i in IDS}
        write_store(cache.path / "first", features, recordings=one)
        descriptors = {i: values[:1] for i, values in features.items()}
        write_store(cache.path / "other", descriptors, kind="egemaps", recordings=other)
        return cache

    return make


TOGETHER = {"head": "fusion", "features": ["first", "other"]}


OTHER_AUDIO = (
    r"first and other were extracted from different audio in {} of 16 utterances \({}.*\); "
    r"run 'featcache extract' again for"
)


@pytest.mark.parametrize("head", ["fusion", "ffn"])
def test_stores_of_different_audio_are_refused(two_stores, resolved, head):
    two_stores(recordings(IDS), recordings(IDS, **{BAD: "changed"}))
    with pytest.raises(StoreError, match=OTHER_AUDIO.format(1, f"'{BAD}'")) as told:
        resolved(**TOGETHER | {"head": head})
    assert "\n" not in str(told.value)
    resolved(features=["first"])
    resolved(features=["other"])


@pytest.mark.parametrize("change", [{"start": 0.5}, {"end": 0.9}])
def test_other_times_in_the_same_file_are_other_audio(two_stores, resolved, change):
    other = recordings(IDS)
    other[BAD] |= change
    two_stores(recordings(IDS), other)
    with pytest.raises(StoreError, match=OTHER_AUDIO.format(1, f"'{BAD}'")):
        resolved(**TOGETHER)


def test_the_beginning_of_a_file_is_zero_seconds(two_stores, resolved, caplog):
    two_stores(recordings(IDS), {i: of | {"start": 0.0} for i, of in recordings(IDS).items()})
    resolved(**TOGETHER)
    assert not caplog.records


def test_utterances_that_take_no_part_may_be_of_other_audio(two_stores, resolved):
    cache = two_stores(recordings(IDS), recordings(IDS, **{BAD: "changed"}))
    Manifest([u for u in cache.manifest if u.utterance_id != BAD]).write(cache.path / "manifest.csv")
    resolved(**TOGETHER)


@pytest.mark.parametrize("unknown", [0, 1, "both"])
def test_stores_that_do_not_know_their_audio_are_told(two_stores, resolved, caplog, unknown):
    known, none = recordings(IDS), {i: {"audio_sha256": "", "duration": 1.0} for i in IDS}
    none[BAD]["duration"] = 2.0
    two_stores(*((none, none) if unknown == "both" else (known, none) if unknown else (none, known)))
    resolved(**TOGETHER)
    names = ["first", "other"] if unknown == "both" else [["first", "other"][unknown]]
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == len(names)
    for name, line in zip(names, told, strict=True):
        assert line.startswith(
            f"{name} does not record the audio of 16 of 16 utterances (imported features do not), so it cannot be"
        )
        compared = ("with the audio of first", "with the audio of other")
        assert line.endswith(compared if unknown == "both" else "; 1 of them differ in length")
    caplog.clear()
    resolved(features=["first"])
    assert not caplog.records


def test_text_is_compared_with_its_transcripts_and_not_with_audio(make_cache, write_store, resolved, caplog):
    manifest = Manifest(
        [
            Utterance(
                utterance_id=i, path="x.wav", speaker_id=i[:2], labels={"emotion": i[3:-2]}, transcript=f"say {i}"
            )
            for i in IDS
        ]
    )
    cache = featcache.open(make_cache(manifest=manifest))
    features = {i: np.array(cache["ssl"][i]) for i in IDS}
    write_store(cache.path / "first", features, recordings=recordings(IDS))
    texts = {u.utterance_id: {"audio_sha256": sha(u.transcript)} for u in manifest}
    settings = {"extractor": "text", "weights": "pretrained", "transcripts": "manifest"}
    write_store(cache.path / "text", features, kind="text", recordings=texts, settings=settings)
    resolved(features=["first", "text"], head="fusion")
    assert not caplog.records
    Manifest([replace(u, transcript="something else") if u.utterance_id == BAD else u for u in manifest]).write(
        cache.path / "manifest.csv"
    )
    resolved(features=["first", "text"], head="fusion", norm="none")
    [told] = [record.getMessage() for record in caplog.records]
    assert told == (
        "transcripts of 1 of 16 utterances in the manifest have changed since text was extracted ('02-joy-1'); "
        "run the same 'featcache extract' again"
    )


COPIES = r"folds test or validate on audio that they also train on, under another id: {} utterances \({}"


def test_copies_across_folds_are_told_with_their_ids(make_cache, write_store, resolved, caplog):
    cache = featcache.open(make_cache())
    features = {i: np.array(cache["ssl"][i]) for i in IDS}
    write_store(cache.path / "some", features, recordings=recordings(IDS, **{"04-joy-2": "01-joy-1"}))
    run = resolved(features=["some"])
    [told] = [record.getMessage() for record in caplog.records]
    # both are in the training part of all folds except those in which 02 is tested or 03 validates
    assert re.match("3 of 4 " + COPIES.format(2, "'01-joy-1' is '04-joy-2', '04-joy-2' is '01-joy-1'"), told)
    caplog.clear()
    print_layer_scores(["some"], corpus=None, protocol=None, target=None, task=None, select={}, out=run.path / "p")
    assert told in caplog.text
    caplog.clear()
    # both are from one speaker, who is in one part of each fold
    write_store(cache.path / "same", features, recordings=recordings(IDS, **{"01-joy-2": "01-joy-1"}))
    resolved(features=["same"])
    assert not caplog.records


@given(
    stretches=st.lists(
        st.tuples(st.sampled_from("ab"), st.integers(0, 12), st.integers(1, 5), st.integers(0, 2)),
        min_size=1,
        max_size=16,
    )
)
def test_shared_audio_is_found_as_by_looking_at_every_pair(stretches):
    ids = [f"u{number}" for number in range(len(stretches))]
    times = {i: (file, start, start + length) for i, (file, start, length, _) in zip(ids, stretches, strict=True)}
    part_of = {i: part for i, (*_, part) in zip(ids, stretches, strict=True)}
    fold = Fold(name="f", **{p: tuple(i for i in ids if part_of[i] == n) for n, p in enumerate(PARTS)})
    expected = {
        one
        for one in ids
        for other in ids
        if part_of[other] < part_of[one]
        and times[one][0] == times[other][0]
        and max(times[one][1], times[other][1]) < min(times[one][2], times[other][2])
    }
    warnings = shared_audio([fold], [StoreOf(times)], ids)
    assert bool(warnings) == bool(expected)
    if expected:
        assert f"another id: {counted(len(expected), 'utterance')} (" in warnings[0]


PARTS = ("train", "validation", "test")


class StoreOf:
    """Stand-in for a store, with only the identity of its audio."""

    is_of_words = False

    def __init__(self, times):
        self._times = times

    def audio_sha256(self, utterance_ids):
        return [self._times[i][0] for i in utterance_ids]

    def recordings(self, utterance_ids):
        return [self._times[i] for i in utterance_ids]


def test_many_copies_of_one_file_are_found_in_time():
    ids = [f"u{number}" for number in range(20_000)]
    folds = [
        Fold(name=str(k), train=tuple(ids[:9999]), validation=(ids[9999],), test=tuple(ids[10_000:])) for k in range(5)
    ]
    [told] = shared_audio(folds, [StoreOf(dict.fromkeys(ids, ("a", 0.0, np.inf)))], ids)
    assert "5 of 5 folds" in told
    assert "10001 utterances" in told
