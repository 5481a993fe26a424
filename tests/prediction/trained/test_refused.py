"""Runs whose features cannot be computed here as they were are refused in one line."""

import shutil

import numpy as np
import pytest
import yaml

import featcache
from featcache.errors import ManifestError, ModelError, StoreError
from featcache.extraction.import_features import import_features
from featcache.extraction.store_models import models_by_store
from featcache.prediction.members import voters_of
from featcache.prediction.predictor import Predictor
from featcache.prediction.recreate import needed_stores
from featcache.runs.reader import RunFolder

pytestmark = pytest.mark.usefixtures("quick_reports")


@pytest.fixture
def run(place):
    return place.fit(head="linear", norm="none", features=["ssl"])


def predictor_of(place, run, models=()):
    return Predictor(run, place.workspace, models=models, device="cpu")


def test_other_weights_are_refused_and_named(place, run, tmp_path):
    from safetensors.torch import load_file, save_file

    other = shutil.copytree(place.models, tmp_path / "model")
    weights = load_file(other / "model.safetensors")
    name = next(name for name, values in weights.items() if values.is_floating_point())
    save_file({**weights, name: weights[name] + 1}, other / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(StoreError, match=r"^features 'ssl': .* differs .* in model_id, weights_sha256; use the same"):
        _ = predictor_of(place, run, [str(other)]).recreated


def test_a_folder_of_another_name_with_the_same_weights_is_accepted(place, run, tmp_path):
    renamed = shutil.copytree(place.models, tmp_path / "renamed")
    [one] = predictor_of(place, run, [str(renamed)]).recreated
    assert one.description.settings == {
        **one.description.settings,
        "model_id": run.config["store_settings"]["ssl"]["model_id"],
    }


def test_a_model_that_is_not_here_is_told_with_advice(place, run):
    with pytest.raises(ModelError, match=r"^features 'ssl': .*--model FOLDER$"):
        _ = predictor_of(place, run).recreated


def test_models_of_several_stores_are_named(place):
    run = place.fit(head="ffn", norm="speaker", features=["text", "ssl"])
    stores = {one.name: one.identity for one in needed_stores(run, place.workspace)}
    assert models_by_store(["text=a", "ssl=b=c"], stores) == {"text": "a", "ssl": "b=c"}
    with pytest.raises(ModelError, match=r"^--model a: the run has several models; expected STORE=FOLDER"):
        models_by_store(["a"], stores)
    with pytest.raises(ModelError, match="names 'ssl' twice"):
        models_by_store(["ssl=a", "ssl=b"], stores)


def test_imported_features_are_refused(place, tmp_path):
    for utterance in place.manifest:
        np.save(tmp_path / f"{utterance.utterance_id}.npy", np.random.default_rng(0).normal(size=(2, 4, 3)))
    import_features(folder=tmp_path, name="others", corpus="toy", frame_shift=0.02, home=place.workspace.home)
    run = place.fit(head="linear", norm="none", features=["others"])
    with pytest.raises(StoreError, match=r"features 'others' were imported.*cannot be computed for new audio"):
        predictor_of(place, run)


def changed_run(run, folder, **changes):
    """Copy a run with another configuration."""
    shutil.copytree(run.path, folder)
    (folder / "checksums.sha256").unlink()
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config |= changes
    (folder / "config.yaml").write_text(yaml.safe_dump({k: v for k, v in config.items() if v is not None}))
    return RunFolder(folder)


def test_settings_of_an_earlier_release_come_from_the_cache(place, run, tmp_path):
    old = changed_run(run, tmp_path / "old", store_settings=None)
    [store] = needed_stores(old, place.workspace)
    assert store.identity.settings == run.config["store_settings"]["ssl"]
    other = changed_run(run, tmp_path / "other", store_settings=None, features={"ssl": "0" * 64})
    with pytest.raises(StoreError, match="earlier release, which did not record how the features 'ssl' were made"):
        needed_stores(other, place.workspace)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"store_settings": {"ssl": {"extractor": "ssl"}}}, "store_settings of ssl do not match its fingerprint"),
        ({"store_settings": {"ssl": 5}}, "store_settings"),
        ({"max_frames": "many"}, "max_frames"),
        ({"features": {"../../x": "0" * 64}, "store_settings": None}, "earlier release"),
        ({"corpus": "../..", "store_settings": None}, "earlier release"),
    ],
)
def test_damaged_configurations_are_one_line(place, run, tmp_path, changes, message):
    with pytest.raises(StoreError, match=message) as caught:
        place.predict(changed_run(run, tmp_path / "damaged", **changes))
    assert "\n" not in str(caught.value)


def test_members_are_found_by_name_only(place, run, tmp_path):
    """A path in a configuration is never followed; only its last part counts, in the workspace."""
    config = {"members": [f"/elsewhere/{run.name}"], "vote": "soft", "candidates_sha256": {}}
    voters = voters_of(changed_run(run, tmp_path / "vote", **config), place.workspace)
    assert [member.path for member in voters.members] == [run.path]
    lost = changed_run(run, tmp_path / "lost", **{**config, "members": ["../../nowhere"]})
    with pytest.raises(StoreError, match="its member 'nowhere' is not in"):
        voters_of(lost, place.workspace)
    other = {**config, "members": [run.name], "candidates_sha256": {run.name: "0"}}
    with pytest.raises(StoreError, match="has changed since the ensemble"):
        voters_of(changed_run(run, tmp_path / "changed", **other), place.workspace)


def test_a_run_on_text_needs_transcripts(place):
    run = place.fit(head="dense", norm="global", features=["text"])
    silent = featcache.Manifest([featcache.Utterance(utterance_id=u.utterance_id, path=u.path) for u in place.manifest])
    with pytest.raises(
        ManifestError, match=r"reads transcripts \(features 'text'\), but none of 12 utterances has one"
    ):
        place.predict(run, place.request(manifest=silent))
