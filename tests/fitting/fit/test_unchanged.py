"""Results do not depend on threads, other runs, memory, test utterances, or repeating the command."""

import os
import threading
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

import featcache
from featcache.errors import StoreError
from featcache.fitting import job, memory_plan, normalisation
from featcache.heads.packed import packed_bytes
from featcache.manifest import Manifest
from featcache.protocols import make_folds
from featcache.runs.identity import COMPUTED
from featcache.runs.reader import RunFolder, finished_runs
from featcache.training.memory import DTYPES
from featcache.training.train import Training
from featcache.workspace import Workspace
from tests.fitting.fit.noise import FOUR_STORES, ONE_SPEAKER_EACH, bytes_of, in_parts


@pytest.mark.parametrize("head", ["dense", "lstm"])
def test_results_do_not_depend_on_threads(make_cache, train, monkeypatch, head):
    # large enough that torch would split the products among threads
    make_cache(hidden_size=96)
    found = []
    started = set()
    unwatched = Training.learn

    def watched(*arguments):
        started.add(threading.current_thread().name)
        assert torch.get_num_threads() == 1
        return unwatched(*arguments)

    monkeypatch.setattr(Training, "learn", watched)
    before = torch.get_num_threads()
    try:
        for workers, threads in ((1, 1), (3, 1), (2, 4)):
            monkeypatch.setattr(job, "available_cores", lambda workers=workers: workers)
            torch.set_num_threads(threads)
            run = train(head=head, overwrite=True)
            assert torch.get_num_threads() == threads
            found.append(bytes_of(run))
    finally:
        torch.set_num_threads(before)
    assert len(started) > 1
    assert found[0] == found[1] == found[2]


def test_seeds_train_alike_alone_and_together(make_cache, train):
    make_cache()
    together = train(seeds=(1, 2, 3)).predictions
    alone = train(seeds=(2,)).predictions
    pd.testing.assert_frame_equal(together.query("seed == 2").reset_index(drop=True), alone)


def test_a_seed_named_twice_is_trained_once(make_cache, train):
    make_cache()
    run = train(seeds=np.array([2, 2]))
    assert run.config["seeds"] == [2]
    assert run.metrics["num_utterances"] == len(run.predictions)


def test_memory_does_not_matter_where_all_fits(make_cache, train):
    make_cache(stores={"ssl": {}, "egemaps": {"kind": "egemaps"}})
    half = train(head="fusion", norm="global")
    assert half.config[COMPUTED] == {"device": "cpu", "working_copy": "float32", "compute": "float32"}
    for memory in ("64GiB", "1TB"):
        assert bytes_of(train(head="fusion", norm="global", memory=memory, overwrite=True)) == bytes_of(half)


@pytest.mark.parametrize(("head", "layers"), [("fusion", "all"), ("ffn", "all"), ("ffn", "last")])
@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_memory_is_planned_for_the_bytes_that_are_held(make_cache, train, monkeypatch, head, layers, dtype):
    make_cache(stores=FOUR_STORES)
    planned, held = [], []
    plan, load = memory_plan.plan_working_copy, job.FeatureWindows.load

    def planning(memory, num_values, *, num_steps, **rest):
        planned.append(packed_bytes(DTYPES[dtype], num_values, num_steps))
        return plan(memory, num_values, num_steps=num_steps, **rest)

    def loading(source, ids):
        load(source, ids)
        [window] = source.windows(ids)
        parts = [part for packed in window.utterances.values() for one in packed for part in (one.values, one.step)]
        held.append(sum(part.nbytes for part in parts if part is not None))

    monkeypatch.setattr(memory_plan, "plan_working_copy", planning)
    monkeypatch.setattr(job.FeatureWindows, "load", loading)
    train(head=head, layers=layers, features=list(FOUR_STORES), memory=dtype)
    assert planned == held


def test_the_working_dtype_is_a_setting_and_what_it_made_is_told(make_cache, train):
    make_cache()
    exact, rounded = train(), train(memory="int8")
    assert exact.path != rounded.path
    assert rounded.config["working_dtype"] == "int8"
    assert rounded.config[COMPUTED]["working_copy"] == "int8"
    weights = [load_file(run.path / "heads" / "seed-1-fold-1.safetensors")["output.weight"] for run in (exact, rounded)]
    assert not torch.equal(*weights)


