"""The command line: every command and exit code, and what is told on the way."""

import ast
import logging
import re
import shlex
import subprocess
import sys
import threading
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Annotated, get_origin

import joblib
import numpy as np
import pandas as pd
import pytest
import soundfile
import typer
import yaml
from typer.testing import CliRunner

import featcache
from featcache import extraction
from featcache.cli import app as cli
from featcache.cli import options
from featcache.cli.app import app
from featcache.corpora import CORPORA
from featcache.extractors.models import known_models
from featcache.protocols import PROTOCOLS
from featcache.runs.reader import RunFolder
from featcache.runs.writer import UnfinishedRun

README = Path(__file__).parents[2] / "README.md"
COMMANDS = typer.main.get_command(app).commands
HEAVY = ("torch", "transformers", "opensmile", "matplotlib", "pandas", "numpy", "h5py", "sklearn", "scipy", "librosa")
SHORT = ("--seeds", "2", "--max-epochs", "2")


@pytest.fixture(autouse=True)
def _wide_terminal_and_no_logs_left(monkeypatch):
    monkeypatch.setenv("COLUMNS", "250")  # tables are not folded, so that they can be read
    yield
    logger = logging.getLogger("featcache")
    logger.handlers.clear()
    logger.setLevel(logging.NOTSET)


@pytest.fixture
def invoke(monkeypatch, capsys):
    """Run a command in this process, as the installed script would: exit code, stdout and stderr."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["featcache", *map(str, arguments)])
        with pytest.raises(SystemExit) as exited:
            cli.main()
        code = exited.value.code
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def invoke_well(invoke):
    """Run a command that must succeed, for its stdout."""

    def run(*arguments):
        code, out, err = invoke(*arguments)
        assert code == 0, err
        return out

    return run


def write_corpus(folder, *, broken=()):
    """Three short recordings and their manifest; broken ones hold no samples."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        samples = np.zeros(0) if name in broken else rng.uniform(-0.1, 0.1, 3200)
        soundfile.write(folder / f"{name}.wav", samples, 16000)
    (folder / "manifest.csv").write_text("path,speaker_id,emotion\na.wav,x,joy\nb.wav,y,anger\nc.wav,z,joy\n")
    return folder


def everything_under(folder):
    return sorted(folder.rglob("*"))


def process(*command):
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False, timeout=120)


# Help, version, usage


@pytest.mark.parametrize("name", COMMANDS)
def test_every_help_ends_in_an_example_that_parses(name):
    result = CliRunner().invoke(app, [name, "--help"])
    assert result.exit_code == 0
    last_line = result.output.rstrip().splitlines()[-1]
    example = shlex.split(re.fullmatch(r"\s*Example: (.+)", last_line)[1])
    assert example[:2] == ["featcache", name]
    COMMANDS[name].make_context(name, example[2:])


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_says_what_it_is_for(name):
    for parameter in COMMANDS[name].params:
        assert getattr(parameter, "help", None), parameter.name


