"""Corpora of other packages and files: recognition, choice, record in the cache, and warnings if not installed."""

import json
import logging
import shutil

import numpy as np
import pytest
import soundfile

import featcache
from featcache import registry
from featcache.corpora import CORPORA, read_corpus
from featcache.corpora.recorded import corpus_of
from featcache.errors import CorpusError
from featcache.extraction.verify import recompute
from featcache.fitting.task import resolve_task
from featcache.protocols import own_protocol
from featcache.registry import name_plugins
from tests.installed import install, installed_in

CODE = """
from featcache.corpora.base import NamedCorpus, named
from featcache.manifest import Utterance

EMOTIONS = {"H": "happiness", "S": "sadness"}

def utterance(path, match):
    speaker, emotion, number = match.groups()
    return Utterance(
        utterance_id=f"{speaker}-{emotion}-{number}",
        path=path,
        speaker_id=speaker,
        labels={"feeling": EMOTIONS[emotion], "call": speaker, "emotion": "-"},
    )

MINE = NamedCorpus(
    name="emodb",
    title="My corpus",
    description="Four speakers.",
    license="mine",
    source="here",
    target="feeling",
    dialogue="call",
    max_frames=7,
    protocols=("mylab-unknown", "two-speakers"),
    example="spk1_H_03.wav",
    pattern=named(r"(spk\\d)_([A-Z])_(\\d)"),
    utterance=utterance,
)
"""
GROUP = "featcache.corpora"
NAMES = [f"spk{speaker}_{emotion}_{number}.wav" for speaker in range(4) for emotion in "HS" for number in range(2)]


@pytest.fixture
def site(tmp_path):
    with installed_in(tmp_path / "site") as folder:
        folder.mkdir()
        yield folder


@pytest.fixture
def audio(tmp_path):
    folder = tmp_path / "calls"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in NAMES:
        soundfile.write(folder / name, rng.uniform(-0.1, 0.1, 4000), 16000)
    return folder


def test_an_installed_corpus_is_recognised_and_recorded(site, audio, tmp_path):
    with pytest.raises(CorpusError, match="expected file names of a known corpus"):
        read_corpus(audio)
    install(site, "mylab-corpora", {"mylab.corpora": CODE}, {GROUP: {"mine": "mylab.corpora:MINE"}})
    files = read_corpus(audio)
    assert (files.corpus.title, files.reference, len(files.manifest)) == ("My corpus", "mine", 16)
    assert CORPORA["emodb"].title == "EmoDB"  # although the new corpus has the name "emodb", too
    featcache.extract(model="spectrogram", data=audio)
    record = json.loads((tmp_path / "data" / "cache" / "calls" / "corpus.json").read_text())
    assert record == {
        "corpus": "mine",
        "origin": {"reference": "mine", "distribution": "mylab-corpora", "version": "1.2"},
    }
    assert corpus_of(tmp_path / "data" / "cache" / "calls") is files.corpus


@pytest.mark.parametrize("form", ["module", "file"])
def test_a_corpus_that_the_user_names_is_used_from_extraction_to_folds(site, audio, tmp_path, form):
    if form == "module":
        install(site, "mylab", {"mylab_corpora": CODE})
        reference = "mylab_corpora:MINE"
    else:
        (tmp_path / "mine.py").write_text(CODE)
        reference = f"{tmp_path / 'mine.py'}:MINE"
    with pytest.raises(CorpusError, match="expected file names of a known corpus"):
        featcache.extract(model="spectrogram", data=audio)
    featcache.extract(model="spectrogram", data=audio, layout=reference)
    cache = featcache.open(tmp_path / "data" / "cache" / "calls")
    assert cache.manifest.labels("feeling")["spk0-H-0"] == "happiness"
    task = resolve_task(cache, ["spectrogram"], protocol=None, target=None)
    assert task.target.name == "feeling"
    assert task.protocol == "session-kfold"  # because it keeps whole dialogues together
    assert not [warning for warning in task.warnings if "split a call" in warning]
    leaking = resolve_task(cache, ["spectrogram"], protocol="random-80-20", target=None)
    assert any("split a call" in warning for warning in leaking.warnings)
    deviations = recompute(cache["spectrogram"], audio, 2)  # reads the corpus that the cache records
    assert all(deviation.within for deviation in deviations)


