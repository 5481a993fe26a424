"""Commands of the data flow: extract and fit."""

import re
import threading
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import joblib
import pandas as pd
import pytest
import yaml

import featcache
from featcache import extraction
from featcache.runs.reader import RunFolder
from featcache.runs.writer import UnfinishedRun
from tests.cli.commands.calls import write_corpus
from tests.cli.commands.looked import SHORT


def everything_under(folder):
    return sorted(folder.rglob("*"))


def test_extracting_twice_does_nothing_the_second_time(invoke_well, tmp_path):
    write_corpus(tmp_path / "data" / "corpora" / "three")
    out = invoke_well("extract", "--model", "egemaps")
    assert out.startswith("3 of 3 utterances extracted, 1 s of audio in ")
    store = tmp_path / "data" / "cache" / "three" / "egemaps"
    following = "next: featcache fit --head dense --norm speaker --features egemaps"
    assert out.endswith(f"\n{store}\n{following}\n")
    told = f"nothing to do: all 3 utterances are cached\n{store}\n{following}\n"
    assert invoke_well("extract", "--model", "egemaps") == told
    assert re.search(r"^finished +yes$", invoke_well("info"), re.MULTILINE)


@pytest.mark.parametrize("strict", [False, True])
def test_utterances_that_fail_are_listed_and_end_with_3(invoke, tmp_path, strict):
    folder = write_corpus(tmp_path / "corpus", broken="b")
    code, out, err = invoke("extract", "--model", "egemaps", "--data", folder, *(["--strict"] if strict else []))
    failures = tmp_path / "data" / "cache" / "corpus" / "egemaps" / "failures.csv"
    if strict:
        assert code == 1
        assert re.search(r"^error: utterance 'b': .*\(stopped by --strict\)$", err, re.MULTILINE)
        return
    assert code == 3
    assert "1 failed, listed in failures.csv; first: 'b': " in out
    [row] = pd.read_csv(failures).itertuples()
    assert (row.utterance_id, row.path) == ("b", "b.wav")
    assert row.reason


def test_a_dry_run_tells_the_size_and_writes_nothing(invoke, tmp_path):
    folder = write_corpus(tmp_path / "corpus")
    before = everything_under(tmp_path)
    code, out, err = invoke("extract", "--model", "egemaps", "--data", folder, "--dry-run")
    assert code == 0
    assert out == ""
    assert "egemaps: 3 of 3 utterances to extract, 0 cached" in err
    assert re.search(r"1 s of audio will take .* on disk \(.* free\)", err)
    assert everything_under(tmp_path) == before
    _, _, err = invoke("--quiet", "extract", "--model", "egemaps", "--data", folder, "--dry-run")
    assert err == ""


def test_options_reach_the_extractor(monkeypatch, invoke):
    given = {}

    def extract(**options):
        given.update(options)
        raise featcache.FeatcacheError("enough")

    monkeypatch.setattr(extraction, "extract", extract)
    words = "--model m --corpus c --data d --no-egemaps --name n --store float32 --limit 5 --device cuda --workers 2"
    words += " --scheduler tcp://host:8786"
    words += " --batch-seconds 30 --strict --dry-run --weights random --revision r --layers 0,4-8 --no-do-normalize"
    words += " --sampling-rate 8000 --channel first --window 25ms --hop 320samples --n-fft 512 --no-center"
    words += " --max-seconds 90 --chunk-seconds 30 --overlap-seconds 1.5 --pool"
    assert invoke("extract", *words.split())[0] == 1
    expected = {
        "model": "m",
        "corpus": "c",
        "data": Path("d"),
        "egemaps": False,
        "name": "n",
        "store": "float32",
        "limit": 5,
        "device": "cuda",
        "workers": 2,
        "scheduler": "tcp://host:8786",
        "batch_seconds": 30.0,
        "strict": True,
        "dry_run": True,
        "weights": "random",
        "revision": "r",
        "layers": "0,4-8",
        "do_normalize": False,
        "sampling_rate": 8000,
        "channel": "first",
        "window": "25ms",
        "hop": "320samples",
        "n_fft": 512,
        "center": False,
        "max_seconds": 90.0,
        "chunk_seconds": 30.0,
        "overlap_seconds": 1.5,
        "pool": True,
    }
    assert {name: given[name] for name in expected} == expected


