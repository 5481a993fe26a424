"""Usage errors, and output on terminals of any width."""

import re

import pytest
from typer.testing import CliRunner

from featcache.cli import app as cli
from featcache.cli.columns import print_fitting, width
from featcache.cli.usage import _ALIASES
from featcache.corpora import CORPORA
from featcache.extractors.models import known_models, known_text_models
from tests.cli.commands.calls import COMMANDS

WIDTHS = (20, 40, 60, 80, 100, 200)


def told(monkeypatch, capsys, *arguments):
    """Return the exit code and the last line of standard error."""
    monkeypatch.setattr("sys.argv", ["featcache", *arguments])
    with pytest.raises(SystemExit) as exited:
        cli.main()
    return exited.value.code, capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("ftt", "no command 'ftt'; did you mean 'fit'?"),
        ("EXTRACT", "no command 'EXTRACT'; did you mean 'extract'?"),
        ("qqqq", f"no command 'qqqq'; commands: {', '.join(COMMANDS)}"),
        ("--verison", "no option --verison; did you mean --version?"),
        ("fit --hed dense", "no option --hed; did you mean --head?"),
        ("fit --no-resme", "no option --no-resme; did you mean --resume?"),
        ("fit --lr 3", "no option --lr; did you mean --learning-rate?"),
        ("fit --lr=3", "no option --lr; did you mean --learning-rate?"),
        ("fit --epochs 3", "no option --epochs; did you mean --max-epochs?"),
        ("fit --gpu", "no option --gpu; did you mean --device?"),
        ("fit --bs 4", "no option --bs; did you mean --batch-size?"),
        ("fit --batch 4", "no option --batch; did you mean --batch-size?"),
        ("relevance --dropout 0.3", "no option --dropout; did you mean --set dropout=…?"),
        (
            "extract --head dense",
            "no option --head; 'featcache fit', 'featcache finetune' and 'featcache relevance' have it",
        ),
        ("extract --no-egmaps", "no option --no-egmaps; did you mean --no-egemaps?"),
        ("fit --zzzz", "no option --zzzz"),
        ("fit -z", "no option -z"),
        ("fit --jobs", "--jobs needs a value"),
        ("fit --resume=yes", "--resume takes no value"),
        ("fit --learning-rate 1e-3,1e-4", "--learning-rate takes one number, got '1e-3,1e-4'"),
        ("fit --max-epochs ten", "--max-epochs takes one integer, got 'ten'"),
        ("fit --jobs 0", "--jobs takes integers from 1, got 0"),
        ("fit --seeds 0", "--seeds: expected the number of seeds, or a list of seeds such as 123,1234, found '0'"),
        (
            "fit --pooling maen",
            "--pooling takes mean, sum, max or mean+max, got 'maen'; did you mean 'mean'?",
        ),
        ("relevance --norm speker", "--norm takes speaker, global or none, got 'speker'; did you mean 'speaker'?"),
        ("verify a --recompute -1", "--recompute takes integers from 0, got -1"),
        (
            "score p.csv --task regresion",
            "--task takes classification, regression or multilabel, got 'regresion'; did you mean 'regression'?",
        ),
        ("ensemble a b --size x", "--size takes integers separated by commas, such as 3,5, got 'x'"),
        ("import-features somewhere", "--name is missing"),
        ("merge", "INTO is missing"),
        ("merge a", "PART... is missing"),
        ("models a b c", "unexpected argument: b c"),
        ("fetch", "NAME... is missing"),
    ],
)
def test_wrong_usage_is_told_in_one_line_and_names_the_nearest(monkeypatch, capsys, arguments, message):
    assert told(monkeypatch, capsys, *arguments.split()) == (2, f"error: {message}")


def test_aliases_stand_for_options():
    options = {name for command in COMMANDS.values() for one in command.params for name in one.opts}
    assert {alias.split(" ")[0] for alias in _ALIASES.values()} <= options
    assert not options & _ALIASES.keys()


def test_the_help_lists_all_commands_in_groups(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    lines = CliRunner().invoke(cli.app, ["--help"]).output.splitlines()
    rows = lines[lines.index("Start:") :]
    assert [line.split()[0] for line in rows if re.match(r"  \S", line)] == [*COMMANDS, "Example:"]
    assert [line for line in rows if re.match(r"\S", line)] == [
        *("Start:", "Features:", "Training and prediction:", "Layers:", "Results:", "For others:"),
    ]


# Placeholders in capitals, or words to choose from.
METAVAR = r"[A-Z,=:]+|\[STORE=\]PATH|NAME\[:NUMBER\]|COUNTxWIDTH|[\w|+-]+|[a-z|]+\|[A-Z,=]+|[A-Z]+ or [A-Z,]+"


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_shows_readable_types_and_every_default_last(name, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    text = CliRunner().invoke(cli.app, [name, "--help"]).output
    assert not re.search(r"<\w|\bint\b(?!:)|\bfloat range\b|\[x>|list\[|by default", text)
    assert max(map(len, text.splitlines())) <= 80
    for one in COMMANDS[name].params:
        if one.param_type_name == "option" and one.name != "help":
            assert re.fullmatch(r"[^\[]+(\[default: [^\]]+\])?\.", one.help.replace("[|a|]", "")), one.help
            assert one.is_flag or re.fullmatch(METAVAR, one.metavar), one.metavar


@pytest.mark.parametrize("columns", WIDTHS)
@pytest.mark.parametrize("command", ["models", "corpora"])
def test_lists_show_whole_names_line_by_line_at_any_width(monkeypatch, command, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr("featcache.cli.model_list.is_local", lambda name: False)
    names = (*known_models(), *known_text_models()) if command == "models" else tuple(CORPORA)
    code = CliRunner().invoke(cli.app, [command])
    lines = code.output.splitlines()
    firsts = [line.split()[0] for line in lines if line.strip()]
    assert set(names) <= set(firsts)
    assert all(len(line.rstrip()) <= columns or " " not in line.strip() for line in lines)
    whole = CliRunner(env={"COLUMNS": "100000"}).invoke(cli.app, [command]).output
    listed = re.sub(r"\(not shown[^)]*\)", "", code.output)
    assert set(listed.split()) <= set(whole.split())


@pytest.mark.parametrize("columns", WIDTHS)
def test_columns_are_dropped_in_order_until_the_rest_fits(monkeypatch, capsys, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    table = {"Name": ["x" * 30, "怒"], "Size": ["1", "2"], "Id": ["y" * 40, "z"]}
    print_fitting(table, dropped=("Id", "Size"))
    out = capsys.readouterr().out
    assert "x" * 30 in out
    assert ("y" * 40 in out) == (width(table) <= columns)
    assert ("Size  " in out) == (columns >= 38)
    assert ("lack of" in " ".join(out.split())) == (width(table) > columns)


def test_a_pipe_gets_every_column(monkeypatch, capsys):
    monkeypatch.delenv("COLUMNS", raising=False)
    table = {"Name": ["a" * 90], "Description": ["b c " * 90]}
    print_fitting(table)
    assert len(capsys.readouterr().out.splitlines()) == 2
