"""Other audio under the same ids in an existing cache is found before anything is written."""

import logging
import shutil

import numpy as np
import pytest
import soundfile

import featcache
from featcache.errors import CorpusError, StoreError
from featcache.extraction import dask_worker, extract
from featcache.extraction.inputs import AudioInput
from featcache.extractors.base import Extractor
from featcache.features import Description
from featcache.manifest import Manifest, Utterance

RATE, NUMBER = 8000, 6


class Means(Extractor):
    """Extractor of one layer: the mean of every 20 ms."""

    description = Description(
        dataset="hidden_states",
        layer_names=("0",),
        hidden_size=1,
        frame_shift=0.02,
        sampling_rate=None,
        channel="mean",
        settings={"extractor": "made-up"},
    )

    def num_frames(self, num_samples, sampling_rate):
        return num_samples // 160

    def hop(self, sampling_rate):
        return 160

    def extract(self, signals):
        return [s.samples[: len(s.samples) // 160 * 160].reshape(1, -1, 160).mean(axis=2)[..., None] for s in signals]


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """Return a corpus of six utterances of three speakers; every model name gives the same simple extractor."""
    monkeypatch.setattr(dask_worker, "create_extractor", lambda _model, **_options: Means())
    folder = tmp_path / "one" / "speech"
    write(folder, range(NUMBER))
    return folder


def write(folder, numbers, *, seed=0, **more):
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        samples = 0.1 * np.random.default_rng((seed, number)).standard_normal(RATE // 2)
        soundfile.write(folder / f"u{number}.wav", samples, RATE, subtype="FLOAT")
    rows = [
        Utterance(
            utterance_id=f"u{number}",
            path=f"u{number}.wav",
            speaker_id="abc"[number % 3],
            labels={"emotion": "xy"[number // 3]},
            **more,
        )
        for number in range(NUMBER)
    ]
    Manifest(rows).write(folder / "manifest.csv")


def run(folder, name, **options):
    return extract(
        **{"model": "wav2vec2-base", "data": folder, "name": name, "egemaps": False, "workers": 1, **options}
    )


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_another_corpus_of_the_same_name_and_ids_is_refused_before_anything_is_written(corpus, tmp_path):
    cache = run(corpus, "first").cache
    other = tmp_path / "two" / "speech"
    write(other, range(NUMBER), seed=1)
    before = contents(cache)
    for options in ({}, {"dry_run": True}, {"limit": 2}, {"shard_index": 1, "num_shards": 3}):
        number = 2 if options and not options.get("dry_run") else NUMBER
        told = (
            rf"first was made from other audio than .*two/speech: all {number} common utterances differ .*; give this "
        )
        with pytest.raises(CorpusError, match=told) as found:
            run(other, "second", **options)
        assert "\n" not in str(found.value)
        assert contents(cache) == before
        assert not (cache / "second").exists()
    assert run(other, "second", corpus="another").num_extracted == NUMBER


def test_audio_of_which_a_part_has_changed_names_the_stores_that_are_out_of_date(corpus, caplog):
    caplog.set_level(logging.WARNING)
    cache = run(corpus, "first").cache
    run(corpus, "second")
    assert not caplog.records
    write(corpus, [1, 4], seed=2)
    run(corpus, "second")
    told = [record.getMessage() for record in caplog.records]
    assert told == [
        f"{cache / 'first'} was made from other audio in 2 of 6 utterances ('u1', 'u4'); extract it again, "
        "or 'featcache fit' refuses to use it with newer stores",
        "audio changed since it was extracted: 2 stored utterances are extracted again",
    ]
    with pytest.raises(
        StoreError, match=r"first and second were extracted from different audio in 2 of 6 utterances \('u1', 'u4'\)"
    ):
        featcache.fit(head="fusion", features=["first", "second"], target="emotion", seeds=(1,))
    run(corpus, "first")
    caplog.clear()
    run(corpus, "third")
    assert not caplog.records


def test_other_times_in_the_same_files_are_other_audio(corpus, caplog):
    run(corpus, "first")
    write(corpus, (), end=0.25)
    with pytest.raises(CorpusError, match="all 6 common utterances differ"):
        run(corpus, "second")
    run(corpus, "first")
    run(corpus, "second")


def test_audio_that_is_gone_and_stores_that_are_damaged_are_no_obstacle(corpus):
    cache = run(corpus, "first").cache
    (corpus / "u0.wav").unlink()
    assert run(corpus, "second").num_extracted == NUMBER - 1
    for path in (cache / "first").glob("*.h5"):
        path.write_bytes(b"no HDF5")
    run(corpus, "third")


def test_files_are_read_for_it_only_where_another_store_has_them(corpus, monkeypatch):
    asked = []
    checksum = AudioInput.checksum
    monkeypatch.setattr(AudioInput, "checksum", lambda source, key: asked.append(key) or checksum(source, key))
    run(corpus, "first", limit=2)
    assert asked == []
    run(corpus, "second")
    assert len(asked) == 2


def test_stores_that_do_not_know_their_audio_are_not_compared(corpus, write_store):
    cache = run(corpus, "first").cache
    features = {i: np.asarray(values) for i, values in featcache.open(cache)["first"].items()}
    shutil.rmtree(cache / "first")
    write_store(cache / "imported", features)
    assert run(corpus, "second").num_extracted == NUMBER
