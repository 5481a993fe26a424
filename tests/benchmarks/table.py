"""Measurements of a benchmark as a Markdown table, and a description of the machine."""

import platform
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Table:
    """A section of the page.

    Attributes:
        title: Heading.
        text: Description of the comparison in one or two sentences.
        columns: Column headers.
        rows: Rows with one cell per column; empty if nothing could be measured.
    """

    title: str
    text: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def to_markdown(self) -> str:
        lines = [self.columns, ["---"] * len(self.columns), *self.rows] if self.rows else []
        return "\n".join(
            [f"## {self.title}", "", self.text, "", *(f"| {' | '.join(line)} |" for line in lines)]
        ).strip()


@dataclass(frozen=True, kw_only=True)
class Row:
    """A measurement of training.

    Attributes:
        case: Description of the measurement.
        ours: Seconds of featcache.
        plain: Seconds of the reference.
        note: Details.
    """

    case: str
    ours: float
    plain: float
    note: str = ""

    def cells(self) -> list[str]:
        return [self.case, f"{self.ours:.2f}", f"{self.plain:.2f}", f"{self.plain / self.ours:.2f}", self.note]


def promised(ratio: float, most: float) -> str:
    """Return the target for a ratio, and whether it is met."""
    return f"at most {most:.2f}: {'met' if ratio <= most else 'missed'}"


def megabytes(size: float) -> str:
    return f"{size / 1e6:.0f} MB"


def conditions() -> str:
    """Return a description of the machine, the versions and the commit."""
    import torch
    import transformers

    from featcache.threads import available_cores

    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--exclude=*"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return (
        f"{_processor()}, {available_cores()} cores, {platform.system()}, Python {platform.python_version()}, "
        f"torch {torch.__version__}, transformers {transformers.__version__}, "
        f"commit {commit.stdout.strip() or 'unknown'}"
    )


def _processor() -> str:
    """Return the name of the CPU, if it is known, and its architecture."""
    return " ".join(filter(None, [cpu_info().get("model name"), platform.machine()]))


def cpu_info(path: Path = Path("/proc/cpuinfo")) -> dict[str, str]:
    """Return the properties of the first CPU on Linux; empty on other systems."""
    if not path.exists():
        return {}
    lines = path.read_text(encoding="utf-8").split("\n\n")[0].splitlines()
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
