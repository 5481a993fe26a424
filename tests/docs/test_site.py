"""The site covers every command, every option and every public name, whatever the pages say."""

import importlib.util
import re

import pytest
from typer.testing import CliRunner

import featcache
from featcache.cli.app import app
from tests.cli.commands.calls import COMMANDS, options_of
from tests.docs.pages import DOCS, ROOT

HOOK = DOCS / "hooks" / "generated.py"
# Bases and makers of parts from outside: each is described on the page of extension points.
EXTENSION_POINTS = {"Head", "HeadSpec", "Dropout", "Extractor", "NamedCorpus", "Corpus", "Protocol", "Fold", "setting"}


@pytest.fixture(scope="module")
def generated():
    spec = importlib.util.spec_from_file_location("generated", HOOK)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_command_and_option_has_a_place(generated):
    pages = generated.command_pages()
    assert set(pages) == {f"reference/commands/{name}.md" for name in ("index", *COMMANDS)}
    for name in COMMANDS:
        page = pages[f"reference/commands/{name}.md"]
        rows = re.findall(r"^\| `([^`]+)`", page, re.MULTILINE)
        shown = {option for row in rows for option in re.findall(r"--?[a-z][a-z-]*", row)}
        assert {option for option in options_of(name) if option.startswith("-")} <= shown, name
        assert len(rows) == len(COMMANDS[name].params) + 1  # one row each, arguments included, and --help
        assert f"({name}.md)" in pages["reference/commands/index.md"]
        assert f"featcache {name}" in page.rpartition("## Example")[2]


def test_the_page_of_a_command_has_the_headings_of_its_help(generated):
    pages = generated.command_pages()
    for name in COMMANDS:
        printed = CliRunner().invoke(app, [name, "--help"]).output
        headings = re.findall(r"^([A-Z][^:\n]*):$", printed, re.MULTILINE)
        page = pages[f"reference/commands/{name}.md"]
        assert re.findall(r"^## (.*)$", page, re.MULTILINE) == [*headings, "Example"]
        for heading in headings:  # the same options below each
            below = re.search(rf"^{re.escape(heading)}:\n(.*?)(?=^\S|\Z)", printed, re.MULTILINE | re.DOTALL)[1]
            names = re.findall(r"^  (--[a-z-]+|-[a-z]|[A-Z]{2,})", below, re.MULTILINE)
            rows = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## )", page, re.MULTILINE | re.DOTALL)[1]
            assert re.findall(r"^\| `(--[a-z-]+|-[a-z]|[A-Z]{2,})", rows, re.MULTILINE) == names
    assert "## Training steps" in pages["reference/commands/fit.md"]


def test_the_help_text_of_an_option_and_its_default_are_shown(generated):
    pages = generated.command_pages()
    page = " ".join(pages["reference/commands/demo.md"].split())
    assert r"\[default: featcache-demo\]" in page
    for name, command in COMMANDS.items():
        assert all(parameter.help for parameter in command.params)
        page = pages[f"reference/commands/{name}.md"].replace("\\", "").replace("&lt;", "<").replace("&gt;", ">")
        assert [one.name for one in command.params if " ".join(one.help.split()).removesuffix(".") not in page] == []


def test_every_public_name_is_described():
    page = (DOCS / "reference" / "python.md").read_text(encoding="utf-8")
    described = set(re.findall(r"^::: featcache\.(\w+)$", page, re.MULTILINE))
    assert described | {"__version__"} == set(featcache.__all__)


def test_every_extension_point_is_described():
    page = (DOCS / "reference" / "extension-points.md").read_text(encoding="utf-8")
    assert {path.rpartition(".")[2] for path in re.findall(r"^::: ([\w.]+)$", page, re.MULTILINE)} == EXTENSION_POINTS


def test_every_page_is_in_the_navigation():
    listed = set(re.findall(r"([\w/-]+\.(?:md|ipynb))$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.MULTILINE))
    written = {path.relative_to(DOCS).as_posix() for kind in ("md", "ipynb") for path in DOCS.rglob(f"*.{kind}")}
    assert listed == written | {f"reference/commands/{name}.md" for name in ("index", *COMMANDS)}


def test_every_marker_has_a_table(generated):
    asked = {name for path in DOCS.rglob("*.md") for name in generated.MARKER.findall(path.read_text("utf-8"))}
    assert asked == set(generated.TABLES)
    for name in generated.TABLES:
        _, rule, *rows = generated.filled(f"<!-- generated: {name} -->").splitlines()
        assert set(rule) == set("| -")
        assert rows


def test_links_to_source_files_become_names(generated):
    page = "see [tests/evaluate/coverage.py](../tests/evaluate/coverage.py) and [stores](store.md)"
    assert generated.filled(page) == "see `tests/evaluate/coverage.py` and [stores](store.md)"


def test_the_architecture_shows_every_package():
    page = (DOCS / "architecture.md").read_text(encoding="utf-8")
    package = ROOT / "featcache"
    modules = {path.name for path in package.glob("*.py")} - {"__init__.py", "_version.py"}
    packages = {f"{path.parent.name}/" for path in package.glob("*/__init__.py")}
    assert {name for name in modules | packages if f"`{name}`" not in page} == set()
