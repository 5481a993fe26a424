"""A folder that is published from a fine-tuned run has its models, and predicts the same on another machine."""

import json
import logging
import shutil

import pandas as pd
import pytest
from huggingface_hub import ModelCard

import featcache
from featcache.errors import ModelError, StoreError
from featcache.extractors.checkpoint import plain_file
from featcache.files.checksums import CHECKSUMS, wrong_files
from featcache.publishing.published_files import files_to_read, unexpected_files
from tests.publishing.shared import all_bytes


@pytest.fixture(scope="module")
def run(place):
    return place.finetune(name="to-publish", features=["ssl", "text"], from_layer=(2, 2), batch_size=4)


@pytest.fixture(scope="module")
def shared(place, run, tmp_path_factory):
    """Publish the run, whose models recorded a folder of this machine; return the published folder."""
    copied = shutil.copytree(run.path, tmp_path_factory.mktemp("runs") / "to-publish")
    for path in copied.glob("models/*/*/*config.json"):
        secret = {"name_or_path": "/home/me/model", "_name_or_path": "/home/me/model"}
        path.write_text(json.dumps({**json.loads(path.read_text()), **secret}))
        path.with_name("notes.py").write_text("import os")
    (copied / CHECKSUMS).unlink()
    return featcache.publish(copied, tmp_path_factory.mktemp("published") / "shared", home=place.workspace.home)


def test_it_has_all_models_and_no_names_of_this_machine(place, run, shared):
    models = sorted(path.relative_to(shared).as_posix() for path in shared.glob("models/*/*"))
    assert models == [f"models/{store}/seed-1-fold-{fold}" for store in ("ssl", "text") for fold in (1, 2, 3)]
    assert not unexpected_files(shared)
    assert not wrong_files(shared)
    content = all_bytes(shared)
    manifest = featcache.open(place.workspace.cache("toy")).manifest
    secrets = {name for one in manifest for name in (one.utterance_id, one.path)}
    assert not [
        name for name in (*secrets, "/home/me", "import os", str(place.workspace.home)) if name.encode() in content
    ]
    names = [path.relative_to(shared).as_posix() for path in shared.rglob("*") if path.is_file()]
    assert {name for name in names if name.startswith("models/")} <= set(files_to_read(names))


def test_new_audio_and_text_have_the_same_predictions_bit_for_bit(place, run, shared, tmp_path):
    shutil.copy(next(place.workspace.corpus("toy").rglob("*.wav")), tmp_path / "new.wav")
    (tmp_path / "new.csv").write_text("path,transcript\nnew.wav,hello\n")
    folders = (run.path, shared, as_snapshot(shared, tmp_path))
    given = {"model": {name: place.models[name] for name in ("ssl", "text")}, "device": "cpu", "workers": 1}
    tables = [featcache.load_run(path).predict(tmp_path / "new.csv", **given) for path in folders]
    pd.testing.assert_frame_equal(tables[0], tables[1], check_exact=True)
    pd.testing.assert_frame_equal(tables[0], tables[2], check_exact=True)


def as_snapshot(folder, tmp_path):
    """Copy a folder as the cache of the Hugging Face hub has it: all files are links to blobs of the repository."""
    snapshot = tmp_path / "models--me--mine" / "snapshots" / ("1" * 40)
    blobs = tmp_path / "models--me--mine" / "blobs"
    blobs.mkdir(parents=True)
    for number, path in enumerate(sorted(path for path in folder.rglob("*") if path.is_file())):
        shutil.copy(path, blobs / str(number))
        link = snapshot / path.relative_to(folder)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(blobs / str(number))
    return snapshot


def test_a_model_file_of_a_snapshot_is_no_link_to_another_place(shared, tmp_path):
    snapshot = as_snapshot(shared, tmp_path)
    path = snapshot / "models/ssl/seed-1-fold-1/config.json"
    (tmp_path / "config.json").write_bytes(path.read_bytes())
    assert plain_file("mine", path).parent.name == "blobs"
    path.unlink()
    path.symlink_to(tmp_path / "config.json")
    with pytest.raises(ModelError, match="outside of the folder"):
        plain_file("mine", path)
    with pytest.raises(StoreError, match="link to a file outside of the run folder"):
        featcache.load_run(snapshot).head(seed=1, fold=1)


def test_a_changed_model_is_refused(shared, tmp_path):
    copied = shutil.copytree(shared, tmp_path / "copied")
    path = copied / "models/text/seed-1-fold-2/config.json"
    path.write_text(path.read_text() + "\n")
    with pytest.raises(StoreError, match=r"config\.json has changed"):
        featcache.load_run(copied).head(seed=1, fold=2)


def test_the_card_names_the_trained_blocks(shared):
    card = ModelCard.load(shared / "README.md")
    assert "| Trained blocks | ssl: all blocks after layer 2; text: all blocks after layer 2 |" in card.text
    assert "| Licence of these heads and models |" in card.text
    assert "frozen extractor" not in card.text
    assert "in a folder of your machine, give it with `--model`" in card.text


def test_one_fold_is_published_with_its_size(run, tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="featcache")
    folder = featcache.publish(run.path, tmp_path / "one", seed=1, fold=2)
    assert [path.name for path in sorted(folder.glob("models/*/*"))] == ["seed-1-fold-2"] * 2
    assert [path.name for path in folder.glob("heads/*")] == ["seed-1-fold-2.safetensors"]
    assert "2 fine-tuned models: " in caplog.text
    assert featcache.publish(run.path, folder, seed=1, fold=2) == folder
    with pytest.raises(StoreError, match="was published from another run"):
        featcache.publish(run.path, folder)
    with pytest.raises(StoreError, match=r"has no such head; expected --seed 1, and --fold 1, 2, 3$"):
        featcache.publish(run.path, tmp_path / "none", fold=4)
    with pytest.raises(ModelError, match=r"^--onnx: the models of .* cannot be exported; remove it$"):
        featcache.publish(run.path, tmp_path / "none", onnx=True)