def test_an_interrupted_extraction_ends_with_130(monkeypatch, invoke, tmp_path):
    folder = write_corpus(tmp_path / "corpus")

    @contextmanager
    def interrupting(*_, **__):
        def advance(amount):
            raise KeyboardInterrupt

        yield advance

    monkeypatch.setattr("featcache.extraction.run.progress", interrupting)
    code, out, _ = invoke("extract", "--model", "egemaps", "--data", folder)
    assert code == 130
    assert re.match("[1-3] of 3 utterances extracted", out)
    assert "stopped before the end; run the same command again to continue" in out


def test_a_fit_prints_its_table_and_its_folder(invoke_well, make_cache, quick_reports):
    make_cache()
    out = invoke_well("fit", *SHORT)
    run = RunFolder(out.splitlines()[-1])
    assert run.config["seeds"] == [123, 1234]
    assert "loso" in out.splitlines()[0]
    uar = run.metrics["uar"]
    assert re.search(rf"^\s*ssl +all +dense +speaker +{uar['mean']:.1f} ± {uar['std']:.1f} ", out, re.MULTILINE)
    assert invoke_well("fit", *SHORT) == out


def test_every_combination_is_a_run_of_one_table(invoke_well, make_cache, quick_reports):
    make_cache()
    out = invoke_well("fit", *SHORT, "--head", "dense,lstm", "--norm", "speaker,global", "--layers", "all,last")
    runs = [RunFolder(line) for line in out.splitlines()[-8:]]
    asked = list(product(("dense", "lstm"), ("speaker", "global"), ("all", "last")))
    assert [(run.config["head"], run.config["norm"], run.config["layers"]) for run in runs] == asked
    assert len({run.path for run in runs}) == 8
    for head, norm, layers in asked:
        assert re.search(rf"^\s*ssl +{layers} +{head} +{norm} ", out, re.MULTILINE)
    assert out.count("loso") == 1 + 8  # the table's title, and the names of the runs


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--layers", "all,local,last"], ["all", "local", "last"]),
        (["--layers", "0,2"], ["0,2"]),
        (["--layers", "0,last"], ["0,last"]),
    ],
)
def test_a_list_of_layers_is_one_setting_and_names_are_several(
    invoke_well, make_cache, quick_reports, arguments, expected
):
    make_cache()
    out = invoke_well("fit", *SHORT, *arguments)
    assert [RunFolder(line).config["layers"] for line in out.splitlines()[-len(expected) :]] == expected


def test_how_features_are_held_is_told(invoke, make_cache, quick_reports):
    make_cache()
    with joblib.parallel_config(backend="threading"):
        _, out, err = invoke("fit", *SHORT, "--memory", "int8", "--jobs", "2")
    assert re.search(
        r"^ssl, speaker normalisation, 1 run: features fit in memory as int8; training in ", err, re.MULTILINE
    )
    assert RunFolder(out.splitlines()[-1]).config["working_dtype"] == "int8"


def test_equal_plans_of_several_runs_are_told_once(invoke, make_cache, quick_reports):
    make_cache()
    _, _, err = invoke("fit", *SHORT, "--layers", "local,last")  # Neither run uses the layers of the other.
    assert len(re.findall(r"^ssl, speaker normalisation, 2 runs: features fit in memory", err, re.MULTILINE)) == 1
    assert err.count("features fit in memory") == 1


