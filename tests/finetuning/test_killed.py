"""A fine-tuning that is killed while it writes a model is not a run, and continues to the same results."""

import os
import shutil
import signal

import pytest

import featcache
from featcache.errors import StoreError
from featcache.extractors.upper import UpperBlocks
from featcache.runs.records import TrainingRecords
from featcache.workspace import Workspace
from tests.finetuning.conftest import SHORT
from tests.forked import POSSIBLE, Forked, without_pictures


def finetune_and_die(home, model, moment, resume):
    """Fine-tune; at the second training, the process kills itself at a moment of writing."""
    without_pictures()
    save, written, calls = UpperBlocks.save, TrainingRecords._record, []

    def die_after_half(blocks, folder):
        save(blocks, folder)
        calls.append(folder)
        if len(calls) == 2:
            (folder / "model.safetensors").write_bytes(b"half")
            os.kill(os.getpid(), signal.SIGKILL)

    def die_before_record(records, seed, fold):
        calls.append(fold)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return written(records, seed, fold)

    if moment == "model":
        UpperBlocks.save = die_after_half
    if moment == "record":
        TrainingRecords._record = die_before_record
    settings = {**SHORT, "corpus": "toy", "home": home, "features": "ssl", "from_layer": 2, "name": "mine"}
    featcache.finetune(model=model, resume=resume, **settings)


def contents(folder):
    return {file.relative_to(folder): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.skipif(not POSSIBLE, reason="needs fork")
@pytest.mark.parametrize("moment", ["model", "record"])
def test_kill_9_while_a_training_is_written(place, tmp_path, moment):
    home = tmp_path / "home"
    shutil.copytree(place.workspace.home, home, ignore=shutil.ignore_patterns("runs"))
    code, _, err = Forked(finetune_and_die, home, place.models["ssl"], moment, False, out=tmp_path / "killed").wait()
    assert code == -signal.SIGKILL, err
    path = Workspace.at(home).runs("toy") / "mine"
    assert not path.exists()
    with pytest.raises(StoreError, match="is not finished"):
        featcache.load_run("mine", home=home)
    code, _, err = Forked(finetune_and_die, home, place.models["ssl"], "never", True, out=tmp_path / "resumed").wait()
    assert code == 0, err
    run, whole = featcache.RunFolder(path), place.finetune(from_layer=2, name="whole")
    assert run.predictions.equals(whole.predictions)
    assert contents(path / "models") == contents(whole.path / "models")
    assert {one.name for one in path.parent.iterdir()} == {"mine"}
