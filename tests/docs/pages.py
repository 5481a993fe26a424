"""Page of the site → its code blocks, run from top to bottom in the current folder.

How a block is treated follows from what the reader sees:

- A block with ``title="FILE"`` is written to that file.
- ``sh`` is a list of featcache commands; each must succeed.
- ``python`` is executed; all blocks of a page share their names.
- ``text title="Output"`` is what the block before it printed. Numbers and spaces may differ, words may not.
- Other languages (``text``, ``mermaid``, ``toml``) are not code that can be run.

The line ``<!-- not run: REASON -->`` before a block says why it cannot run here. The line ``<!-- prepared: NAME -->``
on a page names what the reader has already: see ``prepared.py``.
"""

import contextlib
import io
import re
import shlex
import sys
import unittest.mock
from dataclasses import dataclass
from pathlib import Path

import pytest

from featcache.heads import SOLVERS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
BLOCK = re.compile(
    r"(?:^<!-- not run: (?P<reason>[^\n]+) -->\n)?"
    r'^(?P<indent> *)```(?P<language>\w*)(?: title="(?P<title>[^"\n]+)")?\n(?P<text>.*?)^ *```$',
    re.MULTILINE | re.DOTALL,
)
OUTPUT = "Output"
# The tests train as little as possible: the last of two equal options counts.
SHORT = dict.fromkeys(("fit", "finetune", "relevance", "run"), ("--seeds", "1", "--max-epochs", "1"))


@dataclass(frozen=True)
class Block:
    """A code block: its language, file name or ``Output``, text, and why it is not run."""

    language: str
    title: str | None
    text: str
    reason: str | None

    @property
    def is_run(self):
        return self.reason is None and (self.title is not None or self.language in ("sh", "python"))

    def commands(self):
        """Return the words of each featcache command."""
        joined = self.text.replace("\\\n", " ")
        words = [shlex.split(line, comments=True) for line in joined.splitlines()]
        return [one for one in words if one]


def blocks_of(text):
    """Return the code blocks of a page."""
    found = []
    for match in BLOCK.finditer(text):
        lines = [line.removeprefix(match["indent"]) for line in match["text"].splitlines()]
        found.append(Block(match["language"], match["title"], "\n".join(lines) + "\n", match["reason"]))
    return found


def prepared_for(text):
    """Return the names of what a page expects to exist."""
    lines = re.findall(r"^<!-- prepared: (.+) -->$", text, re.MULTILINE)
    return [name for line in lines for name in line.split(", ")]


def run_blocks(blocks, *, shorten=True):
    """Run the blocks of a page in the current folder; yield each block of output with what was printed."""
    names, printed = {}, ""
    with shortened_fits() if shorten else contextlib.nullcontext():
        for block in blocks:
            if block.title == OUTPUT and block.reason is None:
                yield block, printed
            elif block.title is not None and block.reason is None:
                path = Path(block.title)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(block.text, encoding="utf-8")
            elif block.is_run:
                with contextlib.redirect_stdout(io.StringIO()) as stdout:
                    if block.language == "sh":
                        for words in block.commands():
                            run_command(words, shorten)
                    else:
                        exec(compile(block.text, "page", "exec"), names)
                printed = stdout.getvalue()


@contextlib.contextmanager
def shortened_fits():
    """Let the Python function ``featcache.fit`` train a single seed for one epoch."""
    import featcache

    fit = featcache.fit
    with unittest.mock.patch.object(featcache, "fit", lambda **given: fit(**{**given, "seeds": 1, "max_epochs": 1})):
        yield


def run_command(words, shorten=True):
    """Run one featcache command as the installed script does; ``> FILE`` writes what it prints to a file."""
    from featcache.cli.app import main

    assert words[0] == "featcache", f"{shlex.join(words)}: only featcache is run; mark the block as not run"
    words, file = (words[: words.index(">")], Path(words[-1])) if ">" in words else (words, None)
    short = short_options(words) if shorten and "--show" not in words else ()
    with (
        unittest.mock.patch.object(sys, "argv", [*words, *short]),
        file.open("w") if file else contextlib.nullcontext() as stream,
        contextlib.redirect_stdout(stream) if file else contextlib.nullcontext(),
        pytest.raises(SystemExit) as ended,
    ):
        main()
    assert not ended.value.code, f"{shlex.join(words)}: exit code {ended.value.code}"


def short_options(words):
    """Return the options that shorten a command; heads that a solver fits have no epochs, and refuse their number."""
    heads = words[words.index("--head") + 1].split(",") if "--head" in words else []
    return ("--seeds", "1") if SOLVERS.keys() & heads else SHORT.get(words[1], ())


def with_output(text, printed):
    """Return a page whose blocks of output are those that were printed."""
    printed = iter(printed)

    def replaced(match):
        if match["title"] != OUTPUT or match["reason"]:
            return match[0]
        lines = [line.rstrip() for line in next(printed).splitlines()]
        return '```text title="Output"\n' + "\n".join(lines).strip("\n") + "\n```"

    return BLOCK.sub(replaced, text)


def wording(text):
    """Return the sorted words of an output; numbers, standard deviations and the folding of tables do not count."""
    plain = re.sub(r"-?\d+(\.\d+)?|\b[0-9a-f]{6}\b", "#", text).replace(" ± #", "")
    return sorted(re.sub(r"─+", "─", plain).split())
