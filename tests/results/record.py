"""Commands → their seconds, dates and conditions in ``record.json``; commands that succeeded are not run again."""

import datetime
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from featcache.files.regular import replace_file
from tests.benchmarks.table import conditions
from tests.results.commands import CASES, Case, Command

MOST_OUTPUT = 4000  # characters of the output that are kept


def prepare(out: Path, corpora: Path, models: Path) -> list[Case]:
    """Link the corpora and models into the output folder, so that commands name them by relative paths.

    Args:
        out: Output folder, created if missing.
        corpora: Folder of the corpora.
        models: Folder of the models.

    Returns:
        All cases of the page, also those whose corpus or model is missing.
    """
    for kind, folder, names in (
        ("corpora", corpora, {corpus for corpus, _ in CASES}),
        ("models", models, {model for _, model in CASES}),
    ):
        (out / kind).mkdir(parents=True, exist_ok=True)
        for name in sorted(names):
            link = out / kind / name
            if not link.exists() and (folder / name).is_dir():
                link.symlink_to((folder / name).resolve())
    (out / "figures").mkdir(exist_ok=True)
    return [Case(corpus=corpus, model=model) for corpus, model in CASES]


def execute(words: Sequence[str], folder: Path) -> tuple[int, str]:
    """Run featcache in a folder, and return its exit code and what it printed."""
    program = Path(sys.executable).with_name("featcache")
    environment = {name: value for name, value in os.environ.items() if name != "FEATCACHE_HOME"} | {"COLUMNS": "120"}
    done = subprocess.run(
        [str(program), *words], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


class Record:
    """What was run in an output folder.

    Args:
        out: Output folder with ``record.json``.
        execute: Function that runs the arguments of a command in a folder; the tests replace it.

    Attributes:
        out: The output folder.
        entries: Command as text → ``exit_code`` (None if it was interrupted), ``seconds``, ``date``, ``conditions``
            and ``output``.
    """

    def __init__(self, out: Path, execute: Callable[[Sequence[str], Path], tuple[int, str]] = execute) -> None:
        self.out = out
        self._execute = execute
        self._conditions = conditions()
        self._path = out / "record.json"
        self.entries: dict[str, dict[str, Any]] = (
            json.loads(self._path.read_text(encoding="utf-8")) if self._path.is_file() else {}
        )

    def succeeded(self, command: Command) -> Mapping[str, Any] | None:
        """Return the entry of a command that ended with exit code 0."""
        entry = self.entries.get(str(command))
        return entry if entry and entry["exit_code"] == 0 else None

    def run(self, command: Command) -> None:
        """Run a command, unless it succeeded before; an interrupted fit is continued."""
        if self.succeeded(command):
            return
        before = self.entries.get(str(command))
        words = (*command.words, "--resume") if before and command.run else command.words
        seconds = before["seconds"] if before and before["exit_code"] is None else 0.0
        print(command, file=sys.stderr, flush=True)
        self._keep(command, None, seconds, "")
        start = time.monotonic()
        code, output = None, ""
        try:
            code, output = self._execute(words, self.out)
        finally:
            seconds += time.monotonic() - start
            self._keep(command, code, seconds, output)
        print(f"  {seconds:.0f} s, exit code {code}", file=sys.stderr, flush=True)
        if code:
            print(output[-MOST_OUTPUT:], file=sys.stderr, flush=True)

    def _keep(self, command: Command, code: int | None, seconds: float, output: str) -> None:
        self.entries[str(command)] = {
            "exit_code": code,
            "seconds": round(seconds, 1),
            "date": datetime.date.today().isoformat(),
            "conditions": self._conditions,
            "output": output[-MOST_OUTPUT:],
        }
        replace_file(self._path, (json.dumps(self.entries, indent=1, ensure_ascii=False) + "\n").encode())


def copy_figure(source: Path, folder: Path) -> str | None:
    """Copy a PNG file into a folder of the site, and return its name; None if it does not exist."""
    if not source.is_file():
        return None
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, folder / source.name)
    return source.name
