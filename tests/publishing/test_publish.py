"""What is published, what is refused, and what happens to folders that exist."""

import logging
import re
import shutil

import pytest
import torch
import yaml
from safetensors.torch import load_file
from typer.testing import CliRunner

import featcache
from featcache.cli.app import app
from featcache.errors import FeatcacheError, StoreError
from featcache.files.checksums import CHECKSUMS, recorded_checksums, wrong_files
from featcache.publishing.published_files import published_files, unexpected_files
from featcache.publishing.shareable import _SETTINGS
from featcache.runs.reader import RunFolder
from featcache.settings.field import settings_of
from featcache.settings.finetunings import FinetuneSettings
from featcache.settings.fits import TrainingConfig
from tests.publishing.shared import SPEAKERS, random_features
from tests.settings.test_public import options_of


@pytest.fixture
def changed(trained, tmp_path):
    """Return a function that copies a run and changes its configuration."""

    def make(name="dense", **changes):
        path = shutil.copytree(trained(name).path, tmp_path / "changed")
        config = yaml.safe_load((path / "config.yaml").read_text())
        (path / "config.yaml").write_text(yaml.safe_dump({**config, **changes}))
        (path / CHECKSUMS).unlink()
        return path

    return make


def test_a_published_folder_has_these_files_and_checksums(trained, tmp_path):
    folder = featcache.publish(trained("dense").path, tmp_path / "shared")
    heads = [f"heads/seed-1-fold-{fold}.safetensors" for fold in (1, 2, 3)]
    read = ["config.yaml", *heads, "layer_weights.csv", "metrics.json", "normalisation.safetensors"]
    assert sorted(recorded_checksums(folder)) == read
    shown = {"README.md", CHECKSUMS, *(f"layer_weights{end}" for end in (".png", ".svg", ".pdf", "_summary.csv"))}
    assert set(published_files(folder)) == {*read, *shown}
    assert not unexpected_files(folder)
    assert not wrong_files(folder)


def test_settings_of_the_run_stay_but_folds_have_numbers_only(trained, tmp_path):
    run = trained("dense")
    published = RunFolder(featcache.publish(run.path, tmp_path / "shared"))
    assert published.config["published"] is True
    assert published.config["folds"] == [{"fold": 1}, {"fold": 2}, {"fold": 3}]
    assert {one["name"] for one in run.config["folds"]} == set(SPEAKERS)
    same = ("features", "store_settings", "head_inputs", "classes", "seeds", "norm", "head", "training", "environment")
    assert {name: published.config[name] for name in same} == {name: run.config[name] for name in same}
    assert published.metrics == run.metrics


def test_a_setting_that_is_not_known_is_not_published(changed, tmp_path):
    select = {"actor": [SPEAKERS[0]], "sex": ["f"]}
    secret = {"mystery": "zzspk", "validation_speakers": list(SPEAKERS)}
    where = "/home/me/folds.py:MINE"
    run = changed(**secret, select=select, protocol=where, validation_protocol=where)
    config = RunFolder(featcache.publish(run, tmp_path / "shared")).config
    assert not {"mystery", "validation_speakers"} & config.keys()
    assert config["select"] == {"sex": ["f"]}
    assert config["protocol"] == config["validation_protocol"] == "folds.py:MINE"


def test_options_that_change_the_training_are_published():
    identifying = {name for name, (_, about) in settings_of(FinetuneSettings).items() if about.identity}
    recorded = identifying - {"label_range", "trials", "choose"}  # under other names
    assert recorded <= {*_SETTINGS, *TrainingConfig.__dataclass_fields__}


def test_the_weights_have_no_metadata_and_equal_those_of_the_run(trained, tmp_path):
    run = trained("svm")
    folder = featcache.publish(run.path, tmp_path / "shared")
    name = "heads/seed-1-fold-2.safetensors"
    expected, found = load_file(run.path / name), load_file(folder / name)
    assert expected.keys() == found.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    assert b"__metadata__" not in (folder / name).read_bytes()