def test_options_reach_the_fit(invoke_well, make_cache, quick_reports):
    make_cache(stores={"ssl": {"weights": "random"}, "egemaps": {"kind": "egemaps"}})
    words = "--head fusion --norm none --features ssl,egemaps --layers 0,2 --layer-weighting softmax --corpus toy"
    words += " --protocol group-kfold --target emotion --select emotion=anger --select emotion=joy --seeds 1"
    words += " --max-frames 7 --learning-rate 0.01 --batch-size 3 --max-epochs 2 --patience 1 --name mine"
    out = invoke_well("fit", *words.split())
    config = yaml.safe_load((Path(out.splitlines()[-1]) / "config.yaml").read_text())
    expected = {
        "corpus": "toy",
        "untrained": ["ssl"],
        "layers": "0,2",
        "layer_weighting": "softmax",
        "head": "fusion",
        "norm": "none",
        "protocol": "group-kfold",
        "target": "emotion",
        "classes": ["anger", "joy"],
        "select": {"emotion": ["anger", "joy"]},
        "seeds": [123],
        "max_frames": 7,
        "training": {
            "learning_rate": 0.01,
            "batch_size": 3,
            "max_epochs": 2,
            "patience": 1,
            "clip_value": 1.0,
            "epsilon": 1e-7,
        },
    }
    assert {name: config[name] for name in expected} == expected
    assert list(config["features"]) == ["ssl", "egemaps"]
    assert "ssl (untrained) + egemaps" in out
    assert Path(out.splitlines()[-1]).name == "mine"


def test_a_run_is_replaced_only_when_asked(invoke, invoke_well, make_cache, quick_reports):
    make_cache()
    invoke_well("fit", *SHORT, "--name", "mine")
    code, out, err = invoke("fit", *SHORT, "--name", "mine", "--norm", "global")
    assert (code, out) == (1, "")
    assert re.fullmatch(r"error: .*mine is a run with other settings \(norm, norm_by differ\); .* --overwrite\n", err)
    assert " global " in invoke_well("fit", *SHORT, "--name", "mine", "--norm", "global", "--overwrite")


def test_quiet_says_nothing_but_results_and_warnings(invoke, make_cache, quick_reports):
    make_cache()
    _, _, err = invoke("fit", *SHORT)
    assert "Speaker normalisation is transductive" in err
    _, out, err = invoke("--quiet", "fit", *SHORT, "--overwrite")
    assert "dense" in out
    assert re.fullmatch(r"warning: 8 of 8 trainings have not converged: .*\n", err)


@pytest.mark.parametrize("finished", [0, 3])
def test_an_interrupted_fit_ends_with_130_and_says_how_to_go_on(
    invoke, invoke_well, make_cache, quick_reports, monkeypatch, tmp_path, finished
):
    make_cache()
    keep, left = UnfinishedRun.keep, threading.Semaphore(finished)

    def interrupted(*arguments):
        if not left.acquire(blocking=False):
            raise KeyboardInterrupt
        keep(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(UnfinishedRun, "keep", interrupted)
        code, out, err = invoke("fit", *SHORT, "--name", "mine")
    assert code == 130
    assert "Traceback" not in out + err
    told = "3 of 8 trainings are finished and kept; continue with the same command with --resume"
    assert err.splitlines()[-1] == f"interrupted; {told if finished else 'finished work is kept'}"
    assert err.count("finished and kept;") == (finished > 0)
    runs = tmp_path / "data" / "runs" / "toy"
    assert [path.name for path in runs.iterdir()] == [".mine.unfinished"] * (finished > 0)
    if finished:
        code, _, err = invoke("fit", *SHORT, "--name", "mine")
        assert code == 1
        assert re.fullmatch(
            r"(?s).*error: .*mine was interrupted after 3 trainings; continue with --resume, or .*\n", err
        )
    invoke_well("fit", *SHORT, "--name", "mine", "--resume")
    assert [path.name for path in runs.iterdir()] == ["mine"]