def test_a_cache_works_where_its_corpus_is_not_installed(site, audio, tmp_path, caplog):
    install(site, "mylab", {"mylab_corpora": CODE})
    featcache.extract(model="spectrogram", data=audio, layout="mylab_corpora:MINE")
    cache = featcache.open(shutil.move(tmp_path / "data" / "cache" / "calls", tmp_path / "data" / "cache" / "moved"))
    registry._named.clear()
    caplog.set_level(logging.WARNING)
    for _ in range(2):
        assert corpus_of(cache.path) is None
    [warning] = [record.getMessage() for record in caplog.records]
    assert "are not used as defaults: " in warning
    assert "--plugin mylab_corpora:MINE" in warning
    task = resolve_task(cache, ["spectrogram"], protocol="loso", target="feeling")
    assert len(task.folds) == 4
    assert len(caplog.records) == 1


@pytest.mark.parametrize("reference", ["alarming:MINE", "./alarming.py:MINE", "no such thing", "os:system"])
def test_a_cache_never_decides_what_is_imported(site, make_cache, reference, tmp_path, monkeypatch, quick_reports):
    alarm = f"import pathlib\npathlib.Path({str(tmp_path)!r}, 'alarm').touch()\n" + CODE
    install(site, "alarming", {"alarming": alarm})
    (tmp_path / "alarming.py").write_text(alarm)
    monkeypatch.chdir(tmp_path)
    cache = make_cache()
    (cache / "corpus.json").write_text(json.dumps({"corpus": reference}))
    featcache.fit(seeds=[1], max_epochs=1)
    assert not (tmp_path / "alarm").exists()
    assert corpus_of(cache) is None


def test_two_corpora_that_fit_as_well_are_told_apart_by_the_user(site, audio):
    other = CODE.replace('title="My corpus"', 'title="Other"')
    install(site, "mylab", {"one": CODE, "other": other}, {GROUP: {"one": "one:MINE", "other": "other:MINE"}})
    with pytest.raises(CorpusError, match=r"named as in one, and equally many as in other; .*--layout"):
        read_corpus(audio)
    assert read_corpus(audio, "other").corpus.title == "Other"


def test_a_broken_package_does_not_keep_others_from_being_recognised(site, write, caplog):
    install(site, "broken", {"broken": "1 / 0"}, {GROUP: {"broken": "broken:MINE"}})
    assert read_corpus(write(["03a01Fa.wav", "08b02Wc.wav"])).corpus is CORPORA["emodb"]
    assert "corpus 'broken' of the package broken cannot be imported (ZeroDivisionError" in caplog.text


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("return Utterance(", "return 1 / 0, Utterance(", "could not read .*ZeroDivisionError"),
        ('pattern=named(r"(spk', 'pattern=(r"(spk', "could not match file names .AttributeError"),
        ("    utterance=utterance,", "    utterance=utterance, complete=lambda path, found: None,", "could not read"),
        ('"feeling": EMOTIONS[emotion]', '"feeling": 1 / 0', "could not read .*ZeroDivisionError"),
    ],
)
def test_mistakes_in_its_code_are_told_in_one_line(site, audio, old, new, told):
    assert old in CODE
    install(site, "mylab", {"mylab_corpora": CODE.replace(old, new)}, {GROUP: {"mine": "mylab_corpora:MINE"}})
    with pytest.raises(CorpusError, match=told) as error:
        read_corpus(audio)
    assert "\n" not in str(error.value)


def test_what_reads_a_corpus_must_return_its_files(site, audio):
    code = CODE + "\nclass Odd(NamedCorpus):\n    def read(self, path):\n        return []\n"
    code += "\nfrom dataclasses import fields\nODD = Odd(**{f.name: getattr(MINE, f.name) for f in fields(MINE)})\n"
    install(site, "mylab", {"mylab_corpora": code})
    name_plugins(["mylab_corpora:ODD"])
    with pytest.raises(CorpusError, match=r"read\(\) returned list, expected CorpusFiles"):
        read_corpus(audio, "mylab_corpora:ODD")


def test_protocols_that_are_not_here_are_no_defaults(site, audio):
    install(site, "mylab", {"mylab_corpora": CODE.replace('dialogue="call",', "")})
    name_plugins(["mylab_corpora:MINE"])
    corpus = read_corpus(audio, "mylab_corpora:MINE").corpus
    assert own_protocol(corpus) == "two-speakers"