def test_tables_with_ids_do_not_exist_and_the_message_says_so(trained, tmp_path):
    published = RunFolder(featcache.publish(trained("dense").path, tmp_path / "shared"))
    for name in ("predictions", "validation_predictions", "history"):
        with pytest.raises(StoreError, match=rf"is a published folder, which has no {name}.csv, because no utterances"):
            getattr(published, name)
    assert len(published.layer_weights) == 9


def test_a_head_of_speaker_normalisation_needs_statistics_of_the_new_speaker(trained, tmp_path, told):
    folder = featcache.publish(trained("fusion").path, tmp_path / "shared")
    assert not (folder / "normalisation.safetensors").exists()
    head = featcache.load_run(folder).head(seed=1, fold=1)
    assert head.groups == ()
    assert "has no statistics of speakers: a new speaker needs their own" in told()
    features, statistics = random_features(head)
    for groups in (None, [SPEAKERS[0]]):
        with pytest.raises(StoreError, match=r"published without the statistics of its speakers; give the new speaker"):
            head(features, groups=groups)
    assert head(features, **statistics).shape == (1, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"members": ["a", "b"]}, r"is an ensemble, which has no heads of its own; publish its members: a, b$"),
        ({"head": "./mine.py:Mine"}, r"'./mine.py:Mine' is code in a file, and no code is published"),
        ({"head": "mylab.heads:Mine"}, r"is code from outside of featcache, .* --plugin mylab.heads:Mine"),
        ({"corpus": "/home/me/corpus"}, r"corpus is a path on this machine"),
        ({"store_settings": {"ssl": {"lexicon": "C:\\words"}}}, r"store_settings.ssl.lexicon is a path"),
        ({"classes": ["/secret/a", "b", "c"]}, r"classes is a path"),
    ],
)
def test_what_cannot_be_shared_is_refused_in_one_line(changed, tmp_path, changes, message):
    run = changed(**changes)
    with pytest.raises(FeatcacheError, match=message) as raised:
        featcache.publish(run, tmp_path / "shared")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "shared").exists()


def test_a_run_whose_classes_are_speakers_is_refused(changed, tmp_path):
    run = changed()
    table = RunFolder(run).predictions
    table.assign(target=table["speaker_id"]).to_csv(run / "predictions.csv", index=False)
    with pytest.raises(StoreError, match=r"its speakers, and no speakers are published"):
        featcache.publish(run, tmp_path / "shared")


def test_a_damaged_run_without_checksums_gives_one_line(changed, tmp_path):
    run = changed()
    config = yaml.safe_load((run / "config.yaml").read_text())
    refused = {}
    for entry in config:
        (run / "config.yaml").write_text(yaml.safe_dump({key: value for key, value in config.items() if key != entry}))
        try:
            featcache.publish(run, tmp_path / f"without-{entry}")
        except StoreError as error:
            refused[entry] = str(error)
    assert set(refused) >= {"corpus", "features", "head", "norm", "protocol", "seeds", "target"}
    for entry, message in refused.items():
        assert re.fullmatch(rf"{re.escape(str(run))}\S* is damaged \({entry} missing\); [^\n]*", message)
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    for table in ("predictions", "validation_predictions"):
        content = getattr(RunFolder(run), table)
        for column in ("utterance_id", "speaker_id", "target"):
            content.drop(columns=column).to_csv(run / f"{table}.csv", index=False)
            with pytest.raises(StoreError, match=rf"{table}.csv is damaged \(no column '{column}'\); fit it again"):
                featcache.publish(run, tmp_path / "shared")
        content.to_csv(run / f"{table}.csv", index=False)
    assert featcache.publish(run, tmp_path / "shared").is_dir()


