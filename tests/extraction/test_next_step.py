"""An extraction ends with a command that fits a head on its store, and that works as printed."""

import shlex

import pytest

from featcache.cli.app import app
from featcache.extraction.summary import next_step
from featcache.manifest import Manifest, Utterance

FIT = "featcache fit --head {} --norm {}"


def utterances(labels, speakers=("01", "02", "03", "04")):
    """Return a manifest with the given values of each label, for every speaker."""
    return Manifest(
        [
            Utterance(
                utterance_id=f"{speaker or 'x'}-{index}-{number}",
                path=f"{speaker or 'x'}/{index}.wav",
                speaker_id=speaker,
                labels={name: values[index % len(values)] for name, values in labels.items()},
            )
            for number, speaker in enumerate(speakers)
            for index in range(4)
        ]
    )


@pytest.mark.parametrize(
    ("stores", "name", "command"),
    [
        ({"ssl": {}}, "ssl", FIT.format("dense", "speaker")),
        ({"egemaps": {"kind": "egemaps"}}, "egemaps", FIT.format("dense", "speaker") + " --features egemaps"),
        ({"lld": {"kind": "functionals"}}, "lld", FIT.format("svm", "speaker") + " --features lld"),
        ({"ssl": {"pool": True}}, "ssl", FIT.format("linear", "speaker")),
    ],
)
def test_the_command_fits_the_store(make_cache, quick_reports, stores, name, command):
    folder = make_cache("toy", stores=stores)
    assert next_step(folder, name) == command
    quick = [] if " svm " in command else ["--max-epochs", "1"]
    app([*shlex.split(command)[1:], "--seeds", "1,", *quick], standalone_mode=False)


@pytest.mark.parametrize(
    ("stores", "options"),
    [
        ({"ssl": {}, "egemaps": {"kind": "egemaps"}}, ""),
        ({"ssl": {}, "other": {}}, " --features ssl"),
        ({"ssl": {"kind": "text"}}, ""),
    ],
)
def test_a_store_is_named_among_several(make_cache, stores, options):
    assert next_step(make_cache("toy", stores=stores), "ssl") == FIT.format("dense", "speaker") + options


@pytest.mark.parametrize(
    ("labels", "speakers", "options"),
    [
        ({"emotion": ["anger", "joy"], "sex": ["f", "m"]}, "1234", "--norm speaker --target emotion"),
        ({"mood": ["good", "bad"]}, "1234", "--norm speaker"),
        ({"emotion": ["anger", "joy"], "split": ["train", "train", "validation", "test"]}, [""], "--norm global"),
    ],
)
def test_labels_and_speakers_of_the_manifest_decide_on_options(make_cache, labels, speakers, options):
    folder = make_cache("toy", manifest=utterances(labels, speakers), stores={"ssl": {}})
    assert next_step(folder, "ssl").startswith(f"featcache fit --head dense {options}")


def test_of_several_caches_one_is_named(make_cache):
    make_cache("toy", stores={"ssl": {}})
    folder = make_cache("a corpus", stores={"ssl": {}})
    assert next_step(folder, "ssl") == FIT.format("dense", "speaker") + " --corpus 'a corpus'"


@pytest.mark.parametrize(
    ("manifest", "options"),
    [
        (None, {"complete": False}),
        (utterances({"split": ["train", "test"]}), {}),
        (utterances({"emotion": ["anger", "joy"]}, speakers="12"), {}),
    ],
)
def test_without_labels_or_speakers_or_before_the_end_there_is_no_command(make_cache, manifest, options):
    folder = make_cache("toy", manifest=manifest, stores={"ssl": options})
    assert next_step(folder, "ssl") is None


def test_a_missing_store_is_no_error(tmp_path):
    assert next_step(tmp_path / "nowhere", "ssl") is None