@pytest.mark.parametrize("norm", ["global", "none"])
def test_test_utterances_change_no_weight(make_cache, write_store, train, norm):
    manifest = in_parts(**ONE_SPEAKER_EACH)
    cache = featcache.open(make_cache(manifest=manifest))
    features = {i: cache["ssl"][i] for i in manifest.utterance_ids}
    heads = "heads/seed-1-fold-1.safetensors", "heads/seed-2-fold-1.safetensors"
    first = train(norm=norm, target="emotion")
    before = bytes_of(first, *heads, "history.csv", "layer_weights.csv"), first.predictions
    altered = {
        i: 100 - 7 * values if manifest[i].labels["split"] == "test" else values for i, values in features.items()
    }
    write_store(cache.path / "altered", altered)
    second = train(norm=norm, target="emotion", features=["altered"])
    after = bytes_of(second, *heads, "history.csv", "layer_weights.csv"), second.predictions
    assert {name: content.replace(b"altered", b"ssl") for name, content in after[0].items()} == before[0]
    assert not after[1]["p_joy"].equals(before[1]["p_joy"])


@pytest.mark.parametrize("norm", ["global", "none"])
def test_test_utterances_change_no_weight_where_folds_train_together(make_cache, write_store, train, norm):
    cache = featcache.open(make_cache())
    whole = {i: cache["ssl"][i] for i in cache.manifest.utterance_ids}
    altered = {i: 100 - 7 * values if i.startswith("02-") else values for i, values in whole.items()}
    write_store(cache.path / "altered", altered)
    before, after = (train(norm=norm, features=[name]) for name in ("ssl", "altered"))
    for number, fold in enumerate(make_folds("loso", cache.manifest, "emotion"), start=1):
        name = f"heads/seed-1-fold-{number}.safetensors"
        tests_it = all(i.startswith("02-") for i in fold.test)
        assert ((before.path / name).read_bytes() == (after.path / name).read_bytes()) == tests_it


def test_global_statistics_are_those_of_each_folds_training_part(make_cache, train, monkeypatch):
    cache = featcache.open(make_cache())
    seen, unwatched = [], normalisation.fit_normaliser

    def watched(*arguments, **options):
        seen.append((arguments[3], unwatched(*arguments, **options)))
        return seen[-1][1]

    monkeypatch.setattr(normalisation, "fit_normaliser", watched)
    train(norm="global")
    folds = make_folds("loso", cache.manifest, "emotion")
    assert [train for train, _ in seen] == [fold.train for fold in folds]
    for fold, (_, normaliser) in zip(folds, seen, strict=True):
        frames = np.concatenate([cache["ssl"][i].astype("f8") for i in fold.train], axis=1)
        # tolerance of stored and merged float32 statistics
        np.testing.assert_allclose(normaliser.mean_[""], frames.mean(axis=1), atol=1e-5)
        np.testing.assert_allclose(normaliser.std_[""], frames.std(axis=1), rtol=1e-5)


def test_the_same_settings_give_the_finished_run_back(make_cache, train, monkeypatch):
    make_cache()
    first = train(norm="global")
    monkeypatch.setattr(Training, "learn", None)
    again = train(norm="global")
    assert again.path == first.path
    assert again.config == first.config


def test_the_same_command_elsewhere_gives_the_same_bytes(make_cache, train, monkeypatch, tmp_path):
    make_cache()
    first = train()
    monkeypatch.setenv("FEATCACHE_HOME", str(tmp_path / "elsewhere"))
    make_cache()
    second = train()
    assert second.path != first.path
    assert bytes_of(second) == bytes_of(first)