def test_a_run_without_statistics_or_settings_of_an_earlier_release(changed, tmp_path, caplog):
    run = changed(store_settings={})
    assert featcache.publish(run, tmp_path / "shared").is_dir()
    assert "its features cannot be computed from audio" in caplog.text
    (run / "normalisation.safetensors").unlink()
    with pytest.raises(StoreError, match=r"has no normalisation.safetensors, which its heads need"):
        featcache.publish(run, tmp_path / "again")


def test_a_folder_with_other_files_is_never_replaced(trained, tmp_path):
    run, other = trained("dense").path, tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").touch()
    for overwrite in (False, True):
        with pytest.raises(StoreError, match=r"exists and is no published folder; give the name of a new folder$"):
            featcache.publish(run, other, overwrite=overwrite)
    shared = featcache.publish(run, tmp_path / "shared")
    (shared / "notes.txt").touch()
    with pytest.raises(StoreError, match=r"files that were not published \('notes.txt'\); move them first"):
        featcache.publish(run, shared, overwrite=True)


def test_an_edited_model_card_is_kept_until_it_is_overwritten(trained, tmp_path, caplog, monkeypatch):
    caplog.set_level(logging.INFO, logger="featcache")
    folder = featcache.publish(trained("dense").path, tmp_path / "shared")
    card = folder / "README.md"
    card.write_text("mine")
    featcache.publish(trained("dense").path, folder)
    assert card.read_text() == "mine"
    assert "exists already and is kept as it is" in caplog.text
    with pytest.raises(StoreError, match=r"was published from another run"):
        featcache.publish(trained("linear").path, folder)
    with pytest.raises(StoreError, match=r"has no ONNX graphs; write it again with --overwrite"):
        featcache.publish(trained("dense").path, folder, onnx=True)
    featcache.publish(trained("dense").path, folder, overwrite=True)
    assert card.read_text() != "mine"
    monkeypatch.chdir(folder)
    with pytest.raises(StoreError, match=r"^FOLDER is the current folder"):
        featcache.publish(trained("dense").path, ".", overwrite=True)


def test_a_file_of_a_hub_snapshot_may_link_to_its_own_blobs_only(trained, tmp_path):
    folder = featcache.publish(trained("dense").path, tmp_path / "shared")
    repository = tmp_path / "models--a--b"
    snapshot = repository / "snapshots" / ("1" * 40)
    (repository / "blobs").mkdir(parents=True)
    shutil.copytree(folder, snapshot)
    path = snapshot / "heads" / "seed-1-fold-1.safetensors"
    path.rename(repository / "blobs" / "abc")
    path.symlink_to("../../../blobs/abc")
    head = RunFolder(snapshot).head(seed=1, fold=1)
    assert torch.equal(head.head.output.weight, RunFolder(folder).head(seed=1, fold=1).head.output.weight)
    (repository / "blobs" / "abc").rename(tmp_path / "abc")
    path.unlink()
    path.symlink_to(tmp_path / "abc")
    with pytest.raises(StoreError, match=r"link to a file outside of the run folder"):
        RunFolder(snapshot).head(seed=1, fold=1)


def test_the_command_prints_the_folder_and_knows_the_options_of_the_function(trained, tmp_path):
    run, folder = trained("dense").path, tmp_path / "shared"
    done = CliRunner().invoke(app, ["publish", str(run), str(folder), "--license", "cc-by-4.0"])
    assert (done.exit_code, done.output) == (0, f"{folder}\n"), done.exception
    assert "license: cc-by-4.0" in (folder / "README.md").read_text()


def test_the_function_has_the_options_of_the_settings():
    import inspect

    from featcache.settings.publications import PublishSettings

    found = {name: one.default for name, one in inspect.signature(featcache.publish).parameters.items()}
    assert {name: found[name] for name in options_of(PublishSettings)} == options_of(PublishSettings)
    assert set(found) == {*options_of(PublishSettings), "run", "folder", "home"}
    with pytest.raises(TypeError, match=r"featcache.publish\(\) has no option 'onx'; did you mean 'onnx'"):
        featcache.publish("a", "b", onx=True)
