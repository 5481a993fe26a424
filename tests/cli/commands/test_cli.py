"""The command line: help, usage, errors and their exit codes."""

import ast
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Annotated, get_origin

import pytest
from typer.testing import CliRunner

import featcache
from featcache.cli import options
from featcache.cli.app import app
from tests.cli.commands.calls import COMMANDS, options_of, write_corpus

README = Path(__file__).parents[3] / "README.md"


HEAVY = ("torch", "transformers", "opensmile", "matplotlib", "pandas", "numpy", "h5py", "sklearn", "scipy", "librosa")


def process(*command):
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False, timeout=120)


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
    assert printing == {"cli", "terminal", "__main__.py"}  # the console itself, and the message after Ctrl-C


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["fit"], r"several caches under .*; which corpus\? --corpus one or --corpus two"),
        (["info"], r"which cache\? 'featcache info one' or 'featcache info two'"),
        (["fit", "--corpus", "three"], r"no cache 'three' under .* \(available: one, two\)"),
        (["fit", "--corpus", "one", "--target", "mood"], "no utterance has a label 'mood'"),
        (["fit", "--corpus", "one", "--protocol", "lsoo"], "no protocol 'lsoo'; did you mean 'loso'"),
        (["fit", "--corpus", "one", "--features", "sls"], "no store 'sls'; did you mean 'ssl'"),
        (["fit", "--corpus", "one", "--layers", "9"], "no layer '9' among 0, 1, 2"),
        (["fit", "--corpus", "one", "--name", "a/b"], "run name 'a/b': it contains '/'; choose another with --name"),
        (["fit", "--corpus", "one", "--head", "danse"], "no head 'danse'; did you mean 'dense'"),
        (["fit", "--corpus", "one", "--head", "dense,lsmt"], "no head 'lsmt'; did you mean 'lstm'"),
        (
            ["fit", "--corpus", "one", "--norm", "speaker,globel"],
            "norm takes speaker, global or none, got 'globel'; did you mean 'global'",
        ),
        (["fit", "--corpus", "one", "--layers", "all", "--layers", "9"], "no layer '9' among 0, 1, 2"),
        (["fit", "--corpus", "one", "--memory", "rubbish"], "--memory rubbish: expected a size such as 4GiB, one of "),
        (
            ["-q", "fit", "--corpus", "one", "--memory", "1kB"],
            "1.0 kB of memory is not enough, expected .* [MG]B or more; ",
        ),
        (
            ["fit", "--corpus", "one", "--device", "cuda:99"],
            r"--device cuda:99 is not available here \(.*\); use --device cpu",
        ),
        (
            ["fit", "--corpus", "one", "--head", "dense,lstm", "--name", "mine"],
            "--name is for a single run, found 2 runs; remove --name",
        ),
        (["fit", "--corpus", "two"], "ssl is not finished: it contains 16 of 16 utterances; run the same"),
        (["info", "nowhere"], "no cache, store, run or transcripts 'nowhere'; available: one, ssl, two"),
        (["corpora", "ravdes"], "no corpus 'ravdes'; did you mean 'ravdess'"),
        (["layers"], "no run with layer weights under .*; make one with 'featcache fit'"),
        (["layers", "mine"], "no run 'mine'"),
        (["probe", "sls", "--corpus", "one"], "no store 'sls'; did you mean 'ssl'"),
        (["relevance", "--corpus", "one", "--head", "danse"], "no head 'danse'; did you mean 'dense'"),
        (["extract"], "no corpus under .*; put one there or give its folder with --data PATH"),
        (["extract", "--data", "nowhere"], "--data nowhere: no such folder"),
        (["extract", "--corpus", "emodb"], r"no corpus 'emodb' under .* \(available: none\)"),
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
    assert re.fullmatch(r"error: several corpora under .*; which corpus\? --corpus one or --corpus two\n", err)


def test_a_mistake_has_no_traceback_and_a_bug_has_one(monkeypatch):
    result = process("-m", "featcache", "fit")
    assert result.returncode == 1
    assert re.fullmatch(r"error: no cache under .*\n", result.stderr)
    assert result.stdout == ""
    modules = "import sys, featcache.cli.app, featcache.cli.model_list"
    bug = "featcache.cli.model_list.print_models = 0; sys.argv = ['', 'models']; featcache.cli.app.main()"
    result = process("-c", f"{modules}; {bug}")
    assert result.returncode == 1
    assert "TypeError: 'int' object is not callable" in result.stderr
    assert "Traceback" in result.stderr
