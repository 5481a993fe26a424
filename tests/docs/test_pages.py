"""The pages of the site do what they say: their code runs, their outputs and their commands are those of this code."""

import re
import shlex
from itertools import pairwise

import pytest

from tests.cli.commands.calls import COMMANDS, options_of
from tests.docs.pages import DOCS, OUTPUT, blocks_of, prepared_for, run_blocks, wording

PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
# Page → number of blocks that are shown and cannot run here. A new one has to be added by hand.
NOT_RUN = {
    "how-to/check.md": 1,
    "how-to/dask.md": 2,
    "how-to/emotion2vec.md": 2,
    "how-to/fetch-a-corpus.md": 1,
    "how-to/finetune.md": 4,
    "how-to/multilabel.md": 2,
    "how-to/offline.md": 2,
    "how-to/publish.md": 2,
    "how-to/reproduce-a-paper.md": 1,
    "how-to/search.md": 2,
    "how-to/slurm.md": 3,
    "how-to/tables.md": 1,
    "how-to/text.md": 1,
    "how-to/training.md": 1,
}
RUNNING = [page for page in PAGES if any(block.is_run for block in blocks_of((DOCS / page).read_text("utf-8")))]


def without_blocks(text):
    return re.sub(r"```.*?```", "", text, flags=re.DOTALL)


def text_of(page):
    return (DOCS / page).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", RUNNING)
def test_the_code_of_a_page_runs(page, working_folder, quick_reports):
    text = text_of(page)
    working_folder(prepared_for(text))
    for block, printed in run_blocks(blocks_of(text)):
        assert wording(printed) == wording(block.text), f"to write it again: python -m tests.docs {page}"


def test_what_does_not_run_is_counted():
    counted = {page: sum(block.reason is not None for block in blocks_of(text_of(page))) for page in PAGES}
    assert {page: number for page, number in counted.items() if number} == NOT_RUN


def test_tutorial_and_guides_run():
    guides = {page for page in PAGES if page.startswith("how-to/") or page == "tutorial.md"}
    assert guides - set(RUNNING) == {"how-to/dask.md", "how-to/not-included.md"} & guides


def commands_of(page):
    """Yield the words of each command on a page, in blocks and in the text."""
    text = text_of(page)
    for block in blocks_of(text):
        for line in block.text.replace("\\\n", " ").splitlines():
            if re.match(r"\$? ?featcache [a-z]", line):
                yield shlex.split(line.removeprefix("$ "), comments=True)
    for line in re.findall(r"`([^`\n]+)`", without_blocks(text)):
        if re.match(r"featcache [a-z]", line):
            yield shlex.split(line)


@pytest.mark.parametrize("page", [*PAGES, "../README.md", "../CONTRIBUTING.md"])
def test_a_page_speaks_of_commands_and_options_that_exist(page):
    for _, name, *arguments in commands_of(page):
        assert name in COMMANDS
        assert {word.partition("=")[0] for word in arguments if re.match(r"--?[a-z]", word)} <= options_of(name), (
            arguments
        )
    known = {option for name in COMMANDS for option in options_of(name)} | {"--version", "--quiet", "--help", "-q"}
    text = without_blocks(text_of(page))
    alone = {match for line in re.findall(r"`(--[^`\n]+)`", text) for match in re.findall(r"--[a-z][a-z-]*", line)}
    assert alone - known == set()


@pytest.mark.parametrize("page", [*PAGES, "../README.md", "../CONTRIBUTING.md"])
def test_links_between_pages_hold(page):
    path = DOCS / page
    for target in re.findall(r"\]\((?!https?://|#)([^)#\s]+)", without_blocks(text_of(page))):
        if "commands/" not in target:  # these pages are made when the site is built
            assert (path.parent / target).exists(), target


def test_outputs_follow_a_block_that_prints():
    for page in PAGES:
        blocks = blocks_of(text_of(page))
        assert all(before.is_run for before, after in pairwise(blocks) if after.title == OUTPUT)