def test_other_settings_get_another_folder_unless_it_is_named(make_cache, resolve):
    make_cache()
    runs = [
        resolve(),
        resolve(norm="none"),
        resolve(seeds=(1,)),
        resolve(layers="0"),
        resolve(layer_weighting="softmax"),
        resolve(max_frames=4),
        resolve(patience=1),
        resolve(select={"emotion": ["joy", "anger"]}),
        resolve(protocol="group-kfold"),
    ]
    assert len({run.path for run in runs}) == len(runs)
    resolve(name="mine")
    told = r"mine is a run with other settings \(max_frames, norm, norm_by differ\); use another --name"
    with pytest.raises(StoreError, match=told):
        resolve(name="mine", norm="none", max_frames=4)
    assert RunFolder(runs[0].path.with_name("mine")).config["norm"] == "speaker"
    assert resolve(name="mine", norm="none", overwrite=True).config["norm"] == "none"


@pytest.mark.parametrize("change", ["label", "speaker", "audio"])
def test_changed_data_are_other_settings(make_cache, write_store, resolve, monkeypatch, change):
    folder = make_cache(manifest=in_parts(**ONE_SPEAKER_EACH), corpus="toy")
    resolve(name="mine", norm="none", target="emotion")
    rows = list(featcache.open(folder).manifest)
    if change == "label":
        rows[0] = replace(rows[0], labels={**rows[0].labels, "emotion": "joy"})
        rows[1] = replace(rows[1], labels={**rows[1].labels, "emotion": "anger"})
    elif change == "speaker":
        rows[0] = replace(rows[0], speaker_id="s4")
    else:
        monkeypatch.setattr(
            featcache.FeatureStore, "audio_sha256", lambda store, utterance_ids: ["changed" for _ in utterance_ids]
        )
    Manifest(rows).write(folder / "manifest.csv")
    changed = "labels_sha256" if change == "label" else "utterances_sha256"
    with pytest.raises(StoreError, match=rf"other settings \({changed} differ\)"):
        resolve(name="mine", norm="none", target="emotion")


@pytest.mark.parametrize(("owner", "when"), [(Training, "end_epoch"), (job, "write_results")])
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_an_interrupted_fit_leaves_no_run_and_keeps_the_older_one(make_cache, train, monkeypatch, owner, when, error):
    make_cache()
    older = train(name="mine")
    before = bytes_of(older)
    monkeypatch.setattr(job, "available_cores", lambda: 1)
    left = threading.Semaphore(7)  # three trainings with two epochs, and one more epoch
    uninterrupted = getattr(owner, when)

    def interrupted(*arguments, **options):
        if when == "end_epoch" and left.acquire(blocking=False):
            return uninterrupted(*arguments, **options)
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(owner, when, interrupted)
        with pytest.raises(error):
            train(name="mine", norm="none", overwrite=True)
        with pytest.raises(error):
            train(name="new")
    assert bytes_of(older) == before
    assert [run.name for run in finished_runs(Workspace.at())] == ["mine"]
    kept = {".mine.unfinished"} if when == "end_epoch" else {".mine.unfinished", ".new.unfinished"}
    assert set(os.listdir(older.path.parent)) == {"mine"} | kept
    number = len(list((older.path.parent / ".mine.unfinished").glob("finished/*.json")))
    assert number == (3 if when == "end_epoch" else 8)
    train(name="mine", norm="none", overwrite=True)
    train(name="new", resume=True)
    assert sorted(os.listdir(older.path.parent)) == ["mine", "new"]


def test_a_folder_that_is_no_run_is_not_replaced_unasked(make_cache, resolve):
    make_cache()
    folder = Workspace.at().runs("toy") / "notes"
    folder.mkdir(parents=True)
    (folder / "mine.txt").touch()
    with pytest.raises(StoreError, match=r"notes is not a finished run: .*; use another --name, or replace"):
        resolve(name="notes")
    assert (folder / "mine.txt").exists()
    resolve(name="notes", overwrite=True)
    assert not (folder / "mine.txt").exists()


@pytest.mark.parametrize("name", ["..", ".", ".hidden", "a/b", "/tmp/a", "a/"])
def test_a_name_is_that_of_a_folder_beside_the_other_runs(make_cache, train, name):
    make_cache()
    with pytest.raises(StoreError, match=f"run name '{name}': .*; choose another with --name"):
        train(name=name)
