"""A fine-tuning that is killed is not a run, and continues from its last evaluation to the same results."""

import logging
import os
import shutil
import signal

import pytest
import safetensors.torch

import featcache
from featcache.errors import StoreError
from featcache.extractors.upper import UpperBlocks
from featcache.report.run_list import listed_runs
from featcache.runs.checkpoints import CheckpointFile
from featcache.runs.records import TrainingRecords
from featcache.workspace import Workspace
from tests.finetuning.conftest import SHORT
from tests.forked import POSSIBLE, Forked, without_pictures


def finetune_and_die(home, model, moment, resume):
    """Fine-tune; the process kills itself at a moment of writing, and otherwise prints the number of evaluations."""
    without_pictures()
    logging.basicConfig(level=logging.INFO)
    save, written, calls = UpperBlocks.save, TrainingRecords._record, []
    write, evaluations = CheckpointFile.write, []

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

    def die_at_second_evaluation(file, checkpoint):
        evaluations.append(file.path.name)
        if moment == "checkpoint" and len(evaluations) == 2:
            safetensors.torch.save_file = die_in_the_middle
        write(file, checkpoint)
        if moment == "evaluation" and len(evaluations) == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    def die_in_the_middle(tensors, path, metadata):
        path.write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)

    CheckpointFile.write = die_at_second_evaluation
    if moment == "model":
        UpperBlocks.save = die_after_half
    if moment == "record":
        TrainingRecords._record = die_before_record
    settings = {**SHORT, "corpus": "toy", "home": home, "features": "ssl", "from_layer": 2, "name": "mine"}
    featcache.finetune(model=model, resume=resume, **settings)
    print(len(evaluations))


def contents(folder):
    return {file.relative_to(folder): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.skipif(not POSSIBLE, reason="needs fork")
# Three folds have two epochs each, and each epoch ends with an evaluation.
@pytest.mark.parametrize(
    ("moment", "left"), [("model", 2), ("record", 2), ("checkpoint", 5), ("evaluation", 4), ("damaged", 6)]
)
def test_kill_9(place, tmp_path, moment, left):
    home = tmp_path / "home"
    shutil.copytree(place.workspace.home, home, ignore=shutil.ignore_patterns("runs"))
    killed_at = "evaluation" if moment == "damaged" else moment
    code, _, err = Forked(finetune_and_die, home, place.models["ssl"], killed_at, False, out=tmp_path / "killed").wait()
    assert code == -signal.SIGKILL, err
    path = Workspace.at(home).runs("toy") / "mine"
    assert not path.exists()
    with pytest.raises(StoreError, match="is not finished"):
        featcache.load_run("mine", home=home)
    if moment in ("checkpoint", "evaluation", "damaged"):
        with pytest.raises(StoreError, match="was interrupted during its first training; continue with --resume"):
            place.finetune(from_layer=2, name="mine", home=home)
        [listed] = listed_runs(Workspace.at(home))
        assert listed.command.startswith("featcache finetune --config ")
        [checkpoint] = path.with_name(".mine.unfinished").glob("checkpoints/*.safetensors")
        if moment == "damaged":
            checkpoint.write_bytes(checkpoint.read_bytes()[:-1])
    code, out, err = Forked(finetune_and_die, home, place.models["ssl"], "never", True, out=tmp_path / "resumed").wait()
    assert code == 0, err
    assert int(out) == left
    told = {"damaged": "this training starts again", "checkpoint": "after 1 evaluation", "evaluation": "2 evaluations"}
    assert told.get(moment, "") in err
    run, whole = featcache.RunFolder(path), place.finetune(from_layer=2, name="whole")
    for table in ("predictions", "validation_predictions", "history"):
        assert getattr(run, table).equals(getattr(whole, table))
    assert contents(path / "models") == contents(whole.path / "models")
    assert contents(path / "heads") == contents(whole.path / "heads")
    assert {one.name for one in path.parent.iterdir()} == {"mine"}