def commands_in_readme():
    text = README.read_text(encoding="utf-8")
    blocks = re.findall(r"^```[^\n]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()] + re.findall(r"`([^`\n]+)`", text)
    return [shlex.split(line, comments=True) for line in lines if re.match(r"featcache [a-z]", line)]


def options_of(name):
    return {option for parameter in COMMANDS[name].params for option in parameter.opts + parameter.secondary_opts}


def test_every_command_in_the_readme_exists():
    found = commands_in_readme()
    assert {"demo", "extract", "fit", "layers", "probe", "relevance"} <= {words[1] for words in found} <= set(COMMANDS)
    for _, name, *arguments in found:
        assert {word for word in arguments if word.startswith("-")} <= options_of(name), arguments


def test_help_loads_nothing_heavy():
    code = f"""
import sys
from featcache.cli.app import main
sys.argv = ["featcache", "--help"]
try:
    main()
except SystemExit as exited:
    print(exited.code, sorted(set({HEAVY!r}) & set(sys.modules)))
"""
    result = process("-c", code)
    assert result.stdout.splitlines()[-1] == "0 []", result.stderr


def test_the_version_is_the_packages(invoke_well):
    assert invoke_well("--version") == f"featcache {featcache.__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["extrct"],
        ["fit", "--hed", "dense"],
        ["fit", "--jobs", "0"],
        ["fit", "--seeds", "0"],
        ["fit", "--select", "emotion"],
        ["extract", "--limit", "0"],
        ["extract", "--store", "float64"],
        ["info", "a", "b"],
    ],
)
def test_wrong_usage_ends_with_2(invoke, make_cache, arguments):
    make_cache()
    code, out, err = invoke(*arguments)
    assert code == 2
    assert "Usage: featcache" in out + err
    assert "Traceback" not in err


def test_every_option_is_defined_once_and_used():
    aliases = {name for name, value in vars(options).items() if get_origin(value) is Annotated}
    commands = Path(options.__file__).parent / "commands"
    used = re.findall(
        r"\boptions\.(\w+)(?: =|,|\))", "".join(path.read_text("utf-8") for path in commands.glob("*.py"))
    )
    assert aliases == set(used)
    texts = [value.__metadata__[0].help for name, value in vars(options).items() if name in aliases]
    assert len(set(texts)) == len(texts)


def test_only_the_command_line_prints():
    package = Path(featcache.__file__).parent
    printing = {
        path.relative_to(package).parts[0]
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and re.match("print|Console$", getattr(node.func, "id", ""))
    }
    assert printing == {"cli", "terminal", "__main__.py"}  # the console itself, and what Ctrl-C says


# Mistakes: one line each, exit code 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["fit"], "several caches under .*: one, two; choose with --corpus NAME"),
        (["info"], "several caches under .*: one, two; name one, as in 'featcache info one'"),
        (["fit", "--corpus", "three"], r"no cache 'three' under .* \(there: one, two\)"),
        (["fit", "--corpus", "one", "--target", "mood"], "no utterance has a label 'mood'"),
        (["fit", "--corpus", "one", "--protocol", "lsoo"], "unknown protocol 'lsoo'; nearest: loso"),
        (["fit", "--corpus", "one", "--features", "sls"], "unknown feature store 'sls'; nearest: ssl"),
        (["fit", "--corpus", "one", "--layers", "9"], "no layer '9' among 0, 1, 2"),
        (["fit", "--corpus", "one", "--name", "a/b"], "run name 'a/b': it contains '/'; choose another with --name"),
        (["fit", "--corpus", "one", "--head", "danse"], "unknown head 'danse'; nearest: dense"),
        (["fit", "--corpus", "one", "--head", "dense,lsmt"], "unknown head 'lsmt'; nearest: lstm"),
        (["fit", "--corpus", "one", "--norm", "speaker,globel"], "unknown normalisation 'globel'; nearest: global"),
        (["fit", "--corpus", "one", "--layers", "all", "--layers", "9"], "no layer '9' among 0, 1, 2"),
        (["fit", "--corpus", "one", "--memory", "rubbish"], "--memory rubbish: expected a size such as 4GiB, one of "),
        (
            ["-q", "fit", "--corpus", "one", "--memory", "1kB"],
            "1.0 kB of memory is not enough, expected .* [MG]B or more; ",
        ),
        (
            ["fit", "--corpus", "one", "--device", "cuda:99"],
            r"--device cuda:99 cannot be used here \(.*\); cpu always can",
        ),
        (
            ["fit", "--corpus", "one", "--head", "dense,lstm", "--name", "mine"],
            "--name is for a single run, and 2 are asked for; their names tell them apart",
        ),
        (["fit", "--corpus", "two"], "ssl is not finished: it holds 16 of 16 utterances; run the same"),
        (["info", "nowhere"], "unknown name 'nowhere'; known: .*; the path of a store, cache or run works too"),
        (["corpora", "ravdes"], "unknown corpus 'ravdes'; nearest: ravdess"),
        (["layers"], "no run with layer weights under .*; make one with 'featcache fit'"),
        (["layers", "mine"], "unknown run 'mine'"),
        (["probe", "sls", "--corpus", "one"], "unknown feature store 'sls'; nearest: ssl"),
        (["relevance", "--corpus", "one", "--head", "danse"], "unknown head 'danse'; nearest: dense"),
        (["extract"], "no corpus under .*; put one there or give its folder with --data PATH"),
        (["extract", "--data", "nowhere"], "--data nowhere: no such folder"),
        (["extract", "--corpus", "emodb"], r"no corpus 'emodb' under .* \(there: none\)"),
    ],
)
def test_a_mistake_is_told_in_one_line(invoke, make_cache, arguments, told):
    make_cache("one")
    make_cache("two", stores={"ssl": {"complete": False}})
    code, out, err = invoke(*arguments)
    assert code == 1
    assert out == ""
    assert re.fullmatch(f"error: .*{told}.*\n", err)


def test_with_several_corpora_the_option_to_add_is_told(invoke, tmp_path):
    for name in ("one", "two"):
        write_corpus(tmp_path / "data" / "corpora" / name)
    code, _, err = invoke("extract", "--model", "egemaps")
    assert code == 1
    assert re.fullmatch(r"error: several corpora under .*: one, two; choose with --corpus NAME\n", err)


def test_a_mistake_has_no_traceback_and_a_bug_has_one(monkeypatch):
    result = process("-m", "featcache", "fit")
    assert result.returncode == 1
    assert re.fullmatch(r"error: no cache under .*\n", result.stderr)
    assert result.stdout == ""
    modules = "import sys, featcache.cli.app, featcache.cli.listing"
    bug = "featcache.cli.listing.print_models = 0; sys.argv = ['', 'models']; featcache.cli.app.main()"
    result = process("-c", f"{modules}; {bug}")
    assert result.returncode == 1
    assert "TypeError: 'int' object is not callable" in result.stderr
    assert "Traceback" in result.stderr


# extract


def test_extracting_twice_does_nothing_the_second_time(invoke_well, tmp_path):
    write_corpus(tmp_path / "data" / "corpora" / "three")
    out = invoke_well("extract", "--model", "egemaps")
    assert out.startswith("3 of 3 utterances extracted, 1 s of audio in ")
    store = tmp_path / "data" / "cache" / "three" / "egemaps"
    assert out.endswith(f"\n{store}\n")
    assert invoke_well("extract", "--model", "egemaps") == f"nothing to do: all 3 utterances are cached\n{store}\n"
    assert re.search(r"^finished +yes ", invoke_well("info"), re.MULTILINE)


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
    assert "stopped before the end; the same command goes on from here" in out


# fit


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
        r"^ssl, speaker normalisation: 1 run reads all at once as int8, and compute in ", err, re.MULTILINE
    )
    assert RunFolder(out.splitlines()[-1]).config["working_dtype"] == "int8"


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


def test_quiet_says_nothing_but_results(invoke, make_cache, quick_reports):
    make_cache()
    _, _, err = invoke("fit", *SHORT)
    assert "Speaker normalisation is transductive" in err
    _, out, err = invoke("--quiet", "fit", *SHORT, "--overwrite")
    assert "dense" in out
    assert err == ""


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
    told = "warning: 3 of 8 trainings are finished and kept; the same with --resume goes on"
    assert (told in err) == (finished > 0)
    runs = tmp_path / "data" / "runs" / "toy"
    assert [path.name for path in runs.iterdir()] == [".mine.unfinished"] * (finished > 0)
    if finished:
        code, _, err = invoke("fit", *SHORT, "--name", "mine")
        assert code == 1
        assert re.fullmatch(r"(?s).*error: .*mine was interrupted after 3 trainings; go on with --resume, or .*\n", err)
    invoke_well("fit", *SHORT, "--name", "mine", "--resume")
    assert [path.name for path in runs.iterdir()] == ["mine"]


# layers


def test_layers_draws_the_newest_run_that_has_weights(invoke_well, make_cache, quick_reports):
    make_cache()
    for name, layers in (("old", "all"), ("new", "all"), ("single", "local")):
        invoke_well("fit", *SHORT, "--layers", layers, "--name", name)
    out = invoke_well("layers")
    assert "new" in out.splitlines()[0]
    assert out.rstrip().endswith("toy/new/layer_weights.png  .svg  _summary.csv")


def test_layers_leaves_a_picture_and_the_numbers_that_it_prints(invoke_well, make_cache, monkeypatch, tmp_path):
    make_cache()
    runs = [
        Path(invoke_well("fit", *SHORT, "--layers", layers, "--name", name).splitlines()[-1])
        for name, layers in (("every", "all"), ("some", "0,2"))
    ]
    out = invoke_well("layers", "every", runs[1], "--out", tmp_path / "figures" / "weights")
    names = sorted(path.name for path in (tmp_path / "figures").iterdir())
    assert names == ["weights.png", "weights.svg", "weights_summary.csv"]
    assert (tmp_path / "figures" / "weights.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (tmp_path / "figures" / "weights.svg").read_text()
    summary = pd.read_csv(tmp_path / "figures" / "weights_summary.csv")
    assert list(summary.columns) == ["run", "layer", "mean", "std", "num_seeds"]
    for run in runs:
        weights = RunFolder(run).layer_weights.astype({"layer": int}).groupby(["layer", "seed"])["weight"].mean()
        of_run = summary.query("run == @run.name").set_index("layer")
        np.testing.assert_allclose(of_run["mean"], weights.groupby("layer").mean())
        np.testing.assert_allclose(of_run["std"], weights.groupby("layer").std(ddof=0), atol=1e-12)
        for mean in of_run["mean"]:
            assert f"{mean:.4f}" in out


def test_layers_of_runs_with_one_name_are_told_apart_by_corpus(invoke_well, make_cache, quick_reports, tmp_path):
    for corpus in ("one", "two"):
        make_cache(corpus)
        invoke_well("fit", *SHORT, "--corpus", corpus, "--name", "same")
    runs = [tmp_path / "data" / "runs" / corpus / "same" for corpus in ("one", "two")]
    out = invoke_well("layers", *runs, "--out", tmp_path / "both")
    assert set(pd.read_csv(tmp_path / "both_summary.csv")["run"]) == {"one/same", "two/same"}
    assert "one/same" in out
    assert "two/same" in out
    assert "one" in invoke_well("layers", "--corpus", "one")


@pytest.mark.parametrize(
    ("layer_names", "layers", "told"),
    [
        (("0", "1", "2"), "local", "mine learned no layer weights: it was fitted on a single layer; fit with --layers"),
        (("0", "1", "input"), "all", "mine weighs the layer 'input', which has no place on a numbered axis"),
    ],
)
def test_layers_refuses_runs_without_numbered_weights(
    invoke, invoke_well, make_cache, quick_reports, layer_names, layers, told
):
    make_cache(stores={"ssl": {"layer_names": layer_names}})
    invoke_well("fit", *SHORT, "--layers", layers, "--name", "mine")
    code, out, err = invoke("layers", "mine")
    assert (code, out) == (1, "")
    assert re.fullmatch(f"error: {told}.*\n", err)


def test_relevance_prints_what_it_leaves(invoke, make_cache, quick_reports, tmp_path):
    make_cache(stores={"ssl": {"weights": "random"}})
    words = "relevance ssl --target emotion --task classification --protocol group-kfold --head linear"
    words += " --norm global --seeds 1 --device cpu --select emotion=anger,joy --corpus toy"
    code, out, _ = invoke(*words.split(), "--out", tmp_path / "layers")
    assert code == 0
    assert "ssl (untrained): linear, global normalisation, group-kfold" in out.splitlines()
    table = pd.read_csv(tmp_path / "layers.csv")
    assert list(table["layer"]) == [0, 1, 2]
    for row in table.itertuples():
        assert re.search(rf"^{row.layer} +{row.weight:.4f} ± {row.weight_std:.4f}", out, re.MULTILINE)
        assert re.search(rf"^{row.layer} +{row.uar:.1f} ± {row.uar_std:.1f}", out, re.MULTILINE)
    config = RunFolder(tmp_path / "data" / "runs" / "toy" / table["run"][0]).config
    assert (config["head"], config["norm"], config["seeds"]) == ("linear", "global", [123])
    assert (config["protocol"], config["select"]) == ("group-kfold", {"emotion": ["anger", "joy"]})
    _, again, err = invoke(*words.split(), "--out", tmp_path / "layers")
    assert again == out
    assert "1 of 1 runs are there already" in err


@pytest.mark.parametrize(
    ("words", "command"),
    [
        ("--probe", "probe"),
        ("--probe ssl --target emotion --out figures/probe", "probe"),
        ("--per-target --target arousal,valence --head linear", "relevance"),
        ("ssl --seeds 2 --per-target", "relevance"),
    ],
)
def test_options_that_have_become_commands_name_them(invoke, words, command):
    code, out, err = invoke("layers", *words.split())
    assert (code, out) == (2, "")
    assert re.fullmatch(f"error: 'featcache layers --.*' is now 'featcache {command}'; .*\n", err)


@pytest.mark.parametrize("option", ["--head", "--norm", "--seeds", "--device", "--protocol", "--target", "--select"])
def test_layers_and_probe_have_no_options_of_training(option):
    assert option in options_of("relevance")
    assert option not in options_of("layers")
    assert (option in options_of("probe")) == (option in ("--protocol", "--target", "--select"))


# corpora, models, info


def test_corpora_lists_what_is_known_and_what_is_there(invoke_well, make_cache, tmp_path):
    out = invoke_well("corpora")
    for name in ("emodb", "ravdess", "folder", *PROTOCOLS):
        assert re.search(rf"^{name} ", out, re.MULTILINE)
    assert out.splitlines()[-2:] == [f"under {tmp_path / 'data' / part}: none" for part in ("corpora", "cache")]
    make_cache("mine [1]")
    write_corpus(tmp_path / "data" / "corpora" / "theirs")
    assert [line.split(": ")[1] for line in invoke_well("corpora").splitlines()[-2:]] == ["theirs", "mine [1]"]


def test_one_corpus_is_shown_in_full(invoke_well):
    out = invoke_well("corpora", "ravdess")
    for text in ("RAVDESS", "CC BY-NC-SA 4.0", "zenodo.org", "neutral, calm, happy", "pepino2021-speech", "first 250"):
        assert text in out
    assert "neutral 188, calm 376" in out
    assert "together 2452" in " ".join(out.split())
    for name in (*CORPORA["ravdess"].protocols, "loso", "random-80-20"):
        first_words = " ".join(PROTOCOLS[name].description.split()[:3])
        assert re.search(rf"^{name} +{re.escape(first_words)}", out, re.MULTILINE)
    assert "iemocap-issa" not in out


def test_numbers_are_shown_with_their_bounds(invoke_well):
    out = " ".join(invoke_well("corpora", "msp-podcast").split())
    assert "numbers arousal 1 to 7, valence 1 to 7, dominance 1 to 7" in out
    assert "msp-podcast-test2 The same with Test2" in out


@pytest.mark.parametrize("name", CORPORA)
def test_every_corpus_can_be_shown(invoke_well, name):
    out = " ".join(invoke_well("corpora", name).split())
    for text in (CORPORA[name].license, CORPORA[name].description.split(" (")[0], *CORPORA[name].classes):
        assert text in out


def test_models_lists_every_short_name_with_its_size(invoke_well):
    lines = {line.split()[0]: line for line in invoke_well("models").splitlines() if line.strip()}
    for name, entry in known_models().items():
        assert f" {entry['model_id']} " in lines[name]
    # 13 layers of 768 float16 numbers, 50 times a second; and 25 of 1024
    for name, layers, hourly in (("wav2vec2-base", "13 x 768", "3.6 GB"), ("hubert-large", "25 x 1024", "9.2 GB")):
        assert f" {layers} " in lines[name]
        assert f" {hourly} " in lines[name]


def test_info_tells_a_pruned_model_from_a_whole_one(invoke_well, make_cache):
    pruned = {"settings": {"extractor": "ssl", "weights": "random", "num_blocks": 2}}
    folder = make_cache(stores={"whole": {}, "pruned": pruned})
    assert "num_blocks" not in invoke_well("info", folder / "whole")
    assert re.search(r"^num_blocks +2 ", invoke_well("info", folder / "pruned"), re.MULTILINE)


def test_info_says_what_is_in_a_store_and_what_made_it(invoke_well, make_cache):
    folder = make_cache(stores={"ssl": {}, "egemaps": {"kind": "egemaps"}, "half": {"complete": False}})
    store = featcache.open(folder)["ssl"]
    out = invoke_well("info", folder / "ssl")
    rows = dict(re.split(r"\s{2,}", line.strip(), maxsplit=1) for line in out.splitlines() if line.strip())
    assert rows["store"] == str(folder / "ssl")
    assert rows["finished"] == "yes"
    assert rows["utterances"] == "16 of 16"
    assert rows["frames"] == str(store.num_frames(store.utterance_ids).sum())
    assert rows["fingerprint"] == store.metadata["fingerprint"]
    assert rows["layer_names"] == "0, 1, 2"
    assert rows["frame_shift"] == "0.02"
    whole = invoke_well("info")
    assert whole == invoke_well("info", folder)
    for text in (
        f"cache +{folder}",
        "speakers +4",
        "labels +emotion",
        "finished +no: run the same 'featcache extract'",
    ):
        assert re.search(f"^{text} ", whole, re.MULTILINE)
    assert all(str(folder / name) in whole for name in ("ssl", "egemaps", "half"))
