"""Protocols of other packages and files: their folds are checked like all others."""

import pytest

import featcache
from featcache.errors import ProtocolError
from featcache.fitting.task import resolve_task
from featcache.protocols import PROTOCOLS, make_folds, mixes_speakers
from featcache.registry import name_plugins
from tests.installed import install, installed_in

CODE = """
from featcache.protocols import Fold, Protocol

def last_speaker_tests(manifest, target):
    *others, validation, test = manifest.speaker_ids
    ids = {speaker: () for speaker in manifest.speaker_ids}
    for utterance in manifest:
        ids[utterance.speaker_id] += (utterance.utterance_id,)
    train = sum((ids[speaker] for speaker in others), ())
    return [Fold(name="1", train=train, validation=ids[validation], test=ids[test])]

def leaking(manifest, target):
    ids = manifest.utterance_ids
    return [Fold(name="1", train=ids[0::3], validation=ids[1::3], test=ids[2::3])]

def twice(manifest, target):
    ids = manifest.utterance_ids
    return [Fold(name="1", train=ids, validation=ids[:1], test=ids[1:2])]

def made(folds, name="mine"):
    return Protocol(name=name, description="d", speaker_independent=True, folds=folds)

LAST = made(last_speaker_tests)
LEAKING = made(leaking)
TWICE = made(twice)
RAISES = made(lambda manifest, target: 1 / 0)
NOTHING = made(lambda manifest, target: [])
NONE = made(lambda manifest, target: None)
STRANGE = made(lambda manifest, target: ["a\\nb"])
NUMBERS = made(lambda manifest, target: [Fold(name=1, train=("a",), validation=("b",), test=("c",))])
SAME = made(lambda manifest, target: last_speaker_tests(manifest, target) * 2)
STRANGERS = made(lambda manifest, target: [Fold(name="1", train=("a",), validation=("b",), test=("c",))])
EMPTY = made(lambda manifest, target: [Fold(name="1", train=(), validation=("b",), test=("c",))])
"""


@pytest.fixture(autouse=True)
def site(tmp_path):
    with installed_in(tmp_path / "site") as folder:
        folder.mkdir()
        install(folder, "mylab", {"mylab_protocols": CODE}, {"featcache.protocols": {"last": "mylab_protocols:LAST"}})
        yield folder


@pytest.fixture
def cache(make_cache):
    return featcache.open(make_cache())


def test_a_protocol_from_outside_makes_the_folds_of_a_run(cache, site, tmp_path, quick_reports):
    (tmp_path / "mine.py").write_text(CODE)
    references = ["last", "mylab_protocols:LAST", f"{tmp_path / 'mine.py'}:LAST"]
    for reference in references:
        name_plugins([reference])
        [fold] = make_folds(reference, cache.manifest, "emotion")
        assert {i[:2] for i in fold.test} == {"04"}
        assert {i[:2] for i in fold.validation} == {"03"}
    assert [PROTOCOLS.origin(reference).distribution for reference in references] == ["mylab", "mylab", ""]
    run = featcache.fit(protocol="last", seeds=[1], max_epochs=1)
    assert run.config["protocol"] == "last"
    assert set(run.predictions["speaker_id"]) == {"04"}


def test_leaks_are_told_whatever_the_protocol_says_of_itself(cache):
    name_plugins(["mylab_protocols"])
    task = resolve_task(cache, ["ssl"], protocol="mylab_protocols:LEAKING", target=None)
    assert any("are also in the training or validation part" in warning for warning in task.warnings)
    with pytest.raises(ProtocolError, match=r"fold '1' leaks"):
        make_folds("mylab_protocols:TWICE", cache.manifest, "emotion")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("RAISES", r"protocol 'mylab_protocols:RAISES' could not make folds \(ZeroDivisionError: division by zero\)"),
        ("NOTHING", "the protocol made no folds"),
        ("NONE", "could not make folds .TypeError"),
        ("STRANGE", "expected a list of featcache.protocols.Fold"),
        ("NUMBERS", "expected a name and utterance ids that are text"),
        ("SAME", "several folds named '1'"),
        ("STRANGERS", ", not in the manifest; use ids of the manifest"),
        ("EMPTY", "has no train utterances"),
        ("made", "expected an instance of featcache.protocols.base.Protocol"),
        ("GONE", "has no 'GONE'"),
    ],
)
def test_faulty_ones_are_told_in_one_line(cache, name, told):
    name_plugins(["mylab_protocols"])
    with pytest.raises(ProtocolError, match=told) as error:
        make_folds(f"mylab_protocols:{name}", cache.manifest, "emotion")
    assert "\n" not in str(error.value)


def test_one_that_is_not_named_is_refused(cache):
    with pytest.raises(ProtocolError, match="--plugin mylab_protocols:LAST"):
        make_folds("mylab_protocols:LAST", cache.manifest, "emotion")
    with pytest.raises(ProtocolError, match=r"no protocol 'losso'; did you mean .*'loso"):
        make_folds("losso", cache.manifest, "emotion")


def test_a_finished_run_is_read_where_its_protocol_is_not_known():
    assert not mixes_speakers("mylab_protocols:LEAKING")
    assert mixes_speakers("random-80-20")
    assert not mixes_speakers("loso")
